"""The losses of features written down from their papers in PyTorch, on the sequences alone."""

from typing import Any

import numpy as np


def alone(x: Any, mask: np.ndarray) -> list[Any]:
    """The rows that count, for the sequences that have any."""
    import torch

    return [x[b][torch.from_numpy(mask[b])] for b in range(len(mask)) if mask[b].any()]


def places(mask: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(row) for row in mask if row.any()]


def _flat(mask: np.ndarray, given: Any) -> tuple[Any, Any]:
    import torch

    student, *projection, teacher = given
    s, t = torch.cat(alone(student, mask)), torch.cat(alone(teacher, mask))
    return (s @ projection[0].T if projection else s), t


def mse(mask: np.ndarray, *given: Any) -> Any:
    import torch

    return torch.nn.functional.mse_loss(*_flat(mask, given))


def cosine(mask: np.ndarray, *given: Any) -> Any:
    import torch

    s, t = _flat(mask, given)
    return torch.nn.CosineEmbeddingLoss()(s, t, torch.ones(len(s), dtype=s.dtype))


def patient(mask: np.ndarray, *given: Any) -> Any:
    import torch

    s, t = (torch.nn.functional.normalize(x, dim=-1) for x in _flat(mask, given))
    return (s - t).pow(2).sum(dim=-1).mean()


def _maps(mask: np.ndarray, student: Any, teacher: Any) -> list[tuple[Any, Any]]:
    import torch

    both = zip(alone(student, mask), alone(teacher, mask), strict=True)
    return [
        tuple(torch.nn.functional.normalize(x.pow(2).mean(dim=-1), dim=0) for x in one)
        for one in both
    ]


def transfer(mask: np.ndarray, student: Any, teacher: Any) -> Any:
    maps = _maps(mask, student, teacher)
    return sum((s - t).norm() for s, t in maps) / 2 / len(maps)


def transfer_squared(mask: np.ndarray, student: Any, teacher: Any) -> Any:
    import torch

    maps = _maps(mask, student, teacher)
    return torch.cat([(s - t).pow(2) for s, t in maps]).mean()


def similarity(mask: np.ndarray, student: Any, teacher: Any) -> Any:
    import torch

    losses = []
    for s, t in zip(alone(student, mask), alone(teacher, mask), strict=True):
        g_s, g_t = (torch.nn.functional.normalize(x @ x.T, p=2, dim=1) for x in (s, t))
        losses.append((g_s - g_t).pow(2).sum() / len(s) ** 2)
    return sum(losses) / len(losses)


def distance(mask: np.ndarray, student: Any, teacher: Any) -> Any:
    import torch

    losses = []
    for pair in zip(alone(student, mask), alone(teacher, mask), strict=True):
        relative = []
        for x in pair:
            n = len(x)
            off = ~torch.eye(n, dtype=torch.bool)
            d = torch.zeros(n, n, dtype=x.dtype)
            differences = (x[:, None] - x[None, :])[off]
            d = d.masked_scatter(off, differences.norm(dim=-1))
            relative.append(d / d[off].mean() if n > 1 else d)
        losses.append(torch.nn.functional.smooth_l1_loss(*relative))
    return sum(losses) / len(losses)


def angle(mask: np.ndarray, student: Any, teacher: Any) -> Any:
    import torch

    losses = []
    for pair in zip(alone(student, mask), alone(teacher, mask), strict=True):
        angles = []
        for x in pair:
            rays = torch.nn.functional.normalize(x[None, :] - x[:, None], p=2, dim=2)
            angles.append(torch.bmm(rays, rays.transpose(1, 2)).reshape(-1))
        losses.append(torch.nn.functional.smooth_l1_loss(*angles))
    return sum(losses) / len(losses)


def scores(mask: np.ndarray, *given: Any, ours: Any, theirs: Any) -> Any:
    import torch

    squares = []
    sides = [(ours, given[:3]), (theirs, given[3:])]
    for number, where in enumerate(places(mask)):
        found = []
        for shape, (q, k, _) in sides:
            q_rows, k_rows = alone(q, mask)[number], alone(k, mask)[number]
            k_rows = k_rows.repeat_interleave(shape.heads // shape.groups, dim=1)
            a = q_rows.transpose(0, 1) @ k_rows.permute(1, 2, 0) / shape.width**0.5
            for i, p in enumerate(where):  # hidden scores are far below -100, which are zeroed
                for j, r in enumerate(where):
                    hidden = any(
                        (s.causal and r > p) or (s.window is not None and p - r >= s.window)
                        for s, _ in sides
                    )
                    if hidden:
                        a[:, i, j] = torch.nan
            found.append(a)
        difference = found[0] - found[1]
        squares.append(difference[~difference.isnan()] ** 2)
    return torch.cat(squares).mean()


def relations(
    mask: np.ndarray, *given: Any, ours: Any, theirs: Any, heads: int, weights: Any
) -> Any:
    import torch

    losses = []
    for number in range(len(places(mask))):
        for weight, s, t in zip(weights, given[:3], given[3:], strict=True):
            log = []
            for x in (s, t):
                rows = alone(x, mask)[number].flatten(1)
                n, width = rows.shape
                split = rows.reshape(n, heads, width // heads).transpose(0, 1)
                r = split @ split.transpose(1, 2) / (width // heads) ** 0.5
                if ours.causal or theirs.causal:
                    future = torch.ones(n, n, dtype=torch.bool).triu(1)
                    r = r.masked_fill(future, -1e30)
                log.append(r.log_softmax(dim=-1))
            each = log[1].exp() * (log[1] - log[0])
            losses.append(weight * each.sum() / (heads * n))
    return sum(losses) / len(places(mask))
