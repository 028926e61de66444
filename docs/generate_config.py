"""Writes docs/config.md and docs/train.md: every key of distill.yaml and train.yaml, as `make docs`
does. A test compares them."""

import json
from pathlib import Path
from typing import Any

from entrenar_core.train.config import json_schema
from entrenar_core.train.declarative import TrainSpec
from entrenar_core.train.strict import StrictModel
from entrenar_distill.config import DistillConfig

FOLDER = Path(__file__).parent

_DISTILL = """\
# The configuration of entrenar-distill

Written by `make docs` from the schema. `entrenar-distill run --config FILE` reads a YAML file with
these keys; `--set section.key=value` changes one. Paths are relative to the current directory; `~`
is the home folder. A key without a default may be `null`. What is not listed here is refused.

```yaml
teacher: {model_id: path/to/teacher}
student: {layers_from_teacher: [0, 2, 4]}
dataset: {name: "texts/**/*.txt"}
training: {epochs: 3}
```"""

_TRAIN = """\
# Training from one file

Written by `make docs` from the schema. `entrenar-distill train --config FILE` trains or fine-tunes
a model as a YAML file with these keys says, and so does `train_from_yaml` of
`entrenar_core.train.declarative`; `--set section.key=value` changes one. Paths are relative to the
current directory; `~` is the home folder. A key without a default may be `null`. What is not listed
here is refused.

```yaml
model: {path: model.gguf, layers: [q_proj, k_proj, v_proj, o_proj]}
data: {train: train.parquet, val: val.parquet, batch_size: 8}
optimizer: {name: adam, lr: 1e-4, beta1: 0.9, beta2: 0.999}
lora: {rank: 64, alpha: 16, target_modules: [q_proj, v_proj]}
merge: {method: ties, density: 0.2, models: [another], base: base}
```

`--validate` reads and checks all of it and shows what would be done; `--print-schema` prints the
schema for editors. The output folder has the model as a Hugging Face folder, `train.yaml` with all
defaults, `metrics.jsonl`, `checkpoints/`, `report.md` and `report.json` with what was held out
measured before and after; with `lora` an `adapter/`, with a recipe a `model.gguf`. The merged model
has a folder of its own. A training that SIGINT or SIGTERM stops ends with exit code 75, and
`--resume auto` goes on with it to the same bits.

**What is found by the data.** Of tables, the first 1,000 rows of the first file are looked at.
A column is *text*; *categorical*, where a few texts, whole numbers or true and false come again;
*numeric*; or an *identifier*, whose values count the rows or never come twice. The text is the
column called `text` or like that, else the longest text; the label the one called `label` or like
that, else the only categorical or numeric one. Where several could be, that is an error which
lists them. Without a label the task is `causal-lm`, with a categorical one
`sequence-classification`, with a numeric one `regression`. The report says what was found and why.

**Figures.** `held_out_loss` is in nats per token or per text, of regression the mean squared error.
Beside it there are `perplexity` (causal-lm), `accuracy` and `macro_f1` (sequence-classification),
`rmse` and `r2` (regression): what `training.metric` may name."""

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_LARGEST = 2**53  # a bound beyond it says how a number is stored, not what it means


def pages() -> dict[str, str]:
    """The Markdown of each page by its file name."""
    return {"config.md": _page(DistillConfig, _DISTILL), "train.md": _page(TrainSpec, _TRAIN)}


def _page(model: type[StrictModel], head: str) -> str:
    schema = json_schema(model)
    sections, plain = [head], {}
    for name, field in schema["properties"].items():
        inner = _section(schema, field)
        if inner is None:
            plain[name] = field
            continue
        required = " Required." if name in schema["required"] else ""
        sections += _described(schema, name, inner, required)
    top = {"properties": plain}
    sections.append(f"## At the top level\n\n{_table(top)}")
    return "\n\n".join(sections) + "\n"


def _described(
    schema: dict[str, Any], name: str, section: dict[str, Any], required: str = ""
) -> list[str]:
    """A section and, after it, the sections in it, which are called by their whole path."""
    found = [f"## {name}\n\n{section['description']}{required}\n\n{_table(section)}"]
    for key, field in section["properties"].items():
        inner = _section(schema, field)
        if inner is not None:
            found += _described(schema, f"{name}.{key}", inner)
    return found


def _section(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any] | None:
    """What a key refers to, when it is a section, or a section that may be absent."""
    references = [part["$ref"] for part in _choices(field) if "$ref" in part]
    return schema["$defs"][references[0].rpartition("/")[2]] if references else None


def _table(section: dict[str, Any]) -> str:
    rows = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for name, field in section["properties"].items():
        required = name in section.get("required", ())
        default = "required" if required else _code(field.get("default"))
        cells = [f"`{name}`", _type(field), default, field["description"]]
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(rows)


def _code(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(field: dict[str, Any]) -> str:
    choices = [part for part in _choices(field) if part.get("type") != "null"]
    return " or ".join(_one_type(part) for part in choices)


def _choices(field: dict[str, Any]) -> list[dict[str, Any]]:
    """What a key may be, one of which is a section where it is either that or a list of such."""
    inner = field.get("anyOf") or field.get("oneOf")
    return [choice for part in inner for choice in _choices(part)] if inner else [field]


def _one_type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return "section, below"
    if "const" in part:
        return f"only {_code(part['const'])}"
    if "enum" in part:
        return ", ".join(map(_code, part["enum"]))
    names = {"integer": "whole number", "boolean": "true or false", "object": "section"}
    names |= {"string": "text", "array": "list"}
    bounds = [
        f"{sign} {part[key]:g}"
        for key, sign in _BOUNDS.items()
        if key in part and abs(part[key]) < _LARGEST
    ]
    return " ".join([names.get(part["type"], part["type"]), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
