"""What a line of the shell stands for: command lines of the tools, with the session put in."""

import shlex

import click
import pytest

from entrenar_common.errors import UsageError
from entrenar_shell.arguments import Quoted
from entrenar_shell.registry import commands, find
from entrenar_shell.session import Entry, FileState, LoadedModel, Session
from entrenar_shell.tools import TOOLS, tool
from entrenar_shell.words import parse

T, S, H = "/m/teacher", "/m/student.gguf", "org/hub"
OUT, TUNED = "--output distilled-model", "--output trained-model"
TRAINED = ("entrenar-distill", "run", "--teacher", T)


def session(*loaded: str, settings=(), entries=()) -> Session:
    """A session with these of the models t, s and h loaded, in this order."""
    sources = {"t": T, "s": S, "h": H}
    models = {name: LoadedModel(name, sources[name]) for name in loaded}
    return Session("x", models, dict(settings), list(entries))


def entry(number: int, *outputs: str, plain=(), code: int = 0) -> Entry:
    states = tuple(FileState(path, 1, 1) for path in outputs)
    return Entry(number, "line", plain, "/", 0.0, 1.0, code, outputs=states)


def lowered(line: str, knowing: Session) -> list[str]:
    words = [Quoted(w.text) if w.quoted else w.text for w in parse(line).words]
    command, rest = find(words)
    assert command.lower is not None
    return [shlex.join(plain) for plain in command.lower(rest, knowing)]


ONE = session("t")
SET = session("t", "s", settings={"student": S, "config": "/c.yaml", "output": "/out"})
KEYS = session("t", settings={"student": S, "training.seed": "3", "lora.rank": "8"})
MADE = session("t", entries=[entry(1, "/o/m", plain=(TRAINED,)), entry(2, "/o/x.gguf")])

CASES = [
    # models
    ("fetch org/name", ONE, "entrenar-inspect fetch org/name"),
    ("fetch org/name --revision v1", ONE, "entrenar-inspect fetch org/name --revision v1"),
    ("inspect layers", ONE, f"entrenar-inspect layers {T}"),
    ("inspect layers t", ONE, f"entrenar-inspect layers {T}"),
    ("inspect layers ./t", ONE, "entrenar-inspect layers ./t"),
    ("inspect layers 't'", ONE, "entrenar-inspect layers t"),
    ("inspect layers h", session("h"), f"entrenar-inspect layers hf://{H}"),
    ("inspect layers", session("t", "h"), f"entrenar-inspect layers hf://{H}"),
    ("inspect layers", session("h", settings={"model": T}), f"entrenar-inspect layers {T}"),
    (
        "inspect layers --filter 'a b.*' --stats", ONE,
        f"entrenar-inspect layers {T} --filter 'a b.*' --stats",
    ),
    ("inspect layers --sort=params", ONE, f"entrenar-inspect layers {T} --sort params"),
    ("inspect layers -qv", ONE, f"entrenar-inspect layers {T} -q -v"),
    ("inspect info --json", ONE, f"entrenar-inspect info {T} --json"),
    ("inspect tensors", ONE, f"entrenar-inspect layers {T} --verbose"),
    ("inspect stats t", ONE, f"entrenar-inspect layers {T} --stats"),
    ("inspect validate --strict", ONE, f"entrenar-inspect validate {T} --strict"),
    ("inspect info _2", MADE, "entrenar-inspect info /o/x.gguf"),
    ("inspect info ./_2", MADE, "entrenar-inspect info ./_2"),
    ("compare t s", session("t", "s"), f"entrenar-inspect compare {T} {S}"),
    ("compare t", session("t", "s"), f"entrenar-inspect compare {S} {T}"),
    ("compare a b --values", session(), "entrenar-inspect compare a b --values"),
    ("compare _1 t", MADE, f"entrenar-inspect compare /o/m {T}"),
    ("generate 'Once upon'", ONE, f"entrenar-distill generate 'Once upon' --model {T}"),
    ("generate hi", MADE, "entrenar-distill generate hi --model /o/m"),
    ("generate hi --model h", session("h"), f"entrenar-distill generate hi --model {H}"),
    ("generate -- -x", ONE, f"entrenar-distill generate --model {T} -- -x"),
    # memory
    (
        "memory --batch 32 --seq 512", ONE,
        f"entrenar-inspect memory {T} --batch 32 --seq 512",
    ),
    ("memory 7B --vram 24GB", ONE, "entrenar-inspect memory 7B --vram 24GB"),
    ("optimize --vram 16GB", ONE, f"entrenar-lora plan --model {T} --vram 16GB"),
    ("estimate", KEYS, f"entrenar-distill estimate --teacher {T} --student {S} "
                       "--set training.seed=3"),
    ("estimate --batch 4", SET, f"entrenar-distill estimate --config /c.yaml --student {S} "
                                "--batch 4"),
    ("profile", SET, "entrenar-bench profile --config /c.yaml"),
    ("profile --config x.yaml --steps 3", ONE, "entrenar-bench profile --config x.yaml --steps 3"),
    # training
    (
        "distill --temperature 4.0 --alpha 0.7 --epochs 3 --dry-run", KEYS,
        f"entrenar-distill run --teacher {T} --student {S} {OUT} --set training.seed=3 "
        "--set distillation.temperature=4.0 --set distillation.alpha=0.7 --set training.epochs=3 "
        "--dry-run",
    ),
    ("distill --yes", SET, f"entrenar-distill run --config /c.yaml --student {S} --output /out"),
    (
        "distill --teacher t --output o", SET,
        f"entrenar-distill run --config /c.yaml --student {S} --teacher {T} --output o",
    ),
    ("distill --config d.yaml", ONE, "entrenar-distill run --config d.yaml"),
    (
        "distill", session("t", "s", settings={"student": S}),
        f"entrenar-distill run --teacher {T} --student {S} {OUT}",
    ),
    (
        "distill --set training.seed=4", KEYS,
        f"entrenar-distill run --teacher {T} --student {S} {OUT} --set training.seed=4",
    ),
    (
        "distill --epochs 2", session("t", settings={"training.epochs": "9"}),
        f"entrenar-distill run --teacher {T} {OUT} --set training.epochs=2",
    ),
    (
        "distill --data 'x y.txt'", ONE,
        f"entrenar-distill run --teacher {T} {OUT} --set 'dataset.name=x y.txt'",
    ),
    (
        "finetune --data x.csv --rank 4 --learning-rate 1e-4", ONE,
        f"entrenar-distill train {TUNED} --set model.path={T} --set data.train=x.csv "
        "--set lora.rank=4 --set optimizer.lr=1e-4",
    ),
    ("finetune", KEYS, f"entrenar-distill train {TUNED} --set training.seed=3 --set lora.rank=8 "
                       f"--set model.path={T}"),
    ("finetune --dry-run", SET, "entrenar-distill train --config /c.yaml --output /out --validate"),
    ("finetune --model s", session("s", "t"),
     f"entrenar-distill train {TUNED} --set model.path={S}"),
    (
        "finetune", session(settings={"model": "/a: b"}),
        f"""entrenar-distill train {TUNED} --set 'model.path="/a: b"'""",
    ),
    ("evaluate --data x", ONE, f"entrenar-distill evaluate --model {T} --data x"),
    (
        "evaluate t s --data x --teacher t", session("t", "s"),
        f"entrenar-distill evaluate --data x --teacher {T} --model {T} --model {S}",
    ),
    ("evaluate --data x", MADE, "entrenar-distill evaluate --model /o/m --data x"),
    (
        "sweep distillation.alpha=0.3,0.5 training.seed=1,2 --seeds 3 --yes", KEYS,
        f"entrenar-bench sweep --teacher {T} --student {S} --set training.seed=3 --seeds 3 "
        "--param distillation.alpha=0.3,0.5 --param training.seed=1,2",
    ),
    # adapters
    ("lora plan --ram 8GB", ONE, f"entrenar-lora plan --model {T} --ram 8GB"),
    ("lora compare", ONE, f"entrenar-lora compare --model {T}"),
    ("lora inspect ./a _2", MADE, "entrenar-lora inspect ./a /o/x.gguf"),
    ("lora resize ./a --rank 2 --output b", ONE, "entrenar-lora resize ./a --rank 2 --output b"),
    (
        "lora convert ./a --to gguf --base t --output b", ONE,
        f"entrenar-lora convert ./a --to gguf --base {T} --output b",
    ),
    (
        "lora extract --base t --tuned s --rank 4 --output a", session("t", "s"),
        f"entrenar-lora extract --base {T} --tuned {S} --rank 4 --output a",
    ),
    (
        "merge --base t --adapter a --adapter b --output m", ONE,
        f"entrenar-lora merge --base {T} --adapter a --adapter b --output m",
    ),
    ("lora merge --model t --model s", session("t", "s"),
     f"entrenar-lora merge --model {T} --model {S}"),
    # export
    ("save out", ONE, f"entrenar-distill export --format safetensors --input {T} --output out"),
    (
        "export safetensors ./my-model", MADE,
        "entrenar-distill export --format safetensors --input /o/m --output ./my-model",
    ),
    (
        "export gguf a.gguf --quantize q4_k_m --model t", MADE,
        f"entrenar-distill export --format gguf --quantize q4_k_m --input {T} --output a.gguf",
    ),
    ("export apr a.apr", ONE, f"entrenar-distill export --format apr --input {T} --output a.apr"),
    (
        "quantize q8_0 a.gguf", ONE,
        f"entrenar-distill export --format gguf --input {T} --quantize q8_0 --output a.gguf",
    ),
    ("convert --output m.pth", ONE, f"entrenar-inspect convert {T} --output m.pth"),
    # the tools themselves
    ("entrenar-lora plan --model t", ONE, f"entrenar-lora plan --model {T}"),
    ("entrenar-inspect info h", session("h"), f"entrenar-inspect info hf://{H}"),
    ("entrenar-bench hardware", ONE, "entrenar-bench hardware"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "knowing", "plain"), CASES, ids=[case[0] for case in CASES])
def test_a_line_stands_for(line, knowing, plain):
    found = lowered(line, knowing)
    assert [sorted(shlex.split(each)) for each in found] == [sorted(shlex.split(plain))]
    assert parsed(shlex.split(found[0])) == parsed(shlex.split(plain))


def parsed(words: list[str]) -> dict[str, object]:
    """What the tool's own command line makes of it."""
    command = tool(words[0]).commands[words[1]]
    return command.make_context(words[1], words[2:]).params | {"command": words[1]}


ERRORS = [
    ("inspect layers", session(), "inspect layers: MODEL is missing", "load one"),
    ("memory", session(), "memory: MODEL is missing", "load PATH as NAME"),
    ("save x", session(), "save: --model is missing", "--model"),
    ("save", ONE, "save: OUTPUT is missing", "save ?"),
    ("compare", ONE, "compare: B is missing", "compare ?"),
    ("generate", ONE, "generate: PROMPT is missing", "generate ?"),
    ("profile", ONE, "profile: --config is missing", "set config FILE"),
    ("sweep", ONE, "sweep: PARAMETERS is missing", "sweep ?"),
    ("inspect info _7", MADE, "_7 is no output: entry 7 wrote nothing", "history"),
    ("inspect layers --stat", ONE, "no such option: --stat", "--stats"),
    ("inspect layers --sort", ONE, "--sort needs a value", "--sort"),
    ("inspect layers --stats=1", ONE, "--stats takes no value", "--stats alone"),
    ("inspect layers a b", ONE, "one word too many: b", "quote"),
    ("inspekt layers", ONE, "no such command: inspekt", "did you mean inspect?"),
    ("inspect layer", ONE, "inspect has no 'layer'", "did you mean inspect layers?"),
    ("inspect", ONE, "inspect: what of it?", "layers, info"),
    ("frobnicate", ONE, "no such command: frobnicate", "help"),
    ("entrenar-lora pln", ONE, "entrenar-lora: no such command 'pln'", "entrenar-lora plan"),
    ("entrenar-lora", ONE, "entrenar-lora: no such command", "one of plan"),
    ("'\x1b[2J'".replace("\x1b", "\u202e"), ONE, r"no such command: \u202e[2J", "help"),
]


@pytest.mark.parametrize(
    ("line", "knowing", "message", "hint"), ERRORS, ids=[ascii(case[0]) for case in ERRORS]
)
def test_what_is_wrong_is_said_with_the_next_step(line, knowing, message, hint):
    with pytest.raises(UsageError) as caught:
        lowered(line, knowing)
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")


PLAIN = {" ".join(path): command for path, command in commands().items() if command.lower}


def sample(param: click.Parameter) -> str:
    """A value that the type of a parameter takes."""
    kind = param.type
    if isinstance(kind, click.Choice):
        return kind.choices[0]
    named = {"overrides": "training.seed=1", "settings": "lambda=1"}
    for value in (named.get(str(param.name)), "3", "0.5", "60", "3GB", "x"):
        try:
            if value is not None:
                kind.convert(value, param, None)
                return value
        except click.BadParameter:
            continue
    raise AssertionError(param)


def every_option(command: click.Command) -> list[str]:
    """A line with every option and argument of a command."""
    words = []
    for param in command.params:
        if isinstance(param, click.Argument):
            words = [sample(param), *words]
        else:
            words += [param.opts[0]] if param.is_flag else [param.opts[0], sample(param)]
    return words


@pytest.mark.parametrize("name", PLAIN)
def test_all_that_a_command_takes_is_known_to_its_tool(name):
    command = PLAIN[name]
    assert command.lower is not None
    [plain] = command.lower(every_option(command.grammar()), session("t"))
    assert parsed(list(plain))


@pytest.mark.parametrize("program", TOOLS)
def test_every_command_of_a_tool_can_be_typed(program):
    for name, own in tool(program).commands.items():
        command, rest = find([program, name, *every_option(own)])
        assert command.lower is not None
        [plain] = command.lower(rest, session())
        assert parsed(list(plain)) == parsed([program, name, *rest])


def test_what_completes_a_parameter_is_said_of_parameters_that_there_are():
    wrong = {
        (path, name)
        for path, command in commands().items()
        if command.lower is None
        for name, _ in command.values
        if name not in {param.name for param in command.grammar().params}
    }
    assert wrong == set()
