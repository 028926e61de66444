"""Which layer of a student learns from which layer of its teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrenar_common.errors import ConfigError
from entrenar_core.distill.features.schedule import ALWAYS, Schedule

EMBEDDINGS = -1
"""What stands for the embeddings in the place of a layer. No rule and no check lets it through: it
is a pair of its own."""


@dataclass(frozen=True)
class LayerPair:
    """Layer `student` learns from layer `teacher`, both counted from 0, as `schedule` says."""

    student: int
    teacher: int
    schedule: Schedule = ALWAYS

    @property
    def key(self) -> str:
        """The pair as a part of the name of a parameter."""
        return f"{_name(self.student)}.{_name(self.teacher)}"

    def __str__(self) -> str:
        return f"{_name(self.student)}←{_name(self.teacher)}"


def layer_pairs(
    rule: str, student: int, teacher: int, *, every: int = 2, schedule: Schedule = ALWAYS
) -> list[LayerPair]:
    """The pairs of a student of `student` layers and a teacher of `teacher` layers, all with one
    `schedule`, by a rule:

    - "uniform": m ↔ ⌊(m + 1)·N/M⌋ − 1, evenly spread up to both last layers (TinyBERT);
    - "last": m ↔ N − M + m, the teacher's last layers (PKD-Last);
    - "skip": m ↔ (m + 1)·`every` − 1, every so manyth layer (PKD-Skip);
    - "final": M − 1 ↔ N − 1, the last layers alone (MiniLM, DistilBERT).

    Raises ConfigError for another rule, and for pairs of layers that there are not.

    >>> [pair.teacher for pair in layer_pairs("uniform", 3, 6)]
    [1, 3, 5]
    """
    if rule not in RULES:
        raise ConfigError(
            f"the layer mapping {rule!r} is not known", hint=f"it is one of {', '.join(RULES)}"
        )
    found = [LayerPair(m, n, schedule) for m, n in RULES[rule](student, teacher, every)]
    check_pairs(found, student, teacher)
    return found


def check_pairs(pairs: Sequence[LayerPair], student: int, teacher: int) -> None:
    """Raise ConfigError, naming the pair, for layers beyond the depth of a model, and for a pair
    that is given twice."""
    for pair in pairs:
        for name, layer, depth in (
            ("student", pair.student, student),
            ("teacher", pair.teacher, teacher),
        ):
            if not 0 <= layer < depth:
                raise ConfigError(
                    f"the pair [{pair.student}, {pair.teacher}] (student's, teacher's layer): the "
                    f"{name} has {depth} layers, 0 to {depth - 1}",
                    hint="choose other pairs, or the rule uniform",
                )
    seen: set[tuple[int, int]] = set()
    for pair in pairs:
        key = pair.student, pair.teacher
        if key in seen:
            raise ConfigError(
                f"the pair [{pair.student}, {pair.teacher}] is given twice",
                hint="leave one of them out",
            )
        seen.add(key)


def _uniform(student: int, teacher: int, _every: int) -> list[tuple[int, int]]:
    return [(m, (m + 1) * teacher // student - 1) for m in range(student)]


def _last(student: int, teacher: int, _every: int) -> list[tuple[int, int]]:
    return [(m, teacher - student + m) for m in range(student)]


def _skip(student: int, _teacher: int, every: int) -> list[tuple[int, int]]:
    return [(m, (m + 1) * every - 1) for m in range(student)]


def _final(student: int, teacher: int, _every: int) -> list[tuple[int, int]]:
    return [(student - 1, teacher - 1)]


RULES: dict[str, Callable[[int, int, int], list[tuple[int, int]]]] = {
    "uniform": _uniform, "last": _last, "skip": _skip, "final": _final,
}  # fmt: skip
"""What the layers of student and teacher, and k of "skip", are paired by."""


def _name(layer: int) -> str:
    return "embeddings" if layer == EMBEDDINGS else str(layer)
