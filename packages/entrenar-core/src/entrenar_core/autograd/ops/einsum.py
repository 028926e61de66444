"""Einstein's summation: any product of two arrays whose axes have names."""

import math
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError, UnsupportedError
from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.matmul import product
from entrenar_core.autograd.ops.operands import array, operands
from entrenar_core.autograd.precision import Products, products


@op
def einsum(subscripts, *arrays):
    """Σ of the product of one or two arrays over the axes that the result does not name.

    `subscripts` names each axis by a letter: "bij,bjk->bik". Without "->" the result has the
    letters that occur once, in alphabetical order. Raises UnsupportedError for a letter that one
    array has twice, for "..." and for more than two arrays.

    >>> einsum("ij,j->i", np.ones((2, 3)), np.arange(3.0)).numpy()
    array([3., 3.])
    """
    arrays = operands(*arrays) if len(arrays) > 1 else [array(a) for a in arrays]
    terms, out = _parsed(subscripts, arrays)
    if len(arrays) == 1:
        (x,), (term,) = arrays, terms
        y, rest = _summed(x, term, out)
        return _arranged(y, rest, out), (None, lambda g: _expanded(g, out, term, x.shape))
    (a, b), (in_a, in_b), by = arrays, terms, products()

    def pull_a(g):
        kept = _letters(in_a, in_b + out)
        return _expanded(_contracted(g, out, b, in_b, kept, by), kept, in_a, a.shape)

    def pull_b(g):
        kept = _letters(in_b, in_a + out)
        return _expanded(_contracted(g, out, a, in_a, kept, by), kept, in_b, b.shape)

    return _contracted(a, in_a, b, in_b, out, by), (None, pull_a, pull_b)


def _parsed(subscripts: Any, arrays: list[Any]) -> tuple[list[str], str]:
    """The letters of each array and of the result, when they make sense for the arrays."""
    left, arrow, out = str(subscripts).replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    what = f"einsum {subscripts!r} of " + " and ".join(f"{a.dtype} {a.shape}" for a in arrays)
    if "." in left + out or len(arrays) > 2:
        raise UnsupportedError(
            f"{what} has {'...' if '.' in left + out else 'more than two arrays'}",
            hint="name every axis by a letter, and multiply two arrays at a time",
        )
    if any(len(set(term)) < len(term) for term in terms):
        raise UnsupportedError(
            f"{what} repeats a letter inside one array",
            hint="take the diagonal first: x[np.arange(n), np.arange(n)]",
        )
    _check(what, terms, out, arrays)
    return terms, out


def _check(what: str, terms: list[str], out: str, arrays: list[Any]) -> None:
    if [len(term) for term in terms] != [a.ndim for a in arrays]:
        raise ShapeError(
            f"{what}: one letter is needed for each axis of each array",
            hint="separate the arrays by commas: 'ij,jk->ik'",
        )
    known = set("".join(terms))
    if not all(c.isalpha() for c in known) or len(set(out)) < len(out) or set(out) - known:
        raise ShapeError(
            f"{what}: the result is {out!r}",
            hint="it names letters of the arrays, each once",
        )
    lengths: dict[str, int] = {}
    for term, a in zip(terms, arrays, strict=True):
        for letter, n in zip(term, a.shape, strict=True):
            if lengths.setdefault(letter, n) != n:
                raise ShapeError(
                    f"{what}: {letter!r} is {lengths[letter]} long in one and {n} in the other",
                    hint="an axis of length 1 does not broadcast here; leave its letter out",
                )


def _contracted(a: Any, in_a: str, b: Any, in_b: str, out: str, by: Products) -> Any:
    """Σ a·b over the letters that `out` has not, as one product of matrices."""
    a, in_a = _summed(a, in_a, in_b + out)
    b, in_b = _summed(b, in_b, in_a + out)
    length = dict(zip(in_a + in_b, a.shape + b.shape, strict=True))
    shared = _letters(in_a, in_b)
    batch = _letters(shared, out)
    inner = "".join(c for c in shared if c not in out)
    left = "".join(c for c in in_a if c not in in_b)
    right = "".join(c for c in in_b if c not in in_a)

    def shape(letters: str) -> tuple[int, ...]:
        return tuple(length[c] for c in letters)

    m, k, n = (math.prod(shape(letters)) for letters in (left, inner, right))
    a = _arranged(a, in_a, batch + left + inner).reshape(*shape(batch), m, k)
    b = _arranged(b, in_b, batch + inner + right).reshape(*shape(batch), k, n)
    z = product(a, b, by) if inner else a * b
    return _arranged(z.reshape(shape(batch + left + right)), batch + left + right, out)


def _letters(letters: str, among: str) -> str:
    return "".join(c for c in letters if c in among)


def _summed(x: Any, letters: str, kept: str) -> tuple[Any, str]:
    """x summed over the letters that are not `kept`, and those that are left."""
    axes = tuple(i for i, c in enumerate(letters) if c not in kept)
    return (x.sum(axis=axes) if axes else x), _letters(letters, kept)


def _arranged(x: Any, letters: str, order: str) -> Any:
    return x.transpose([letters.index(c) for c in order])


def _expanded(x: Any, letters: str, wanted: str, shape: tuple[int, ...]) -> Any:
    """x repeated along the letters that it lacks, in the order and shape wanted."""
    x = _arranged(x, letters, _letters(wanted, letters))
    missing = tuple(i for i, c in enumerate(wanted) if c not in letters)
    return np.broadcast_to(np.expand_dims(x, missing), shape).copy() if missing else x
