"""What each stretch of a line is, by table: `kind:stretch`."""

from __future__ import annotations

import pytest

from entrenar_shell.words import pieces
from line_tables import rows

COLOURS = r"""
models                   ⇒ command:models
inspect layers t         ⇒ command:inspect command:layers value:t
inspect t                ⇒ command:inspect value:t
load layers              ⇒ command:load value:layers
modles                   ⇒ error:modles
inspect --json -q 'a b'  ⇒ command:inspect option:--json option:-q string:'a b'
inspect -1 -.5 -         ⇒ command:inspect value:-1 value:-.5 value:-
inspect -- --x           ⇒ command:inspect option:-- value:--x
inspect t | less -r      ⇒ command:inspect value:t operator:| value:less -r
models > 'a b' # c       ⇒ command:models operator:> string:'a b' comment:# c
models &                 ⇒ command:models operator:&
models ?                 ⇒ command:models operator:?
models > ?               ⇒ command:models operator:> value:?
models ? x               ⇒ command:models value:? value:x
!ls -l                   ⇒ operator:! value:ls -l
load 'a b                ⇒ command:load string:'a b
load a\                  ⇒ command:load string:a\
models > a b             ⇒ command:models operator:> value:a error:b
models && ls             ⇒ command:models error:& error:& error:ls
| less                   ⇒ error:| error:less
models x␛y z             ⇒ command:models error:x␛y error:z
"""


@pytest.mark.parametrize(("line", "expected"), rows(COLOURS))
def test_each_piece_of_a_line_has_its_kind(line: str, expected: str) -> None:
    found = pieces(line, commands=[("models",), ("inspect", "layers"), ("load",)])
    shown = " ".join(f"{piece.kind}:{line[piece.start : piece.end]}" for piece in found)
    assert shown.replace("\x1b", "␛") == expected


def test_without_the_commands_the_first_word_is_taken_for_one() -> None:
    assert [piece.kind for piece in pieces("whatever it is")] == ["command", "value", "value"]
