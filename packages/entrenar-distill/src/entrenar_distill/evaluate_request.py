"""What the options of `evaluate` ask for; one that belongs to data which is not given is refused,
because it would do nothing."""

from entrenar_common.errors import ConfigError
from entrenar_core.data.sources import DatasetSpec
from entrenar_distill.generation import GenerationRequest

__all__ = ["documents", "generation"]


def documents(
    paths: tuple[str, ...], *, text_field: str | None, max_documents: int | None
) -> DatasetSpec | None:
    """The documents of --data, None without any."""
    given = {"text_field": text_field, "max_documents": max_documents}
    settings = {name: value for name, value in given.items() if value is not None}
    if not paths:
        _refuse(settings, "--data")
        return None
    return DatasetSpec(paths, **settings)


def generation(
    paths: tuple[str, ...],
    *,
    prompt_field: str | None,
    reference_field: str | None,
    max_new_tokens: int | None,
    temperature: float | None,
    stop: tuple[str, ...],
    max_rows: int | None,
) -> GenerationRequest | None:
    """The rows of --generate and how to write, None without any."""
    given = {
        "prompt_field": prompt_field,
        "reference_field": reference_field,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "stop": stop or None,
        "max_rows": max_rows,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if not paths:
        _refuse(settings, "--generate")
        return None
    return GenerationRequest(paths, **settings)


def _refuse(settings: dict[str, object], owner: str) -> None:
    if settings:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in settings)
        raise ConfigError(f"{names} without {owner}", hint=f"give {owner} too, or leave it out")
