"""The commands of the demo and the examples, at toy size: what they write, and that they go on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from entrenar_core import lora, models
from entrenar_core.data.tokenizer import Tokenizer
from text_cases import encoder, word_tokenizer

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DATA = str(ROOT / "packages/entrenar-common/src/**/*.py")
TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}

pytestmark = pytest.mark.tier3


def run(command: list[object], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run in `folder`, with a token cache of its own; compiled kernels stay in the user's."""
    kernels = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "entrenar/kernels"
    environment = {"NUMBA_CACHE_DIR": str(kernels), **os.environ}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where both examples have run."""
    folder = tmp_path_factory.mktemp("examples")
    config = yaml.safe_load((EXAMPLES / "01_pretrain.yaml").read_text())
    config["vocab_size"] = 300
    config["model"] |= TINY | {"max_position_embeddings": 64}
    config["dataset"]["max_length"] = 32
    config["training"] |= {"max_steps": 3, "batch_size": 2, "warmup_steps": 1}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    run([EXAMPLES / "01_pretrain.py", "--config", "tiny.yaml", "--data", DATA], folder)
    distill(folder)
    return folder


STUDENT = {f"student.config.{key}": value for key, value in TINY.items()}


def distill(folder: Path, config: str = "02_distill.yaml", student: Any = STUDENT) -> dict:
    """What `entrenar-distill run` says, as JSON; `student` changes keys of the configuration."""
    settings = {
        "dataset.name": f"[{DATA}]",
        "dataset.max_length": 32,
        "training.max_steps": 3,
        "training.batch_size": 2,
        "training.warmup_steps": 1,
        **student,
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    tool = "from entrenar_distill.cli import main; main()"
    found = run(
        ["-c", tool, "run", "--config", EXAMPLES / config, "--resume", "auto", "--json", *options],
        folder,
    )
    return json.loads(found.stdout)


def test_the_teacher_is_a_model_folder(folder):
    teacher = models.load(folder / "demo/teacher")
    assert teacher.config.hidden_size == TINY["hidden_size"]
    assert Tokenizer.load(folder / "demo/teacher").vocab_size == 300


def test_the_student_is_a_model_folder_with_the_teachers_tokenizer(folder):
    assert models.load(folder / "demo/student").config.num_hidden_layers == 1
    teacher, student = (Tokenizer.load(folder / "demo" / name) for name in ("teacher", "student"))
    assert student.same_as(teacher)


def test_the_report_scores_teacher_student_and_control(folder):
    report = json.loads((folder / "demo/student/report.json").read_text())
    assert [score["name"] for score in report["scores"]] == ["teacher", "student", "control"]
    assert report["difference"] is not None
    assert (folder / "demo/student/report.md").read_text().startswith("# Distillation report")


def test_there_is_a_line_for_every_step(folder):
    lines = (folder / "demo/student/metrics.jsonl").read_text().splitlines()
    steps = [(line["phase"], line["step"]) for line in map(json.loads, lines)]
    assert steps == [(phase, step) for phase in ("student", "control") for step in (1, 2, 3)]


def test_an_unchanged_second_run_trains_nothing_and_says_the_same(folder):
    before = (folder / "demo/student/metrics.jsonl").stat().st_mtime_ns
    said = distill(folder)
    assert said["schema"] == "entrenar.distill.run/1"
    assert (folder / "demo/student/metrics.jsonl").stat().st_mtime_ns == before
    report = json.loads((folder / "demo/student/report.json").read_text())
    assert said["data"]["scores"] == report["scores"]


def test_the_distillation_of_the_readme_runs(folder):
    readme = (ROOT / "README.md").read_text()
    config = yaml.safe_load(
        re.findall(r"^```yaml\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)[0]
    )
    snippets = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    (code,) = [text for text in snippets if "pipeline" in text]
    config["student"] = {"layers_from_teacher": [0]}
    config["dataset"] |= {"name": [DATA], "max_length": 32}
    config["training"] |= {"batch_size": 2}
    (folder / "distill.yaml").write_text(yaml.safe_dump(config))
    said = run(["-c", code], folder).stdout
    assert json.loads((folder / "distilled-model/report.json").read_text())["verdict"] in said


@pytest.mark.parametrize(("folder", "most"), [(EXAMPLES, 90), (EXAMPLES / "llama2", 80)])
def test_the_examples_are_short(folder, most):
    lines = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert {name: count for name, count in lines.items() if count > most} == {}


@pytest.fixture(scope="module")
def adapted(folder) -> dict:
    """What the third example says; it has run in `folder`."""
    # rows of 16 numbers are no whole block of q8_0
    return distill(folder, "03_adapt.yaml", {"student.quantize": "int8"})["data"]


def test_the_teacher_is_adapted_to_other_text(folder, adapted):
    assert adapted["adapter"]["modules"] == 7 * TINY["num_hidden_layers"]
    assert adapted["adapter"]["held_as"] == "int8"
    model = models.load(folder / "demo/teacher", quantize="int8")
    lora.load_adapter(model, folder / "demo/adapted/adapter")
    lora.fuse(model)
    written = models.load(folder / "demo/adapted").named_parameters()
    for name, parameter in model.base_parameters().items():
        assert (np.asarray(parameter.data) == written[name].data).all(), name


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Between a and b, on a circle (Shoemake 1985); on a line where they are nearly parallel."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    if cosine > 0.9995:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


@pytest.mark.usefixtures("adapted")
def test_the_teacher_and_what_was_made_of_it_are_merged(folder):
    tool = "from entrenar_lora.cli import main; main()"
    config = EXAMPLES / "04_merge.yaml"
    run(["-c", tool, "merge", "--config", config, "--output", "demo/merged", "--quiet"], folder)
    teacher, adapted, merged = (
        models.load(folder / "demo" / name).named_parameters()
        for name in ("teacher", "adapted", "merged")
    )
    for name, parameter in merged.items():
        # of one layer a list is at its end, outside of all layers at its beginning
        t = 0.5 if "self_attn" in name else 0.7 if ".layers." in name else 0.3
        wanted = slerp(teacher[name].data, adapted[name].data, t)
        np.testing.assert_allclose(parameter.data, wanted, rtol=1e-6, atol=1e-7, err_msg=name)


def test_sentence_embeddings_are_distilled_on_the_sentences_of_docstrings(tmp_path):
    """With an encoder of toy size, and few of the sentences."""
    run([EXAMPLES / "05_sentences.py", "demo/sentences.txt"], tmp_path)
    lines = (tmp_path / "demo/sentences.txt").read_text().splitlines()
    assert len(set(lines)) == len(lines) > 5000
    assert all(4 <= len(line.split()) <= 60 for line in lines)
    (tmp_path / "demo/sentences.txt").write_text("\n".join(lines[:60]))
    models.save(encoder("embedding", num_hidden_layers=6), tmp_path / "teacher")
    word_tokenizer().save(tmp_path / "teacher")
    changed = {"teacher.model_id": "teacher", "training.batch_size": 8}
    changed |= {"dataset.name": "demo/sentences.txt", "training.max_steps": "null"}
    report = distill(tmp_path, "05_embed.yaml", changed)["data"]
    assert report["steps"] == 7
    student = models.load(tmp_path / "demo/embedder")
    assert student.config.num_hidden_layers == 2
    assert student.sentence.max_tokens == 32


SAYS = {
    "linear_regression.py": r"differ by +(0\.0|\d\S*e-0[5-9])",
    "mlp.py": r"held-out accuracy (9\d\.\d|100\.0)%",
    "custom_op.py": "gradients agree with central differences",
    "custom_loss.py": r"for 50%: (4[7-9]|5[0-3])\.\d%",
    "adapters.py": r"up +says 7 next\ndown +says 3 next",
}


def test_every_script_of_the_library_is_tested():
    assert {path.name for path in (EXAMPLES / "library").glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_a_script_of_the_library_finds_what_it_should(name, tmp_path):
    done = run([EXAMPLES / "library" / name], tmp_path)
    assert re.search(SAYS[name], done.stdout), done.stdout


LLAMA = EXAMPLES / "llama2"


def llama(script: str, folder: Path, *words: object, code: int = 0, **changed: Any) -> str:
    """What a script about LLaMA prints on both streams, with keys of its configuration changed:
    `model__config__hidden_size` is model.config.hidden_size."""
    settings = {key.replace("__", "."): value for key, value in changed.items()}
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = run([LLAMA / script, *words, *given], folder, code)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def llamas(tmp_path_factory) -> Path:
    """Where a model was trained and adapted twice."""
    folder = tmp_path_factory.mktemp("llama")
    short = {"training__max_steps": 3, "training__warmup_steps": 1, "data__max_length": 32}
    tiny = {f"model__config__{key}": value for key, value in TINY.items()}
    tiny |= {"model__config__hidden_size": 32, "model__config__vocab_size": 300}
    llama("train.py", folder, "--data", DATA, model__vocab_size=300, **tiny, **short)
    for script in ("finetune_lora.py", "finetune_qlora.py"):
        llama(script, folder, "--data", DATA, "--rank", 4, **short)
    return folder / "demo"


def test_a_llama_is_trained_as_its_file_says(llamas):
    config = models.load(llamas / "llama-toy").config
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (32, 1, 300)
    assert len((llamas / "llama-toy/metrics.jsonl").read_text().splitlines()) == 3


def test_what_lora_has_written_is_the_model_with_its_adapter(llamas):
    model = models.load(llamas / "llama-toy")
    lora.load_adapter(model, llamas / "llama-toy-lora/adapter")
    assert sorted(model.base_parameters()) != sorted(model.named_parameters())
    lora.fuse(model)
    written = models.load(llamas / "llama-toy-lora").named_parameters()
    for name, parameter in model.base_parameters().items():
        np.testing.assert_allclose(written[name].data, parameter.data, rtol=1e-6, err_msg=name)


def test_what_qlora_has_written_is_an_adapter_alone(llamas):
    written = llamas / "llama-toy-qlora"
    said = json.loads((written / "adapter/adapter_config.json").read_text())
    assert (said["r"], said["base_model_name_or_path"]) == (4, "demo/llama-toy-q4_0.gguf")
    assert sorted(said["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert not list(written.glob("*.safetensors"))


SEVEN_B = 6_738_415_616
"""The parameters of LLaMA 2 7B, as its model card has them."""


def test_the_real_shape_is_estimated_and_refused_where_memory_does_not_suffice(tmp_path):
    config = ("--config", LLAMA / "configs/7b.yaml")
    said = json.loads(llama("train.py", tmp_path, *config, "--estimate", "--json"))["data"]
    assert (said["parameters"], said["terms"]["weights"]) == (SEVEN_B, 4 * SEVEN_B)
    assert said["total"] > 16 * SEVEN_B  # weights, gradients and two moments
    refused = llama("train.py", tmp_path, *config, code=22, data__batch_size=1 << 20)
    assert re.search(r"training demo/llama-7b takes [\d,.]+ PiB, and this machine has", refused)
    assert not (tmp_path / "demo").exists()


def test_the_table_of_memory_has_the_numbers_that_adapters_have(tmp_path):
    said = json.loads(llama("memory_benchmarks.py", tmp_path, "--model", "7B", "--json"))["data"]
    rows = said["rows"]
    for rank in (16, 64):  # 32 blocks, 4 matrices of 4096 × 4096
        trained, weights, _, how = rows[f"QLoRA, rank {rank}"]
        assert (trained, how) == (32 * 4 * rank * 2 * 4096, "computed")
        assert weights < rows["full"][1] / 5
    assert rows["full"][:2] == [SEVEN_B, 4 * SEVEN_B]
