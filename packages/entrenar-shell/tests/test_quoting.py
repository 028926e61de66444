"""How a word is written, by table."""

from __future__ import annotations

import pytest

from entrenar_common.errors import UsageError
from entrenar_shell.words import join, quote
from line_tables import rows, signed

WRITTEN = r"""
model.bin        ⇒ model.bin
org/name@v1      ⇒ org/name@v1
--alpha=0.7      ⇒ --alpha=0.7
file#1           ⇒ file#1
a!b              ⇒ a!b
~/x              ⇒ ~/x
ünï              ⇒ ünï
two words        ⇒ 'two words'
⇥                ⇒ '⇥'
a⏎b              ⇒ 'a⏎b'
#1               ⇒ '#1'
!ls              ⇒ '!ls'
?                ⇒ '?'
a|b              ⇒ 'a|b'
a>b              ⇒ 'a>b'
a&b              ⇒ 'a&b'
C:\x             ⇒ 'C:\x'
say "hi"         ⇒ 'say "hi"'
it's             ⇒ "it's"
it's "so"        ⇒ "it's \"so\""
it's C:\x        ⇒ "it's C:\\x"
"""


@pytest.mark.parametrize(("word", "written"), rows(WRITTEN))
def test_a_word_is_written_with_no_more_quotes_than_it_needs(word: str, written: str) -> None:
    assert signed(quote(word)) == written


def test_an_empty_word_is_written_as_two_quotes() -> None:
    assert join(["a", "", "b"]) == "a '' b"


@pytest.mark.parametrize("char", ["\0", "\x1b", "\r", "\x7f", "\x85"])
def test_a_word_that_no_line_can_hold_is_refused_with_its_character_escaped(char: str) -> None:
    with pytest.raises(UsageError, match="holds the control character") as caught:
        quote(f"a{char}b")
    assert char not in caught.value.message
    assert caught.value.hint
