"""How many parameters a model has, and what they are stored as."""

from collections.abc import Mapping
from dataclasses import dataclass

from entrenar_inspect import families
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.recognise import Recognition, recognise
from entrenar_inspect.weights import Weight, Weights, weights_of

EMBEDDINGS = (
    "embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight",
    "shared.weight", "token_embd.weight",
)  # fmt: skip
"""What names of embeddings of tokens end with."""
HEADS = (
    "lm_head.weight", "embed_out.weight", "proj_out.weight", "lm_head.decoder.weight",
    "cls.predictions.decoder.weight", "vocab_projector.weight",
)  # fmt: skip
"""What names of heads that give logits end with."""
_T5_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_SMALL = 4096


@dataclass(frozen=True)
class Share:
    """The parameters that are stored as one type, and their share of all."""

    dtype: str
    parameters: int
    share: float


@dataclass(frozen=True)
class Parameters:
    """What a model learned, counted.

    total: what transformers' `model.num_parameters()` gives: each once, whatever it is packed in;
    by_dtype: from the most on; left_out: names of tensors that are no parameters; tied: names that
    stand for a parameter that is counted already; tied_head: whether the head is the embedding,
    None where there is nothing that says so; notes: what may be counted wrongly.
    """

    total: int
    by_dtype: tuple[Share, ...]
    left_out: tuple[str, ...]
    tied: tuple[str, ...]
    tied_head: bool | None
    notes: tuple[str, ...]


def count_parameters(artifact: Artifact, recognition: Recognition | None = None) -> Parameters:
    """The parameters of an artifact, from its headers; `recognition` where it is known already."""
    weights = weights_of(artifact)
    stated = _stated_tie(artifact, recognition)
    tied = [
        name
        for name, weight in weights.by_name.items()
        if weight.same_as is not None or _is_copy(weight, weights.by_name, stated)
    ]
    counted: dict[str, int] = {}
    for name in weights.by_name.keys() - set(tied):
        weight = weights.by_name[name]
        counted[weight.dtype] = counted.get(weight.dtype, 0) + weight.elements
    total = sum(counted.values())
    most_first = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return Parameters(
        total,
        tuple(Share(dtype, n, n / total if total else 0.0) for dtype, n in most_first),
        weights.buffers,
        tuple(tied),
        _tied_head(artifact, weights.by_name, tied, stated),
        tuple(_notes(artifact, weights)),
    )


def _stated_tie(artifact: Artifact, recognition: Recognition | None) -> bool | None:
    """Whether the head is the embedding, as the config or its family's default says."""
    config = artifact.config
    if not config:
        return None
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(part.get("tie_word_embeddings"), bool):
            return part["tie_word_embeddings"]
    known = recognition or recognise(artifact)
    family = families.by_name(known.family or "")
    return None if family is None else family.tied


def _is_copy(weight: Weight, every: Mapping[str, Weight], stated: bool | None) -> bool:
    """Whether it was written a second time under a name that the model ties to the first."""
    if weight.name.endswith(_T5_COPIES):
        first = every.get(
            weight.name.removesuffix(_last(weight.name, _T5_COPIES)) + "shared.weight"
        )
        return first is not None and first.shape == weight.shape
    if not stated or not weight.name.endswith(HEADS):
        return False
    first = _embedding(every)
    return first is not None and first.shape == weight.shape


def _last(name: str, ends: tuple[str, ...]) -> str:
    return next(end for end in ends if name.endswith(end))


def _embedding(every: Mapping[str, Weight]) -> Weight | None:
    return next((weight for name, weight in every.items() if name.endswith(EMBEDDINGS)), None)


def _tied_head(
    artifact: Artifact, every: Mapping[str, Weight], tied: list[str], stated: bool | None
) -> bool | None:
    if artifact.kind == GGUF:
        # encoders have no output either, and no norm before one
        decoder = "output_norm.weight" in every and "token_embd.weight" in every
        return "output.weight" not in every if decoder else None
    head = next((name for name in every if name.endswith(HEADS)), None)
    if head is not None:
        return head in tied
    named = artifact.config.get("architectures")
    heads = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration")
    has_head = isinstance(named, list) and any(str(name).endswith(heads) for name in named)
    return True if stated and has_head else None


def _notes(artifact: Artifact, weights: Weights) -> list[str]:
    """Integers that look like weights in a packing that is not known."""
    found = [n for n in weights.unknown if artifact.tensors[n].elements > _SMALL]
    if not found:
        return []
    more = f" and {len(found) - 1} others like it" if len(found) > 1 else ""
    return [
        f"{found[0]}{more} are {artifact.tensors[found[0]].dtype}: integers are not counted as "
        "parameters, and no packing of low-bit weights that is known here explains them"
    ]
