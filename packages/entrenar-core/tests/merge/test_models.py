"""Merging models of files: what is written, whatever the order, and what is known of it."""

import json

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.io.safetensors import write_file
from entrenar_core.merge.models import merge_models
from entrenar_core.merge.tensor import merge_arrays
from merge_files import tensors_of
from mergeable import BFLOAT16, TINY, contents, edit_config, edit_tensors, write_family


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"), ("base", "a", "b", "c"))


SYMMETRIC = {
    "linear": {"weight": 0.4},
    "task_arithmetic": {"weight": 0.4},
    "ties": {"weight": 0.4, "density": 0.3},
    "dare_ties": {"weight": 0.4, "density": 0.3},
    "della_linear": {"weight": 0.4, "density": 0.3, "epsilon": 0.1},
    "breadcrumbs_ties": {"weight": 0.4, "density": 0.3},
    "model_stock": {},
    "sce": {"select_topk": 0.4},
    "karcher": {"max_iter": 2},
    "multislerp": {"weight": 0.4},
}


@pytest.mark.parametrize("method", SYMMETRIC)
def test_the_order_of_the_models_does_not_change_a_bit(method, family, tmp_path):
    """The weights, each with its model; the first model gives all other files."""
    based = method not in ("linear", "karcher", "multislerp")
    names = ["a", "b", "c"]
    weights = {"a": 0.3, "b": 0.6, "c": -0.2}
    for output, order in (("one", names), ("other", names[::-1])):
        given = dict(SYMMETRIC[method])
        if "weight" in given:
            given["weight"] = [weights[name] for name in order]
        merge_models(
            [family / name for name in order],
            method=method,
            base=family / "base" if based else None,
            output=tmp_path / output,
            **given,
        )
    one, other = (
        {name: data for name, data in contents(tmp_path / output).items() if "safetensors" in name}
        for output in ("one", "other")
    )
    assert one == other


def test_each_tensor_is_what_the_method_makes_of_the_models_arrays(family, tmp_path):
    merge_models(
        [family / "a", family / "b"], method="ties", base=family / "base", weight=[0.7, 0.4],
        density=0.5, output=tmp_path / "out", **{"lambda": 0.9},
    )  # fmt: skip
    base, a, b = (tensors_of(family / name) for name in ("base", "a", "b"))
    given = {"weight": [0.7, 0.4], "density": 0.5, "lambda": 0.9}
    found = tensors_of(tmp_path / "out")
    assert found.keys() == base.keys()
    for name, array in found.items():
        wanted = merge_arrays("ties", [a[name], b[name]], base=base[name], settings=given)
        assert np.array_equal(array, wanted), name


def test_the_folder_can_be_loaded_and_says_how_it_was_made(family, tmp_path):
    merge_models([family / "a", family / "b"], method="slerp", t=0.3, output=tmp_path / "out")
    models.load(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "tokenizer.json", "README.md", "mergekit_config.yml"} <= names
    assert not [name for name in names if "journal" in name or "lock" in name]


def test_seeds_decide_what_is_drawn(family, tmp_path):
    for number, seed in enumerate((1, 1, 2)):
        merge_models(
            [family / "a", family / "b"], method="dare_linear", base=family / "base",
            density=0.5, seed=seed, output=tmp_path / f"{number}.safetensors",
        )  # fmt: skip
    first, again, other = ((tmp_path / f"{n}.safetensors").read_bytes() for n in range(3))
    assert first == again
    assert first != other


def test_lone_files_are_merged_to_a_lone_file(family, tmp_path):
    for name in ("a", "b"):
        write_file(tmp_path / f"{name}.safetensors", tensors_of(family / name))
    lone = merge_models(
        [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], method="linear",
        weight=[0.5, 0.25], output=tmp_path / "out.safetensors",
    )  # fmt: skip
    whole = tmp_path / "out"
    merge_models([family / "a", family / "b"], method="linear", weight=[0.5, 0.25], output=whole)
    found, wanted = tensors_of(tmp_path / "out.safetensors"), tensors_of(whole)
    assert lone.written and found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("keys", [("dtype",), ("torch_dtype",), ("dtype", "torch_dtype")])
def test_the_config_says_the_type_that_is_written(keys, tmp_path):
    write_family(tmp_path, ("a", "b"))
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    plain = {key: value for key, value in config.items() if "dtype" not in key}
    (tmp_path / "a" / "config.json").write_text(json.dumps(plain))
    edit_config(tmp_path / "a", **dict.fromkeys(keys, "bfloat16"))
    merge_models(
        [tmp_path / "a", tmp_path / "b"], method="linear", out_dtype="float16",
        output=tmp_path / "out",
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: found[key] for key in found if "dtype" in key} == dict.fromkeys(keys, "float16")
    assert {array.dtype for array in tensors_of(tmp_path / "out").values()} == {np.dtype("f2")}


def test_models_of_several_types_are_merged_in_float32(tmp_path):
    write_family(tmp_path, ("a", "b"))
    halves = {n: x.astype(np.float16) for n, x in tensors_of(tmp_path / "b").items()}
    edit_tensors(tmp_path / "b", halves)
    merge_models([tmp_path / "a", tmp_path / "b"], method="linear", output=tmp_path / "out")
    assert {array.dtype for array in tensors_of(tmp_path / "out").values()} == {np.dtype("f4")}


def test_figures_say_how_far_models_are_from_the_base_and_each_other(family, tmp_path):
    """Against NumPy on all weights at once."""
    done = merge_models(
        [family / "a", family / "b"], method="task_arithmetic", base=family / "base",
        weight=[0.5, 0.25], dtype="float32", output=tmp_path / "out",
    )  # fmt: skip
    base, a, b, merged = (
        np.concatenate([x.astype(np.float64).reshape(-1) for _, x in sorted(t.items())])
        for t in map(tensors_of, (family / "base", family / "a", family / "b", tmp_path / "out"))
    )
    total = done.total
    assert total.base_norm == pytest.approx(np.linalg.norm(base))
    assert total.norms == pytest.approx([np.linalg.norm(a - base), np.linalg.norm(b - base)])
    cosine = (a - base) @ (b - base) / np.linalg.norm(a - base) / np.linalg.norm(b - base)
    assert total.cosines == pytest.approx([cosine])
    assert total.merged_norm == pytest.approx(np.linalg.norm(merged - base))
    assert total.weights == pytest.approx([0.5, 0.25], abs=1e-5)
    assert total.disagreement == pytest.approx(np.mean((a - base) * (b - base) < 0))


def test_models_that_have_nothing_in_common_are_warned_of(tmp_path):
    write_family(tmp_path / "one", ("a",))
    write_family(tmp_path / "two", ("b", "c"), TINY, dtype=BFLOAT16, spread=3)
    done = merge_models(
        [tmp_path / "two" / "c"], method="task_arithmetic", base=tmp_path / "one" / "a",
        output=tmp_path / "out",
    )  # fmt: skip
    (warning,) = done.warnings
    assert "does not seem to be made from it" in warning
