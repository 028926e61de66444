"""`ops.einsum`."""

from entrenar_core.autograd import ops
from op_cases import case, normal


def _einsum(subscripts, *shapes):
    return case(
        "einsum",
        lambda *xs: ops.einsum(subscripts, *xs),
        *(normal(*shape) for shape in shapes),
        torch=lambda t, *xs: t.einsum(subscripts, *xs),
    )


CASES = [
    _einsum("ij,jk->ik", (2, 3), (3, 4)),
    _einsum("ij,jk->ki", (2, 3), (3, 4)),
    _einsum("ji,kj", (3, 2), (4, 3)),  # the result is ik
    _einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    _einsum("bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)),
    _einsum("i,j->ij", (3,), (4,)),
    _einsum("i,i->", (3,), (3,)),
    _einsum("ij,ij->ij", (2, 3), (2, 3)),
    _einsum("ij,ji->j", (2, 3), (3, 2)),
    _einsum("ij,->ji", (2, 3), ()),
    _einsum("ijk,l->k", (2, 3, 4), (5,)),  # i, j and l are in one array alone
    _einsum("abc,cbd->da", (2, 3, 4), (4, 3, 2)),
    _einsum("ij->ji", (2, 3)),
    _einsum("ijk->j", (2, 3, 4)),
    _einsum("ij->", (2, 3)),
    _einsum("ba", (2, 3)),
    _einsum("ij,jk->ik", (2, 0), (0, 4)),
    _einsum("ij,jk->ik", (0, 3), (3, 1)),
    _einsum("i,i->i", (1,), (1,)),
]
