"""What it takes to fine-tune LLaMA in full, with LoRA, with QLoRA: memory_benchmarks.py --help"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_common.tables import Table
from entrenar_common.units import format_bytes, format_count
from entrenar_core.estimate import find_shape
from entrenar_core.estimate.own_memory import own_memory
from entrenar_core.estimate.setup import FULL, LORA, Setup
from entrenar_core.estimate.targets import matching
from entrenar_core.estimate.trained import trained_parameters
from entrenar_core.models import reference_config
from entrenar_core.train.measuring import available_memory, measure_training, random_model

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
BASES = {"LoRA": "float32", "QLoRA": "nf4"}
PARTS = ("weights", "weights in float32", "quantization constants", "adapters")


@dataclass(frozen=True)
class Rows:
    """Trainings of a model: how many numbers are trained, bytes of weights and adapters, of the
    peak, and whether that was measured."""

    model: str
    rows: dict[str, tuple[int, int, int, str]]

    def __view__(self) -> Iterator[Any]:
        shown, (all_numbers, _, whole, _) = [], self.rows["full"]
        for name, (trained, weights, peak, how) in self.rows.items():
            less = f"{1 - trained / all_numbers:.2%}", f"{1 - peak / whole:.1%}"
            sizes = format_count(trained), less[0], format_bytes(weights), format_bytes(peak)
            shown.append([name, *sizes, less[1], how])
        columns = ["", "trained", "less", "weights", "peak", "less", ""]
        yield Table(f"Fine-tuning {self.model}", columns, shown)


def fine_tunings(model: str, ranks: Sequence[int], given: Setup, *, most: int) -> Rows:
    """Full training, LoRA and QLoRA of a published model. What fits into `most` bytes is measured
    in a process of its own, on drawn weights; the rest is computed from shapes."""
    shape, rows, setups = find_shape(model), {}, {"full": given}
    targets = matching(shape.linears, PROJECTIONS)
    for name, rank in product(BASES, ranks):
        adapter = {"method": LORA, "base": BASES[name], "targets": targets, "rank": rank}
        setups[f"{name}, rank {rank}"] = replace(given, **adapter)
    for name, setup in setups.items():
        memory, how = own_memory(shape, setup), "computed"
        peak = memory.total
        if max(peak, 5 * shape.parameters) < most:  # weights are drawn and written in float32
            with random_model(reference_config(model)) as folder:
                peak, how = measure_training(folder, setup), "measured"
        kept = sum(memory[part] for part in PARTS)
        rows[name] = trained_parameters(shape, setup), kept, peak, how
    return Rows(model, rows)


@click.command(cls=Command)
@click.option("--model", default="llama-124m", help="Published name or size, such as 7B.")
@click.option("--rank", "ranks", multiple=True, type=int, default=(16, 64), help="Repeatable.")
@click.option("--batch-size", default=1, help="Sequences that are worked on at once.")
@click.option("--seq-len", default=512, help="Tokens of a sequence.")
@click.option("--measure", is_flag=True, help="Train what fits into this machine for two steps.")
@common_options
def main(out: Output, model, ranks, batch_size: int, seq_len: int, measure: bool) -> None:
    """Say what fine-tuning takes, activations of blocks being computed twice."""
    given = Setup(FULL, "float32", batch=batch_size, seq_len=seq_len, checkpointing=True)
    found = fine_tunings(model, ranks, given, most=available_memory() if measure else 0)
    out.emit(found, "entrenar.example.memory/1")


if __name__ == "__main__":
    main()
