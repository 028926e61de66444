"""The update that an adapter makes to one weight, as arrays.

For a projection W (out, in): ΔW = s·B·A, with A (r, in) and B (out, r). With DoRA, the rows of
W + ΔW are scaled to the lengths m: W' = m/‖W + ΔW‖ · (W + ΔW). For a table of vectors E
(rows, width), what is said of W is true of Eᵀ: A is (r, rows), B is (width, r).
Sources: arXiv:2106.09685 §4.1; arXiv:2402.09353 §4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_core import kernels
from entrenar_core.kernels import Held
from entrenar_core.kernels.narrow import is_narrow

PIECE = 2**20
"""Elements of W that are computed with at a time: 4 MiB of float32."""


@dataclass(frozen=True, eq=False)
class Update:
    """a (r, in), b (out, r), scale, bias (out,) or None: added to the module's, already scaled;
    magnitude (out,) or None: lengths of rows with DoRA. embedding: it is of a table of vectors.
    transposed: the weight is stored (in, out), as such tables and GPT-2's projections are."""

    a: np.ndarray
    b: np.ndarray
    scale: float
    bias: np.ndarray | None = None
    magnitude: np.ndarray | None = None
    embedding: bool = False
    transposed: bool = False

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weight as it is stored."""
        out, inner = self.b.shape[0], self.a.shape[1]
        return (inner, out) if self.transposed else (out, inner)

    def scaled(self, factor: float) -> "Update":
        """The update times `factor`. Raises ConfigError for DoRA's, which is no sum."""
        if self.magnitude is not None and factor != 1:
            raise ConfigError(
                f"an adapter of DoRA times {factor}",
                hint="its update is no sum that could be taken by parts: leave the scale at 1",
            )
        bias = None if self.bias is None else self.bias * np.float32(factor)
        return replace(self, scale=self.scale * factor, bias=bias)

    def dense(self, rows: slice = slice(None), out: np.ndarray | None = None) -> np.ndarray:
        """ΔW of some rows of the weight as it is stored, float32."""
        return _add_product(self, rows, out, add=False)

    def row_norms(self, weight: np.ndarray | Held) -> np.ndarray:
        """‖W + ΔW‖ over the inputs, for each output: (out,), float32, summed in float64."""
        squares = np.zeros(self.b.shape[0])
        for part, piece in self._pieces(weight):
            add_row_squares(piece, part, squares, transposed=self.transposed)
        return np.sqrt(squares).astype(np.float32)

    def _pieces(self, weight: np.ndarray | Held) -> Iterator[tuple[slice, np.ndarray]]:
        """W + ΔW, some rows at a time, in the memory that `float_pieces` gives."""
        for part, piece in float_pieces(weight):
            yield part, _add_product(self, part, piece, add=True)

    def merged(
        self, weight: np.ndarray | Held, out: np.ndarray | None = None, *, where: str = "the weight"
    ) -> np.ndarray:
        """W' in float32, or rounded to the type of `out`, which may be `weight` itself.

        Raises NumericsError, with `where`, when a result is not finite.
        """
        found = np.empty(weight.shape, np.float32) if out is None else out
        if not isinstance(weight, Held) and self._is_added(weight, found.dtype):
            factors = self._factors()
            for part in row_pieces(weight):
                _add_narrow(weight[part], factors, part, found[part], where)
            return found
        for part, piece in self._results(weight):
            store(piece, found[part], part, where)
        return found

    def merged_pieces(
        self, weight: np.ndarray | Held, dtype: np.dtype, *, where: str = "the weight"
    ) -> Iterator[np.ndarray]:
        """W' in `dtype`, some rows at a time; see `merged`."""
        if not isinstance(weight, Held) and self._is_added(weight, dtype):
            factors = self._factors()
            for part in row_pieces(weight):
                found = np.empty((part.stop - part.start, weight.shape[1]), dtype)
                _add_narrow(weight[part], factors, part, found, where)
                yield found
            return
        for part, piece in self._results(weight):
            its_own = piece.dtype == dtype and not is_narrow(weight)  # else it is used again
            found = piece if its_own else np.empty(piece.shape, dtype)
            store(piece, found, part, where)
            yield found

    def _is_added(self, weight: np.ndarray, dtype: np.dtype) -> bool:
        """Whether W in 16 bits becomes W + ΔW in 16 bits, without anything in float32 between."""
        plain = self.magnitude is None and self.a.dtype == np.float32
        return plain and is_narrow(weight) and dtype.name in ("bfloat16", "float16")

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Left (n, r) and right (r, m), whose product is ΔW as the weight is stored (n, m)."""
        scale = np.float32(self.scale)
        if self.transposed:
            return np.ascontiguousarray(self.a.T) * scale, np.ascontiguousarray(self.b.T)
        return self.b * scale, np.ascontiguousarray(self.a)

    def _results(self, weight: np.ndarray | Held) -> Iterator[tuple[slice, np.ndarray]]:
        """W' some rows at a time, as it was computed."""
        gains = None
        if self.magnitude is not None:
            gains = self.magnitude / self.row_norms(weight)
        for part, piece in self._pieces(weight):
            if gains is not None:
                piece *= gains if self.transposed else gains[part, None]
            yield part, piece


def float_pieces(weight: np.ndarray | Held) -> Iterator[tuple[slice, np.ndarray]]:
    """Copies of some rows each, of float64 where they are that and else of float32; of a weight
    in 16 bits, each in the memory of the last."""
    if isinstance(weight, Held) and weight.transposed:
        weight = np.asarray(weight)  # what is kept together are its columns
    scratch = None
    for part in row_pieces(weight):
        if isinstance(weight, Held):
            shape = (part.stop - part.start, weight.shape[1])
            yield part, weight.kept.rows(part.start, part.stop, np.empty(shape, np.float32))
            continue
        piece = _wide(weight[part], scratch)
        if is_narrow(weight) and scratch is None:
            scratch = piece
        yield part, piece


def row_pieces(weight: np.ndarray | Held) -> Iterator[slice]:
    """Slices of some rows each, all of them together."""
    step = max(1, PIECE // max(weight.shape[1], 1))
    for start in range(0, len(weight), step):
        yield slice(start, min(start + step, len(weight)))


def store(piece: np.ndarray, out: np.ndarray, part: slice, where: str) -> None:
    """Round `piece`, the rows `part` of `where`, to the type of `out`, which may be `piece` itself.

    Raises NumericsError where `out` then has NaN or infinity.
    """
    if out is not piece:
        if piece.dtype == np.float32:
            kernels.rounded(piece, out=out)
        else:
            out[...] = piece
    _check_finite(out, part, where)


def _add_narrow(
    weight: np.ndarray,
    factors: tuple[np.ndarray, np.ndarray],
    part: slice,
    out: np.ndarray,
    where: str,
) -> None:
    left, right = factors
    kernels.add_low_rank(weight, left[part], right, out=out)
    _check_finite(out, part, where)


def _check_finite(out: np.ndarray, part: slice, where: str) -> None:
    if not _all_finite(out):
        finite = np.isfinite(out.astype(np.float32))
        row, column = np.unravel_index(int(np.argmin(finite)), out.shape)
        raise NumericsError(
            f"{where}: element ({part.start + int(row)}, {int(column)}) would be "
            f"{float(out[row, column])} in {out.dtype}",
            hint="inspect the adapter: it has numbers that are not finite, or far too large ones",
        )


def _all_finite(array: np.ndarray) -> bool:
    if is_narrow(array):
        exponent = np.uint16(0x7F80 if array.dtype.name == "bfloat16" else 0x7C00)
        return not array.size or (array.view(np.uint16) & exponent).max() != exponent
    with np.errstate(over="ignore", invalid="ignore"):
        # one element that is not finite makes the sum so
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _add_product(update: Update, rows: slice, out: np.ndarray | None, *, add: bool) -> np.ndarray:
    # a weight of float64 is added to in float64
    kind = update.a.dtype if out is None else out.dtype
    scale = kind.type(update.scale)
    if update.transposed:
        left = np.ascontiguousarray(update.a[:, rows], kind) * scale  # (r, n)
        right = update.b.astype(kind, copy=False)
        return kernels.matmul(left, right, trans_a=True, trans_b=True, out=out, add=add)
    left = update.b[rows].astype(kind, copy=False) * scale  # (n, r)
    return kernels.matmul(left, update.a.astype(kind, copy=False), out=out, add=add)


def _wide(rows: np.ndarray, scratch: np.ndarray | None = None) -> np.ndarray:
    """A copy of rows of any float type, of float64 where they are that and else of float32; in
    `scratch`, which has at least as many rows, if they are in 16 bits."""
    if is_narrow(rows):
        out = None if scratch is None else scratch[: len(rows)]
        return kernels.widen(np.ascontiguousarray(rows), out=out)
    return np.array(rows, np.float64 if rows.dtype == np.float64 else np.float32, order="C")


def row_squares(weight: np.ndarray | Held, *, transposed: bool) -> np.ndarray:
    """The squares of each output's weights, summed in float64: (out,)."""
    found = np.zeros(weight.shape[1 if transposed else 0])
    for part, piece in float_pieces(weight):
        add_row_squares(piece, part, found, transposed=transposed)
    return found


def add_row_squares(
    piece: np.ndarray, part: slice, squares: np.ndarray, *, transposed: bool
) -> None:
    """Add to `squares` (out,) what `piece`, the rows `part` of a weight, has of them."""
    wide = piece.astype(np.float64)
    if transposed:
        squares += np.einsum("io,io->o", wide, wide)
    else:
        squares[part] = np.einsum("oi,oi->o", wide, wide)


def summed(updates: Sequence[Update]) -> Update:
    """One update that is the sum of several of one weight; its scale is 1.

    Raises ConfigError where one of several is DoRA's, which is no sum.
    """
    if len(updates) == 1:
        return updates[0]
    if any(update.magnitude is not None for update in updates):
        raise ConfigError(
            "adapters of DoRA do not add up", hint="they scale the whole weight: use one alone"
        )
    kind = updates[0].a.dtype.type
    biases = [update.bias for update in updates if update.bias is not None]
    return replace(
        updates[0],
        a=np.concatenate([update.a for update in updates]),
        b=np.concatenate([update.b * kind(update.scale) for update in updates], axis=1),
        scale=1.0,
        bias=np.sum(biases, axis=0) if biases else None,
    )
