"""What PyTorch and transformers make of files that were converted, and we of theirs."""

import numpy as np
import pytest

from entrenar_core.convert.export import export
from entrenar_core.convert.tensors import convert_tensors
from entrenar_core.io.safetensors import SafetensorsFile
from model_files import CONFIGS, ENCODERS, write_model
from torch_tensors import same

pytestmark = pytest.mark.parity

IDS = np.random.default_rng(0).integers(0, 290, (2, 17))
CLASSES = {
    "llama, tied": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "qwen3": "Qwen3ForCausalLM",
    "bert, masked": "BertForMaskedLM",
    "roberta, masked": "RobertaForMaskedLM",
    "distilbert, masked": "DistilBertForMaskedLM",
}
MASKED = {
    f"{name}, masked": config | {"architectures": [CLASSES[f"{name}, masked"]]}
    for name, config in ENCODERS.items()
}


@pytest.fixture(autouse=True)
def quiet():
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()


@pytest.mark.parametrize("name", CLASSES)
def test_a_state_dict_is_the_models_own(tmp_path, name):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = write_model(tmp_path / "a", {**CONFIGS, **MASKED}[name])
    export(source, tmp_path / "a.pth", form="pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    kind = getattr(transformers, CLASSES[name])
    model = kind(transformers.AutoConfig.from_pretrained(source))
    own = model.state_dict()
    assert set(state) == set(own)
    storages = {key: tensor.untyped_storage().data_ptr() for key, tensor in state.items()}
    theirs = {key: tensor.untyped_storage().data_ptr() for key, tensor in own.items()}
    assert tied(storages) == tied(theirs)
    model.load_state_dict(state, strict=True)
    with SafetensorsFile(source / "model.safetensors") as file:
        for key in file.names():
            assert same(file.read(key), model.state_dict()[key])


def tied(storages):
    """The sets of names that are one storage."""
    by_place: dict[int, set[str]] = {}
    for name, place in storages.items():
        by_place.setdefault(place, set()).add(name)
    return sorted(map(sorted, (names for names in by_place.values() if len(names) > 1)))


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("name", ["llama, tied", "gpt2"])
def test_transformers_computes_the_same_from_a_converted_folder(tmp_path, name, form):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = write_model(tmp_path / "a", CONFIGS[name])
    export(source, tmp_path / "b", form=form)
    kind = getattr(transformers, CLASSES[name])
    with torch.no_grad():
        logits = [
            kind.from_pretrained(folder)(torch.from_numpy(IDS)).logits
            for folder in (source, tmp_path / "b")
        ]
    assert torch.equal(*logits)


def toy(kind):
    transformers = pytest.importorskip("transformers")
    if kind == "t5":
        return transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=40, d_model=16, d_ff=24, d_kv=8, num_layers=1, num_heads=2
            )
        )
    return transformers.FalconForCausalLM(
        transformers.FalconConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
        )
    )


@pytest.mark.parametrize("kind", ["t5", "falcon"])
def test_a_state_dict_of_an_unknown_model_is_what_safetensors_reads(tmp_path, kind):
    torch = pytest.importorskip("torch")
    reader = pytest.importorskip("safetensors.torch")
    model = toy(kind)
    state = model.state_dict()
    torch.save(state, tmp_path / "a.pth")
    convert_tensors(tmp_path / "a.pth", tmp_path / "a.safetensors", form="safetensors")
    found = reader.load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())
    named = dict(model.named_parameters())  # tied ones once
    assert set(named) <= set(found) <= set(state)
    fresh = toy(kind)
    reader.load_model(fresh, tmp_path / "a.safetensors")
    assert all(torch.equal(t, state[n]) for n, t in fresh.state_dict().items())


@pytest.mark.parametrize("kind", ["t5", "falcon"])
def test_a_folder_of_an_unknown_model_loads_from_each_container(tmp_path, kind):
    torch = pytest.importorskip("torch")
    model = toy(kind)
    model.save_pretrained(tmp_path / "a")
    convert_tensors(tmp_path / "a", tmp_path / "b", form="pth")
    convert_tensors(tmp_path / "b", tmp_path / "c", form="safetensors")
    for folder in ("b", "c"):
        found = type(model).from_pretrained(tmp_path / folder).state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


def test_views_of_one_memory_are_written_apart_and_that_is_said(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "row": base[1], "turned": base.T, "other": torch.ones(2)}
    torch.save(state, tmp_path / "a.pth")
    found = convert_tensors(tmp_path / "a.pth", tmp_path / "a.safetensors", form="safetensors")
    with SafetensorsFile(tmp_path / "a.safetensors") as file:
        assert all(same(file.read(name), tensor) for name, tensor in state.items())
    (note,) = found.notes
    assert "whole, row, turned" in note


@pytest.mark.parametrize("quantization", ["f16", "bf16"])
def test_casts_are_those_of_pytorch(tmp_path, quantization):
    """But for doubles, which PyTorch rounds twice."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(300, 70, generator=generator)
    state = {"f32": wide, "bf16": wide.bfloat16(), "view": wide.T[::2]}
    torch.save(state, tmp_path / "a.pth")
    convert_tensors(tmp_path / "a.pth", tmp_path / "b.pth", form="pth", quantization=quantization)
    found = torch.load(tmp_path / "b.pth", weights_only=True)
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[quantization]
    assert all(torch.equal(found[name], tensor.to(dtype)) for name, tensor in state.items())
