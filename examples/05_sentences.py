"""Write the sentences of this Python's docstrings, one in a line: python 05_sentences.py FILE

They are what examples/05_embed.yaml distils a sentence embedding model on.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_core.io import files

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
WORDS = range(4, 61)
"""How many of them a sentence has: others are headings, or lists that were taken for one."""


def sentences(library: Path) -> Iterator[str]:
    """The sentences of all docstrings below `library`, in the order of the files."""
    for path in sorted(library.rglob("*.py")):
        if LEFT_OUT.isdisjoint(path.relative_to(library).parts):
            try:
                tree = ast.parse(path.read_text("utf-8"))
            except (SyntaxError, ValueError):  # such as templates of files in other languages
                continue
            for node in ast.walk(tree):
                if isinstance(node, DOCUMENTED):
                    yield from sentences_of(ast.get_docstring(node) or "")


def sentences_of(text: str) -> Iterator[str]:
    """The sentences of a docstring's paragraphs, without those that show a session."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" not in paragraph:
            for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                if len(sentence.split()) in WORDS:
                    yield sentence


@dataclass(frozen=True)
class Written:
    """What was written, and where."""

    path: str
    sentences: int


@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@common_options
def main(out: Output, path: Path) -> None:
    """Write the sentences, each once, to PATH."""
    found = dict.fromkeys(sentences(Path(sysconfig.get_path("stdlib"))))
    files.make_folder(path.parent)
    files.write_text(path, "".join(f"{sentence}\n" for sentence in found))
    out.emit(Written(str(path), len(found)), schema="entrenar.example.sentences/1")


if __name__ == "__main__":
    main()
