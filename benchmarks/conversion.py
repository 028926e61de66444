"""Converting a model of 1.1 billion weights to a quantized GGUF file, beside what the disk allows.

    python benchmarks/conversion.py [--rounds 3] [--layers 22] [--targets] [--json]

A folder of bfloat16 weights in the shape of TinyLlama is made in a temporary folder (2.2 GB; fewer
with --layers). Then, in turns, each in a process of its own with all files in the page cache:

- entrenar writes it as a q4_0 GGUF file;
- a script reads the same bytes, and hashes, writes and syncs as many bytes as that file has;
- the `gguf` package, with the names and layout of llama.cpp, writes it as float16
  and then quantizes that file (left out where the package is not installed).

Peak memory is that of the process. With `--targets`, exits with 1 when one is missed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from turns import Side, benchmark, in_turns, turn

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core.environment import Environment, environment

SHAPE = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000,
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
    "num_key_value_heads": 4, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip
SLOWER_THAN_DISK, MEMORY, FASTER_THAN_GGUF = 1.5, 600e6, 5.0
"""At most so many times the script's time, so many bytes, and so many times the package's speed."""

ENTRENAR = """
from pathlib import Path
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import recipe_named
with GGUFPlan(Path(source), recipe_named("q4_0")) as plan:
    plan.write(Path(output))
"""

SCRIPT = """
import hashlib, os
from pathlib import Path
left, digest = size, hashlib.sha256()
fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
buffer = bytearray(8 << 20)
for path in sorted(Path(source).glob("*.safetensors")):
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            part = memoryview(buffer)[:min(count, left)]
            digest.update(part)
            os.write(fd, part)
            left -= len(part)
os.fsync(fd)
"""

GGUF = """
import gguf, numpy as np
from pathlib import Path
from safetensors import safe_open
from gguf.quants import quantize
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
def paired(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)
def tensors():
    import ml_dtypes
    with safe_open(Path(source) / "model.safetensors", "np") as file:
        for name in file.keys():
            w = file.get_tensor(name)
            if w.dtype != np.float16:
                w = w.astype(np.float32) if w.ndim == 1 else w.astype(np.float16)
            if "q_proj" in name:
                w = paired(w, 32)
            if "k_proj" in name:
                w = paired(w, 4)
            yield names.get_name(name, try_suffixes=(".weight",)), w
half = output + ".f16"
writer = gguf.GGUFWriter(half, "llama")
for name, w in tensors():
    writer.add_tensor(name, w)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file()
writer.close()
reader = gguf.GGUFReader(half)
writer = gguf.GGUFWriter(output, "llama")
for tensor in reader.tensors:
    w, kind = tensor.data, gguf.GGMLQuantizationType.Q4_0
    if w.ndim == 2:
        writer.add_tensor(tensor.name, quantize(w.astype(np.float32), kind), raw_dtype=kind)
    else:
        writer.add_tensor(tensor.name, w)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file()
writer.close()
"""

SIDES = {"entrenar": ENTRENAR, "script": SCRIPT, "gguf": GGUF}


@dataclass(frozen=True)
class ConversionReport:
    """All sides, with the machine that they were measured on."""

    date: str
    environment: Environment
    weights: int
    bytes_read: int
    bytes_written: int
    rounds: int
    sides: tuple[Side, ...]

    def seconds(self, name: str) -> float:
        return next((side.seconds for side in self.sides if side.name == name), float("nan"))

    @property
    def slower_than_script(self) -> float:
        return self.seconds("entrenar") / self.seconds("script")

    @property
    def faster_than_gguf(self) -> float:
        return self.seconds("gguf") / self.seconds("entrenar")

    def passed(self) -> bool:
        """Whether every target that was measured is met."""
        peak = next(side.peak_bytes for side in self.sides if side.name == "entrenar")
        slow = self.faster_than_gguf < FASTER_THAN_GGUF
        return self.slower_than_script <= SLOWER_THAN_DISK and peak <= MEMORY and not slow

    def __view__(self) -> list[Any]:
        rows = [(s.name, f"{s.seconds:.2f} s", format_bytes(s.peak_bytes)) for s in self.sides]
        return [
            Fields(
                "Conversion of a folder to a q4_0 GGUF file",
                [
                    ("date", self.date),
                    ("CPU", self.environment.cpu),
                    ("read", format_bytes(self.bytes_read)),
                    ("written", format_bytes(self.bytes_written)),
                    ("rounds", self.rounds),
                ],
            ),
            Table(None, ("Side", "Time", "Peak memory"), rows),
            Text(
                f"{self.slower_than_script:.2f} times the script's time (at most "
                f"{SLOWER_THAN_DISK}), {self.faster_than_gguf:.1f} times as fast as the gguf "
                f"package (at least {FASTER_THAN_GGUF:.0f}); at most {format_bytes(MEMORY)}"
            ),
        ]


def measure(folder: Path, layers: int, rounds: int, out: Output) -> ConversionReport:
    source, output = folder / "model", folder / "model.gguf"
    out.note("making the model")
    weights = make_model(source, layers)
    given = {"source": str(source), "output": str(output), "size": 0, "layers": layers}
    turn(SIDES["entrenar"], given)  # compiles, and fills the page cache
    given["size"] = size = output.stat().st_size
    chosen = {
        name: partial(turn, code, given)
        for name, code in SIDES.items()
        if name != "gguf" or find_spec("gguf")
    }

    def clear() -> None:
        for path in output.parent.glob(f"{output.name}*"):
            path.unlink()

    sides = in_turns(chosen, rounds=rounds, clear=clear, out=out)
    return ConversionReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        environment=environment(),
        weights=weights,
        bytes_read=sum(path.stat().st_size for path in source.glob("*.safetensors")),
        bytes_written=size,
        rounds=rounds,
        sides=sides,
    )


def make_model(folder: Path, layers: int) -> int:
    """Write a folder of random bfloat16 weights; returns how many there are."""
    import ml_dtypes
    import numpy as np

    from entrenar_core import models
    from entrenar_core.data.tokenizer import train_bpe
    from entrenar_core.io import files
    from entrenar_core.io.safetensors import write_folder

    config = {**SHAPE, "num_hidden_layers": layers}
    shapes = models.parameter_shapes(config)
    pool = np.random.default_rng(0).standard_normal(2**24, np.float32) * np.float32(0.02)
    numbers = pool.astype(ml_dtypes.bfloat16)

    class Random(Mapping[str, np.ndarray]):
        """Tensors of numbers from the pool, which begin somewhere else in each."""

        def __getitem__(self, name: str) -> np.ndarray:
            shape = shapes[name]
            start = 7919 * (list(shapes).index(name) + 1)
            places = (np.arange(start, start + int(np.prod(shape))) % numbers.size).reshape(shape)
            return numbers[places]

        def __iter__(self) -> Iterator[str]:
            return iter(shapes)

        def __len__(self) -> int:
            return len(shapes)

    files.make_folder(folder)
    write_folder(folder, Random())
    files.write_json(folder / "config.json", config)
    train_bpe(["the cat and the dog"] * 9, 300).save(folder)
    return sum(int(np.prod(shape)) for shape in shapes.values())


if __name__ == "__main__":
    benchmark(__doc__, measure, schema="entrenar.benchmark.conversion/1", layers=22, rounds=3)
