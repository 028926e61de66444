"""Models in several GGUF files: read as one, and refused where the parts do not fit together."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import EntrenarError, FormatError, NotFoundError
from entrenar_core.io import gguf
from entrenar_core.io.gguf import GGUFFiles, Planned, Value, ValueType, write_gguf
from entrenar_core.quant import BY_NUMBER

F32 = BY_NUMBER[0]


def write_part(path: Path, metadata: dict[str, Value], *names: str) -> None:
    def read(name: str):
        return F32.quantize(np.full((2, 2), float(name[1:]), np.float32))

    write_gguf(path, metadata, [Planned(name, F32, (2, 2)) for name in names], read)


def split(number: int, count: int, tensors: int | None = 5) -> dict[str, Value]:
    found = {
        "split.no": gguf.scalar(ValueType.U16, number),
        "split.count": gguf.scalar(ValueType.U16, count),
    }
    return found if tensors is None else {**found, "split.tensors.count": gguf.i32(tensors)}


def part(folder: Path, number: int) -> Path:
    return folder / f"m-{number:05d}-of-00003.gguf"


@pytest.fixture
def model(tmp_path) -> Path:
    """Three parts with five tensors; the path of the first."""
    write_part(part(tmp_path, 1), {"general.name": gguf.text("m"), **split(0, 3)}, "t0", "t1")
    write_part(part(tmp_path, 2), split(1, 3), "t2")
    write_part(part(tmp_path, 3), split(2, 3), "t3", "t4")
    return part(tmp_path, 1)


def test_parts_are_one_model(model):
    with GGUFFiles(model) as files:
        assert dict(files.metadata) == {"general.name": "m"}
        assert files.names() == list(files.tensors) == ["t0", "t1", "t2", "t3", "t4"]
        assert files.parameter_count == 20
        for name in files.names():
            assert (files.read(name).dequantize() == float(name[1:])).all()
            assert files.info(name).shape == (2, 2)
            files.release(name)
        with pytest.raises(NotFoundError, match="no tensor 't5'"):
            files.read("t5")


def test_a_single_file_is_a_model_too(tmp_path):
    write_part(tmp_path / "any name", {"general.name": gguf.text("m")}, "t0", "t1")
    with GGUFFiles(tmp_path / "any name") as files:
        assert files.names() == ["t0", "t1"]
        assert files.metadata.text("general.name") == "m"


def test_a_first_part_without_tensors_is_a_model(tmp_path):
    write_part(part(tmp_path, 1), split(0, 3, 1))
    write_part(part(tmp_path, 2), split(1, 3, 1))
    write_part(part(tmp_path, 3), split(2, 3, 1), "t0")
    with GGUFFiles(part(tmp_path, 1)) as files:
        assert files.names() == ["t0"]


def lose_second(folder: Path) -> None:
    part(folder, 2).unlink()


def exchange_names(folder: Path) -> None:
    part(folder, 2).rename(folder / "x")
    part(folder, 3).rename(part(folder, 2))
    (folder / "x").rename(part(folder, 3))


def cut_third(folder: Path) -> None:
    os.truncate(part(folder, 3), part(folder, 3).stat().st_size - 1)


def rewrite(number: int, *names: str, **changes: int) -> Callable[[Path], None]:
    values = {"no": number - 1, "count": 3, "tensors": 5} | changes

    def spoil(folder: Path) -> None:
        write_part(
            part(folder, number), split(values["no"], values["count"], values["tensors"]), *names
        )

    return spoil


def without_keys(folder: Path) -> None:
    write_part(part(folder, 2), {}, "t2")


SPOILT: dict[str, tuple[Callable[[Path], None], type[EntrenarError], str]] = {
    "missing": (lose_second, NotFoundError, "m-00002-of-00003.gguf: missing: it is part 2 of 3"),
    "exchanged": (exchange_names, FormatError, "m-00002.*split.no is 2 and split.count 3, not 1"),
    "truncated": (cut_third, FormatError, "m-00003-of-00003.gguf: 1 bytes are missing at the end"),
    "not a part": (without_keys, FormatError, "m-00002.*no metadata key 'split.no'"),
    "of four": (rewrite(2, "t2", count=4), FormatError, "m-00002.*split.count 4, not 1 and 3"),
    "number beyond": (rewrite(3, "t3", "t4", no=3), FormatError, "m-00003.*split.no is 3"),
    "twice": (rewrite(2, "t0"), FormatError, "m-00002.*: tensor 't0' is in m-00001-of-00003.gguf"),
    "too few": (rewrite(3, "t3"), FormatError, "split.tensors.count is 5, and there are 4"),
    "first of 65535": (rewrite(1, "t0", count=65535), FormatError, "the first of 65535 parts"),
    "first is last": (rewrite(1, "t0", no=2), FormatError, "this is part 3 of 3"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_parts_that_do_not_fit_are_refused_by_name(model, case):
    spoil, kind, said = SPOILT[case]
    spoil(model.parent)
    with pytest.raises(kind, match=said) as caught:
        GGUFFiles(model)
    assert caught.value.hint
    assert str(caught.value).startswith(str(model.parent))


def test_another_part_says_which_is_the_first(model):
    with pytest.raises(FormatError, match="this is part 2 of 3") as caught:
        GGUFFiles(part(model.parent, 2))
    assert "-00001-of-00003.gguf" in str(caught.value.hint)


def test_a_renamed_first_part_says_its_name(model):
    renamed = model.rename(model.with_name("model.gguf"))
    with pytest.raises(FormatError, match="the first of 3 parts") as caught:
        GGUFFiles(renamed)
    assert "-00001-of-00003.gguf" in str(caught.value.hint)


def test_refused_parts_leave_no_descriptor(model):
    lose_second(model.parent)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotFoundError):
        GGUFFiles(model)
    assert len(os.listdir("/proc/self/fd")) == before
