"""The parts that show what a model is, in two columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from entrenar_common.tables import Fields, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_count
from entrenar_inspect.recognise import MODEL, TENSOR_NAMES, Recognition

if TYPE_CHECKING:
    from entrenar_inspect.dimensions import Dimensions
    from entrenar_inspect.info import Info

METADATA_SHOWN = 6
"""Keys of metadata that are shown unless all are asked for."""
_VALUE = 60
"""Characters of a value of metadata."""
_LISTED = 8
"""Files, tags and the like that are listed."""


def parts(found: Info) -> list[Any]:
    """The parts of the view."""
    shown: list[Any] = [Fields(None, [item for item in _items(found) if item[1] is not None])]
    metadata = _metadata(found)
    if metadata:
        shown.append(Fields("Metadata", metadata))
    shown += [Text(f"Note: {escape_controls(note)}") for note in found.notes]
    shown += [Text(f"Warning: {escape_controls(text)}", "bad") for text in found.warnings]
    return shown


def _items(found: Info) -> list[tuple[str, Any]]:
    counted, card = found.parameters, found.card
    return [
        ("Model", found.model),
        ("Format", found.format),
        ("Architecture", _architecture(found)),
        ("Recognised by", _evidence(found.recognition)),
        *_adapter(found),
        ("Parameters", f"{counted.total:,} ({format_count(counted.total)})"),
        *_dimensions(found),
        *_vision(found.dimensions.vision),
        ("Precision", _precision(found)),
        ("Quantization", found.quantization),
        ("Tied head", counted.tied_head),
        ("Tensors", f"{found.tensors:,}"),
        ("File size", _file_size(found)),
        ("Shards", _shards(found)),
        ("Tokenizer", _tokenizer(found)),
        ("License", card.license),
        ("Base model", None if found.adapter else _listed(card.base_models)),
        ("Language", _listed(card.languages)),
        ("Tags", _listed(card.tags)),
        ("Fetched", None if found.fetched is None else format_bytes(found.fetched)),
    ]


def _architecture(found: Info) -> str:
    known = found.recognition
    kind = "" if known.kind == MODEL else known.kind
    if known.family is not None:
        name = known.family
    elif known.candidates:
        name = f"{_either(known.candidates)}: their tensors are the same"
    elif kind:
        return kind
    else:
        name = "unknown"
    details = [f"model_type '{known.model_type}'"] if known.model_type else []
    details += [kind] if kind else []
    return f"{name} ({', '.join(details)})" if details else name


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _evidence(known: Recognition) -> str | None:
    if not known.evidence:
        return None if known.origin == TENSOR_NAMES else known.origin
    return f"{known.origin}: {'; '.join(known.evidence)}"


def _adapter(found: Info) -> list[tuple[str, Any]]:
    adapter = found.adapter
    if adapter is None:
        return []
    return [
        ("Base model", adapter.base or _listed(found.card.base_models)),
        ("Rank", _listed([str(rank) for rank in adapter.ranks]) or adapter.rank),
        ("Alpha", None if adapter.alpha is None else f"{adapter.alpha:g}"),
        ("Targets", f"{_listed(adapter.targets)} ({adapter.modules:,} in all)"),
    ]


def _dimensions(found: Info) -> list[tuple[str, Any]]:
    size = found.dimensions
    if found.recognition.kind != MODEL and size.hidden is None and size.layers is None:
        return []
    total = f"{size.layers_text} (encoder + decoder)" if _is_sum(size) else size.layers
    by_tensors = found.recognition.origin == TENSOR_NAMES
    unknown = "not in the tensors" if by_tensors else "not stated"
    return [
        ("Layers", total),
        ("Hidden size", size.hidden),
        ("Heads", _heads(size) or (size.hidden and unknown)),
        ("Feed-forward", size.inner),
        ("Experts", size.experts),
        ("Vocabulary", None if size.vocabulary is None else f"{size.vocabulary:,}"),
        (
            "Context length",
            f"{size.context:,}" if size.context else unknown if size.vocabulary else None,
        ),
    ]


def _is_sum(size: Dimensions) -> bool:
    return size.layers_text is not None and "+" in size.layers_text


def _heads(size: Dimensions) -> str | None:
    if size.heads is None:
        return None
    size_text = "" if size.head_size is None else f" of size {size.head_size}"
    if size.key_value_heads in (None, size.heads):
        return f"{size.heads}{size_text}"
    return f"{size.heads}{size_text}, {size.key_value_heads} for keys and values"


def _vision(size: Dimensions | None) -> list[tuple[str, Any]]:
    if size is None:
        return []
    shown = {
        "layers": size.layers_text,
        "hidden size": size.hidden,
        "heads": size.heads,
        "feed-forward": size.inner,
    }
    return [("Vision", ", ".join(f"{k} {v}" for k, v in shown.items() if v is not None))]


def _precision(found: Info) -> str | None:
    shares = found.parameters.by_dtype
    return ", ".join(f"{part.dtype} {_percent(part.share)}" for part in shares) or None


def _percent(share: float) -> str:
    """A share to one decimal, of which neither all nor nothing is claimed by rounding.

    >>> _percent(1), _percent(0.5), _percent(0.99999), _percent(0.00001)
    ('100 %', '50.0 %', '> 99.9 %', '< 0.1 %')
    """
    if share == 1:
        return "100 %"
    text = f"{share:.1%}"
    return {"0.0%": "< 0.1 %", "100.0%": "> 99.9 %"}.get(text, f"{text[:-1]} %")


def _file_size(found: Info) -> str:
    bits = found.bits_per_weight
    size = format_bytes(found.nbytes)
    return size if bits is None else f"{size} ({bits:.4g} bits per weight)"


def _shards(found: Info) -> str | None:
    if len(found.files) < 2:
        return None
    sizes = [file.nbytes for file in found.files]
    return f"{len(sizes)} files of {format_bytes(min(sizes))} to {format_bytes(max(sizes))}"


def _tokenizer(found: Info) -> str | None:
    known = found.tokenizer
    if known is None:
        return None
    size = None if known.size is None else f"{known.size:,} tokens"
    return ", ".join(part for part in (known.kind, size, known.named) if part) or None


def _listed(values: Iterable[str]) -> str | None:
    every = list(values)
    more = f", … ({len(every)} in all)" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more if every else None


def _metadata(found: Info) -> list[tuple[str, Any]]:
    every = list(found.metadata.items())
    shown = every if found.whole_metadata else every[:METADATA_SHOWN]
    items = [(key, value if found.whole_metadata else _short(value)) for key, value in shown]
    left = len(every) - len(shown)
    return [*items, ("…", f"{left} more; --verbose shows all")] if left else items


def _short(value: Any) -> Any:
    text = str(value)
    return f"{text[:_VALUE]}…" if len(text) > _VALUE else value
