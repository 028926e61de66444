"""Every kind of training, stopped at every kind of moment: resumed, it ends in the same bits."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import pytest

from entrenar_common.errors import InterruptedRun
from entrenar_core import lora, models
from entrenar_core.autograd import no_grad
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation, Divergence, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import LayerPair, hidden_term
from entrenar_core.io.os_calls import os_calls
from entrenar_core.testing import tiny_llama
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import READINGS, MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.process import stop_at_step_end

pytestmark = pytest.mark.tier2

VOCABULARY = 40
IDS = [np.random.default_rng(i).integers(1, VOCABULARY, size=20).astype(np.int32) for i in range(4)]
DOCUMENTS = TokenizedDocuments.from_arrays([f"{i}.txt" for i in range(4)], IDS, [20] * 4)
BATCHES = Batches(DOCUMENTS, seq_len=8, batch_size=2, seed=0, eos_id=0)
"""Five micro-batches: steps of two of them end an epoch in their middle, and every fifth with
it."""
SETTINGS = {
    "max_steps": 8,
    "gradient_accumulation": 2,
    "evaluate_every": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
}
CHECKPOINT_EVERY = 4


def student(folder, **quantization):
    """A model read from a folder, as one that is held in few bits has to be."""
    if not (folder / "base").exists():
        models.save(tiny_llama(seed=0, vocab_size=VOCABULARY), folder / "base")
    return models.load(folder / "base", **quantization)


def full(folder):
    model = student(folder)
    return model, LanguageModelling(model)


def adapter(folder, **quantization):
    model = student(folder, **quantization)
    lora.adapt(model, lora.LoraConfig(rank=2, dropout=0.2))
    return model, LanguageModelling(model)


def adapter_of_few_bits(folder):
    return adapter(folder, quantize="nf4")


def distillation(folder):
    """Logits, and hidden states through a projection that is trained too."""
    model = student(folder)
    wider = tiny_llama(seed=1, hidden_size=32, vocab_size=VOCABULARY)
    teacher = LiveTeacher(wider, shared=VOCABULARY)
    logits = Distillation(model, teacher, divergence=Divergence(temperature=2.0), alpha=0.7)
    term = hidden_term("inside", model, teacher.model, loss="mse", pairs=[LayerPair(1, 1)])
    assert term.parameters()
    return model, FeatureDistillation(logits, teacher, [term])


@dataclass(frozen=True)
class Kind:
    make: Callable[[Any], tuple[Any, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    losses: dict[int, float] | None = None
    """What evaluations say after these steps; None: what they measure."""


INTEGERS = {
    "weights": "int4",
    "activations": 8,
    "gradient": "learnable",
    "noise": 0.5,
    "schedule": {"kind": "lower_bits", "begin": 1, "end": 5},
}
PATIENCE = {"early_stopping": {"patience": 2, "min_delta": 0.1}, "average_decay": 0.9}
KINDS = {
    "full": Kind(full),
    "adapter": Kind(adapter),
    "adapter of few bits": Kind(adapter_of_few_bits),
    "quantization": Kind(full, {"quantization": {"recipe": "q4_0"}}),
    "integers": Kind(full, {"quantization": INTEGERS}),
    "distillation": Kind(distillation),
    # the second is better, by less than counts: what is gone back to are the weights of step 2
    "patience": Kind(full, PATIENCE, {2: 1.0, 4: 0.95, 6: 1.2}),
}
MOMENTS = {
    "a step": [("step", 1)],
    "a step between evaluation and checkpoint": [("step", 3)],
    "the second micro-batch": [("micro-batch", 2)],
    "the micro-batch that begins an epoch": [("micro-batch", 3)],
    "the end of an epoch": [("step", 5)],
    "an evaluation": [("evaluation", 2)],
    "a save": [("save", 4)],
    "two moments": [("micro-batch", 3), ("evaluation", 4)],
    "three moments": [("step", 1), ("save", 4), ("micro-batch", 5)],
}


def training(kind, folder):
    """A loop that is as one of a new process."""
    model, objective = kind.make(folder.parent)
    scored = LanguageModelling(model)

    def evaluate():
        if kind.losses is not None:
            return kind.losses[loop.step]
        with no_grad():
            batch = BATCHES.batch(0)
            return scored.loss(batch, batch.targets).item()

    folder.mkdir(exist_ok=True)
    loop = TrainingLoop(
        model, objective, BATCHES, TrainingConfig.model_validate({**SETTINGS, **kind.settings}),
        phase="student", metrics=MetricsLog(folder / "metrics.jsonl"),
        store=CheckpointStore(folder / "checkpoints", run_id="r"),
        checkpoint_every=CHECKPOINT_EVERY, evaluate=evaluate,
    )  # fmt: skip
    loop.resume()
    return loop


def strike(loop, moment, step, monkeypatch):
    """Have this process be sent a signal at the moment of a step, counted from 1."""

    def send():
        os.kill(os.getpid(), signal.SIGTERM)

    def at(place, name, *, due, call=1):
        original, calls = getattr(place, name), []

        def struck(*args, **kwargs):
            if due():
                calls.append(name)
                if len(calls) == call:
                    send()
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, struck)

    done, within = lambda: loop.step == step, lambda: loop.step == step - 1
    match moment:
        case "step":
            at(loop.callbacks, "step", due=done)
        case "micro-batch":
            at(loop.objective, "loss", due=within, call=2)
        case "evaluation":
            at(loop, "evaluate", due=done)
        case "save":
            at(os_calls, "rename", due=done)


def ended(loop, result):
    """Everything that must not depend on whether it was interrupted."""
    folder = loop.store.folder
    found = {f"trained {n}": p.data.tobytes() for n, p in loop.state.weights["model"].items()}
    for stem, tensors in loop.state.tensors().items():
        found |= {f"{stem} {name}": np.asarray(a).tobytes() for name, a in tensors.items()}
    newest = max(folder.glob("step-*"))
    found |= {p.name: p.read_bytes() for p in newest.glob("*.safetensors")}
    lines = loop.metrics.path.read_text().splitlines()
    found["log"] = [
        {k: v for k, v in json.loads(line).items() if k not in READINGS} for line in lines
    ]
    counted = json.loads((newest / "state.json").read_text())
    found["state"] = {k: v for k, v in counted.items() if k != "seconds"}
    found["result"] = (result.steps, result.tokens, result.skipped, result.stopped)
    return found


@pytest.fixture(autouse=True)
def on_one_thread():
    """Arrays are so small that a second thread is waited for longer than it works; that the number
    of threads changes nothing is tested elsewhere."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """What each kind ends with when nobody interrupts it."""
    folder, known = tmp_path_factory.mktemp("straight"), {}

    def run(name):
        if name not in known:
            loop = training(KINDS[name], folder / name)
            known[name] = ended(loop, loop.fit())
        return known[name]

    return run


CASES = [
    (name, moments)
    for name in KINDS
    for moments in MOMENTS
    if name in ("full", "patience") or moments in ("two moments", "three moments")
]


@pytest.mark.parametrize(("name", "moments"), CASES)
def test_it_ends_in_the_same_bits(name, moments, straight, tmp_path, monkeypatch):
    for moment, step in MOMENTS[moments]:
        loop = training(KINDS[name], tmp_path / "run")
        with monkeypatch.context() as patch:
            strike(loop, moment, step, patch)
            with pytest.raises(InterruptedRun, match=f"step {step} of"), stop_at_step_end() as stop:
                loop.fit(stop=stop)
    loop = training(KINDS[name], tmp_path / "run")
    assert loop.step == step
    found, wanted = ended(loop, loop.fit()), straight(name)
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if found[key] != wanted[key]] == []


def test_patience_goes_back_to_the_weights_that_it_counts_from(straight, tmp_path):
    """An oracle for the kind above: a training that is over at the step of the best evaluation."""
    ends_there = Kind(full, {**PATIENCE, "max_steps": 2, "schedule": "constant"}, {2: 1.0})
    waits = Kind(full, {**PATIENCE, "schedule": "constant"}, KINDS["patience"].losses)
    weights = []
    for number, kind in enumerate((ends_there, waits)):
        loop = training(kind, tmp_path / str(number))
        loop.fit()
        weights.append({n: p.data.tobytes() for n, p in loop.model.named_parameters().items()})
    assert weights[0] == weights[1]
