"""The command line of entrenar-lora; the commands are in the modules `*_commands`."""

from __future__ import annotations

from entrenar_common.cli import tool
from entrenar_lora import __version__, adapter_commands, merge_commands, plan_commands


@tool("entrenar-lora", version=__version__)
def main() -> None:
    """Plan LoRA and QLoRA fine-tuning by its memory, and work with adapters."""


main.add_command(plan_commands.plan)
main.add_command(plan_commands.compare)
main.add_command(merge_commands.merge)
main.add_command(adapter_commands.inspect)
main.add_command(adapter_commands.convert)
main.add_command(adapter_commands.resize)
main.add_command(adapter_commands.extract)
