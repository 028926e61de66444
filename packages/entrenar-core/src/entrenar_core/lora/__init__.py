"""Low-rank adapters: what they are, on a disk and in a model."""

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
