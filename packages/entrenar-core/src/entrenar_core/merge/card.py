"""The model card of a merged model: its recipe, and what it was made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrenar_core.merge.method import Method

RECIPE = "mergekit_config.yml"
"""Where a merged model's folder has the recipe: the name that mergekit gives it."""


def card(
    name: str,
    method: Method,
    recipe: str,
    *,
    base: str | None,
    models: Sequence[str],
    inputs: Mapping[str, Mapping[str, str]],
    version: str,
) -> str:
    """A README.md in the form of the hub's model cards. `inputs` has by model the SHA-256 of its
    files by name; `models` are names on the hub or paths."""
    named = dict.fromkeys([base, *models] if base else models)
    on_hub = [model for model in named if not Path(model).exists()]
    lines = ["---"]
    if on_hub:
        lines += ["base_model:", *(f"- {json.dumps(model)}" for model in on_hub)]
    lines += ["library_name: transformers", "tags:", "- mergekit", "- merge", "---", ""]
    described = f"[{method.name}]({method.source})" if method.source else method.name
    lines += [
        f"# {name}",
        "",
        f"A merge of models, made by entrenar {version} with the method {described}"
        + (f" on the base `{base}`." if base else "."),
        "",
        "## Recipe",
        "",
        f"```yaml\n{recipe.rstrip()}\n```",
        "",
        "## Models",
        "",
        "| model | file | SHA-256 |",
        "|---|---|---|",
    ]
    for model, hashes in inputs.items():
        lines += [f"| `{model}` | `{file}` | `{digest}` |" for file, digest in hashes.items()]
    return "\n".join([*lines, ""])
