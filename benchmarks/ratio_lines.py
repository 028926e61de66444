"""What the documents of benchmarks say of this library beside its peers, as lines with names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.text import escape_controls

PREFIX, VERSION = "entrenar.benchmark.", "/1"
OURS = ("entrenar", "entrenar-inspect")
"""What a report may call our side."""

MACHINE = (
    "cpu", "blas", "core", "threads", "threading", "python", "numpy", "numba", "torch",
    "transformers", "ggml",
)  # fmt: skip
"""The keys of a document that say what it was measured on, wherever they are below PLACES. What is
there besides is of the run."""
PLACES, VARIABLES = ("environment", "machine"), "openblas_variables"


@dataclass(frozen=True)
class Line:
    """One thing that was measured beside one peer.

    ratio:   the peer's cost by ours, so more is better
    rounds:  that ratio in every round, in their order; none in documents without samples
    setting: what decides the amount of work, besides the name
    """

    name: str
    ratio: float
    rounds: tuple[float, ...]
    setting: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A report of one benchmark: `kind` is the last part of its schema, `machine` what it was
    measured on, by the path of the key."""

    kind: str
    machine: Mapping[str, Any]
    lines: Mapping[str, Line]


def read_document(document: Any, where: str) -> Document:
    """The lines of a benchmark's JSON `document`, which lies at `where`.

    Raises FormatError for what is no such document, UnsupportedError for a benchmark that compares
    with no peer.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith(PREFIX):
        raise FormatError(
            f"{where}: no document of a benchmark",
            hint="write one with the --json of a script in benchmarks/",
        )
    kind = schema.removeprefix(PREFIX).removesuffix(VERSION)
    if kind not in _KINDS:
        raise UnsupportedError(
            f"{where}: {escape_controls(kind)} has no ratios to a peer",
            hint=f"compare one of {', '.join(_KINDS)}",
        )
    try:
        data = document["data"]
        lines = {line.name: line for line in _KINDS[kind](data)}
        return Document(kind, _machine(data), lines)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, ValueError) as error:
        raise FormatError(
            f"{where}: {kind} that cannot be read: {escape_controls(repr(error))}",
            hint="measure it again with this version",
        ) from error


def _machine(data: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(_facts({key: data[key] for key in (*MACHINE, *PLACES) if key in data}))
    variables = data.get(VARIABLES, {})
    return found | {f"{VARIABLES}.{name}": value for name, value in variables.items()}


def _facts(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of the keys of MACHINE, here and in what is below."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _facts(value, f"{path}{key}.")
        elif key in MACHINE:
            yield f"{path}{key}", value


def _line(
    name: str,
    ours: list[float],
    peer: list[float],
    *,
    medians: tuple[float, float],
    setting: Mapping[str, Any] | None = None,
) -> Line:
    """From what both sides cost, round by round. Rounds that only one of them has are left out;
    `medians` are those of both, for a document that has no rounds."""
    rounds = tuple(theirs / own for own, theirs in zip(ours, peer, strict=False))
    ratio = median(rounds) if rounds else medians[1] / medians[0]
    return Line(name, ratio, rounds, setting or {})


def _steps(data: Mapping[str, Any]) -> Iterator[Line]:
    for comparison in data["comparisons"]:
        seconds = {side["mode"]: side["seconds"] for side in comparison["sides"]}
        for ratio in comparison["ratios"]:
            own, mode = ratio.get("of", "entrenar"), ratio["mode"]
            of = "" if own == "entrenar" else f", {own}"
            name = f"{comparison['name']}{of} against {mode}"
            both = median(seconds[own]), median(seconds[mode])
            setting = comparison["shape"]
            yield _line(name, seconds[own], seconds[mode], medians=both, setting=setting)


def _kernels(data: Mapping[str, Any]) -> Iterator[Line]:
    for case in data["cases"]:
        for each in case["directions"]:
            name = f"{case['kernel']} {case['size']}, {each['name']}"
            rounds = each.get("seconds", []), each.get("peer_seconds", [])
            yield _line(name, *rounds, medians=(1.0, each["ratio"]))


def _formats(data: Mapping[str, Any]) -> Iterator[Line]:
    for codec in data["codecs"]:
        for doing in ("encoding", "decoding"):
            rates = dict(codec[doing])
            ours = rates.pop("entrenar", None)
            for peer, rate in rates.items() if ours else ():
                rounds = [each.get("seconds_per_gb", []) for each in (ours, rate)]
                both = 1 / ours["gb_per_second"], 1 / rate["gb_per_second"]
                yield _line(f"{codec['name']} {doing}, {peer}", *rounds, medians=both)


def _overrides(data: Mapping[str, Any]) -> Iterator[Line]:
    for each in data["kernels"]:
        rounds = each["override_rounds"], each["reference_rounds"]
        yield _line(each["kernel"], *rounds, medians=(each["override"], each["reference"]))


def _openings(data: Mapping[str, Any]) -> Iterator[Line]:
    for each in data["openings"]:
        rounds = each.get("rounds", []), each.get("peer_rounds", [])
        both = each["milliseconds"], each["peer_milliseconds"]
        yield _line(f"{each['name']}, {each['peer']}", *rounds, medians=both)


def _pair(name: str, ours: Any, peer: Any, setting: Mapping[str, Any]) -> Line:
    """Of two records of `turns.Side`."""
    rounds = ours.get("turns", []), peer.get("turns", [])
    both = ours["seconds"], peer["seconds"]
    return _line(f"{name}, {peer['name']}", *rounds, medians=both, setting=setting)


def _sides(what: str) -> Callable[[Mapping[str, Any]], Iterator[Line]]:
    """The reader of a report whose `sides` all do `what`."""

    def lines(data: Mapping[str, Any]) -> Iterator[Line]:
        setting = {"weights": data["weights"]}
        (ours,) = [side for side in data["sides"] if side["name"] in OURS]
        for side in data["sides"]:
            if side is not ours:
                yield _pair(what, ours, side, setting)

    return lines


def _merges(data: Mapping[str, Any]) -> Iterator[Line]:
    for each in data["mergekit"]:
        yield _pair(each["method"], each["ours"], each["theirs"], {})
    for each in data["disk"]:
        yield _pair(each["method"], each["ours"], each["script"], {"layers": data["layers"]})


def _inspections(data: Mapping[str, Any]) -> Iterator[Line]:
    for case in data["cases"]:
        setting = {"gigabytes": data.get("gigabytes")}
        yield _pair(case["name"], case["ours"], case["peer"], setting)


def _comparison(data: Mapping[str, Any]) -> Iterator[Line]:
    yield _pair("comparing models", data["ours"], data["script"], {"layers": data["layers"]})


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Line]]] = {
    "training-step": _steps,
    "kernels": _kernels,
    "formats": _formats,
    "overrides": _overrides,
    "open": _openings,
    "merge": _sides("merging an adapter"),
    "conversion": _sides("q4_0 file"),
    "merge-models": _merges,
    "inspect": _inspections,
    "compare-models": _comparison,
}
