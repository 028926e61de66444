"""Writes docs/config.md: every key of distill.yaml, as `make docs` does. A test compares them."""

import json
from pathlib import Path
from typing import Any

from entrenar_core.train.config import json_schema
from entrenar_distill.config import DistillConfig

PAGE = Path(__file__).with_name("config.md")

_HEAD = """\
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

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_LARGEST = 2**53  # a bound beyond it says how a number is stored, not what it means


def page() -> str:
    """The Markdown of the page."""
    schema = json_schema(DistillConfig)
    sections, plain = [_HEAD], {}
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
    return field.get("anyOf") or field.get("oneOf") or [field]


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
    PAGE.write_text(page(), encoding="utf-8")
