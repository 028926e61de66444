"""What PyTorch is said to take to run a model: closed forms, and what it really allocates."""

import warnings

import pytest

from entrenar_core.estimate import find_shape
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.shape import model_shape
from entrenar_core.estimate.torch_inference import torch_inference

GIB = 2**30


@pytest.mark.parametrize(
    ("model", "tokens", "gib"),
    [
        ("llama-2-7b", 4096, 2),  # 2 · 32 · 4,096 · 4,096 · 2 B
        ("llama-3-8b", 8192, 1),  # 8 heads of keys instead of 32
        ("llama-2-70b", 4096, 1.25),
        ("mistral-7b", 8192, 1),  # the window of 4,096 is a view of all of them
    ],
)
def test_keys_and_values_take_two_bytes_each(model, tokens, gib):
    assert torch_inference(find_shape(model), Inference("bfloat16", 1, tokens))["KV cache"] == (
        gib * GIB
    )


def test_keys_and_values_grow_with_the_batch():
    shape = find_shape("llama-2-7b")
    one, four = (torch_inference(shape, Inference("nf4", n, 4096))["KV cache"] for n in (1, 4))
    assert (one, four) == (2 * GIB, 8 * GIB)


@pytest.mark.parametrize("model", ["bert-base", "roberta-large", "distilbert-base"])
def test_encoders_have_no_cache_and_logits_of_every_token(model):
    shape = find_shape(model)
    memory = torch_inference(shape, Inference("bfloat16", 2, 128))
    assert memory["KV cache"] == 0
    assert memory["logits"] == 2 * 128 * shape.vocabulary * 2


def test_text_is_generated_from_logits_of_the_last_position():
    memory = torch_inference(find_shape("llama-2-7b"), Inference("bfloat16", 4, 1024))
    assert memory["logits"] == 4 * 32000 * (2 + 4)
    why = next(term.why for term in memory.terms if term.name == "logits")
    assert "last position" in why
    assert "transformers 4.45" in why


def test_a_classifier_of_a_decoder_keeps_no_keys():
    raw = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    memory = torch_inference(model_shape(raw, name="", origin=""), Inference("bfloat16", 1, 64))
    assert (memory["KV cache"], memory["logits"]) == (0, 0)


def test_weights_in_nf4_leave_embeddings_head_and_norms_in_16_bits():
    memory = torch_inference(find_shape("llama-2-7b"), Inference("nf4"))
    assert memory["weights"] == 6_476_005_376 // 2
    assert memory["weights in bfloat16"] == 2 * 262_410_240


def allocated(model, ids):
    """The most that a forward pass has allocated at once."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        model(ids, use_cache=False) if model.config.model_type in ("llama", "gpt2") else model(ids)
    held = most = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


SIZES = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
KINDS = {
    "llama": {**SIZES, "model_type": "llama", "num_key_value_heads": 2},
    "attention": {**SIZES, "model_type": "llama", "intermediate_size": 64, "head_dim": 128},
    "gpt2": {
        "model_type": "gpt2", "n_embd": 256, "n_layer": 2, "n_head": 4, "vocab_size": 100,
        "n_positions": 512, "bos_token_id": 0, "eos_token_id": 0,
    },
    "bert": {**SIZES, "model_type": "bert"},
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_has_at_once_what_is_said(kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    raw = dict(KINDS[kind])
    settings = transformers.AutoConfig.for_model(**raw)
    settings._attn_implementation = "sdpa"
    model = transformers.AutoModel.from_config(settings).to(torch.bfloat16).eval()
    ids = torch.full((2, 512), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the profiler
        allocated(model, ids)
        most = allocated(model, ids)
    memory = torch_inference(model_shape(raw, name="", origin=""), Inference("bfloat16", 2, 512))
    assert memory["activations of one block"] == pytest.approx(most, rel=0.1)
