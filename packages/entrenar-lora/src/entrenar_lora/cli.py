"""The command line of entrenar-lora; the commands are in the modules `*_commands`."""

from __future__ import annotations

from entrenar_common.cli import tool
from entrenar_lora import __version__, plan_commands


@tool("entrenar-lora", version=__version__)
def main() -> None:
    """Plan LoRA and QLoRA fine-tuning by its memory, and work with adapters."""


main.add_command(plan_commands.plan)
main.add_command(plan_commands.compare)
