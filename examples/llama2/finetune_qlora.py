"""Adapt a model whose weights are in 4 bits to other text: python finetune_qlora.py --help

The model is written as a GGUF file in q4_0 first. Its matrices stay in these bits in memory too
while the adapter is trained (QLoRA, arXiv:2305.14314), which is written alone, as PEFT's files.
"""

from pathlib import Path

import click
from needs import data_setting, needs

from entrenar_common.cli import Command, Output, common_options
from entrenar_core.convert.export import GGUF, export
from entrenar_core.train import declarative
from entrenar_distill.settings_option import set_option
from entrenar_distill.train_view import Shown, report_parts

CONFIG = Path(__file__).parent / "configs/toy.yaml"
FORMAT = "q4_0"


@click.command(cls=Command)
@click.option("--model", default="demo/llama-toy", help="Folder of a model.")
@click.option("--config", "path", default=str(CONFIG), help="YAML file that it was trained by.")
@click.option("--data", multiple=True, help="Files or globs; the standard library's modules.")
@click.option("--rank", default=16, help="Rank of the adapters.")
@click.option("--estimate", is_flag=True, help="Say what memory it takes; train nothing.")
@set_option
@common_options
def main(
    out: Output, model: str, path: str, data: tuple[str, ...], rank: int, estimate: bool,
    overrides: list[tuple[str, str]],
) -> None:  # fmt: skip
    """Train an adapter for a model in 4 bits."""
    base = Path(f"{model.rstrip('/')}-{FORMAT}.gguf")
    settings = [
        ("model.config", "null"),
        ("model.vocab_size", "null"),
        ("lora.rank", str(rank)),
        ("lora.target_modules", "[q_proj, k_proj, v_proj, o_proj]"),
        ("lora.fuse", "false"),
        ("output.dir", f"{model.rstrip('/')}-qlora"),
        *data_setting(data),
        *overrides,
    ]
    taken = needs(declarative.resolve(path, [("model.path", model), *settings]), FORMAT)
    if estimate:
        out.emit(taken, "entrenar.example.needs/1")
        return
    taken.check()
    export(Path(model), base, form=GGUF, quantization=FORMAT, progress=out.progress())
    report = declarative.train_from_yaml(
        path, [("model.path", str(base)), *settings], progress=out.progress(), warn=out.warn
    )
    out.emit(report if out.json else Shown(report_parts(report)), report.SCHEMA)


if __name__ == "__main__":
    main()
