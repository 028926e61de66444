"""What the benchmark of formats found, as a record that is shown as tables or JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_core.environment import Environment

RATE_TARGETS = {"q4_0": 6.0, "q8_0": 6.0}
"""The least GB/s of floats encoded."""
DECODING_TARGET = 6.0
GGUF_TARGETS = {"q4_0": 8.0, "q8_0": 8.0}
"""The least ratio to the gguf package's encoder."""
GGML_TARGETS = {"q4_0": 1.0, "q8_0": 1.0, "q4_k": 0.8, "q5_k": 0.8, "q6_k": 0.8}
"""The least ratio to ggml's encoder."""


@dataclass
class Rate:
    """Floats read or written, by the time that passed and by that of all processors together, which
    is less to blame on what else the machine does; the seconds of every round."""

    gb_per_second: float
    gb_per_cpu_second: float
    seconds_per_gb: list[float]


@dataclass
class CodecTime:
    """How fast each library is; `encoding` is empty where nothing encodes the format."""

    name: str
    encoding: dict[str, Rate]
    decoding: dict[str, Rate]

    def ratio(self, other: str, *, encoding: bool) -> float | None:
        """How many times as fast as another library, None if that does not have it."""
        rates = self.encoding if encoding else self.decoding
        if other not in rates:
            return None
        return rates["entrenar"].gb_per_second / rates[other].gb_per_second

    def misses(self) -> Iterator[str]:
        """What is below its target, in words."""
        rate = self.decoding["entrenar"].gb_per_second
        yield from _below(f"{self.name} decodes", rate, DECODING_TARGET, "GB/s")
        if not self.encoding:
            return
        rate, name = self.encoding["entrenar"].gb_per_second, f"{self.name} encodes"
        yield from _below(name, rate, RATE_TARGETS.get(self.name), "GB/s")
        for other, targets in (("gguf", GGUF_TARGETS), ("ggml", GGML_TARGETS)):
            ratio = self.ratio(other, encoding=True)
            yield from _below(name, ratio, targets.get(self.name), f"× {other}")


@dataclass
class FormatsReport:
    """Everything, with the machine that it was found on."""

    date: str
    environment: Environment
    threads: int
    ggml: str
    """The library that was called, empty if there is none."""
    openblas_variables: dict[str, str]
    copy_gb_per_second: float
    rounds: int
    codecs: list[CodecTime]

    def misses(self) -> list[str]:
        return [miss for codec in self.codecs for miss in codec.misses()]

    def passed(self) -> bool:
        return not self.misses()

    def __view__(self) -> Iterator[Any]:
        variables = ", ".join(f"{k}={v}" for k, v in self.openblas_variables.items())
        yield Fields(
            "Formats for few bits",
            [
                ("date", self.date),
                ("CPU", self.environment.cpu),
                ("threads", str(self.threads)),
                ("ggml", self.ggml or "not found"),
                ("OPENBLAS_* variables", variables or "none"),
                ("a plain copy", f"{self.copy_gb_per_second:.1f} GB/s, read and written, 1 thread"),
                ("turns", f"{self.rounds} of each side; medians"),
            ],
        )
        columns = ["", "encodes", "by CPU", "gguf", "ggml", "decodes", "by CPU", "gguf"]
        title = "Codecs: floats in GB/s and GB by CPU second; speed beside others"
        yield Table(title, columns, [_row(codec) for codec in self.codecs])
        for miss in self.misses():
            yield Text(miss, "bad")


def _below(name: str, found: float | None, target: float | None, unit: str) -> Iterator[str]:
    if found is not None and target is not None and found < target:
        yield f"{name}: {found:.2f} {unit}, wanted {target}"


def _row(codec: CodecTime) -> list[str]:
    return [
        codec.name,
        *_shown(codec.encoding.get("entrenar")),
        _times(codec.ratio("gguf", encoding=True)),
        _times(codec.ratio("ggml", encoding=True)),
        *_shown(codec.decoding["entrenar"]),
        _times(codec.ratio("gguf", encoding=False)),
    ]


def _shown(rate: Rate | None) -> list[str]:
    return [f"{rate.gb_per_second:.3g}", f"{rate.gb_per_cpu_second:.3g}"] if rate else ["", ""]


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}×"
