"""Which modules of a model an adapter changes."""

import re
from collections.abc import Collection, Iterable, Mapping

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.lora.config import ALL_LINEAR, LoraConfig

_BLOCK = re.compile(r".*?\.[^.]*\.(\d+)\.")
"""The first number in a module's name is that of its block."""


def is_target(
    config: LoraConfig, module: str, *, linear: bool = True, output: bool = False
) -> bool:
    """Whether `config` means the module of that name. `linear`: it is a projection; `output`: it is
    the one that makes the output, which "all-linear" leaves out.

    >>> is_target(LoraConfig(target_modules=("q_proj",)), "model.layers.0.self_attn.q_proj")
    True
    """
    if matches(config.exclude_modules, module) or _is_in_saved(config, module):
        return False
    if config.target_modules == ALL_LINEAR:
        chosen = linear and not output
    else:
        chosen = matches(config.target_modules, module)
    if chosen and config.layers_to_transform is not None:
        block = _BLOCK.match(module)
        return block is not None and int(block[1]) in config.layers_to_transform
    return chosen


def matches(names: str | tuple[str, ...], module: str) -> bool:
    """Whether a regular expression is all of `module`, or one of some names is it or its end."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def is_saved(config: LoraConfig, module: str) -> bool:
    """Whether the module of that name is trained whole: as in PEFT, the end of its name decides,
    and "norm" means `input_layernorm` too."""
    return any(module.endswith(name) for name in config.modules_to_save)


def _is_in_saved(config: LoraConfig, module: str) -> bool:
    """Whether the module of that name has one of the names that are trained whole on its path."""
    return any(f".{name}." in f".{module}." for name in config.modules_to_save)


def targets(config: LoraConfig, modules: Mapping[str, bool], outputs: Collection[str]) -> list[str]:
    """The names of the `modules` (all that could be adapted, by name) that `config` means, in their
    order; True in the map for projections. `outputs` are those that make the output.

    Raises ConfigError where it means none, and for a name that no module has.
    """
    found = [
        name
        for name, linear in modules.items()
        if is_target(config, name, linear=linear, output=name in outputs)
    ]
    if isinstance(config.target_modules, tuple):
        for name in config.target_modules:
            if not any(matches((name,), module) for module in modules):
                raise _no_such(name, modules)
    if not found:
        raise _no_such(str(config.target_modules), modules)
    return found


def _no_such(name: str, modules: Iterable[str]) -> ConfigError:
    ends = sorted({module.rpartition(".")[2] for module in modules})
    close = nearest(name, ends)
    return ConfigError(
        f"LoRA: no module of this model is {escape_controls(name)!r}",
        hint=f"did you mean {close}?" if close else f"it has {', '.join(ends[:12])}",
    )
