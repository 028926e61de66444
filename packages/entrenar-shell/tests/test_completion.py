"""What completion offers, by table: the line up to and after the cursor ‸, and the texts offered
in their order, with what stands in PlainWorld."""

from __future__ import annotations

import dataclasses
import time

import pytest

from entrenar_shell.complete import Completion, complete
from entrenar_shell.matching import LIMIT
from entrenar_shell.words import parse
from line_tables import at_cursor, rows
from plain_world import COMMANDS, WORLD, PlainWorld

COMPLETIONS = r"""
the words of a command: those that begin so first, then those that hold it
mod‸                            ⇒ models
lo‸                             ⇒ load · unload
un‸                             ⇒ unload
LOAD‸                           ⇒ load · unload
s‸                              ⇒ session · set · source
se‸                             ⇒ session · set
ex‸                             ⇒ export · exit
q‸                              ⇒ quit · q
zzz‸                            ⇒
␠␠mod‸                          ⇒ models
'mod‸                           ⇒ 'models'
lo‸ t as x                      ⇒ load · unload
inspect ‸                       ⇒ layers · stats
inspect s‸                      ⇒ stats
inspect st‸                     ⇒ stats
inspect zzz‸                    ⇒
export ‸                        ⇒ apr · gguf
exp ‸                           ⇒
zzz ‸                           ⇒
session s‸                      ⇒ save
options
distill --al‸                   ⇒ --alpha
distill --a‸                    ⇒ --alpha
distill --no‸                   ⇒ --no-cache · --no-color
distill --ca‸                   ⇒ --cache · --no-cache
distill --cache --no-ca‸        ⇒
distill --no-cache --ca‸        ⇒
distill --alpha 1 --al‸         ⇒
distill --alpha=1 --al‸         ⇒
distill --set a=b --se‸         ⇒ --set · --verbose
distill --dry‸                  ⇒ --dry-run
distill -n --dry‸               ⇒
distill -nq --dry‸              ⇒
distill -qn --qui‸              ⇒
distill --sec‸                  ⇒
distill --run‸                  ⇒ --dry-run
distill --PUT‸                  ⇒ --output
distill temp‸                   ⇒ --temperature
distill --zzz‸                  ⇒
distill '--al‸                  ⇒ '--alpha'
distill --al‸pha                ⇒ --alpha
generate x --st‸                ⇒ --stop
generate x --stop a --st‸       ⇒ --stop
generate --m‸                   ⇒ --max-new-tokens · --model
models --j‸                     ⇒ --json
models ‸                        ⇒ --debug · --help · --json · --no-color · --quiet · --verbose
                                ⇒ · -q · -v
models --‸                      ⇒ --debug · --help · --json · --no-color · --quiet · --verbose
models -q‸                      ⇒ -q
models --json -‸                ⇒ --debug · --help · --no-color · --quiet · --verbose · -q · -v
models -- --j‸                  ⇒
values by their click type
export gguf --type ‸            ⇒ q4_0 · q8_0 · f16
export gguf --type q‸           ⇒ q4_0 · q8_0
export gguf --type 8_‸          ⇒ q8_0
export gguf --type 8‸           ⇒
export gguf --type=‸            ⇒ --type=q4_0 · --type=q8_0 · --type=f16
export gguf --type=f‸           ⇒ --type=f16
export gguf --type='f‸          ⇒ --type='f16'
export gguf --type Q4‸          ⇒ q4_0
export gguf --type x‸           ⇒
generate --echo ‸               ⇒ true · false
generate --echo=t‸              ⇒ --echo=true
export gguf --into ‸            ⇒ models/ · 'my model/
export gguf run‸                ⇒ run.ent
distill --config r‸             ⇒ run.ent
source ru‸                      ⇒ run.ent
distill --alpha ‸               ⇒
distill --alpha 0‸              ⇒
distill --alpha --te‸           ⇒
inspect stats --limit ‸         ⇒
generate ‸                      ⇒
distill --betas 1 ‸             ⇒
load t ‸                        ⇒ as
load t a‸                       ⇒ as
load t as ‸                     ⇒
models
inspect layers t‸               ⇒ teacher · tiny
inspect layers ti‸              ⇒ tiny
inspect layers tin‸y            ⇒ tiny
compare tiny t‸                 ⇒ teacher · tiny
compare tiny teacher x‸         ⇒
unload te‸                      ⇒ teacher · adapter.safetensors
generate -m ti‸                 ⇒ tiny
generate --model=ti‸            ⇒ --model=tiny
inspect layers 'ti‸             ⇒
inspect layers _‸               ⇒ _3 · _12
inspect layers _1‸              ⇒ _12
inspect layers '_1‸             ⇒
inspect layers mod‸             ⇒ model.gguf · models/ · 'my model/
inspect layers models/‸         ⇒ models/2.gguf · models/10.gguf · 'models/big one.gguf' ·
                                ⇒ models/sub/ · models/t.safetensors
inspect layers models/s‸        ⇒ models/sub/
inspect layers models/sa‸       ⇒ models/t.safetensors
inspect layers ü‸               ⇒ ünï.apr
inspect layers run‸             ⇒
adapters
merge a‸                        ⇒ adapter.safetensors
merge models/‸                  ⇒ models/sub/ · models/t.safetensors
merge _‸                        ⇒ _3 · _12
files, quoted where they need it
models > r‸                     ⇒ run.ent
models > run‸                   ⇒ run.ent
models >run‸                    ⇒ run.ent
models >> run‸                  ⇒ run.ent
models > my‸                    ⇒ 'my model/
models > 'my‸                   ⇒ 'my model/
models > "my‸                   ⇒ "my model/
models > my\ m‸                 ⇒ 'my model/
models > 'my‸'                  ⇒ 'my model/
models > 'run‸'                 ⇒ 'run.ent
models > "run‸"                 ⇒ "run.ent
models > 'run‸                  ⇒ 'run.ent'
models > 'my model/‸            ⇒ 'my model/deeper one/ · 'my model/model.safetensors'
models > 'my model/m‸           ⇒ 'my model/model.safetensors'
models > It‸                    ⇒ "It's.txt"
models > 'It‸                   ⇒ "It's.txt"
models > 'It‸'                  ⇒
models > notes‸                 ⇒ 'notes #1.txt'
models > '&‸                    ⇒ '&.txt'
models > a\\‸                   ⇒ 'a\b.txt'
models > bad‸                   ⇒
models > .‸                     ⇒ .hidden
models > .h‸                    ⇒ .hidden
models > hidden‸                ⇒
models > ~/‸                    ⇒ ~/home.gguf
models > ../‸                   ⇒ ../up.gguf
models > /‸                     ⇒ /tmp/
models > nowhere/‸              ⇒
models > a b‸                   ⇒
models > run.ent ‸              ⇒
models & ‸                      ⇒
# run‸                          ⇒
models # run‸                   ⇒
distill --output m‸             ⇒ models/ · 'my model/
distill -o _‸                   ⇒ _3 · _12
the system's shell
!‸                              ⇒
!l‸                             ⇒
!ls run‸                        ⇒ run.ent
!ls 'my‸                        ⇒ 'my model/
!ls -l run‸                     ⇒ run.ent
!cat a > run‸                   ⇒ run.ent
!ls | grep run‸                 ⇒ run.ent
!ls | gr‸                       ⇒
models | l‸                     ⇒
models | less run‸              ⇒ run.ent
models | tee > run‸             ⇒ run.ent
!ls # run‸                      ⇒
names of tensors, of the model in the line
inspect stats tiny lm‸          ⇒ lm_head.weight
inspect stats tiny model‸       ⇒ model.layers.0.mlp.up.weight · model.layers.2.mlp.up.weight
                                ⇒ · model.layers.10.mlp.up.weight
inspect stats tiny layers.1‸    ⇒ model.layers.10.mlp.up.weight
inspect stats tiny LM‸          ⇒ lm_head.weight
inspect stats tiny a lm‸        ⇒ lm_head.weight
inspect stats tiny zzz‸         ⇒
inspect stats other lm‸         ⇒
tensors model‸                  ⇒ model.norm.weight
tensors norm‸                   ⇒ model.norm.weight
settings
set ‸                           ⇒ student · teacher · color · distillation.alpha
                                ⇒ · distillation.temperature
set stu‸                        ⇒ student
set dist‸                       ⇒ distillation.alpha · distillation.temperature
set alpha‸                      ⇒ distillation.alpha
set color ‸                     ⇒ auto · no · yes
set color y‸                    ⇒ yes
set student ti‸                 ⇒ tiny
set distillation.alpha ‸        ⇒
set zzz ‸                       ⇒
distill --set stu‸              ⇒ student=
distill --set color=‸           ⇒ color=auto · color=no · color=yes
distill --set color=n‸          ⇒ color=no
distill --set=color=n‸          ⇒ --set=color=no
distill --set student=ti‸       ⇒ student=tiny
distill --set student=my‸       ⇒ 'student=my model/
jobs, entries, commands
cancel ‸                        ⇒ 1 · 2
cancel 2‸                       ⇒ 2
again ‸                         ⇒ _3 · _12
again _1‸                       ⇒ _12
help mod‸                       ⇒ models
help inspect ‸                  ⇒ layers · stats
help inspect st‸                ⇒ stats
help inspect stats z‸           ⇒
help zzz m‸                     ⇒
"""


@pytest.mark.parametrize(("line", "expected"), rows(COMPLETIONS))
def test_completions_are_those_that_fit_in_order(line: str, expected: str) -> None:
    found = complete(*at_cursor(line), WORLD)
    assert " · ".join(completion.text for completion in found) == expected


ACCEPTED = r"""
mod‸                            ⇒ models
inspect st‸                     ⇒ inspect stats
inspect layers mod‸ --json      ⇒ inspect layers model.gguf --json
lo‸ t as x                      ⇒ load t as x
export gguf --type='f‸          ⇒ export gguf --type='f16'
models > 'run‸'                 ⇒ models > 'run.ent'
models > my\ model/mod‸         ⇒ models > 'my model/model.safetensors'
!cat 'notes‸' | wc              ⇒ !cat 'notes #1.txt' | wc
distill --set=color=a‸          ⇒ distill --set=color=auto
"""


@pytest.mark.parametrize(("line", "expected"), rows(ACCEPTED))
def test_a_completion_replaces_the_word_up_to_the_cursor(line: str, expected: str) -> None:
    text, cursor = at_cursor(line)
    first = complete(text, cursor, WORLD)[0]
    assert text[: first.start] + first.text + text[cursor:] == expected
    parse(expected)


def test_a_menu_shows_the_name_of_a_file_without_its_folder_and_what_it_is() -> None:
    found = complete("load models/", 12, WORLD)
    assert [(c.shown, c.note) for c in found][-2:] == [("sub/", "folder"), ("t.safetensors", "")]


NOTES = r"""
load ti‸        ⇒ org/tiny
load _3‸        ⇒ /made/out/student
mod‸            ⇒ List the loaded models.
exp‸            ⇒ apr, gguf
exi‸            ⇒ = quit
set stu‸        ⇒ the model that learns
distill --dry‸  ⇒ Show the plan
distill --epo‸  ⇒ Passes over the data
cancel 2‸       ⇒ sweep study.yaml &
again _12‸      ⇒ export gguf model.gguf
"""


@pytest.mark.parametrize(("line", "note"), rows(NOTES))
def test_a_menu_shows_what_a_name_stands_for(line: str, note: str) -> None:
    assert complete(*at_cursor(line), WORLD)[0].note == note


def test_a_name_that_would_steer_the_terminal_is_shown_escaped() -> None:
    world = dataclasses.replace(WORLD, folders={"": ["a\u202eb.gguf"]})
    assert complete("load a", 6, world) == [Completion("a\u202eb.gguf", 5, r"a\u202eb.gguf")]


# ------------------------------------------------------------------------------- many names

MANY = sorted(f"model.layers.{n // 1000}.mlp.experts.{n % 1000}.up.weight" for n in range(100_000))
BIG = PlainWorld(commands=COMMANDS, tensor_names={"big": MANY})


def offered(typed: str) -> list[Completion]:
    line = f"inspect stats big {typed}"
    return complete(line, len(line), BIG)


def test_of_too_many_tensors_the_next_parts_of_their_names_are_offered() -> None:
    found = offered("model.layers.1")
    assert [c.text for c in found] == [f"model.layers.{n}." for n in (1, *range(10, 20))]
    assert {c.note for c in found} == {"1000 tensors"}


def test_parts_are_skipped_that_all_names_share() -> None:
    found = offered("mo")
    assert [c.text for c in found] == [f"model.layers.{n}." for n in range(100)]


def test_no_more_are_offered_than_a_menu_holds() -> None:
    assert len(offered("model.layers.42.mlp.experts.")) == LIMIT
    assert len(offered("up.weight")) == LIMIT


def test_few_that_begin_so_are_offered_whole_and_then_those_that_hold_it() -> None:
    found = offered("model.layers.42.mlp.experts.999")
    assert [c.text for c in found] == ["model.layers.42.mlp.experts.999.up.weight"]
    assert len(offered("experts.999.")) == 100


class Counted(list[str]):
    """A list that counts the items that are read one by one."""

    reads = 0

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.reads += 1
        return super().__getitem__(index)


def test_parts_of_many_names_are_found_without_reading_them_all() -> None:
    names = Counted(MANY)
    world = dataclasses.replace(BIG, tensor_names={"big": names})
    assert len(complete("inspect stats big model.", 24, world)) == 100
    assert names.reads < 100 * 2 * 20  # two searches by halves for each part, of at most 2**17


@pytest.mark.tier2
@pytest.mark.parametrize("typed", ["", "model.", "model.layers.9", "experts.7", "zzz", "ZZZ"])
def test_completion_of_100_000_tensors_takes_less_than_50_ms(typed: str) -> None:
    times = []
    for _ in range(5):
        before = time.process_time()
        offered(typed)
        times.append(time.process_time() - before)
    assert min(times) < 0.05
