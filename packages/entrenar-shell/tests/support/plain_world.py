"""A world of plain values for completion and hints, and a few commands in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import click

from entrenar_common.cli import NAMES, SIZE, common_options
from entrenar_common.cli import Command as CliCommand
from entrenar_shell.command import Command, Group, Kind
from entrenar_shell.world import FileName


@dataclass(frozen=True)
class PlainWorld:
    """What there is, by name: files by the folder as it is typed."""

    commands: Mapping[tuple[str, ...], Command] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[int, str] = field(default_factory=dict)
    jobs: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    setting_choices: Mapping[str, Kind | tuple[str, ...]] = field(default_factory=dict)
    tensor_names: Mapping[str | None, Sequence[str]] = field(default_factory=dict)
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def choices(self, setting: str) -> Kind | tuple[str, ...]:
        """What a setting can be."""
        return self.setting_choices.get(setting, ())

    def tensors(self, model: str | None) -> Sequence[str]:
        """The names of a model's tensors."""
        return self.tensor_names.get(model, ())

    def files(self, folder: str) -> Sequence[FileName]:
        """What is in a folder: names that end in a slash are folders."""
        return [FileName(n.rstrip("/"), n.endswith("/")) for n in self.folders.get(folder, ())]


def _command(
    path: str,
    group: Group,
    summary: str,
    *parameters: click.Parameter,
    values: Mapping[str, Kind] | None = None,
    aliases: tuple[str, ...] = (),
) -> Command:
    @common_options
    def nothing(**_values: object) -> None:
        """Never called."""

    made = click.command(path, cls=CliCommand)(nothing)
    made.params = [*parameters, *made.params]
    grammar: Callable[[], click.Command] = lambda: made  # noqa: E731
    kinds = tuple((values or {}).items())
    return Command(tuple(path.split()), group, summary, grammar, values=kinds, aliases=aliases)


def _option(*names: str, **attributes: object) -> click.Option:
    return click.Option(names, **attributes)  # pyright: ignore[reportArgumentType]


def _argument(name: str, **attributes: object) -> click.Argument:
    return click.Argument([name], **attributes)  # pyright: ignore[reportArgumentType]


def _distill() -> Command:
    return _command(
        "distill",
        "train",
        "Train the student on the teacher.",
        _option("--temperature", type=click.FloatRange(0, min_open=True), help="Softens both."),
        _option("--alpha", type=click.FloatRange(0, 1), default=0.5, help="Share of the teacher."),
        _option("--epochs", type=click.IntRange(1), help="Passes over the data. Whole ones."),
        _option("--output", "-o", help="Folder of the student."),
        _option("--config", type=click.Path(), help="A YAML file."),
        _option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="A setting."),
        _option("--cache/--no-cache", help="Keep what the teacher says."),
        _option("--betas", nargs=2, type=float, help="Two numbers."),
        _option("--dry-run", "-n", is_flag=True, help="Show the plan."),
        _option("--secret", is_flag=True, hidden=True),
        values={"output": "folder", "overrides": "setting"},
    )


def _all() -> list[Command]:
    model, tensors = _argument("model", required=False), _argument("tensors", nargs=-1)
    return [
        _distill(),
        _command(
            "load",
            "models",
            "Give a model a name.",
            _argument("path"),
            _argument("as_", type=click.Choice(["as"]), metavar="as"),
            _argument("name"),
            values={"path": "model"},
        ),
        _command("models", "models", "List the loaded models."),
        _command(
            "unload", "models", "Forget a model.", _argument("name"), values={"name": "model"}
        ),
        _command("inspect layers", "models", "Show layers.", model, values={"model": "model"}),
        _command(
            "inspect stats",
            "models",
            "Show figures of tensors.",
            _argument("model"),
            tensors,
            _option("--limit", type=SIZE),
            _option("--by", type=NAMES),
            values={"model": "model", "tensors": "tensor"},
        ),
        _command(
            "tensors",
            "models",
            "List tensors.",
            tensors,
            values={"tensors": "tensor"},
        ),
        _command(
            "compare",
            "models",
            "Compare two.",
            _argument("a"),
            _argument("b"),
            values={"a": "model", "b": "model"},
        ),
        _command(
            "generate",
            "models",
            "Go on with a text.",
            _argument("prompt"),
            _option("--max-new-tokens", "-n", type=click.IntRange(1, 4096), default=64),
            _option("--stop", multiple=True),
            _option("--echo", type=bool),
            _option("--model", "-m", help="The model that writes."),
            values={"model": "model"},
        ),
        _command(
            "export gguf",
            "export",
            "Write a GGUF file.",
            _argument("path", type=click.Path(dir_okay=False)),
            _option("--type", "kind", type=click.Choice(["q4_0", "q8_0", "f16"]), help="Blocks."),
            _option("--into", type=click.Path(file_okay=False), required=True),
        ),
        _command(
            "export apr", "export", "Write an APR file.", _argument("path", type=click.Path())
        ),
        _command(
            "merge",
            "adapters",
            "Put an adapter into its model.",
            _argument("adapter"),
            values={"adapter": "adapter"},
        ),
        _command(
            "set",
            "train",
            "Change a setting.",
            _argument("name"),
            _argument("value"),
            values={"name": "setting", "value": "model"},  # the setting knows better
        ),
        _command("cancel", "train", "Stop a job.", _argument("job"), values={"job": "job"}),
        _command(
            "again", "system", "Run a line again.", _argument("entry"), values={"entry": "entry"}
        ),
        _command("source", "system", "Run a file.", _argument("file", type=click.File())),
        _command(
            "help",
            "system",
            "Show help.",
            _argument("command", nargs=-1),
            values={"command": "command"},
        ),
        _command("session", "system", "Show the session."),
        _command("session save", "system", "Keep the session.", _argument("name", required=False)),
        _command("quit", "system", "Leave.", aliases=("exit", "q")),
    ]


COMMANDS = {command.path: command for command in _all()}

WORLD = PlainWorld(
    commands=COMMANDS,
    models={"teacher": "/models/teacher", "tiny": "org/tiny"},
    outputs={"_3": "/made/out/student", "_12": "/made/model.gguf"},
    entries={3: "distill --yes", 12: "export gguf model.gguf"},
    jobs={1: "distill &", 2: "sweep study.yaml &"},
    settings={
        "student": "the model that learns",
        "teacher": "the model that teaches",
        "color": "whether to",
        "distillation.alpha": "",
        "distillation.temperature": "",
    },
    setting_choices={"student": "model", "color": ("auto", "no", "yes"), "teacher": "model"},
    tensor_names={
        None: ("lm_head.weight", "model.norm.weight"),
        "tiny": (
            "lm_head.weight",
            "model.layers.0.mlp.up.weight",
            "model.layers.10.mlp.up.weight",
            "model.layers.2.mlp.up.weight",
        ),
    },
    folders={
        "": (
            "adapter.safetensors",
            "my model/",
            "model.gguf",
            "notes #1.txt",
            "models/",
            ".hidden",
            "run.ent",
            "It's.txt",
            "bad\x1bname",
            "ünï.apr",
            "a\\b.txt",
            "x.index",
            "&.txt",
        ),
        "models/": ("t.safetensors", "big one.gguf", "readme.md", "10.gguf", "2.gguf", "sub/"),
        "my model/": ("model.safetensors", "deeper one/"),
        "~/": ("home.gguf",),
        "../": ("up.gguf",),
        "/": ("tmp/",),
    },
)
