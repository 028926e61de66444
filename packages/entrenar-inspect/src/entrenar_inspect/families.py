"""The families of models that are known: what they and their tensors are called."""

from dataclasses import dataclass

from entrenar_inspect import decoder_layouts as decoders
from entrenar_inspect import encoder_layouts as encoders
from entrenar_inspect.layout import Layout


@dataclass(frozen=True, eq=False)
class Family:
    """One family.

    name: as it is shown; model_types: what configs call it; stem: what its classes' names begin
    with; gguf: general.architecture; layouts: how its tensors are called; vision: where dimensions
    of its part that sees can be read; tied: whether the output head is the embedding where a config
    does not say; inner_factor: the inner width in hidden sizes where nothing says it; reserved: how
    many rows of the position embedding no token uses; stated_reserved: whether the config's number
    of positions counts them.
    """

    name: str
    model_types: tuple[str, ...]
    stem: str
    layouts: tuple[Layout, ...]
    gguf: tuple[str, ...] = ()
    vision: Layout | None = None
    tied: bool = False
    inner_factor: int | None = None
    reserved: int = 0
    stated_reserved: bool = False


LLAMA, MIXTRAL, FALCON = "LLaMA", "Mixtral", "Falcon"

FAMILIES: tuple[Family, ...] = (
    Family(LLAMA, ("llama",), "Llama", (decoders.LLAMA, decoders.LLAMA_BIASED), ("llama",)),
    Family("Mistral", ("mistral",), "Mistral", (decoders.LLAMA,)),
    Family(MIXTRAL, ("mixtral",), "Mixtral", (decoders.MIXTRAL, decoders.MIXTRAL_STACKED)),
    Family("Qwen2", ("qwen2",), "Qwen2", (decoders.QWEN2,), ("qwen2",)),
    Family("Qwen3", ("qwen3",), "Qwen3", (decoders.QWEN3,), ("qwen3",)),
    Family("Gemma", ("gemma",), "Gemma", (decoders.LLAMA,), ("gemma",), tied=True),
    Family("Gemma 2", ("gemma2",), "Gemma2", (decoders.GEMMA2,), ("gemma2",), tied=True),
    Family(
        "Gemma 3", ("gemma3", "gemma3_text"), "Gemma3", (decoders.GEMMA3,), ("gemma3",), tied=True
    ),
    Family("Phi", ("phi",), "Phi", (decoders.PHI,), ("phi2",)),
    Family("Phi-3", ("phi3",), "Phi3", (decoders.PHI3,), ("phi3",)),
    Family(
        FALCON, ("falcon", "RefinedWeb", "RefinedWebModel"), "Falcon", (decoders.FALCON,),
        ("falcon",), tied=True, inner_factor=4,
    ),
    Family("GPT-2", ("gpt2",), "GPT2", (decoders.GPT2,), ("gpt2",), tied=True, inner_factor=4),
    Family("GPT-NeoX", ("gpt_neox",), "GPTNeoX", (decoders.GPT_NEOX,), ("gptneox",)),
    Family("OPT", ("opt",), "OPT", (decoders.OPT,), tied=True, reserved=2),
    Family("BLOOM", ("bloom",), "Bloom", (decoders.BLOOM,), ("bloom",), tied=True, inner_factor=4),
    Family(
        "T5", ("t5", "mt5"), "T5", (encoders.T5, encoders.T5_GATED), ("t5", "t5encoder"), tied=True,
    ),
    Family("BERT", ("bert",), "Bert", encoders.BERT, ("bert",), tied=True),
    Family(
        "RoBERTa", ("roberta", "xlm-roberta", "camembert"), "Roberta", encoders.ROBERTA,
        tied=True, reserved=2, stated_reserved=True,
    ),
    Family("DistilBERT", ("distilbert",), "DistilBert", (encoders.DISTILBERT,), tied=True),
    Family("ViT", ("vit",), "ViT", (encoders.VIT, encoders.VIT_RENAMED)),
    Family(
        "CLIP", ("clip", "clip_text_model", "clip_vision_model"), "CLIP",
        (encoders.CLIP_TEXT, encoders.CLIP_VISION), vision=encoders.CLIP_VISION,
    ),
    Family("Whisper", ("whisper",), "Whisper", (encoders.WHISPER,), tied=True),
)  # fmt: skip
"""All families that are known."""


def of_model_type(model_type: str) -> Family | None:
    """The family whose configs have this model_type."""
    return next((each for each in FAMILIES if model_type in each.model_types), None)


def of_class(name: str) -> Family | None:
    """The family of a class that `architectures` names, such as LlamaForCausalLM."""
    return next(
        (
            each
            for each in FAMILIES
            if name.startswith(each.stem)
            and name[len(each.stem) :].startswith(("For", "Model", "LMHead", "PreTrained"))
        ),
        None,
    )


def of_gguf(architecture: str, *, experts: bool) -> Family | None:
    """The family of a GGUF file, which calls Mixtral llama too, with experts."""
    if architecture == "llama" and experts:
        return by_name(MIXTRAL)
    return next((each for each in FAMILIES if architecture in each.gguf), None)


def by_name(name: str) -> Family | None:
    """The family that is shown by this name."""
    return next((each for each in FAMILIES if each.name == name), None)
