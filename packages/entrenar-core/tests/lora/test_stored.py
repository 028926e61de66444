"""Adapters on a disk: what is read is what was written, and what contradicts itself is refused."""

import json
import re

import ml_dtypes
import numpy as np
import pytest

from adapter_files import CONFIG, DOWN, PREFIX, K, Q, dense, factors, write_peft
from entrenar_common.errors import (
    ConfigError,
    EntrenarError,
    FormatError,
    NotFoundError,
    NumericsError,
    RefusedError,
    UnsupportedError,
)
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from entrenar_core.io.torch_save import write_torch
from entrenar_core.lora.joined import as_content
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import check_adapter_output, write_adapter
from entrenar_core.testing import difference

MAGNITUDE = f"{PREFIX}{Q}.lora_magnitude_vector"


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, (6 / 4, 6 / 4)),
        ({"use_rslora": True}, (6 / 2, 6 / 2)),
        ({"alpha_pattern": {"layers.1.mlp.down_proj": 8}}, (6 / 4, 8 / 4)),
        ({"alpha_pattern": {"proj": 8}}, (6 / 4, 6 / 4)),  # a part of a name is not the name
        ({"alpha_pattern": {"q_proj": 3, "model.layers.0.self_attn.q_proj": 5}}, (3 / 4, 6 / 4)),
    ],
)
def test_the_scale_is_pefts(tmp_path, config, scales):
    with StoredAdapter(write_peft(tmp_path, **config)) as found:
        assert (found.update(Q).scale, found.update(DOWN).scale) == pytest.approx(scales)


def test_ranks_by_module_give_their_own_scales(tmp_path):
    tensors = factors() | factors({Q: (64, 64)}, rank=9)
    write_peft(tmp_path, tensors, rank_pattern={"q_proj": 9}, use_rslora=True)
    with StoredAdapter(tmp_path) as found:
        assert (found.update(Q).scale, found.update(DOWN).scale) == (6 / 3, 6 / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_factors_of_any_float_type_are_widened(tmp_path, dtype):
    tensors = {name: array.astype(dtype) for name, array in factors().items()}
    with StoredAdapter(write_peft(tmp_path, tensors)) as found:
        update = found.update(Q)
    assert update.a.dtype == update.b.dtype == np.float32
    assert np.array_equal(update.a, tensors[f"{PREFIX}{Q}.lora_A.weight"].astype(np.float32))


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a.pth", "a.json", "folder"])
def test_every_form_gives_back_what_was_written(tmp_path, name):
    tensors = factors() | {f"{PREFIX}model.norm.weight": np.ones(64, np.float32)}
    config = {"modules_to_save": ["norm"], "use_rslora": True}
    with StoredAdapter(write_peft(tmp_path / "one", tensors, **config)) as adapter:
        write_adapter(tmp_path / name, as_content(adapter))
        settings = adapter.settings
    with StoredAdapter(tmp_path / name) as found:
        assert found.settings == settings
        assert {n: found.read(n).tobytes() for n in found.tensor_names()} == {
            n: array.tobytes() for n, array in tensors.items()
        }


def test_a_folder_is_written_with_pefts_names(tmp_path):
    with StoredAdapter(write_peft(tmp_path / "one")) as adapter:
        found = write_adapter(tmp_path / "two", as_content(adapter))
    assert [path.name for path in found] == ["adapter_model.safetensors", "adapter_config.json"]
    with SafetensorsFile(found[0]) as file:
        assert file.metadata == {"format": "pt"}
    written = json.loads(found[1].read_text())
    assert (written["peft_type"], written["r"], written["lora_alpha"]) == ("LORA", 4, 6.0)


def test_an_old_adapter_of_another_form_does_not_stay_in_the_folder(tmp_path):
    with StoredAdapter(write_peft(tmp_path / "one")) as adapter:
        write_adapter(tmp_path / "two", as_content(adapter))
        write_adapter(tmp_path / "two", as_content(adapter), form="pth")
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == ["adapter_config.json", "adapter_model.bin"]


@pytest.mark.parametrize(
    ("name", "form"), [("a.json", "pth"), ("a.pth", "safetensors"), ("folder", "json")]
)
def test_a_name_of_another_form_is_refused(tmp_path, name, form):
    with StoredAdapter(write_peft(tmp_path / "one")) as adapter:
        content = as_content(adapter)
    with pytest.raises(ConfigError, match=form) as caught:
        write_adapter(tmp_path / name, content, form=form)
    assert caught.value.hint
    assert not (tmp_path / name).exists()


def test_json_has_no_numbers_that_are_not_finite(tmp_path):
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_A.weight"][0, 0] = np.nan
    with (
        StoredAdapter(write_peft(tmp_path / "one", tensors)) as adapter,
        pytest.raises(NumericsError, match="q_proj"),
    ):
        write_adapter(tmp_path / "a.json", as_content(adapter))
    assert not (tmp_path / "a.json").exists()


def test_a_new_file_does_not_change_the_config_of_another(tmp_path):
    write_peft(tmp_path)
    with pytest.raises(RefusedError, match=r"adapter_config\.json: is there already"):
        check_adapter_output(tmp_path / "new.safetensors")
    with pytest.raises(RefusedError, match="exists already"):
        check_adapter_output(tmp_path)
    check_adapter_output(tmp_path / "new.json")


# ---- files without a config --------------------------------------------------------------------


def test_a_lone_file_takes_the_alpha_it_is_given(tmp_path):
    write_file(tmp_path / "a.safetensors", factors())
    with StoredAdapter(tmp_path / "a.safetensors", alpha=10) as found:
        assert difference(found.update(Q).dense(), dense(factors(), Q, 10 / 4)) < 1e-6


def test_a_lone_file_takes_the_alpha_of_its_metadata(tmp_path):
    write_file(tmp_path / "a.safetensors", factors(), {"lora_alpha": "12"})
    with StoredAdapter(tmp_path / "a.safetensors") as found:
        assert found.update(Q).scale == 3


def test_the_config_beside_a_lone_file_counts_before_all_else(tmp_path):
    write_peft(tmp_path)
    write_file(tmp_path / "b.safetensors", factors(), {"lora_alpha": "12"})
    with StoredAdapter(tmp_path / "b.safetensors", alpha=99) as found:
        assert found.update(Q).scale == 6 / 4


def test_a_lone_file_without_any_alpha_is_refused(tmp_path):
    write_torch(tmp_path / "a.pth", factors())
    with pytest.raises(ConfigError, match="no alpha") as caught:
        StoredAdapter(tmp_path / "a.pth")
    assert "--alpha" in str(caught.value.hint)


def test_a_lone_file_of_several_ranks_has_a_scale_for_each(tmp_path):
    write_file(tmp_path / "a.safetensors", factors() | factors({Q: (64, 64)}, rank=8))
    with StoredAdapter(tmp_path / "a.safetensors", alpha=8) as found:
        assert (found.update(Q).scale, found.update(K).scale) == (1, 2)


# ---- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error", "word"),
    [
        ({"peft_type": "IA3"}, UnsupportedError, "IA3 is another kind"),
        ({"peft_type": "Q\x1b[2JX"}, ConfigError, r"Q\\x1b\[2JX"),
        ({"peft_type": None}, ConfigError, "peft_type"),
        ({"r": 0}, ConfigError, "the rank of rank is 0"),
        ({"r": "4"}, ConfigError, "r is '4'"),
        ({"r": True}, ConfigError, "r is True"),
        ({"r": 8}, ConfigError, "contradict each other in 3 places"),
        ({"lora_alpha": "much"}, ConfigError, "much"),
        ({"lora_alpha": 0}, ConfigError, "alpha"),
        ({"lora_dropout": 2}, ConfigError, "dropout"),
        ({"bias": "some"}, ConfigError, "bias is 'some'"),
        ({"rank_pattern": {"(a+)+$": 2}}, UnsupportedError, r"\(a\+\)"),
        ({"alpha_pattern": {"q_proj": "x"}}, ConfigError, "alpha"),
        ({"use_dora": True}, ConfigError, "use_dora is True, and it has no magnitude"),
        ({"lora_bias": True}, ConfigError, "B has no bias"),
        ({"target_modules": ["v_proj"]}, ConfigError, "is not among target_modules"),
        ({"target_modules": 5}, ConfigError, "target_modules is 5"),
        ({"init_lora_weights": "corda"}, UnsupportedError, "corda"),
        ({"trainable_token_indices": [1]}, UnsupportedError, "trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, UnsupportedError, "layer_replication"),
        ({"a_new_key": True}, UnsupportedError, "a_new_key"),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path, config, error, word):
    with pytest.raises(error) as caught:
        StoredAdapter(write_peft(tmp_path, **config))
    assert re.search(word, caught.value.report())
    assert caught.value.hint


@pytest.mark.parametrize("targets", [None, []])
def test_without_targets_the_tensors_say_what_is_adapted(tmp_path, targets):
    with StoredAdapter(write_peft(tmp_path, target_modules=targets)) as adapter:
        assert adapter.config.target_modules == tuple(adapter.modules)


@pytest.mark.parametrize("text", ['{"lora_alpha": NaN}', "[]", "{", '"LORA"'])
def test_a_config_that_is_none_is_refused(tmp_path, text):
    write_peft(tmp_path)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(EntrenarError, match="adapter_config"):
        StoredAdapter(tmp_path)


def test_an_alpha_that_is_nan_is_refused(tmp_path):
    write_peft(tmp_path)
    text = json.dumps(CONFIG).replace("6.0", "NaN")
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(FormatError, match="NaN"):
        StoredAdapter(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path):
    write_peft(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(NotFoundError, match=r"adapter_config\.json: missing"):
        StoredAdapter(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({f"{PREFIX}{Q}.lora_A.weight": None}, FormatError, "q_proj has only b of A and B"),
        ({f"{PREFIX}{Q}.lora_A.weight": (3, 64)}, FormatError, r"\[3, 64\].*\[64, 4\]"),
        ({f"{PREFIX}{Q}.lora_A.weight": (4, 64, 1, 1)}, UnsupportedError, "convolution"),
        ({f"{PREFIX}{Q}.lora_A.weight": (4,)}, FormatError, "no pair"),
        ({MAGNITUDE: (63,)}, FormatError, r"magnitude is \[63\] for 64 outputs"),
        ({f"{PREFIX}{Q}.lora_E": (4, 1)}, UnsupportedError, "lora_E"),
        ({"unet.lora_up.weight": (4, 4)}, UnsupportedError, "lora_up"),
        ({f"{PREFIX}model.norm.weight": (64,)}, ConfigError, "not of modules_to_save"),
    ],
)
def test_tensors_that_are_wrong_are_named(tmp_path, change, error, word):
    tensors = factors()
    for name, shape in change.items():
        tensors[name] = None if shape is None else np.ones(shape, np.float32)
    kept = {name: array for name, array in tensors.items() if array is not None}
    with pytest.raises(error) as caught:
        StoredAdapter(write_peft(tmp_path, kept))
    assert re.search(word, caught.value.report())
    assert caught.value.hint


def test_contradictions_are_listed_for_who_asks(tmp_path):
    with StoredAdapter(write_peft(tmp_path, r=8), tolerant=True) as found:
        assert len(found.contradictions) == 3
        assert "q_proj: the config says rank 8, A has 4" in " ".join(found.contradictions)


def test_an_adapter_without_tensors_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no tensors"):
        StoredAdapter(write_peft(tmp_path, {}))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": "other/1"}, "is no adapter in JSON"),
        ({"tensors": []}, "tensors is no object"),
        ({"tensors": {"a": {"shape": [2], "values": [1]}}}, r"\[2\] with 1 values"),
        ({"tensors": {"a": {"shape": [-1], "values": []}}}, r"\[-1\]"),
        ({"tensors": {"a": {"shape": [1], "values": ["x"]}}}, "no numbers"),
        ({"tensors": {"a": 3}}, "no shape"),
    ],
)
def test_a_json_file_that_is_wrong_is_refused(tmp_path, change, word):
    good = {"schema": "entrenar.adapter/1", "config": CONFIG, "tensors": {}}
    (tmp_path / "a.json").write_text(json.dumps(good | change))
    with pytest.raises(FormatError, match=word):
        StoredAdapter(tmp_path / "a.json")
