"""The command `fetch`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options


@click.command(cls=Command)
@click.argument("model")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit.  [default: main]")
@common_options
def fetch(out: Output, model: str, revision: str | None) -> None:
    """Download a model from the hub into the cache, and say what and where it is.

    MODEL is a name on the hub, org/name. Its configs, tokenizer and safetensors files are fetched,
    each once: what is in the cache stays there. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE
    are honoured.

    \b
    Examples:
      entrenar-inspect fetch microsoft/codebert-base
      entrenar-inspect fetch org/name --revision v1.0 --json
    """
    from entrenar_inspect.fetch import fetch

    out.emit(fetch(model, revision=revision), schema="entrenar.inspect.fetch/1")
