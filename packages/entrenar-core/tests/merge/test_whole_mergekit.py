"""Whole merges beside mergekit's program: the same config and models, the same tensors."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from entrenar_core.merge.models import merge, read
from merge_files import tensors_of
from mergeable import BFLOAT16, TINY, edit_config, edit_tensors, write_family
from mergekit_arrays import steps_apart
from mergekit_tokens import size_of
from model_files import CONFIGS, ENCODERS
from tokenizer_cases import CASES

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # those of mergekit and of what it imports
]

NAMES = ("a", "b", "c")
"""In the order in which ours adds up what has no order, and mergekit does as the config is written;
a is what the others were made from."""

ERROR = 2 * float(np.finfo(np.float32).eps)
"""Of a tensor's largest element, what float32 may be off where numbers cancel."""

ENCODER = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
GPT2 = {"n_embd": 16, "n_inner": 24, "n_head": 2, "n_layer": 4}
FAMILIES = {
    "llama": TINY,
    "qwen2": TINY | {"model_type": "qwen2"},
    "gpt2": CONFIGS["gpt2"] | GPT2,
    "bert": ENCODERS["bert"]
    | ENCODER
    | {"num_hidden_layers": 4, "architectures": ["BertForSequenceClassification"]},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch = pytest.importorskip("torch")
    pytest.importorskip("mergekit")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A folder with models of an architecture, made once."""
    made: dict[str, Path] = {}

    def of(name):
        if name not in made:
            made[name] = write_family(tmp_path_factory.mktemp(name), NAMES, FAMILIES[name])
        return made[name]

    return of


def both(text, folder, tmp_path):
    """What ours and mergekit write for a config whose models, written as <a>, are in `folder`."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    for name in NAMES:  # mergekit keeps what it opened by the text that names it
        text = text.replace(f"<{name}>", str(folder / name))
    path = tmp_path / "merge.yaml"
    path.write_text(text)
    merge(*read(path), tmp_path / "ours")
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    run_merge(config, str(tmp_path / "theirs"), MergeOptions(quiet=True, write_model_card=False))
    return tmp_path / "ours", tmp_path / "theirs"


def assert_same(ours, theirs):
    """The same tensors by name, in 99.9 % of their elements, and one rounding step elsewhere."""
    found, wanted = tensors_of(ours), tensors_of(theirs)
    assert found.keys() == wanted.keys()
    apart = []
    for name, array in found.items():
        assert (array.shape, array.dtype) == (wanted[name].shape, wanted[name].dtype), name
        off = np.abs(array.astype(np.float32) - wanted[name].astype(np.float32))
        apart.append(
            np.where(off > ERROR * np.abs(array).max(), steps_apart(array, wanted[name]), 0)
        )
    steps = np.concatenate([x.reshape(-1) for x in apart])
    assert (steps == 0).mean() >= 0.999
    assert steps.max() <= 1


def assert_same_config(ours, theirs):
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ours, theirs)]
    for key in ("model_type", "num_hidden_layers", "n_layer", "vocab_size", "architectures"):
        assert configs[0].get(key) == configs[1].get(key), key
    types = [config.get("dtype", config.get("torch_dtype")) for config in configs]
    assert types[0] == types[1]


MERGES = {
    "linear with gradients and filters": """
merge_method: linear
models:
  - {model: <a>, parameters: {weight: [0, 1, 0.3]}}
  - model: <b>
    parameters: {weight: [{filter: mlp, value: [0.2, 0.9]}, {filter: norm, value: 0}, {value: 0.4}]}
  - {model: <c>, parameters: {weight: [{filter: attn, value: 2}, {value: [1, 0.5]}]}}
""",
    "slerp as in mergekit's readme": """
merge_method: slerp
base_model: <b>
slices:
  - sources: [{model: <b>, layer_range: [0, 4]}, {model: <c>, layer_range: [0, 4]}]
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
dtype: bfloat16
""",
    "task arithmetic": """
merge_method: task_arithmetic
base_model: <a>
models:
  - {model: <b>, parameters: {weight: 0.7}}
  - {model: <c>, parameters: {weight: [-0.2, 0.5]}}
parameters: {lambda: 0.8}
""",
    "ties in float32": """
merge_method: ties
base_model: <a>
models:
  - {model: <b>, parameters: {weight: 0.7, density: 1}}
  - {model: <c>, parameters: {weight: 0.4, density: 1}}
dtype: float32
out_dtype: bfloat16
""",
}


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("name", MERGES)
def test_a_merge_is_mergekits(name, architecture, family, tmp_path):
    ours, theirs = both(MERGES[name], family(architecture), tmp_path)
    assert_same(ours, theirs)
    assert_same_config(ours, theirs)


STACKS = {
    "two ranges of two models": """
merge_method: passthrough
slices:
  - sources: [{model: <b>, layer_range: [0, 3]}]
  - sources: [{model: <c>, layer_range: [1, 4]}]
dtype: bfloat16
""",
    "one layer again, scaled": """
merge_method: passthrough
slices:
  - sources: [{model: <b>, layer_range: [0, 2]}]
  - sources:
      - model: <b>
        layer_range: [1, 2]
        parameters:
          scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: 0.5}, {value: 1}]
  - sources: [{model: <b>, layer_range: [2, 4]}]
""",
}


@pytest.mark.parametrize("name", STACKS)
def test_layers_put_on_another_are_mergekits(name, family, tmp_path):
    ours, theirs = both(STACKS[name], family("llama"), tmp_path)
    found, wanted = tensors_of(ours), tensors_of(theirs)
    assert found.keys() == wanted.keys()
    for key, array in found.items():
        assert np.array_equal(array.view(np.int16), wanted[key].view(np.int16)), key
    assert_same_config(ours, theirs)


def test_a_union_of_two_tokenizers_is_mergekits(tmp_path, monkeypatch):
    """Tensors row by row of equal tokens: mergekit numbers tokens in the order of a hash table."""
    import transformers

    backend = transformers.tokenization_utils_tokenizers.TokenizersBackend
    unordered = backend.get_vocab
    monkeypatch.setattr(
        backend,
        "get_vocab",
        lambda self: dict(sorted(unordered(self).items(), key=lambda item: item[1])),
    )
    folder = write_family(tmp_path / "models", ("a", "b"))
    give_tokenizer(folder / "a", CASES["gpt-2"](400))
    give_tokenizer(folder / "b", CASES["qwen 2"](460))
    ours, theirs = both(UNION, folder, tmp_path)
    assert_same(ours, theirs)
    assert_same_config(ours, theirs)
    loaded = [transformers.AutoTokenizer.from_pretrained(path) for path in (ours, theirs)]
    assert loaded[0].get_vocab() == loaded[1].get_vocab()


UNION = """
merge_method: linear
base_model: <a>
models:
  - {model: <a>, parameters: {weight: 0.6}}
  - {model: <b>, parameters: {weight: 0.4}}
dtype: float32
out_dtype: bfloat16
tokenizer_source: union
"""


def give_tokenizer(folder, made):
    """Another tokenizer, and as many rows as it has tokens."""
    rows = size_of(made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(made[0]))
    settings = made[1] | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rng = np.random.default_rng(rows)
    width = TINY["hidden_size"]
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    edit_tensors(
        folder, {name: rng.standard_normal((rows, width)).astype(BFLOAT16) for name in tables}
    )
    edit_config(folder, vocab_size=rows)
