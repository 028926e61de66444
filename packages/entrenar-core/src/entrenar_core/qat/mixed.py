"""A format for each matrix, so that all of them together fit into a number of bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from entrenar_common.errors import ConfigError
from entrenar_core.qat.sensitivity import Sensitivity


@dataclass(frozen=True)
class Option:
    """A format that a matrix may have, with its bytes and what it costs."""

    form: str
    nbytes: int
    cost: float


@dataclass(frozen=True)
class Choice:
    """formats: by matrix; nbytes and cost: of all together; lower_bound: no choice that fits costs
    less than this."""

    formats: dict[str, str]
    nbytes: int
    cost: float
    lower_bound: float


def options_of(
    rows: Iterable[Sensitivity], *, cost: str = "by_gradient"
) -> dict[str, list[Option]]:
    """The options of each matrix, the cost being the field `cost` of its sensitivities:
    by_gradient, loss_change (not below 0), output_error, or "error" for the relative squared error
    of the weight. Raises ConfigError for a field that is not there."""
    read = {
        "by_gradient": lambda row: row.by_gradient,
        "loss_change": lambda row: row.loss_change,
        "output_error": lambda row: row.output_error,
        "error": lambda row: row.error.relative**2,
    }
    if cost not in read:
        raise ConfigError(f"a cost by {cost!r}", hint=f"use one of {', '.join(read)}")
    found: dict[str, list[Option]] = {}
    for row in rows:
        value = read[cost](row)
        if value is None:
            raise ConfigError(
                f"{row.name} in {row.form} has no {cost}",
                hint="give sensitivities() what it follows from: gradients, a loss, or inputs",
            )
        # a measured loss may fall by chance
        found.setdefault(row.name, []).append(Option(row.form, row.nbytes, max(0.0, value)))
    return found


def choose(options: Mapping[str, list[Option]], max_bytes: int) -> Choice:
    """One option for each matrix, with at most `max_bytes` together and little cost.

    Every matrix starts with its smallest option. Then the step to a larger one that saves most cost
    per byte is taken, again and again, as long as it fits; only steps between options on the lower
    convex hull of cost over bytes, since a mix of two others would be better than one above it.
    Up to the first step that does not fit this is the best choice for the bytes it has, and the
    cost is at most that step's saving above the best of all. In the end, options off the hull fill
    what is left.

    Raises ConfigError where even the smallest options take more, or a matrix has none.

    >>> two = [Option("q4_0", 18, 4.0), Option("q8_0", 34, 1.0)]
    >>> choose({"a": two, "b": [Option("q4_0", 18, 1.0), Option("q8_0", 34, 0.5)]}, 60).formats
    {'a': 'q8_0', 'b': 'q4_0'}
    """
    hulls = {name: _hull(name, given) for name, given in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    room = max_bytes - sum(option.nbytes for option in chosen.values())
    if room < 0:
        raise ConfigError(
            f"the smallest formats take {max_bytes - room} bytes, and there are {max_bytes}",
            hint="allow more, or add a smaller format",
        )
    steps = [
        ((now.cost - then.cost) / (then.nbytes - now.nbytes), name, now, then)
        for name, hull in hulls.items()
        for now, then in pairwise(hull)
    ]
    # on a hull later steps save less, so sorting keeps the order within a matrix
    steps.sort(key=lambda step: (-step[0], step[1]))
    bound = None
    for saving, name, now, then in steps:
        if chosen[name] is not now:
            continue  # a step before it did not fit
        if then.nbytes - now.nbytes <= room:
            chosen[name] = then
            room -= then.nbytes - now.nbytes
        elif bound is None:  # a part of this step would be the best use of what is left
            bound = _cost(chosen) - saving * room
    bound = _cost(chosen) if bound is None else bound
    _fill(chosen, options, room)
    nbytes = sum(option.nbytes for option in chosen.values())
    formats = {name: option.form for name, option in chosen.items()}
    return Choice(formats, nbytes, _cost(chosen), bound)


def _cost(chosen: Mapping[str, Option]) -> float:
    return sum(option.cost for option in chosen.values())


def _hull(name: str, given: list[Option]) -> list[Option]:
    """The options on the lower convex hull, by ascending bytes and descending cost."""
    if not given:
        raise ConfigError(f"no format can store {name}", hint="add one with smaller blocks, or f16")
    hull: list[Option] = []
    for option in sorted(given, key=lambda o: (o.nbytes, o.cost)):
        if hull and option.cost >= hull[-1].cost:
            continue
        while len(hull) > 1 and _above(hull[-2], hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _above(first: Option, middle: Option, last: Option) -> bool:
    """Whether `middle` lies on or above the line from `first` to `last`."""
    left = (first.cost - middle.cost) * (last.nbytes - middle.nbytes)
    return left <= (middle.cost - last.cost) * (middle.nbytes - first.nbytes)


def _fill(chosen: dict[str, Option], options: Mapping[str, list[Option]], room: int) -> None:
    """Exchange single options for better ones as long as that fits."""
    while True:
        better = [
            (chosen[name].cost - option.cost, name, option)
            for name, given in options.items()
            for option in given
            if option.cost < chosen[name].cost and option.nbytes - chosen[name].nbytes <= room
        ]
        if not better:
            return
        _, name, option = max(better, key=lambda found: found[0])
        room -= option.nbytes - chosen[name].nbytes
        chosen[name] = option
