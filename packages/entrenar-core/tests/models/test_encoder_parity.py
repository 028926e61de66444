"""BERT, RoBERTa and DistilBERT against transformers: all that a pass computes, and the files."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import ops
from entrenar_core.testing import difference

pytestmark = pytest.mark.parity

BERT = {
    "vocab_size": 71, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 32, "type_vocab_size": 3,
    "initializer_range": 0.2,
}  # fmt: skip
DISTILBERT = {
    "vocab_size": 71, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40,
    "max_position_embeddings": 32, "initializer_range": 0.2,
}  # fmt: skip
SINGLE, MULTI, NUMBERS = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)


@dataclass
class Family:
    """An architecture: the start of its class names, a config, and what is changed in it."""

    start: str
    base: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    types: bool = False
    padding: int = 0
    configs: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self):
        self.configs = {name: {**self.base, **change} for name, change in self.changes.items()}


FAMILIES = {
    "bert": Family(
        "Bert",
        BERT,
        {
            "gelu, tied": {"num_labels": 5},
            "gelu_new, untied, eps": {
                "hidden_act": "gelu_new", "tie_word_embeddings": False, "layer_norm_eps": 1e-3,
                "num_labels": 3, "problem_type": MULTI,
            },
            "relu, one head": {
                "hidden_act": "relu", "num_attention_heads": 1, "num_labels": 1,
            },
            "other padding, many heads": {
                "pad_token_id": 7, "num_attention_heads": 12, "num_labels": 2,
                "problem_type": NUMBERS,
            },
            "no padding row, two segments": {
                "pad_token_id": None, "type_vocab_size": 2, "intermediate_size": 7,
                "problem_type": SINGLE,
            },
        },
        types=True,
    ),
    "roberta": Family(
        "Roberta",
        {**BERT, "type_vocab_size": 1},
        {
            "gelu, tied": {"num_labels": 5},
            "gelu_new, untied, eps": {
                "hidden_act": "gelu_new", "tie_word_embeddings": False, "layer_norm_eps": 1e-3,
                "num_labels": 3, "problem_type": MULTI,
            },
            "relu, one head": {
                "hidden_act": "relu", "num_attention_heads": 1, "num_labels": 1,
            },
            "other padding": {"pad_token_id": 4, "num_attention_heads": 12, "num_labels": 2},
        },
        padding=1,
    ),
    "distilbert": Family(
        "DistilBert",
        DISTILBERT,
        {
            "gelu, tied": {"num_labels": 5},
            "relu, untied": {
                "activation": "relu", "tie_word_embeddings": False, "num_labels": 3,
                "problem_type": MULTI,
            },
            "gelu_new, one head": {"activation": "gelu_new", "n_heads": 1, "num_labels": 1},
            "sinusoids, other padding": {
                "sinusoidal_pos_embds": True, "pad_token_id": 9, "n_heads": 12,
            },
        },
    ),
}  # fmt: skip
CASES = [(kind, name) for kind, family in FAMILIES.items() for name in family.configs]
HEADS = {
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "embedding": "Model",
}
LENGTHS = (19, 12, 4)


@dataclass
class Inputs:
    """A batch with padding behind two of its rows, and one id of padding that counts."""

    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray | None
    labels: np.ndarray

    def theirs(self, torch):
        arrays = {
            "input_ids": self.ids, "attention_mask": self.mask, "token_type_ids": self.types,
        }  # fmt: skip
        return {k: torch.from_numpy(v) for k, v in arrays.items() if v is not None}

    @property
    def ours(self):
        return (self.ids, self.mask) if self.types is None else (self.ids, self.mask, self.types)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(params=CASES, ids=lambda case: ": ".join(case))
def case(request):
    return request.param


@pytest.fixture
def inputs(case):
    family = FAMILIES[case[0]]
    config = family.configs[case[1]]
    rng = np.random.default_rng(0)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    padding = config.get("pad_token_id", family.padding)
    ids = rng.integers(0, 71, mask.shape)
    ids[:, :4] = 11 + np.arange(4)
    if padding is not None:
        ids[mask == 0] = padding
        ids[0, 6] = padding
    types = rng.integers(0, config["type_vocab_size"], mask.shape) if family.types else None
    labels = np.where(mask * rng.integers(0, 2, mask.shape) > 0, ids, -100)
    return Inputs(ids, mask, types, labels)


@pytest.fixture
def theirs(case, torch, transformers):
    """A model of transformers with a head, in which every parameter matters.

    Biases have both signs: where all are positive, the positions of a sequence grow alike, and the
    gradients of queries and keys are little but rounding errors, here as there.
    """

    def make(head):
        family = FAMILIES[case[0]]
        torch.manual_seed(0)
        config = getattr(transformers, f"{family.start}Config")(**family.configs[case[1]])
        config._attn_implementation = "eager"
        model = getattr(transformers, family.start + HEADS[head])(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
                elif parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5)
                else:
                    parameter += 0.05 * torch.randn_like(parameter)  # rows of padding too
        return model

    return make


@pytest.fixture
def pair(theirs, tmp_path):
    def make(head, dtype="float32"):
        model = theirs(head)
        model.save_pretrained(tmp_path)
        return model.to(dtype=getattr(pytest.importorskip("torch"), dtype)), models.load(
            tmp_path, dtype=dtype
        )

    return make


def output(torch, model, inputs):
    """The main output of a model of transformers."""
    with torch.no_grad():
        found = model(**inputs.theirs(torch))
    return (found.logits if "logits" in found else found.last_hidden_state).numpy()


def our_output(model, inputs):
    found = model.hidden(*inputs.ours) if model.hf_class.endswith("Model") else model(*inputs.ours)
    return found.numpy()


@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_equal(head, pair, inputs, torch, record_property):
    their, our = pair(head)
    error = difference(our_output(our, inputs), output(torch, their, inputs))
    record_property("error", error)
    assert error <= 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_equal_in_float64(head, pair, inputs, torch, record_property):
    their, our = pair(head, "float64")
    error = difference(our_output(our, inputs), output(torch, their, inputs))
    record_property("error", error)
    assert error <= 1e-12


@pytest.mark.parametrize("head", HEADS)
def test_every_hidden_state_and_attention_map_is_equal(head, pair, inputs, torch, record_property):
    their, our = pair(head)
    with torch.no_grad():
        wanted = their(**inputs.theirs(torch), output_hidden_states=True, output_attentions=True)
    found = our.features(*inputs.ours)
    assert len(found.hidden_states) == len(wanted.hidden_states) == 4
    assert len(found.attentions) == len(wanted.attentions) == 3
    pairs = [
        *zip(found.hidden_states, wanted.hidden_states, strict=True),
        *zip(found.attentions, wanted.attentions, strict=True),
    ]
    error = max(difference(a.numpy(), b.numpy()) for a, b in pairs)
    record_property("error", error)
    assert error <= 2e-5


def class_labels(model, rng):
    """Labels as the config's problem type wants them."""
    count = len(model.config.id2label)
    problem = model.config.problem_type or (NUMBERS if count == 1 else SINGLE)
    if problem == SINGLE:
        return rng.integers(0, count, len(LENGTHS))
    if problem == MULTI:
        return rng.integers(0, 2, (len(LENGTHS), count)).astype(np.float32)
    return rng.standard_normal((len(LENGTHS), count)).astype(np.float32)


def losses(torch, head, their, our, inputs):
    """The same scalar of both models, by which every parameter that they use is reached."""
    given, rng = inputs.theirs(torch), np.random.default_rng(1)
    if head == "masked-lm":
        labels = torch.from_numpy(inputs.labels)
        if inputs.types is None:
            mine = our.loss(inputs.ids, inputs.labels, inputs.mask)
        else:
            mine = our.loss(inputs.ids, inputs.labels, inputs.mask, inputs.types)
        return their(**given, labels=labels).loss, mine
    if head == "sequence-classification":
        labels = class_labels(their, rng)
        loss = their(
            **given,
            labels=torch.from_numpy(labels).to(their.dtype, copy=False)
            if labels.dtype.kind == "f"
            else torch.from_numpy(labels),
        ).loss
        return loss, our.loss(inputs.ids, labels, *inputs.ours[1:])
    found = their(**given)
    states = our.hidden(*inputs.ours)
    weights = rng.standard_normal(states.shape)
    loss = (found.last_hidden_state * torch.from_numpy(weights).to(their.dtype)).sum()
    mine = ops.sum(states * weights)
    if "pooler_output" in found:
        more = rng.standard_normal(found.pooler_output.shape)
        loss = loss + (found.pooler_output * torch.from_numpy(more).to(their.dtype)).sum()
        mine = mine + ops.sum(our.pooler(states) * more)
    return loss, mine


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("float64", 1e-11)])
@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_equal_for_every_parameter(
    head, dtype, bound, pair, inputs, torch, record_property
):
    their, our = pair(head, dtype)
    loss, mine = losses(torch, head, their, our, inputs)
    loss.backward()
    mine.backward()
    # an untied head of transformers has a bias that it does not use
    wanted = {n: p.grad.numpy() for n, p in their.named_parameters() if p.grad is not None}
    found = {n: p.grad for n, p in our.named_parameters().items()}
    assert found.keys() == wanted.keys()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5)
    # the keys' biases change nothing, so their gradients are rounding errors alone
    silent = [n for n in wanted if n.endswith(("key.bias", "k_lin.bias"))]
    assert len(silent) == 3
    error = max(difference(found[n], wanted[n]) for n in wanted if n not in silent)
    record_property("error", error)
    assert error <= bound
    largest = max(np.abs(g).max() for g in wanted.values())
    assert max(np.abs(found[n] - wanted[n]).max() for n in silent) <= bound * largest


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[0] != "distilbert"], indirect=True, ids=": ".join
)
def test_the_pooler_gives_the_same(pair, inputs, torch):
    their, our = pair("embedding")
    with torch.no_grad():
        wanted = their(**inputs.theirs(torch)).pooler_output.numpy()
    assert difference(our.pooler(our.hidden(*inputs.ours)).numpy(), wanted) <= 2e-5


def test_without_mask_and_token_types_the_defaults_are_the_same(pair, inputs, torch):
    their, our = pair("masked-lm")
    with torch.no_grad():
        wanted = their(torch.from_numpy(inputs.ids)).logits.numpy()
    assert difference(our(inputs.ids).numpy(), wanted) <= 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_model_is_the_same_in_transformers(
    head, pair, case, inputs, torch, transformers, tmp_path
):
    _, our = pair(head)
    models.save(our, tmp_path / "saved")
    kind = getattr(transformers, FAMILIES[case[0]].start + HEADS[head])
    again, report = kind.from_pretrained(tmp_path / "saved", output_loading_info=True)
    untied = {"cls.predictions.bias", "lm_head.bias"}  # which transformers has and does not use
    assert set(report["missing_keys"]) <= untied
    assert not report["unexpected_keys"]
    assert difference(our_output(our, inputs), output(torch, again.eval(), inputs)) <= 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_a_new_model_is_the_same_in_transformers(head, case, inputs, torch, transformers, tmp_path):
    raw = {"model_type": case[0], **FAMILIES[case[0]].configs[case[1]]}
    our = models.from_config(raw, seed=3, head=head)
    models.save(our, tmp_path)
    again = getattr(transformers, FAMILIES[case[0]].start + HEADS[head]).from_pretrained(tmp_path)
    assert difference(our_output(our, inputs), output(torch, again.eval(), inputs)) <= 2e-5


def test_a_config_that_transformers_reads_is_the_one_that_was_written(
    pair, case, transformers, tmp_path
):
    their, our = pair("sequence-classification")
    models.save(our, tmp_path / "saved")
    again = transformers.AutoConfig.from_pretrained(tmp_path / "saved")
    ignored = {"transformers_version", "_name_or_path", "dtype", "position_embedding_type"}
    wanted, found = their.config.to_dict(), again.to_dict()
    assert {k: v for k, v in found.items() if k not in ignored} == {
        k: v for k, v in wanted.items() if k not in ignored
    }


def test_an_encoder_without_head_loads_what_a_model_with_a_head_saved(pair, inputs, tmp_path):
    _, our = pair("masked-lm")
    bare = models.load(tmp_path, head="embedding")
    states = our.features(*inputs.ours, attentions=False).hidden_states[-1]
    assert np.array_equal(bare.hidden(*inputs.ours).numpy(), states.numpy())


def test_a_classifier_begins_with_an_encoder_that_has_no_head(pair, case, tmp_path):
    pair("embedding")
    names = models.load(tmp_path).named_parameters()
    our = models.load(tmp_path, head="sequence-classification", initialise_head_seed=0)
    assert our.initialised
    assert all("classifier" in name for name in our.initialised)
    mine = our.named_parameters()
    for name, parameter in names.items():
        if not name.startswith("pooler.") or case[0] == "bert":
            assert np.array_equal(mine[f"{case[0]}.{name}"].data, parameter.data), name


def old_names(folder):
    """Rewrite the files of `folder` as they were some years ago."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        if "LayerNorm" in name:
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            name = name.replace("LayerNorm.bias", "LayerNorm.beta")
        renamed[name] = tensor
    prefix = next(n.split("embeddings.")[0] for n in tensors if "embeddings.word" in n)
    renamed[f"{prefix}embeddings.position_ids"] = np.arange(32)[None, :]
    save_file(renamed, folder / "model.safetensors")


def test_files_with_old_names_are_read(pair, inputs, tmp_path):
    _, our = pair("masked-lm")
    old_names(tmp_path)
    again = models.load(tmp_path)
    assert np.array_equal(our_output(again, inputs), our_output(our, inputs))


def test_a_checkpoint_of_pretraining_is_read_as_a_masked_lm(torch, transformers, tmp_path):
    config = transformers.BertConfig(**BERT)
    model = transformers.BertForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "architectures": ["BertForMaskedLM"]}))
    ids = np.arange(12).reshape(2, 6)
    with torch.no_grad():
        wanted = model(torch.from_numpy(ids)).prediction_logits.numpy()
    assert difference(models.load(tmp_path)(ids).numpy(), wanted) <= 2e-5


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_initialisation_is_that_of_transformers(kind, torch, transformers):
    family = FAMILIES[kind]
    raw = {**family.base, "initializer_range": 0.02, "vocab_size": 4000}
    our = models.from_config({"model_type": kind, **raw}, seed=0, head="masked-lm")
    config = getattr(transformers, f"{family.start}Config")(**raw)
    their = dict(getattr(transformers, f"{family.start}ForMaskedLM")(config).named_parameters())
    for name, parameter in our.named_parameters().items():
        wanted = their[name].detach().numpy()
        if parameter.data.ndim == 2:
            deviation = 0.02 / (2 * parameter.data.size) ** 0.5  # of an estimated one
            assert abs(parameter.data.std() - 0.02) < 5 * deviation, name
            zeros = np.flatnonzero(~wanted.any(axis=1))
            assert np.array_equal(np.flatnonzero(~parameter.data.any(axis=1)), zeros), name
        else:
            assert np.array_equal(parameter.data, wanted), name


def test_sinusoids_are_those_of_transformers(transformers):
    raw = {**DISTILBERT, "sinusoidal_pos_embds": True}
    our = models.from_config({"model_type": "distilbert", **raw}, seed=0, head="embedding")
    their = transformers.DistilBertModel(transformers.DistilBertConfig(**raw))
    wanted = their.embeddings.position_embeddings.weight.detach().numpy()
    assert difference(our.embeddings.position_embeddings.weight.data, wanted) <= 1e-6
