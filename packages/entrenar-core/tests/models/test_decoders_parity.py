"""Every causal architecture against transformers: everything a pass computes, and what is written
and read."""

import json

import numpy as np
import pytest

from decoder_cases import CASES, PARAMETERS, config_of
from entrenar_core import models
from entrenar_core.autograd import ops
from entrenar_core.testing import difference, spread

pytestmark = pytest.mark.parity

B, T = 3, 19
IDS = np.random.default_rng(0).integers(0, 61, (B, T))
IDS[:, 12] = 7  # the padding of some configs, where it counts
LEFT = np.arange(T) >= np.array([[0], [4], [9]])
MASKS = {"whole": None, "padded left": LEFT, "padded right": LEFT[:, ::-1].copy()}
HEADS = {"causal-lm": "AutoModelForCausalLM"}
HEADS["sequence-classification"] = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def theirs(torch, transformers):
    """A model of transformers with every parameter random, biases and norms too."""

    def make(config, head="causal-lm", dtype="float32"):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(**config)
        auto = getattr(transformers, HEADS[head])
        model = auto.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 1 and name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
                elif parameter.dim() == 1:
                    signs = torch.randint(0, 2, parameter.shape) * 2 - 1
                    parameter.uniform_(0.5, 1.5).mul_(signs)
        return model.to(getattr(torch, dtype))

    return make


@pytest.fixture
def pair(theirs, tmp_path):
    def make(config, head="causal-lm", dtype="float32"):
        model = theirs(config, head, dtype)
        model.save_pretrained(tmp_path / "theirs")
        return model, models.load(tmp_path / "theirs", dtype=dtype)

    return make


def run(torch, model, mask=None, ids=IDS, **options):
    given = None if mask is None else torch.from_numpy(mask.astype(np.int64))
    return model(torch.from_numpy(ids), attention_mask=given, **options)


def valid(array, mask):
    """What stands at positions that count; axes 0 and 1 are sequence and position."""
    return array if mask is None else array[mask]


def labels_of(mask):
    labels = np.roll(IDS, -1, axis=1)
    labels[:, -1] = -100
    if mask is not None:
        labels[~mask | ~np.roll(mask, -1, axis=1)] = -100
    return labels


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_logits_hidden_states_and_attention_are_equal(
    kind, name, padding, pair, torch, record_property
):
    their, our = pair(config_of(kind, name))
    mask = MASKS[padding]
    with torch.no_grad():
        wanted = run(torch, their, mask, output_hidden_states=True, output_attentions=True)
    found = our.features(IDS, mask)
    assert len(found.hidden_states) == len(wanted.hidden_states)
    assert len(found.attentions) == len(wanted.attentions) == our.config.num_hidden_layers
    errors = [
        difference(valid(x.numpy(), mask), valid(y.numpy(), mask))
        for x, y in zip(found.hidden_states, wanted.hidden_states, strict=True)
    ]
    errors += [
        difference(
            valid(x.numpy().transpose(0, 2, 1, 3), mask),
            valid(y.numpy().transpose(0, 2, 1, 3), mask),
        )
        for x, y in zip(found.attentions, wanted.attentions, strict=True)
    ]
    logits = our(IDS, mask=mask).numpy()
    errors.append(difference(valid(logits, mask), valid(wanted.logits.numpy(), mask)))
    record_property("error", max(errors))
    assert max(errors) <= 2e-5


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_gradients_are_equal_for_every_parameter(kind, name, padding, pair, torch, record_property):
    their, our = pair(config_of(kind, name))
    mask = MASKS[padding]
    labels = labels_of(mask)
    z = run(torch, their, mask).logits.reshape(labels.size, -1)
    loss = torch.nn.functional.cross_entropy(z, torch.from_numpy(labels).reshape(-1))
    loss.backward()
    mine = ops.linear_cross_entropy(
        our.hidden(IDS, mask=mask), our.output_weight, labels, normalizer=int((labels >= 0).sum())
    )
    mine.backward()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5)
    error = gradient_error(our, their)
    record_property("error", error)
    assert error <= 1e-4


def gradient_error(our, their):
    wanted = {n: p.grad.numpy() for n, p in their.named_parameters()}
    found = {n: p.grad for n, p in our.named_parameters().items()}
    assert found.keys() == wanted.keys()
    return max(difference(found[n], wanted[n]) for n in wanted)


@pytest.mark.parametrize("name", CASES["gpt2"])
def test_gpt2_in_float64_is_equal_to_rounding(name, pair, torch):
    """(transformers computes parts of the other architectures in float32 whatever the dtype.)"""
    their, our = pair(config_of("gpt2", name), dtype="float64")
    labels = labels_of(LEFT)
    z = run(torch, their, LEFT).logits
    torch.nn.functional.cross_entropy(
        z.reshape(labels.size, -1), torch.from_numpy(labels).reshape(-1)
    ).backward()
    ops.linear_cross_entropy(
        our.hidden(IDS, mask=LEFT), our.output_weight, labels, normalizer=int((labels >= 0).sum())
    ).backward()
    logits = our(IDS, mask=LEFT).numpy()
    assert difference(logits[LEFT], z.detach().numpy()[LEFT]) <= 1e-12
    assert gradient_error(our, their) <= 1e-11


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("kind", CASES)
def test_classifiers_are_equal(kind, padding, pair, torch):
    mask = MASKS[padding]
    config = config_of(kind, next(iter(CASES[kind])), pad_token_id=0)
    config["id2label"] = {0: "no", 1: "yes", 2: "perhaps"}
    their, our = pair(config, "sequence-classification")
    ids = np.where(IDS == 0, 1, IDS)
    ids = ids if mask is None else np.where(mask, ids, 0)
    wanted = run(torch, their, mask, ids).logits
    (wanted**2).sum().backward()
    found = our(ids, mask)
    (found * found).sum().backward()
    assert our.config.labels == ("no", "yes", "perhaps")
    assert difference(found.numpy(), wanted.detach().numpy()) <= 2e-5
    assert gradient_error(our, their) <= 1e-4


# --- files ---------------------------------------------------------------------------------------


def logits(torch, model):
    with torch.no_grad():
        return run(torch, model).logits.numpy()


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_a_saved_model_is_the_same_in_transformers(kind, name, torch, transformers, tmp_path):
    our = spread(models.from_config(config_of(kind, name), seed=3))
    models.save(our, tmp_path)
    auto = transformers.AutoModelForCausalLM
    again, info = auto.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert type(again).__name__ == our.hf_class
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert difference(our(IDS).numpy(), logits(torch, again.eval())) <= 2e-5


@pytest.mark.parametrize("kind", CASES)
def test_a_saved_classifier_is_the_same_in_transformers(kind, torch, transformers, tmp_path):
    config = config_of(kind, next(iter(CASES[kind])), pad_token_id=60, num_labels=3)
    our = spread(models.from_config(config, seed=3, head="sequence-classification"))
    models.save(our, tmp_path)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert difference(our(IDS).numpy(), logits(torch, again)) <= 2e-5


@pytest.mark.parametrize("kind", CASES)
def test_what_transformers_saved_in_parts_and_in_bf16_is_read(
    kind, theirs, torch, transformers, tmp_path
):
    model = theirs(config_of(kind, next(iter(CASES[kind]))), dtype="bfloat16")
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32").eval()
    assert difference(models.load(tmp_path)(IDS).numpy(), logits(torch, again)) <= 2e-5


@pytest.mark.parametrize("kind", CASES)
def test_a_model_that_was_saved_without_a_head_gets_one(kind, theirs, torch, tmp_path):
    config = config_of(kind, next(iter(CASES[kind])), tie_word_embeddings=True)
    model = theirs(config)
    model.base_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"][0].endswith("Model")
    our = models.load(tmp_path, head="causal-lm")
    assert our.initialised == ()
    assert difference(our(IDS).numpy(), logits(torch, model)) <= 2e-5


def test_the_initialisation_has_the_spread_of_transformers(transformers, torch):
    config = {"model_type": "gpt2", "vocab_size": 900, "n_embd": 64, "n_layer": 4, "n_head": 2}
    torch.manual_seed(0)
    their = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    wanted = {name: parameter.detach().numpy() for name, parameter in their.named_parameters()}
    for name, parameter in models.from_config(config, seed=0).named_parameters().items():
        assert parameter.data.mean() == pytest.approx(wanted[name].mean(), abs=1e-3), name
        assert parameter.data.std() == pytest.approx(wanted[name].std(), rel=0.05), name


# --- generation ----------------------------------------------------------------------------------

PROMPTS = [IDS[0, :9], IDS[1, :4], IDS[2, :1]]


def their_continuations(torch, model, prompts, **options):
    longest = max(map(len, prompts))
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = prompt
        mask[i, longest - len(prompt) :] = 1
    found = model.generate(
        torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), do_sample=False,
        pad_token_id=0, **options,
    ).numpy()  # fmt: skip
    return [row[longest - len(prompt) :] for row, prompt in zip(found, prompts, strict=True)]


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_greedy_continuations_are_equal(kind, name, pair, torch):
    their, our = pair(config_of(kind, name))
    # a cache of transformers for a window of one position never forgets any
    options = {"max_new_tokens": 64, "use_cache": name != "window of one"}
    alone = models.generate(our, PROMPTS[0], max_new_tokens=64)
    wanted = their_continuations(torch, their, PROMPTS[:1], **options)[0]
    assert alone.tolist() == wanted.tolist()
    wanted = their_continuations(torch, their, PROMPTS, **options)
    found = models.generate(our, PROMPTS, max_new_tokens=64)
    assert [row.tolist() for row in found] == [row.tolist() for row in wanted]
    assert len({token for row in found for token in row.tolist()}) > 16  # the prompts have 13


@pytest.mark.parametrize("kind", CASES)
def test_a_penalty_for_repetition_and_several_ends_are_equal(kind, pair, torch):
    their, our = pair(config_of(kind, next(iter(CASES[kind]))))
    options = {"max_new_tokens": 40, "repetition_penalty": 1.3}
    free = models.generate(our, PROMPTS, **options)
    ends = [int(free[0][25]), int(free[1][12])]
    found = models.generate(our, PROMPTS, **options, eos_ids=ends)
    wanted = their_continuations(torch, their, PROMPTS, **options, eos_token_id=ends)
    assert len({len(row) for row in found}) > 1
    for mine, row in zip(found, wanted, strict=True):
        assert mine.tolist() == row[: len(mine)].tolist()
        assert not row[len(mine) :].any()  # transformers pads
