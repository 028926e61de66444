"""The plain commands that train and measure, and say beforehand what that takes."""

from __future__ import annotations

from collections.abc import Mapping

from entrenar_shell import knowledge
from entrenar_shell.command import Command, Kind
from entrenar_shell.form import Form, Short, command
from entrenar_shell.session import Session

__all__ = ["TRAIN", "TRAIN_MEMORY"]

_YES = Short("--yes", "Do not ask.")
_EPOCHS = Short("--epochs", "Passes over the data (training.epochs).", "training.epochs")
_BASE: dict[str, knowledge.Fill] = {
    "config": knowledge.config, "teacher": knowledge.teacher, "student": knowledge.student,
}  # fmt: skip
_FILES: tuple[tuple[str, Kind], ...] = (
    ("config", "file"), ("teacher", "model"), ("student", "model"), ("output", "folder"),
    ("overrides", "setting"),
)  # fmt: skip


def _without_config(session: Session, typed: Mapping[str, str | None]) -> str | None:
    """The session's model, where no configuration says which one is trained."""
    configured = typed.get("config") or knowledge.config(session, typed)
    return None if configured else knowledge.model(session, typed)


_DISTILL = Form(
    "entrenar-distill", "run",
    fill={**_BASE, "output": knowledge.output("distilled-model")},
    shorts=(
        Short("--temperature", "Temperature of the predictions (distillation.temperature).",
              "distillation.temperature"),
        Short("--alpha", "Weight of the teacher's predictions (distillation.alpha).",
              "distillation.alpha"),
        _EPOCHS,
        Short("--data", "Text to train on (dataset.name).", "dataset.name"),
        _YES,
    ),
    configuration="distill", values=_FILES,
)  # fmt: skip
_FINETUNE = Form(
    "entrenar-distill", "train",
    fill={"config": knowledge.config, "output": knowledge.output("trained-model")},
    shorts=(
        Short("--model", "Model to start from (model.path).", "model.path", fill=_without_config),
        Short("--data", "Text or table to train on (data.train).", "data.train"),
        _EPOCHS,
        Short("--learning-rate", "Peak learning rate (optimizer.lr).", "optimizer.lr"),
        Short("--rank", "Train an adapter of this rank (lora.rank).", "lora.rank"),
        Short("--dry-run", "Check everything and show the plan; train nothing.",
              means=("--validate",)),
        _YES,
    ),
    configuration="train", values=_FILES,
)  # fmt: skip
_EVALUATE = Form(
    "entrenar-distill", "evaluate", arguments=("models",), fill={"models": knowledge.result},
    values=(("models", "model"), ("teacher", "model"), ("data", "file"), ("generate", "file")),
    missing="load one: load PATH as NAME, or say which",
)  # fmt: skip
_SWEEP = Form(
    "entrenar-bench", "sweep", arguments=("parameters",), fill=_BASE, shorts=(_YES,),
    configuration="distill",
    values=(*_FILES[:3], ("parameters", "setting"), ("study", "file"), ("output", "file")),
)  # fmt: skip

TRAIN: tuple[Command, ...] = (
    command(
        "distill", "train", "Train the student on its teacher's predictions.", _DISTILL, asks=True,
        examples=(
            "distill --temperature 4.0 --alpha 0.7 --epochs 3 --dry-run",
            "distill --set training.learning_rate=1e-4 --yes &",
        ),
    ),
    command(
        "finetune", "train", "Train a model on text or on a table, whole or with an adapter.",
        _FINETUNE, asks=True,
        examples=("finetune --data texts/*.txt --rank 16", "finetune --config train.yaml"),
    ),
    command(
        "evaluate", "train", "Measure models at their task.", _EVALUATE,
        examples=(
            "evaluate --data 'held-out/*.txt'",
            "evaluate teacher student --data rows.jsonl --label-field label",
        ),
    ),
    command(
        "sweep", "train", "Distil with other values of keys and several seeds, and compare.",
        _SWEEP, asks=True,
        examples=("sweep distillation.alpha=0.3,0.5,0.7 --seeds 5 --yes",),
    ),
)  # fmt: skip

TRAIN_MEMORY: tuple[Command, ...] = (
    command(
        "estimate", "memory", "Say how much memory the session's distillation takes.",
        Form("entrenar-distill", "estimate", fill=_BASE, configuration="distill", values=_FILES),
        examples=("estimate", "estimate --batch-size 16 --ram 16GB"),
    ),
    command(
        "profile", "memory", "Say where time and memory of a distillation's steps go.",
        Form(
            "entrenar-bench", "profile", fill={"config": knowledge.config},
            configuration="distill",
            values=(("config", "file"), ("output", "file"), ("trace", "file"),
                    ("overrides", "setting")),
            missing="it needs the file of a distillation: --config FILE, or set config FILE",
        ),
        examples=("profile --config distill.yaml --steps 20",),
    ),
)  # fmt: skip
