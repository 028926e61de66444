"""Low-rank adapters: what they are, on a disk and in a model."""

from entrenar_core.lora.config import LoraConfig as LoraConfig
from entrenar_core.lora.peft_config import PeftConfig as PeftConfig
from entrenar_core.lora.stored import StoredAdapter as StoredAdapter
from entrenar_core.lora.update import Update as Update
from entrenar_core.lora.write import AdapterContent as AdapterContent
from entrenar_core.lora.write import content_of as content_of
from entrenar_core.lora.write import write_adapter as write_adapter
