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
        return _add_product(self, rows, np.float32(self.scale), out, add=False)

    def row_norms(self, weight: np.ndarray) -> np.ndarray:
        """‖W + ΔW‖ over the inputs, for each output: (out,), float32, summed in float64."""
        squares = np.zeros(self.b.shape[0])
        for part, piece in self._pieces(weight):
            add_row_squares(piece, part, squares, transposed=self.transposed)
        return np.sqrt(squares).astype(np.float32)

    def _pieces(self, weight: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """W + ΔW, some rows at a time."""
        for part in row_pieces(weight):
            piece = _wide(weight[part])
            yield part, _add_product(self, part, np.float32(self.scale), piece, add=True)

    def merged(
        self, weight: np.ndarray, out: np.ndarray | None = None, *, where: str = "the weight"
    ) -> np.ndarray:
        """W' in float32, or rounded to the type of `out`, which may be `weight` itself.

        Raises NumericsError, with `where`, when a result is not finite.
        """
        found = np.empty(weight.shape, np.float32) if out is None else out
        gains = None
        if self.magnitude is not None:
            gains = self.magnitude / self.row_norms(weight)
        for part, piece in self._pieces(weight):
            if gains is not None:
                piece *= gains if self.transposed else gains[part, None]
            check_finite(piece, part, where)
            found[part] = piece
        return found


def row_pieces(weight: np.ndarray) -> Iterator[slice]:
    """Slices of some rows each, all of them together."""
    step = max(1, PIECE // max(weight.shape[1], 1))
    for start in range(0, len(weight), step):
        yield slice(start, min(start + step, len(weight)))


def check_finite(piece: np.ndarray, part: slice, where: str) -> None:
    """Raise NumericsError where `piece`, the rows `part` of `where`, has NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(piece.sum())  # one element that is not finite makes it so
    if suspicious and not np.isfinite(piece).all():
        row, column = np.unravel_index(int(np.argmin(np.isfinite(piece))), piece.shape)
        raise NumericsError(
            f"{where}: element ({part.start + int(row)}, {int(column)}) would be "
            f"{float(piece[row, column])}",
            hint="inspect the adapter: it has numbers that are not finite, or far too large ones",
        )


def _add_product(
    update: Update, rows: slice, scale: np.float32, out: np.ndarray | None, *, add: bool
) -> np.ndarray:
    if update.transposed:
        left = np.ascontiguousarray(update.a[:, rows]) * scale  # (r, n)
        return kernels.matmul(left, update.b, trans_a=True, trans_b=True, out=out, add=add)
    left = update.b[rows] * scale  # (n, r)
    return kernels.matmul(left, update.a, out=out, add=add)


def _wide(rows: np.ndarray) -> np.ndarray:
    """A copy of rows of any float type, of float64 where they are that and else of float32."""
    if is_narrow(rows):
        return kernels.widen(np.ascontiguousarray(rows))
    return np.array(rows, np.float64 if rows.dtype == np.float64 else np.float32, order="C")


def row_squares(weight: np.ndarray, *, transposed: bool) -> np.ndarray:
    """The squares of each output's weights, summed in float64: (out,)."""
    found = np.zeros(weight.shape[1 if transposed else 0])
    for part in row_pieces(weight):
        add_row_squares(_wide(weight[part]), part, found, transposed=transposed)
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
