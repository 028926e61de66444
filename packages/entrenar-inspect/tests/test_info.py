"""`entrenar-inspect info`: what it prints, its JSON, and what lies beside the weights."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from entrenar_core.io.gguf import ValueType, array, f32, text, texts, u32
from entrenar_core.io.safetensors import write_folder
from entrenar_inspect.adapter import adapter_of
from entrenar_inspect.card import card_of
from entrenar_inspect.info import info
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.quantization import quantization_of
from entrenar_inspect.recognise import recognise
from entrenar_inspect.tokenizers_beside import tokenizer_of

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "architectures": ["LlamaForCausalLM"],
}
BLOCK = "model.layers.0."
TENSORS = {
    "model.embed_tokens.weight": ("BF16", (1000, 16)),
    **{f"{BLOCK}self_attn.{part}_proj.weight": ("BF16", (16, 16)) for part in "qo"},
    **{f"{BLOCK}self_attn.{part}_proj.weight": ("BF16", (8, 16)) for part in "kv"},
    **{f"{BLOCK}mlp.{part}_proj.weight": ("BF16", (24, 16)) for part in ("gate", "up")},
    f"{BLOCK}mlp.down_proj.weight": ("BF16", (16, 24)),
    f"{BLOCK}input_layernorm.weight": (16,),
    f"{BLOCK}post_attention_layernorm.weight": (16,),
}
MATRICES = 1000 * 16 + 2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16
TOTAL = MATRICES + 2 * 16


def rows(printed):
    """The fields of the view by their names."""
    found = {}
    for line in printed.splitlines():
        name, _, value = line.strip().partition("  ")
        found[name] = value.strip()
    return found


def of(function, spec, *arguments):
    with open_artifact(str(spec)) as artifact:
        return function(artifact, *arguments)


def test_the_view_says_what_the_model_is(run, write, tmp_path):
    write(TENSORS, CONFIG)
    done = run(tmp_path, "info", ".")
    shown = rows(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown["Format"] == "safetensors"
    assert shown["Architecture"] == "LLaMA (model_type 'llama')"
    assert shown["Parameters"] == f"{TOTAL:,} (18.0K)"
    assert shown["Layers"] == "1"
    assert shown["Heads"] == "4 of size 4, 2 for keys and values"
    assert shown["Vocabulary"] == "1,000"
    assert shown["Context length"] == "2,048"
    assert shown["Precision"] == "BF16 99.8 %, F32 0.2 %"
    assert shown["Tied head"] == "yes"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_has_everything_in_plain_fields(run, write, tmp_path):
    write(TENSORS, CONFIG)
    document = json.loads(run(tmp_path, "info", ".", "--json").stdout)
    assert document["schema"] == "entrenar.inspect.info/1"
    data = document["data"]
    assert data["recognition"]["family"] == "LLaMA"
    assert data["parameters"]["total"] == TOTAL
    assert data["parameters"]["by_dtype"][0]["parameters"] == MATRICES
    assert data["dimensions"]["key_value_heads"] == 2
    assert data["dimensions"]["origins"]["layers"] == "config"
    size = (tmp_path / "model.safetensors").stat().st_size
    assert data["nbytes"] == size
    assert data["bits_per_weight"] == pytest.approx(8 * size / TOTAL)


def test_without_a_config_nothing_is_guessed(run, write, tmp_path):
    write(TENSORS)
    shown = rows(run(tmp_path, "info", ".").stdout)
    assert shown["Architecture"] == "LLaMA, Mistral or Gemma: their tensors are the same"
    assert shown["Heads"] == shown["Context length"] == "not in the tensors"
    assert "Tied head" not in shown


def test_an_unknown_model_type_is_shown(run, write, tmp_path):
    write({"w": (2,)}, {"model_type": "xyz"})
    assert rows(run(tmp_path, "info", ".").stdout)["Architecture"] == "unknown (model_type 'xyz')"


def test_contradictions_are_warnings(run, write, tmp_path):
    write(TENSORS, CONFIG | {"num_hidden_layers": 2})
    printed = run(tmp_path, "info", ".").stdout
    assert "Warning: num_hidden_layers is 2, the tensors have block 0" in printed


def test_shards_are_counted(run, tmp_path):
    tensors = {f"layers.{i}.w": np.zeros(1000, np.float32) for i in range(3)}
    paths = write_folder(tmp_path, tensors, 4000)
    shown = rows(run(tmp_path, "info", ".").stdout)
    sizes = [path.stat().st_size for path in paths if path.suffix == ".safetensors"]
    assert len(sizes) == 3
    assert shown["Shards"] == "3 files of 4.1 kB to 4.1 kB"
    assert shown["Layers"] == "3"


def test_names_from_files_are_escaped(run, write, tmp_path):
    stated = {"quant_method": "\x1b[2J"}
    write({"b": (1,)}, {"model_type": "\x1b[31m", "quantization_config": stated})
    printed = run(tmp_path, "info", ".").stdout
    assert "\x1b" not in printed
    assert rows(printed)["Quantization"] == r"\x1b[2J"


def test_a_model_that_is_not_there_ends_with_its_code(run, tmp_path):
    done = run(tmp_path, "info", "nothing")
    assert done.returncode == 14
    assert "error[E-NOTFOUND]" in done.stderr


# ---- tokenizers --------------------------------------------------------------------------------


def trained(kind):
    import tokenizers
    from tokenizers import models

    words = [f"w{i}" for i in range(300)]
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "merges", *words])}
    made = {
        "BPE": lambda: models.BPE({**vocabulary, "a": 302, "b": 303, "ab": 304}, [("a", "b")]),
        "WordPiece": lambda: models.WordPiece(vocabulary, unk_token="[UNK]"),
        "WordLevel": lambda: models.WordLevel(vocabulary, unk_token="[UNK]"),
        "Unigram": lambda: models.Unigram([(word, -1.0) for word in vocabulary], 0),
    }
    return tokenizers.Tokenizer(made[kind]())


@pytest.mark.parametrize("kind", ["BPE", "WordPiece", "WordLevel"])
@pytest.mark.parametrize("pretty", [False, True])
def test_a_vocabulary_is_counted_without_being_parsed(write, tmp_path, kind, pretty):
    tokenizer = trained(kind)
    tokenizer.save(str(tmp_path / "tokenizer.json"), pretty)
    found = of(tokenizer_of, write({"w": (1,)}))
    assert (found.kind, found.size) == (kind, tokenizer.get_vocab_size())


def test_added_tokens_count(write, tmp_path):
    tokenizer = trained("BPE")
    tokenizer.add_special_tokens([f"<|{i}|>" for i in range(7)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert of(tokenizer_of, write({"w": (1,)})).size == tokenizer.get_vocab_size() == 312


def test_a_unigram_model_is_known_by_its_kind(write, tmp_path):
    trained("Unigram").save(str(tmp_path / "tokenizer.json"))
    found = of(tokenizer_of, write({"w": (1,)}))
    assert (found.kind, found.size) == ("Unigram", None)


@pytest.mark.parametrize("content", [b"", b"{", b'{"model": 3}', b'{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_does_not_end_info(run, write, tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    write(TENSORS, CONFIG)
    assert run(tmp_path, "info", ".").returncode == 0


def test_the_class_and_other_files_tell_of_a_tokenizer(write, tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\nc\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    found = of(tokenizer_of, write({"w": (1,)}))
    assert (found.kind, found.size, found.named) == ("WordPiece", 3, "BertTokenizer")


# ---- cards -------------------------------------------------------------------------------------

CARD = (
    "---\nlicense: mit\nlanguage:\n- en\n- no\nbase_model: org/base\ntags: [a, b]\n---\n# Title\n"
)


def test_the_front_matter_of_a_card_is_shown(run, write, tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    write(TENSORS, CONFIG)
    shown = rows(run(tmp_path, "info", ".").stdout)
    assert (shown["License"], shown["Base model"]) == ("mit", "org/base")
    assert (shown["Language"], shown["Tags"]) == ("en, no", "a, b")


@pytest.mark.parametrize(
    "content",
    [
        b"---\nlicense: [\n---\n",
        b"---\nlicense: mit\n",
        b"---\n- a\n---\n",
        b"---\na: !!python/object:os.system {}\n---\n",
        b"---\n\xff\xfe\n---\n",
    ],
)
def test_a_broken_card_is_a_note(write, tmp_path, content):
    (tmp_path / "README.md").write_bytes(content)
    found = of(info, write(TENSORS, CONFIG))
    assert any("README.md" in note for note in found.notes)


def test_a_card_without_front_matter_says_nothing(write, tmp_path):
    (tmp_path / "README.md").write_text("# Title\n---\nlicense: mit\n---\n")
    found = of(card_of, write(TENSORS, CONFIG))
    assert (found.license, found.note) == (None, None)


# ---- adapters and quantization -----------------------------------------------------------------


def test_an_adapter_is_shown_with_its_settings(run, write, tmp_path):
    name = "base_model.model.model.layers.0.self_attn.{}_proj.lora_{}.weight"
    shapes = {"A": (4, 16), "B": (16, 4)}
    tensors = {name.format(p, m): shape for p in "qv" for m, shape in shapes.items()}
    write(tensors, name="adapter_model.safetensors")
    settings = {"base_model_name_or_path": "org/base", "r": 4, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    shown = rows(run(tmp_path, "info", ".").stdout)
    assert (shown["Architecture"], shown["Base model"]) == ("LoRA adapter", "org/base")
    assert (shown["Rank"], shown["Alpha"]) == ("4", "8")
    assert shown["Targets"] == "q_proj, v_proj (2 in all)"
    assert "Heads" not in shown


def test_an_adapter_of_llama_cpp_is_shown_with_its_alpha(run, gguf, tmp_path):
    metadata = {
        "general.architecture": text("llama"),
        "general.type": text("adapter"),
        "general.base_model.count": u32(1),
        "general.base_model.0.name": text("Base"),
        "adapter.lora.alpha": f32(16.0),
    }
    shapes = {"a": (4, 16), "b": (16, 4)}
    gguf(metadata, {f"blk.0.attn_q.weight.lora_{part}": shape for part, shape in shapes.items()})
    shown = rows(run(tmp_path, "info", "model.gguf").stdout)
    assert (shown["Architecture"], shown["Base model"]) == ("LoRA adapter", "Base")
    assert (shown["Rank"], shown["Alpha"]) == ("4", "16")
    assert shown["Targets"] == "attn_q (1 in all)"


def test_settings_of_an_adapter_that_cannot_be_read_are_a_note(write, tmp_path):
    write({"q.lora_A.weight": (4, 16)}, name="adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{")
    with open_artifact(str(tmp_path)) as artifact:
        found = adapter_of(artifact, recognise(artifact))
        assert (found.ranks, found.rank) == ((4,), None)
        assert "adapter_config.json" in found.note


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bit, groups of 128"),
        (
            {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
            },
            "bitsandbytes, 4 bit, nf4, double quantization",
        ),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "fp8, e4m3"),
    ],
)
def test_a_quantization_is_said_in_words(write, stated, words):
    assert of(quantization_of, write({"w": (1,)}, {"quantization_config": stated})) == words


# ---- GGUF --------------------------------------------------------------------------------------

GGUF = {
    "general.architecture": text("llama"),
    "general.file_type": u32(15),
    "general.license": text("mit"),
    "general.languages": texts(["en", "de"]),
    "general.base_model.count": u32(1),
    "general.base_model.0.repo_url": text("https://huggingface.co/org/base"),
    "tokenizer.ggml.model": text("gpt2"),
    "tokenizer.ggml.pre": text("llama-bpe"),
    "tokenizer.ggml.tokens": texts([f"t{i}" for i in range(40)]),
    "tokenizer.ggml.scores": array(ValueType.F32, np.zeros(40, np.float32)),
    "long": text("x" * 500),
}


def test_a_gguf_file_is_shown_by_its_metadata(run, gguf, tmp_path):
    gguf(GGUF, {"token_embd.weight": (40, 16), "output_norm.weight": (16,)})
    shown = rows(run(tmp_path, "info", "model.gguf").stdout)
    assert shown["Quantization"] == "Q4_K_M"
    assert shown["Tokenizer"] == "BPE, 40 tokens, llama-bpe"
    assert (shown["License"], shown["Base model"]) == ("mit", "org/base")
    assert (shown["Language"], shown["Tied head"]) == ("en, de", "yes")
    assert shown["…"] == "5 more; --verbose shows all"


def test_verbose_shows_all_metadata_with_arrays_counted(run, gguf, tmp_path):
    gguf(GGUF, {"token_embd.weight": (40, 16)})
    printed = run(tmp_path, "info", "model.gguf", "--verbose").stdout
    assert rows(printed)["tokenizer.ggml.scores"] == "40 numbers"
    assert printed.count("x") > 500
    data = json.loads(run(tmp_path, "info", "model.gguf", "--json").stdout)["data"]
    assert data["metadata"]["tokenizer.ggml.tokens"] == "40 texts"
    assert data["metadata"]["long"] == "x" * 500


# ---- start-up ----------------------------------------------------------------------------------


def process(code, *arguments):
    """A fresh Python that runs `code`: what it wrote to standard error."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, env=kept,
    )  # fmt: skip
    return done.stderr


@pytest.mark.tier2
def test_info_loads_nothing_heavy(write):
    shown = (
        "from entrenar_inspect.cli import main; import sys; main(sys.argv[1:], "
        "standalone_mode=False); sys.stderr.write(' '.join(m.split('.')[0] for m in sys.modules))"
    )
    heavy = {"numba", "pydantic", "tokenizers", "huggingface_hub", "yaml", "scipy", "torch"}
    assert heavy & set(process(shown, "info", write(TENSORS, CONFIG)).split()) == set()


@pytest.mark.tier2
def test_info_takes_less_than_numpys_start_four_times(tmp_path):
    """Which is a quarter of a second where numpy takes 0.065 s."""
    large(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    ours = least_seconds(
        "import sys; from entrenar_inspect.cli import main; "
        "main(['info', sys.argv[1]], standalone_mode=False)",
        str(tmp_path),
    )
    assert ours < 4 * least_seconds("import numpy")


def large(path):
    """A file of LLaMA 7B's shapes, whose 13 GB are a hole."""
    wide, inner = 4096, 11008
    shapes = {"model.embed_tokens.weight": (32000, wide), "lm_head.weight": (32000, wide)}
    for i in range(32):
        block = f"model.layers.{i}."
        shapes |= {f"{block}self_attn.{part}_proj.weight": (wide, wide) for part in "qkvo"}
        shapes |= {f"{block}mlp.{part}_proj.weight": (inner, wide) for part in ("gate", "up")}
        shapes[f"{block}mlp.down_proj.weight"] = (wide, inner)
        shapes |= {f"{block}{p}_layernorm.weight": (wide,) for p in ("input", "post_attention")}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded)
    os.truncate(path, 8 + len(encoded) + end)


def least_seconds(code, *arguments):
    """Seconds of the processor: the best of several, since the first may compile Python files."""
    timed = f"import time\n{code}\nimport sys; sys.stderr.write(str(time.process_time()))"
    return min(float(process(timed, *arguments)) for _ in range(5))
