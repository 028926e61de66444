"""The command line of entrenar-inspect; the commands are in the modules `*_command`."""

from __future__ import annotations

from entrenar_common.cli import tool
from entrenar_inspect import (
    __version__,
    compare_command,
    convert_command,
    fetch_command,
    info_command,
    layers_command,
    memory_command,
    validate_command,
)


@tool("entrenar-inspect", version=__version__)
def main() -> None:
    """Look into model files: what they are, what they hold and need, what is wrong with them."""


main.add_command(info_command.info)
main.add_command(layers_command.layers)
main.add_command(memory_command.memory)
main.add_command(compare_command.compare)
main.add_command(convert_command.convert)
main.add_command(validate_command.validate)
main.add_command(fetch_command.fetch)
