"""Low-rank adapters: what they are, on a disk and in a model.

The names here are loaded when they are first used: files are merged without what trains.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrenar_core.lora.config import LoraConfig as LoraConfig
    from entrenar_core.lora.model import Adapter as Adapter
    from entrenar_core.lora.model import adapt as adapt
    from entrenar_core.lora.model import load_adapter as load_adapter
    from entrenar_core.lora.peft_config import PeftConfig as PeftConfig
    from entrenar_core.lora.stored import StoredAdapter as StoredAdapter
    from entrenar_core.lora.switch import activate as activate
    from entrenar_core.lora.switch import active as active
    from entrenar_core.lora.switch import adapters_of as adapters_of
    from entrenar_core.lora.switch import disabled as disabled
    from entrenar_core.lora.switch import fuse as fuse
    from entrenar_core.lora.switch import strip as strip
    from entrenar_core.lora.switch import unfuse as unfuse
    from entrenar_core.lora.update import Update as Update
    from entrenar_core.lora.write import AdapterContent as AdapterContent
    from entrenar_core.lora.write import content_of as content_of
    from entrenar_core.lora.write import write_adapter as write_adapter

_LONE = ("LoraConfig", "PeftConfig", "StoredAdapter", "Update")
_MODEL = ("Adapter", "adapt", "load_adapter")
_SWITCH = ("activate", "active", "adapters_of", "disabled", "fuse", "strip", "unfuse")
_WRITE = ("AdapterContent", "content_of", "write_adapter")


def __getattr__(name: str) -> Any:
    if name in _MODEL:
        from entrenar_core.lora import model as home
    elif name in _SWITCH:
        from entrenar_core.lora import switch as home
    elif name in _WRITE:
        from entrenar_core.lora import write as home
    elif name == "LoraConfig":
        from entrenar_core.lora import config as home
    elif name == "PeftConfig":
        from entrenar_core.lora import peft_config as home
    elif name == "StoredAdapter":
        from entrenar_core.lora import stored as home
    elif name == "Update":
        from entrenar_core.lora import update as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LONE, *_MODEL, *_SWITCH, *_WRITE})
