"""The line under a line, by table: the line with its cursor ‸, and what is said of it."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from entrenar_shell.hint import hint
from line_tables import at_cursor, rows
from plain_world import WORLD

HINTS = r"""
while the words of a command are typed
‸                           ⇒ help lists the commands, Tab completes what is typed
␠‸                          ⇒ help lists the commands, Tab completes what is typed
m‸                          ⇒ «merge | models»
lo‸                         ⇒ «load»
inspect‸                    ⇒ «inspect»
inspect ‸                   ⇒ inspect «layers | stats»
inspect st‸                 ⇒ inspect «stats»
export ‸                    ⇒ export «apr | gguf»
models‸                     ⇒ models [options] — List the loaded models.
exit‸                       ⇒ quit [options] — Leave.
session‸                    ⇒ session [options] — Show the session.
inspect layers‸             ⇒ inspect layers [options] [MODEL] — Show layers.
mod‸ tiny                   ⇒ «models»
commands that are none
modles‸                     ⇒ no command modles: models?
modles ‸                    ⇒ no command modles: models?
modles tiny‸                ⇒ no command modles: models?
zzz‸                        ⇒ no command zzz
inspect lyers‸              ⇒ no command inspect lyers: layers?
inspect lyers ‸             ⇒ no command inspect lyers: layers?
inspect zzz t‸              ⇒ no command inspect zzz
inspct layers ‸             ⇒ no command inspct: inspect?
'mod els'‸                  ⇒ no command mod els: models?
arguments
load ‸                      ⇒ load [options] «PATH» as NAME — a loaded model, a file or folder, or
                            ⇒ org/name on the hub
load ./x‸                   ⇒ load [options] «PATH» as NAME — a loaded model, a file or folder, or
                            ⇒ org/name on the hub
load './my mod‸             ⇒ load [options] «PATH» as NAME — a loaded model, a file or folder, or
                            ⇒ org/name on the hub
load ./x ‸                  ⇒ load [options] PATH «as» NAME
load ./x as ‸               ⇒ load [options] PATH as «NAME»
load ./x as t‸              ⇒ load [options] PATH as «NAME»
load ./x as t ‸             ⇒ load [options] PATH as NAME — Give a model a name.
load ./‸x as t              ⇒ load [options] «PATH» as NAME — a loaded model, a file or folder, or
                            ⇒ org/name on the hub
inspect layers ‸            ⇒ inspect layers [options] [«MODEL»] — a loaded model, a file or
                            ⇒ folder, or org/name on the hub
inspect stats t ‸           ⇒ inspect stats [options] MODEL [«TENSORS»...] — the name of a tensor
inspect stats t a b‸        ⇒ inspect stats [options] MODEL [«TENSORS»...] — the name of a tensor
inspect stats -- --x‸       ⇒ inspect stats [options] «MODEL» [TENSORS...] — a loaded model, a
                            ⇒ file or folder, or org/name on the hub
cancel ‸                    ⇒ cancel [options] «JOB» — the number of a job
again ‸                     ⇒ again [options] «ENTRY» — an entry of the history, such as _1
merge ‸                     ⇒ merge [options] «ADAPTER» — the folder of an adapter
set ‸                       ⇒ set [options] «NAME» VALUE — the name of a setting
set color ‸                 ⇒ set [options] NAME «VALUE» — whether to (auto | no | yes)
set student ‸               ⇒ set [options] NAME «VALUE» — the model that learns (a loaded model,
                            ⇒ a file or folder, or org/name on the hub)
set zzz ‸                   ⇒ set [options] NAME «VALUE»
exit ‸                      ⇒ quit [options] — Leave.
options
distill ‸                   ⇒ distill [options] — Train the student on the teacher.
distill --al‸               ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
distill --alpha‸            ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
distill --alpha ‸           ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
distill --alpha 0.‸         ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
distill --alpha=‸           ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
distill --alpha 0.5 ‸       ⇒ distill [options] — Train the student on the teacher.
distill --temperature ‸     ⇒ distill --temperature «FLOAT» — Softens both (above 0)
distill --epochs ‸          ⇒ distill --epochs «INTEGER» — Passes over the data (at least 1)
distill --no-‸              ⇒ distill «--no-cache | --no-color»
distill --dry‸              ⇒ distill «--dry-run» — Show the plan
distill -n‸                 ⇒ distill «--dry-run» — Show the plan
distill -o ‸                ⇒ distill --output «FOLDER» — Folder of the student
distill --set ‸             ⇒ distill --set «NAME=VALUE» — A setting
distill --betas 1 ‸         ⇒ distill --betas «FLOAT» — Two numbers
distill --config ‸          ⇒ distill --config «PATH» — A YAML file
distill --al‸ --json        ⇒ distill --alpha «FLOAT» — Share of the teacher (0 to 1, 0.5 unless
                            ⇒ given)
generate -n ‸               ⇒ generate --max-new-tokens «INTEGER» PROMPT — 1 to 4096, 64 unless
                            ⇒ given
generate --echo ‸           ⇒ generate --echo «BOOLEAN» PROMPT
export gguf --type ‸        ⇒ export gguf --type «TYPE» PATH — Blocks (q4_0 | q8_0 | f16)
export gguf a ‸             ⇒ export gguf [options] PATH — needs --into
export gguf a --into b ‸    ⇒ export gguf [options] PATH — Write a GGUF file.
inspect stats --limit ‸     ⇒ inspect stats --limit «SIZE» MODEL [TENSORS...]
words that are wrong
distill --temprature‸       ⇒ no option --temprature: --temperature?
distill --temprature 3‸     ⇒ no option --temprature: --temperature?
distill --temprature=3 ‸    ⇒ no option --temprature: --temperature?
distill --zzz ‸             ⇒ no option --zzz
distill -x‸                 ⇒ no option -x
distill -nx ‸               ⇒ no option -x
distill --json=3 ‸          ⇒ --json takes no value
distill --json=‸            ⇒ distill «--json» — Print the result as one JSON document
distill --alpha 5 ‸         ⇒ --alpha: 5.0 is not in the range 0<=x<=1
distill --alpha=5 ‸         ⇒ --alpha: 5.0 is not in the range 0<=x<=1
distill --alpha x ‸         ⇒ --alpha: 'x' is not a valid float range
distill --epochs 1.5 ‸      ⇒ --epochs: '1.5' is not a valid integer range
distill --alpha ‸5 --json   ⇒ --alpha: 5.0 is not in the range 0<=x<=1
distill --betas 1 x ‸       ⇒ --betas: 'x' is not a valid float
distill 5‸                  ⇒ one word too many: 5
distill 5 ‸                 ⇒ one word too many: 5
generate -n5000 ‸           ⇒ --max-new-tokens: 5000 is not in the range 1<=x<=4096
generate -n 0 ‸             ⇒ --max-new-tokens: 0 is not in the range 1<=x<=4096
export gguf --type q9 ‸     ⇒ --type: 'q9' is not one of 'q4_0', 'q8_0', 'f16'
load t at ‸                 ⇒ as: 'at' is not 'as'
inspect stats --limit big ‸ ⇒ --limit: 'big' is not a size
inspect stats --by a,,b ‸   ⇒ --by: 'a,,b' has an empty name, write it like one,two
load t as x y ‸             ⇒ one word too many: y
operators, and lines that are none
models > ‸                  ⇒ «FILE» gets what the command prints
models > a‸                 ⇒ «FILE» gets what the command prints
models > a ‸                ⇒
models | ‸                  ⇒ «PROGRAM» of the system
models | le‸                ⇒ «PROGRAM» of the system
models | less -‸            ⇒ for the system's own shell
!‸                          ⇒ «PROGRAM» of the system
!ls ‸                       ⇒ for the system's own shell
# x‸                        ⇒ a comment
distill &‸                  ⇒ & runs the command as a job in the background
distill & ‸                 ⇒ & runs the command as a job in the background
?‸                          ⇒ ? shows the help of the shell
distill ?‸                  ⇒ ? shows the help of distill
inspect layers ?‸           ⇒ ? shows the help of inspect layers
a && b‸                     ⇒ & at column 3 is not at the end of the line; end the line after it,
                            ⇒ or quote it as a word: '&'
models > a b‸               ⇒ one file is after > at column 8, and a second word follows; end the
                            ⇒ line after the file; a name with blanks or operators in it is quoted
load a␛‸                    ⇒ the control character \x1b is at column 7; leave it out: a line
                            ⇒ holds text, spaces and tabs
"""


@pytest.mark.parametrize(("line", "expected"), rows(HINTS))
def test_a_hint_says_how_the_line_goes_on_or_what_is_wrong(line: str, expected: str) -> None:
    assert hint(*at_cursor(line), WORLD, columns=200) == expected


@pytest.mark.parametrize("columns", [0, 1, 2, 10, 40, 80])
@pytest.mark.parametrize(
    "line", ["load ", "distill --", "load 模型模型模型模型模型 x 模型模型", "zzz模型模型"]
)
def test_a_hint_fits_the_terminal(line: str, columns: int) -> None:
    shown = hint(line, len(line), WORLD, columns=columns)
    assert cell_len(shown) <= columns
    assert shown.endswith("…") or shown == hint(line, len(line), WORLD, columns=200) or not columns


def test_a_hint_shows_what_would_steer_the_terminal_escaped() -> None:
    assert hint("mod\u202eels x", 10, WORLD) == r"no command mod\u202eels: models?"
