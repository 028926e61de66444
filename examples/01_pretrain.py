"""Train a tokenizer and a LLaMA from scratch on text files: python 01_pretrain.py --help

The second half of the pipeline, distilling what this makes into a smaller model, is
`entrenar-distill run --config examples/02_distill.yaml`.
"""

from pathlib import Path
from typing import Any

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_common.errors import UnsupportedError
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import split
from entrenar_core.data.sources import iter_documents
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokens import tokenize
from entrenar_core.io import files
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import StrictModel, TrainingConfig, load_config
from entrenar_core.train.loop import PhaseResult, TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.process import stop_at_step_end
from entrenar_distill.config import DatasetConfig
from entrenar_distill.inputs import dataset_spec


class PretrainConfig(StrictModel):
    """What 01_pretrain.yaml may say."""

    vocab_size: int
    model: dict[str, Any]
    dataset: DatasetConfig
    training: TrainingConfig
    output: str


@click.command(cls=Command)
@click.option("--config", "path", required=True, help="YAML file, such as 01_pretrain.yaml.")
@click.option("--data", multiple=True, help="Files or globs to read instead of the config's.")
@common_options
def main(out: Output, path: str, data: tuple[str, ...]) -> None:
    """Train a tokenizer and a model; going on where an earlier call was stopped."""
    overrides = [("dataset.name", f"[{', '.join(data)}]")] if data else []
    config, _ = load_config(PretrainConfig, path, overrides)
    if config.training.mixed_precision == "fp16":
        raise UnsupportedError(
            f"training.mixed_precision {config.training.mixed_precision}: nothing is frozen here",
            hint="leave it out: it says how weights that are not trained are kept",
        )
    folder = Path(config.output)
    spec, seed = dataset_spec(config.dataset), config.training.seed
    if not (folder / "tokenizer.json").exists():
        texts = (document.text for document in iter_documents(spec))
        train_bpe(texts, config.vocab_size, progress=out.progress()).save(folder)
    tokenizer = Tokenizer.load(folder)
    documents, _held_out = split(
        tokenize(spec, tokenizer, progress=out.progress()), config.dataset.held_out, seed
    )
    batches = Batches(
        documents, seq_len=config.dataset.max_length, batch_size=config.training.batch_size,
        seed=seed, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    special = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_id,
        "vocab_size": config.vocab_size,
    }
    model = models.from_config({**special, **config.model}, seed=seed)
    run_id = f"{files.sha256_file(path)[:16]}-{documents.fingerprint[:16]}"
    trainer = TrainingLoop(
        model, LanguageModelling(model), batches, config.training, phase="pretrain",
        metrics=MetricsLog(folder / "metrics.jsonl"), checkpoint_every=250,
        store=CheckpointStore(folder / "checkpoints", run_id=run_id),
    )  # fmt: skip
    trainer.resume()
    with stop_at_step_end() as stop:
        result: PhaseResult = trainer.fit(progress=out.progress(), stop=stop)
    if trainer.quantized is not None:
        trainer.quantized.finish()
    if not (folder / "config.json").exists():
        models.save(model, folder)
    out.emit(result, schema="entrenar.example.pretrain/1")


if __name__ == "__main__":
    main()
