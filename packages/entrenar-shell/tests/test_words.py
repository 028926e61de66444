"""What a line says, by table: words, operators, help; and the text of each error."""

from __future__ import annotations

import pytest

from entrenar_common.errors import UsageError
from entrenar_shell.words import IncompleteLine, Line, parse
from line_tables import rows, signed

LINES = r"""
# words and blanks
models                             ⇒ models
inspect layers teacher             ⇒ inspect · layers · teacher
␠␠models                           ⇒ models
models␠␠                           ⇒ models
␠                                  ⇒
⇥                                  ⇒
a⇥b                                ⇒ a · b
a␠␠⇥␠b                             ⇒ a · b
load ./teacher as t                ⇒ load · ./teacher · as · t
load /data/модель as m             ⇒ load · /data/модель · as · m
load 模型/base as m                ⇒ load · 模型/base · as · m
load 🤗/x                          ⇒ load · 🤗/x
fetch microsoft/codebert-base      ⇒ fetch · microsoft/codebert-base
fetch org/name@v1.0                ⇒ fetch · org/name@v1.0
load ~/models/t                    ⇒ load · ~/models/t
load $HOME/t                       ⇒ load · $HOME/t
load *.safetensors                 ⇒ load · *.safetensors
load a[1].bin                      ⇒ load · a[1].bin
load {a,b}                         ⇒ load · {a,b}
compare a; models                  ⇒ compare · a; · models
a < b                              ⇒ a · < · b
a(b)                               ⇒ a(b)
a%b^c                              ⇒ a%b^c
a`b`                               ⇒ a`b`
# options and settings
distill --alpha 0.7                ⇒ distill · --alpha · 0.7
distill --alpha=0.7                ⇒ distill · --alpha=0.7
distill --set a.b=c                ⇒ distill · --set · a.b=c
memory -n5 -vq                     ⇒ memory · -n5 · -vq
generate -- --not-an-option        ⇒ generate · -- · --not-an-option
generate --temperature -1          ⇒ generate · --temperature · -1
set KEY=VALUE                      ⇒ set · KEY=VALUE
set KEY=                           ⇒ set · KEY=
set =                              ⇒ set · =
set a==b                           ⇒ set · a==b
set KEY="two words"                ⇒ set · KEY=two words
set "KEY=two words"                ⇒ set · KEY=two words
set KEY='a'"b"c\ d                 ⇒ set · KEY=abc d
optimize --vram 16GB               ⇒ optimize · --vram · 16GB
# single quotes
generate 'two words'               ⇒ generate · two words
'a'                                ⇒ a
''                                 ⇒ ∅
a ''                               ⇒ a · ∅
a '' b                             ⇒ a · ∅ · b
''''                               ⇒ ∅
'a''b'                             ⇒ ab
'a' 'b'                            ⇒ a · b
a'b c'd                            ⇒ ab cd
'say "hi"'                         ⇒ say "hi"
'back\slash'                       ⇒ back\slash
'back\\slash'                      ⇒ back\\slash
'ends in \'                        ⇒ ends in \
'a⇥b'                              ⇒ a⇥b
'a⏎b'                              ⇒ a⏎b
'a␍⏎b'                             ⇒ a⏎b
'␠a␠'                              ⇒ ␠a␠
'$HOME'                            ⇒ $HOME
# double quotes
generate "two words"               ⇒ generate · two words
""                                 ⇒ ∅
a ""                               ⇒ a · ∅
"it's"                             ⇒ it's
"say \"hi\""                       ⇒ say "hi"
"back\\slash"                      ⇒ back\slash
"back\slash"                       ⇒ back\slash
"C:\new"                           ⇒ C:\new
"\'"                               ⇒ \'
"\$x"                              ⇒ \$x
"a\\"                              ⇒ a\
"a\\\""                            ⇒ a\"
"a⏎b"                              ⇒ a⏎b
"a\⏎b"                             ⇒ ab
"a\␍⏎b"                            ⇒ ab
"a\\⏎b"                            ⇒ a\⏎b
"a" "b"                            ⇒ a · b
"a"b"c"                            ⇒ abc
"a"'b'                             ⇒ ab
'a'"b"                             ⇒ ab
a"b c"d                            ⇒ ab cd
# backslashes
two\ words                         ⇒ two words
a\⇥b                               ⇒ a⇥b
\a                                 ⇒ a
\\                                 ⇒ \
\\\\                               ⇒ \\
C:\models\t                        ⇒ C:modelst
C:\\models\\t                      ⇒ C:\models\t
'C:\models\t'                      ⇒ C:\models\t
\'                                 ⇒ '
\"                                 ⇒ "
it\'s                              ⇒ it's
\'a b\'                            ⇒ 'a · b'
\#a                                ⇒ #a
\!ls                               ⇒ !ls
\?                                 ⇒ ?
a \| b                             ⇒ a · | · b
a \> b                             ⇒ a · > · b
a \>\> b                           ⇒ a · >> · b
a \&                               ⇒ a · &
a \ b                              ⇒ a · ␠b
\ü                                 ⇒ ü
# comments
# all of it is one                 ⇒
#                                  ⇒
#!/usr/bin/env entrenar-shell      ⇒
␠␠# indented                       ⇒
models # after a command           ⇒ models
models #                           ⇒ models
models ## twice                    ⇒ models
models # with 'a quote             ⇒ models
models # it ends in \              ⇒ models
models # a | b > c &               ⇒ models
models#no                          ⇒ models#no
load file#1                        ⇒ load · file#1
load file#                         ⇒ load · file#
load a#b#c d                       ⇒ load · a#b#c · d
load '#1'                          ⇒ load · #1
load "#1"                          ⇒ load · #1
load ''#1                          ⇒ load · #1
load \ #1                          ⇒ load · ␠#1
# operators in quotes are text
a '|'                              ⇒ a · |
a "|" b                            ⇒ a · | · b
a '>' b                            ⇒ a · > · b
a '>>' b                           ⇒ a · >> · b
a '&'                              ⇒ a · &
a '?'                              ⇒ a · ?
a "?"                              ⇒ a · ?
'!' ls                             ⇒ ! · ls
'!ls'                              ⇒ !ls
a 'b|c'                            ⇒ a · b|c
a b'|'c                            ⇒ a · b|c
'a # b'                            ⇒ a # b
set filter 'loss>3'                ⇒ set · filter · loss>3
fetch 'https://h/x?a=1&b=2'        ⇒ fetch · https://h/x?a=1&b=2
# pipes
models | less                      ⇒ models [| less]
models|less                        ⇒ models [| less]
models |less                       ⇒ models [| less]
models| less                       ⇒ models [| less]
models | ␠less␠                    ⇒ models [| less]
models | grep "a b" | wc -l        ⇒ models [| grep "a b" | wc -l]
models | tee x > y                 ⇒ models [| tee x > y]
models | a && b                    ⇒ models [| a && b]
models | a; b                      ⇒ models [| a; b]
models | grep '&'                  ⇒ models [| grep '&']
models | grep \&                   ⇒ models [| grep \&]
models | grep x # why              ⇒ models [| grep x # why]
models | grep '#'                  ⇒ models [| grep '#']
models | sed 's/a⏎b/c/'            ⇒ models [| sed 's/a⏎b/c/']
generate 'a | b' | less            ⇒ generate · a | b [| less]
models | !x                        ⇒ models [| !x]
# files
models > a.txt                     ⇒ models [> a.txt]
models >a.txt                      ⇒ models [> a.txt]
models>a.txt                       ⇒ models [> a.txt]
models >> a.txt                    ⇒ models [>> a.txt]
models>>a.txt                      ⇒ models [>> a.txt]
models > 'my file'                 ⇒ models [> my file]
models > my\ file                  ⇒ models [> my file]
models > "a>b"                     ⇒ models [> a>b]
models > a.txt # kept              ⇒ models [> a.txt]
models > a#1                       ⇒ models [> a#1]
models > ?                         ⇒ models [> ?]
models > !a                        ⇒ models [> !a]
models > -                         ⇒ models [> -]
models > a=b                       ⇒ models [> a=b]
inspect layers t 2 > a.txt         ⇒ inspect · layers · t · 2 [> a.txt]
inspect layers t2> a.txt           ⇒ inspect · layers · t2 [> a.txt]
# jobs
distill --yes &                    ⇒ distill · --yes [&]
distill --yes&                     ⇒ distill · --yes [&]
distill & # later                  ⇒ distill [&]
distill '&' &                      ⇒ distill · & [&]
distill &␠␠                        ⇒ distill [&]
# help
?                                  ⇒ [?]
distill ?                          ⇒ distill [?]
lora plan ?                        ⇒ lora · plan [?]
distill --alpha ?                  ⇒ distill · --alpha [?]
distill ? # please                 ⇒ distill [?]
distill ?␠                         ⇒ distill [?]
? ?                                ⇒ ? [?]
distill? now                       ⇒ distill? · now
ask why?                           ⇒ ask · why?
ask ? why                          ⇒ ask · ? · why
ask what? why ?                    ⇒ ask · what? · why [?]
load a?b                           ⇒ load · a?b
# the system's shell
!ls                                ⇒ [! ls]
!ls -l | wc > x &                  ⇒ [! ls -l | wc > x &]
! ls                               ⇒ [! ls]
␠!ls                               ⇒ [! ls]
!!                                 ⇒ [! !]
!echo "a b"                        ⇒ [! echo "a b"]
!echo 'a⏎b'                        ⇒ [! echo 'a⏎b']
!echo a # b                        ⇒ [! echo a # b]
!echo ${x#y}                       ⇒ [! echo ${x#y}]
!a \⏎ b                            ⇒ [! a \⏎ b]
!a || b && c                       ⇒ [! a || b && c]
a !b                               ⇒ a · !b
a!                                 ⇒ a!
a !                                ⇒ a · !
# line ends, and lines that go on
models⏎                            ⇒ models
models␍⏎                           ⇒ models
models␍                            ⇒ models
models ⏎                           ⇒ models
models⏎⏎                           ⇒ models
⏎models                            ⇒ models
⏎                                  ⇒
␍⏎                                 ⇒
# a comment⏎                       ⇒
models > a.txt␍⏎                   ⇒ models [> a.txt]
!ls␍⏎                              ⇒ [! ls]
models | less␍⏎                    ⇒ models [| less]
distill ?␍⏎                        ⇒ distill [?]
distill \⏎ --alpha 1               ⇒ distill · --alpha · 1
distill \␍⏎ --alpha 1              ⇒ distill · --alpha · 1
distill --al\⏎pha 1                ⇒ distill · --alpha · 1
distill \⏎⏎                        ⇒ distill
distill \⏎ \⏎ --yes                ⇒ distill · --yes
'a\⏎b'                             ⇒ a\⏎b
# invisible characters that are text: a file can have them in its name
a⍽b                                ⇒ a⍽b
load ⍽a                            ⇒ load · ⍽a
"""

ERRORS = r"""
# an operator with nothing before it
| less              ⇒ no command is before | at column 1
> a.txt             ⇒ no command is before > at column 1
>> a.txt            ⇒ no command is before >> at column 1
&                   ⇒ no command is before & at column 1
␠␠| less            ⇒ no command is before | at column 3
|                   ⇒ no command is before | at column 1
# or nothing after it
models |            ⇒ no command of the system is after | at column 8
models | # x        ⇒ no command of the system is after | at column 8
models >            ⇒ no file is after > at column 8
models >>           ⇒ no file is after >> at column 8
models > ''         ⇒ no file is after > at column 8
models > # x        ⇒ no file is after > at column 8
models > | less     ⇒ no file is after > at column 8
models > > a        ⇒ no file is after > at column 8
models >>> a        ⇒ no file is after >> at column 8
models >& a         ⇒ no file is after > at column 8
!                   ⇒ no command of the system is after ! at column 1
!␠␠                 ⇒ no command of the system is after ! at column 1
! # x               ⇒ no command of the system is after ! at column 1
# more than goes together
models || less      ⇒ || is what | at column 8 would begin, and lines are not joined by a condition
models | | less     ⇒ || is what | at column 8 would begin, and lines are not joined by a condition
a && b              ⇒ & at column 3 is not at the end of the line
a & b               ⇒ & at column 3 is not at the end of the line
a&b                 ⇒ & at column 2 is not at the end of the line
a & &               ⇒ & at column 3 is not at the end of the line
a & > b             ⇒ & at column 3 is not at the end of the line
a & | b             ⇒ & at column 3 is not at the end of the line
a | b &             ⇒ a command in the background is not read by the program after | at column 3
a > b c             ⇒ one file is after > at column 3, and a second word follows
a > b > c           ⇒ one file is after > at column 3, and > follows
a > b &             ⇒ one file is after > at column 3, and & follows
a > b | c           ⇒ one file is after > at column 3, and | follows
a >> b >> c         ⇒ one file is after >> at column 3, and >> follows
a 2> b              ⇒ 2 is directly before > at column 4: errors do not go to a file
a 2>> b             ⇒ 2 is directly before >> at column 4: errors do not go to a file
a ? | less          ⇒ a command's help is asked for by ?, and | at column 5 follows
a ? > b             ⇒ a command's help is asked for by ?, and > at column 5 follows
a ? &               ⇒ a command's help is asked for by ?, and & at column 5 follows
? | less            ⇒ a command's help is asked for by ?, and | at column 3 follows
# two lines
models⏎quit         ⇒ a second line begins at line 2, column 1
models⏎⏎  quit      ⇒ a second line begins at line 3, column 3
models␍⏎quit        ⇒ a second line begins at line 2, column 1
# c⏎quit            ⇒ a second line begins at line 2, column 1
!ls⏎rm x            ⇒ a second line begins at line 2, column 1
a | b⏎c             ⇒ a second line begins at line 2, column 1
a >⏎b               ⇒ a second line begins at line 2, column 1
a⏎&                 ⇒ a second line begins at line 2, column 1
'a⏎b' |             ⇒ no command of the system is after | at line 2, column 4
# characters that no line holds
a␀b                 ⇒ the control character \x00 is at column 2
␛[2J                ⇒ the control character \x1b is at column 1
'a␛b'               ⇒ the control character \x1b is at column 3
models # ␛          ⇒ the control character \x1b is at column 10
!echo ␀             ⇒ the control character \x00 is at column 7
a␍b                 ⇒ the control character \r is at column 2
'a␍b'               ⇒ the control character \r is at column 3
a⏎␛                 ⇒ the control character \x1b is at line 2, column 1
"""

OPEN = r"""
'a                  ⇒ a quote ' is open at the end, in what begins at column 1
"a                  ⇒ a quote " is open at the end, in what begins at column 1
a 'b c              ⇒ a quote ' is open at the end, in what begins at column 3
a --x='b c          ⇒ a quote ' is open at the end, in what begins at column 3
a "b\"              ⇒ a quote " is open at the end, in what begins at column 3
a "b\               ⇒ a quote " is open at the end, in what begins at column 3
a 'b\               ⇒ a quote ' is open at the end, in what begins at column 3
a 'b' 'c            ⇒ a quote ' is open at the end, in what begins at column 7
it's                ⇒ a quote ' is open at the end, in what begins at column 1
a 'b # c            ⇒ a quote ' is open at the end, in what begins at column 3
a 'b | c            ⇒ a quote ' is open at the end, in what begins at column 3
a > 'b              ⇒ a quote ' is open at the end, in what begins at column 5
!echo 'a            ⇒ a quote ' is open at the end, in what begins at column 2
a | grep "b         ⇒ a quote " is open at the end, in what begins at column 5
'a⏎                 ⇒ a quote ' is open at the end, in what begins at column 1
'a⏎b "c             ⇒ a quote ' is open at the end, in what begins at column 1
\                   ⇒ the line ends in a backslash, at column 1
a \                 ⇒ the line ends in a backslash, at column 3
a\                  ⇒ the line ends in a backslash, at column 2
a \⏎                ⇒ the line ends in a backslash, at column 3
a \␍⏎               ⇒ the line ends in a backslash, at column 3
a \\\               ⇒ the line ends in a backslash, at column 5
a > \               ⇒ the line ends in a backslash, at column 5
!ls \               ⇒ the line ends in a backslash, at column 5
a | b \             ⇒ the line ends in a backslash, at column 7
"""


def shown(line: Line) -> str:
    """A line as the tables show it."""
    parts = [" · ".join(signed(word) for word in line.texts)] if line.words else []
    operators = [
        (f"| {line.pipe}", line.pipe is not None),
        (f"{'>>' if line.append else '>'} {line.file}", line.file is not None),
        (f"! {line.system}", line.system is not None),
        ("&", line.background),
        ("?", line.help),
    ]
    return " ".join(parts + [f"[{signed(text)}]" for text, is_there in operators if is_there])


@pytest.mark.parametrize(("line", "expected"), rows(LINES))
def test_a_line_gives_its_words_and_what_to_do_with_them(line: str, expected: str) -> None:
    assert shown(parse(line)) == expected


@pytest.mark.parametrize(("line", "message"), rows(ERRORS))
def test_a_mistake_is_named_with_its_place_and_a_next_step(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line)
    assert caught.value.message == message
    assert caught.value.hint
    assert not isinstance(caught.value, IncompleteLine)


@pytest.mark.parametrize(("line", "message"), rows(OPEN))
def test_a_line_with_something_open_is_incomplete(line: str, message: str) -> None:
    with pytest.raises(IncompleteLine) as caught:
        parse(line)
    assert caught.value.message == message
    assert caught.value.hint


@pytest.mark.parametrize(("line", "_message"), rows(OPEN))
def test_an_incomplete_line_can_be_completed(line: str, _message: str) -> None:
    closed = (line + end for end in ("'", '"', "x", '\n"', "\n'"))
    assert any(_is_line(text) for text in closed)


def _is_line(text: str) -> bool:
    try:
        parse(text)
    except UsageError:
        return False
    return True


def test_a_word_knows_where_it_stands_and_whether_it_was_quoted() -> None:
    words = parse("load 'my model' as t\\1").words
    assert [(word.start, word.end, word.quoted) for word in words] == [
        (0, 4, False),
        (5, 15, True),
        (16, 18, False),
        (19, 22, True),
    ]


def test_joining_two_lines_quotes_nothing() -> None:
    assert [word.quoted for word in parse("mod\\\nels").words] == [False]
