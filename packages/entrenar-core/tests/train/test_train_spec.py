"""What a configuration of a training may say: all that is wrong is said at once, where it is."""

import re

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.config import TrainingConfig, json_schema
from entrenar_core.train.declarative import TrainSpec, resolve
from entrenar_core.train.declarative.optimizer_section import OPTIMIZERS, OptimizerSection
from entrenar_core.train.declarative.spec import as_yaml, spec_hash

BASE = {"model": "{path: m}", "data": "{train: t.csv}"}

SPECIFIED = """\
model: {path: llama-3-7b.gguf, layers: [q_proj, k_proj, v_proj, o_proj]}
data: {train: train.parquet, val: val.parquet, batch_size: 8, auto_infer_types: true}
optimizer: {name: adam, lr: 1e-4, beta1: 0.9, beta2: 0.999}
lora: {rank: 64, alpha: 16, target_modules: [q_proj, v_proj]}
merge: {method: TIES, density: 0.2, models: [a, b], base: c}
"""


def written(**sections):
    """The text of a file: one section in each line, `model` first, then `data`, then these."""
    return "".join(f"{name}: {text}\n" for name, text in {**BASE, **sections}.items())


@pytest.fixture
def read(tmp_path):
    def of(text, *overrides):
        (tmp_path / "train.yaml").write_text(text)
        return resolve(tmp_path / "train.yaml", overrides)

    return of


@pytest.fixture
def problems(read):
    """What is said about a file: the one problem of its message, or all of its details."""

    def of(text):
        with pytest.raises(ConfigError) as error:
            read(text)
        return [*error.value.details] or [error.value.message.split("train.yaml: ", 1)[1]]

    return of


# Each file, and all that is said of it: where, and a part of the words.
MALFORMED = {
    "an unknown key": (
        written(optimzer="{lr: 1e-3}"),
        ["line 3: optimzer: unknown key; did you mean optimizer?"],
    ),
    "keys of other sections": (
        written(training="{batch_size: 8, lr: 1e-3}"),
        ["line 3: training.batch_size: unknown key; did you mean data.batch_size?",
         "line 3: training.lr: unknown key; did you mean optimizer.lr?"],
    ),
    "misspelt keys everywhere": (
        written(model="{pth: m, path: m}", data="{train: t, batchsize: 4, val_: v}",
                lora="{rnk: 4}"),
        ["line 1: model.pth: .*did you mean path", "line 2: data.batchsize: .*batch_size",
         "line 2: data.val_: .*did you mean val", "line 3: lora.rnk: .*did you mean rank"],
    ),
    "no model and no data": ("training: {epochs: 1}\n", ["model: is missing", "data: is missing"]),
    "no path and no config": (written(model="{revision: main}"),
                              ["line 1: model: give one of path and config",
                               "line 1: model.revision: goes with path"]),
    "path and config": (
        written(model="{path: m, config: {hidden_size: 8}, vocab_size: 300}"),
        ["line 1: model: give one of path and config, not both"],
    ),
    "a tokenizer for a model that has one": (
        written(model="{path: m, tokenizer: t, vocab_size: 300}"),
        ["line 1: model.tokenizer: goes with config", "line 1: model.vocab_size: goes with config"],
    ),
    "a config without a tokenizer": (
        written(model="{config: {hidden_size: 8}}"),
        ["line 1: model: a config needs one of tokenizer and vocab_size"],
    ),
    "two tokenizers, and too small a vocabulary beside another error": (
        written(model="{config: {hidden_size: 8}, tokenizer: t, vocab_size: 300}",
                data="{train: t, max_length: 1}"),
        ["line 1: model: a config needs one of tokenizer and vocab_size, not both",
         "line 2: data.max_length: must be at least 2, not 1"],
    ),
    "a vocabulary smaller than the bytes": (
        written(model="{config: {hidden_size: 8}, vocab_size: 256}"),
        ["line 1: model.vocab_size: must be at least 257, not 256"],
    ),
    "val and a share": (
        written(data="{train: t, val: v, held_out: 0.1, batch_size: 0}"),
        ["line 2: data.held_out: cannot be given together with val",
         "line 2: data.batch_size: must be at least 1, not 0"],
    ),
    "one field for both": (
        written(data="{train: t, text_field: x, label_field: x, format: xml}"),
        ["line 2: data.label_field: is text_field too", "line 2: data.format: must be .*not 'xml'"],
    ),
    "no training data": (written(data="{train: []}"),
                         ["line 2: data.train: must have at least 1 item"]),
    "an unknown task": (written(task="regresion"),
                        ["line 3: task: must be .*; did you mean regression?"]),
    "labels of a language model": (
        written(data="{train: t, label_field: y}", task="causal-lm"),
        ["line 2: data.label_field: goes with another task than causal-lm"],
    ),
    "a label and nothing that says what it is": (
        written(data="{train: t, label_field: y, auto_infer_types: false}"),
        ["task: is missing, and data.auto_infer_types is off"],
    ),
    "an unknown optimizer": (written(optimizer="{name: adan, lr: 0}"),
                             ["line 3: optimizer.name: must be .*; did you mean adam?",
                              "line 3: optimizer.lr: must be greater than 0, not 0"]),
    "parameters of another optimizer": (
        written(optimizer="\n  name: sgd\n  beta1: 0.9\n  momentum: 0.9\n  eps: 1e-8"),
        ["line 5: optimizer.beta1: is no parameter of sgd; sgd takes lr, weight_decay, momentum",
         "line 7: optimizer.eps: is no parameter of sgd"],
    ),
    "a parameter that is nearly right": (
        written(optimizer="{name: rmsprop, alhpa: 0.9, moment: 0.5}"),
        ["line 3: optimizer.alhpa: unknown key; did you mean alpha?",
         "line 3: optimizer.moment: unknown key; did you mean momentum?"],
    ),
    "parameters that are out of range": (
        written(optimizer="{name: adam, lr: .inf, beta1: 1, beta2: -0.5, eps: 0, state_bits: 16}"),
        ["line 3: optimizer.lr: must be a finite number", "optimizer.beta1: must be less than 1",
         "optimizer.beta2: must be at least 0", "optimizer.eps: must be greater than 0",
         "optimizer.state_bits: must be 8 or 32, not 16"],
    ),
    "Nesterov's momentum without momentum": (
        written(optimizer="{name: sgd, nesterov: true}"), ["line 3: optimizer: .*momentum"],
    ),
    "two lengths": (
        written(training="{epochs: 2, max_steps: 10, warmup_steps: -1}"),
        ["line 3: training.max_steps: cannot be given together with epochs",
         "line 3: training.warmup_steps: must be at least 0"],
    ),
    "a figure of another task": (
        written(task="regression", training="{metric: accuracy}"),
        ["line 4: training.metric: 'accuracy' is no figure of regression, which has held_out_loss"],
    ),
    "smoothed numbers": (
        written(task="regression", training="{label_smoothing: 0.1}"),
        ["line 4: training.label_smoothing: is for classes and tokens, not for numbers"],
    ),
    "early stopping without evaluations, and a schedule that is not one": (
        written(training="{early_stopping: {patience: 0}, schedule: cosin, label_smoothing: 1}"),
        ["training.early_stopping.patience: must be at least 1",
         "training.schedule: must be .*did you mean cosine?",
         "training.label_smoothing: must be less than 1"],
    ),
    "rounded weights that are trained": (
        written(training="{mixed_precision: fp16}"),
        ["line 3: training.mixed_precision: goes with lora"],
    ),
    "layers without an adapter": (
        written(model="{path: m, layers: [q_proj]}"), ["line 1: model.layers: goes with lora"],
    ),
    "targets outside of the layers": (
        written(model="{path: m, layers: [q_proj]}", lora="{target_modules: [k_proj]}"),
        ["line 3: lora.target_modules: k_proj is not among model.layers: q_proj"],
    ),
    "an adapter of a model that has not learned": (
        written(model="{config: {hidden_size: 8}, vocab_size: 300}", lora="{rank: 4}"),
        ["line 3: lora: adapts a model that has learned: give model.path"],
    ),
    "an adapter apart from stored weights": (
        written(lora="{rank: 4, fuse: false}", quantize="{bits: 4}"),
        ["line 4: quantize: with lora needs fuse"],
    ),
    "an adapter that drops out of stored weights": (
        written(lora="{rank: 4, dropout: 0.1}", quantize="{bits: 4}"),
        ["line 4: quantize: with lora cannot have dropout 0.1"],
    ),
    "bits and a recipe": (
        written(quantize="{bits: 4, recipe: q4_0}"), ["line 3: quantize: .*not both"],
    ),
    "no format at all": (written(quantize="{symmetric: false}"),
                         ["line 3: quantize: give recipe or weights"]),
    "bits that are none": (
        written(quantize="{bits: 9, per_channel: 2}"),
        ["line 3: quantize.bits: must be at most 8, not 9",
         "line 3: quantize.per_channel: must be true or false, not 2"],
    ),
    "a merge with nothing": (
        written(merge="{method: TIES, density: 0.2}"),
        ["line 3: merge: ties needs models and base: models and base are missing"],
    ),
    "a merge without a base": (
        written(merge="{method: DARE, models: [a]}"),
        ["line 3: merge: dare_ties needs models and base: base is missing"],
    ),
    "an unknown method": (written(merge="{method: tise, models: [a], base: b}"),
                          ["line 3: merge.method: .*did you mean ties?"]),
    "a parameter of another method": (
        written(merge="{method: linear, models: [a], density: 0.5}"),
        ["line 3: merge.density: is no parameter of linear; it takes"],
    ),
    "a way that is not told, to a model that is not told": (
        written(merge="{method: slerp}"),
        ["line 3: merge: slerp needs base and t: base and t are missing"],
    ),
    "an adapter that is not put into the weights that are merged": (
        written(lora="{fuse: false}", merge="{method: linear, models: [a]}"),
        ["line 4: merge: needs lora.fuse"],
    ),
    "everything at once": (
        "model: {path: 3}\n"
        "data: {train: t, batch_size: many}\n"
        "optimizer: {name: lion, lr: -1, momentum: 0.9}\n"
        "training: {epochs: 1.5}\n"
        "lora: {rank: 0, alpha: 0}\n"
        "output: {dirr: x}\n",
        ["line 1: model.path: must be text, not 3",
         "line 2: data.batch_size: must be a whole number, not 'many'",
         "line 3: optimizer.lr: must be greater than 0",
         "line 3: optimizer.momentum: is no parameter of lion",
         "line 4: training.epochs: must be a whole number, not 1.5",
         "line 5: lora.rank: must be at least 1", "line 5: lora.alpha: must be greater than 0",
         "line 6: output.dirr: unknown key; did you mean dir?"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_gives_all_its_problems_with_their_lines(problems, case):
    text, wanted = MALFORMED[case]
    found = problems(text)
    assert len(found) == len(wanted), found
    for pattern in wanted:
        assert any(re.search(pattern.replace("?", r"\?"), line) for line in found), (pattern, found)


def test_the_lines_of_problems_rise(problems):
    lines = [
        int(re.match(r"line (\d+)", text)[1])
        for text in problems(MALFORMED["everything at once"][0])
    ]
    assert lines == sorted(lines)


def test_the_specifications_file_is_understood(read):
    found = read(SPECIFIED)
    assert found.model.layers == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert found.lora.target_modules == ("q_proj", "v_proj")
    assert found.optimizer.given == {"beta1": 0.9, "beta2": 0.999}
    assert found.merge.method == "ties"
    config = found.training_config()
    assert (config.batch_size, config.learning_rate, config.beta2) == (8, 1e-4, 0.999)


def test_layers_are_the_targets_of_an_adapter_that_names_none(read):
    assert read(
        written(model="{path: m, layers: [q_proj]}", lora="{rank: 2}")
    ).lora.target_modules == ("q_proj",)


def test_an_adapter_without_layers_keeps_its_default(read):
    assert read(written(lora="{}")).lora.target_modules == "all-linear"


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("bits: 4, symmetric: true, per_channel: true", "int4"),
        ("bits: 8, symmetric: false", "uint8"),
        ("bits: 4, per_channel: false", "int4-tensor"),
        ("recipe: Q4_0", "q4_0"),
        ("weights: nf4", "nf4"),
    ],
)
def test_what_is_meant_by_quantize(read, keys, name):
    found = read(written(quantize=f"{{{keys}}}"))
    assert found.training_config().quantization.name == name


@pytest.mark.parametrize(
    "text",
    [
        SPECIFIED,
        written(model="{path: m, layers: [q_proj]}", lora="{rank: 2}"),
        written(quantize="{bits: 4, symmetric: false}"),
        written(merge="{method: linear, models: [a], weight: [1, 0.5]}"),
        written(optimizer="{name: muon, lr: 0.02, others_lr_scale: 0.5}"),
    ],
)
def test_a_runs_own_copy_of_its_configuration_says_the_same(read, text):
    first = read(text)
    assert spec_hash(read(as_yaml(first))) == spec_hash(first)


def test_the_output_folder_decides_nothing(read):
    first, other = read(written()), read(written(), ("output.dir", "elsewhere"))
    assert spec_hash(first) == spec_hash(other)
    assert spec_hash(first) != spec_hash(read(written(), ("optimizer.lr", "0.5")))


def test_the_training_section_offers_nothing_twice():
    given = set(json_schema(TrainSpec)["$defs"]["TrainingSection"]["properties"])
    others = {"batch_size", "learning_rate", "weight_decay", "beta1", "beta2", "epsilon"}
    own = {"curriculum", "label_smoothing"}
    assert given == set(TrainingConfig.model_fields) - others - {"quantization"} | own


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_some_parameter_of_its_own(name):
    from entrenar_core.train.declarative.optimizer_section import _takes

    assert "weight_decay" in _takes(name)
    assert OptimizerSection(name=name, weight_decay=0.1).given == {"weight_decay": 0.1}


def test_the_schema_describes_every_key():
    for section in json_schema(TrainSpec)["$defs"].values():
        assert all("description" in key or "$ref" in key for key in section["properties"].values())
