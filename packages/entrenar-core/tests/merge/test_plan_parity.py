"""Beside mergekit's own planner: the same tensors from the same models with the same settings.

mergekit reads the same text; numbers are compared exactly.
"""

from pathlib import Path

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.io.yaml_file import parse_yaml
from entrenar_core.merge.config import parse_merge_config
from entrenar_core.merge.plan import plan
from merge_models import Toy, stand_ins
from mergekit_plan import WIDTH, bert, gpt2, llama, sources, store, their_plan

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # those of mergekit and of what it imports
]

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module", autouse=True)
def methods():
    pytest.importorskip("mergekit")
    with stand_ins(real=True):
        yield


def compare(text: str, tmp_path: Path, **models: Toy):
    """Plans `text`, whose models are written as <a> to <d>, twice."""
    toys = {name: models.get(name) or llama() for name in NAMES}
    for name, toy in toys.items():
        store(toy, tmp_path / name)
        text = text.replace(f"<{name}>", str(tmp_path / name))
    config = parse_merge_config(parse_yaml(text))
    ours = plan(config, {ref: toys[Path(ref.path).name] for ref in config.models})
    theirs = their_plan(text)
    assert {tensor.name for tensor in ours.tensors} == theirs.keys()
    for tensor in ours.tensors:
        task = theirs[tensor.name]
        assert sources(task) == {str(s.model): s.name for s in tensor.inputs}, tensor.name
        assert without_one_sided(tensor.shared) == without_one_sided(task.parameters), tensor.name
        assert of_models(tensor) == {
            str(model): dict(values.items()) for model, values in task.input_parameters.items()
        }, tensor.name
    return ours


def without_one_sided(parameters) -> dict:
    """But those that only one of both has: our choice of a definition, and their type of masks,
    which does not change what comes out."""
    return {k: v for k, v in parameters.items() if k not in ("semantics", "int8_mask")}


def of_models(tensor):
    """The settings of each model of ours by name."""
    found = {str(source.model): {} for source in tensor.inputs}
    for aligned, settings in (
        (tensor.models, tensor.per_model),
        (tensor.inputs, tensor.per_input),
    ):
        for name, values in settings.items():
            for source, value in zip(aligned, values, strict=True):
                found[str(source.model)][name] = value
    return found


CONFIGS = {
    "one number for all": """
merge_method: linear
models: [{model: <a>}, {model: <b>}]
parameters: {weight: 0.3}
""",
    "a base that is not among the models": """
merge_method: ties
base_model: <d>
models:
  - {model: <c>, parameters: {weight: 1, density: 0.7}}
  - {model: <a>, parameters: {weight: [0.1, 0.9, 0.35]}}
parameters: {normalize: true, int8_mask: true, lambda: 0.9}
""",
    "the slerp of mergekit's readme": """
slices:
  - sources:
      - {model: <a>, layer_range: [0, 6]}
      - {model: <b>, layer_range: [0, 6]}
merge_method: slerp
base_model: <a>
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: bfloat16
""",
    "gradients, filters and text of numbers": """
merge_method: ties
base_model: <a>
models:
  - model: <a>
  - model: <b>
    parameters:
      weight: [{filter: mlp, value: [0, 0.2, 1e-1]}, {filter: q_proj, value: 1e-3}, {value: 0.7}]
      density: [1, 0.3]
  - model: <c>
    parameters:
      weight: {filter: layers.2., value: 3}
parameters:
  weight: [0.11, 0.77]
  density: [{filter: "*", value: 0.4}, {value: 0.1}]
  normalize: [true, false, true]
  lambda: [1.1, "1e-1"]
""",
    "layers put on another": """
merge_method: passthrough
slices:
  - sources: [{model: <a>, layer_range: [0, 4]}]
  - sources:
      - model: <b>
        layer_range: [2, 6]
        parameters:
          scale: [{filter: o_proj, value: 0.0}, {filter: down_proj, value: [0, 1]}, {value: 1.0}]
""",
    "slices with settings of their own": """
merge_method: slerp
base_model: <b>
slices:
  - sources: [{model: <a>, layer_range: [0, 1]}, {model: <b>, layer_range: [1, 2]}]
    parameters: {t: [0.2, 0.8]}
  - sources: [{model: <a>, layer_range: [1, 4]}, {model: <b>, layer_range: [0, 3]}]
    parameters: {t: [{filter: mlp, value: [0.2, 0.8]}]}
  - sources: [{model: <c>, layer_range: [1, 3]}, {model: <b>, layer_range: [4, 6]}]
parameters: {t: [0.1, 0.9]}
""",
    "a slice with a base of its own": """
merge_method: ties
base_model: <a>
slices:
  - sources: [{model: <a>, layer_range: [0, 3]}, {model: <b>, layer_range: [0, 3]}]
  - sources: [{model: <a>, layer_range: [3, 6]}, {model: <c>, layer_range: [3, 6]}]
    base_model: <c>
parameters: {weight: [0.25, 0.5]}
""",
    "all places that can give a setting": """
merge_method: linear
modules:
  default:
    slices:
      - sources:
          - model: <a>
            layer_range: [0, 3]
            parameters: {weight: [{filter: mlp, value: 1}]}
          - {model: <b>, layer_range: [0, 3]}
        parameters: {weight: [{filter: mlp, value: 2}, {filter: q_proj, value: [3, 4]}]}
      - sources:
          - {model: <c>, layer_range: [3, 6]}
          - {model: <a>, layer_range: [3, 6]}
    parameters: {weight: [{filter: norm, value: 5}], normalize: [{filter: norm, value: no}]}
parameters: {weight: [6, 7, 8, 9], normalize: [{filter: lm_head, value: off}]}
""",
    "a module of models": """
merge_method: della
base_model: <c>
modules:
  default:
    models:
      - {model: <b>, parameters: {weight: 0.1, epsilon: [0.05, 0.1]}}
      - {model: <a>}
    parameters: {weight: [{filter: layers.1., value: 9}, {value: [1, 0]}], density: 0.5}
""",
    "the order of two models": """
merge_method: nuslerp
models:
  - {model: <d>, parameters: {weight: 0.25}}
  - {model: <b>, parameters: {weight: [0.75, 0.5]}}
parameters: {nuslerp_flatten: false}
""",
    "two models and a base": """
merge_method: nuslerp
base_model: <c>
models:
  - {model: <d>, parameters: {weight: 0.25}}
  - {model: <b>, parameters: {weight: 0.5}}
parameters: {nuslerp_row_wise: [{filter: mlp, value: true}]}
""",
    "a base that the method takes for a model": """
merge_method: linear
base_model: <b>
models: [{model: <a>, parameters: {weight: 2}}, {model: <c>}]
parameters: {weight: [1, 0.5]}
""",
    "settings of other methods": """
merge_method: slerp
base_model: <a>
models: [{model: <a>, parameters: {weight: 1, density: 0}}, {model: <b>, parameters: {t: 0.9}}]
parameters: {t: 0.4, density: 0.5, normalize: true}
""",
    "flags and whole numbers": """
merge_method: karcher
models: [{model: <a>}, {model: <b>}, {model: <c>}]
parameters: {max_iter: "20", tol: 1e-7}
""",
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_means_what_it_means_to_mergekit(name, tmp_path):
    ours = compare(CONFIGS[name], tmp_path)
    assert ours.tensors


TIED = """
merge_method: linear
models: [{model: <a>}, {model: <b>}]
parameters: {weight: [{filter: lm_head, value: 2}, {filter: embed, value: 3}, {value: 1}]}
"""


@pytest.mark.parametrize("tied", ["a", "b", "ab"])
def test_tied_models_are_planned_as_mergekit_plans_them(tied, tmp_path):
    compare(TIED, tmp_path, **{name: llama(tied=True) for name in tied})


GRADIENT = """
merge_method: linear
models:
  - {model: <a>, parameters: {weight: [0, 1, 0.2]}}
  - {model: <b>, parameters: {weight: [{filter: embeddings, value: 2}, {value: [1, 3]}]}}
"""


@pytest.mark.parametrize("model", [bert, gpt2])
def test_other_architectures_are_planned_as_mergekit_plans_them(model, tmp_path):
    compare(GRADIENT, tmp_path, **{name: model() for name in NAMES})


BIAS = "model.layers.0.self_attn.q_proj.bias"
BASED = "\nbase_model: <a>\nmodels: [{model: <b>}, {model: <c>}]\nparameters: {weight: 1}\n"
TWO = "\nbase_model: <a>\nmodels: [{model: <b>}]\nparameters: {t: 0.5}\n"
PARTLY = {
    "linear": "merge_method: linear" + BASED,
    "ties": "merge_method: ties" + BASED,
    "model_stock": "merge_method: model_stock" + BASED,
    "multislerp": "merge_method: multislerp" + BASED,
    "nuslerp": "merge_method: nuslerp" + BASED,
    "slerp": "merge_method: slerp" + TWO,
    "nearswap": "merge_method: nearswap" + TWO,
}


def their_bias(text, owners):
    """What mergekit makes of an optional tensor that `owners` have, 1 in the first of its models,
    2 in the second and so on: "refused", None where it leaves it out, or the numbers of the result
    and of those that have it."""
    import torch

    task = their_plan(text)[BIAS]
    places = {Path(model.model.path).name: model for model in task.model_order}
    numbers = {name: 1 + list(places).index(name) for name in owners}
    tensors = {places[name]: torch.full((WIDTH,), float(n)) for name, n in numbers.items()}
    try:
        result = task.execute(tensors)
    except ValueError:
        return "refused"
    return None if result is None else (result[0].item(), numbers)


def our_bias(text, toys):
    """What ours plans of it: "refused", None, or the tensor."""
    config = parse_merge_config(parse_yaml(text))
    try:
        result = plan(config, {ref: toys[Path(ref.path).name] for ref in config.models})
    except ConfigError as error:
        assert all(detail.startswith(BIAS) for detail in error.details)
        return "refused"
    return next((tensor for tensor in result.tensors if tensor.name == BIAS), None)


def granite(*, biased):
    toy = llama()
    toy.model_type = "granite"
    if biased:
        toy.shapes[BIAS] = (WIDTH,)
    return toy


SOME = [
    (method, owners)
    for method, text in PARTLY.items()
    for owners in (("a", "b", "c", "ab", "ac", "bc") if "<c>" in text else ("a", "b"))
]


@pytest.mark.parametrize(("method", "owners"), SOME)
def test_what_becomes_of_a_tensor_that_some_lack_is_what_mergekit_does(method, owners, tmp_path):
    text = PARTLY[method]
    toys = {name: granite(biased=name in owners) for name in NAMES if f"<{name}>" in text}
    for name, toy in toys.items():
        store(toy, tmp_path / name)
        text = text.replace(f"<{name}>", str(tmp_path / name))
    theirs, ours = their_bias(text, owners), our_bias(text, toys)
    if theirs in ("refused", None):
        assert ours == theirs
        return
    number, numbers = theirs
    assert {Path(source.model.path).name for source in ours.inputs} == set(owners)
    if ours.is_copied:
        assert [number] == list(numbers.values())
