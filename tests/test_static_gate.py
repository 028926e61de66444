"""Rules that hold in every source file of the packages, checked on the syntax tree."""

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.tier2

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
PACKAGES = [path.parent / "src" for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
MAX_LINES = 400

Rule = Callable[[ast.AST], bool]
RULES: dict[str, tuple[Rule, tuple[str, ...]]] = {}
"""What must not be written, by name, with the files (ends of their paths) that may."""


def rule(name: str, *allowed: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES[name] = (function, allowed)
        return function

    return register


def called(node: ast.AST) -> str:
    """What a call calls, as it is written: `os.rename`; empty for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    names, target = [], node.func
    while isinstance(target, ast.Attribute):
        names.append(target.attr)
        target = target.value
    names.append(target.id if isinstance(target, ast.Name) else "")
    return ".".join(reversed(names))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def text(node: ast.AST | None) -> str | None:
    """The value of a literal string."""
    found = node.value if isinstance(node, ast.Constant) else None
    return found if isinstance(found, str) else None


@rule("prints")
def _prints(node: ast.AST) -> bool:
    names = {k.arg for k in node.keywords} if isinstance(node, ast.Call) else set()
    return called(node) in {"print", "pprint.pprint", "pprint"} and "file" not in names


@rule("ends the process", "entrenar_common/cli.py")
def _exits(node: ast.AST) -> bool:
    return called(node) in {"exit", "quit", "sys.exit", "os._exit", "os.abort"}


@rule(
    "catches every exception",
    "entrenar_common/outcome.py",
    "entrenar_core/train/exporters/background.py",  # whatever a service's client library raises
    "entrenar_bench/study/worker.py",  # what a runner raises is how its run ended
)
def _catches_all(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    everything = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
    return everything and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)


@rule("opens a file for writing", "entrenar_core/io/files.py", "entrenar_core/io/os_calls.py")
def _opens_for_writing(node: ast.AST) -> bool:
    name = called(node)
    if name == "os.open":
        return ast.unparse(node.args[0]) != "os.devnull" and any(
            flag in ast.unparse(node) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND")
        )
    if name != "open" and not name.endswith((".open", "fdopen")):
        return False
    modes = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
    found = [text(mode) for mode in modes]
    return any(
        m and len(m) <= 4 and set(m) <= set("rwaxbt+U") and set(m) & set("wax+") for m in found
    )


@rule("changes files", "entrenar_core/io/files.py", "entrenar_core/io/os_calls.py")
def _changes_files(node: ast.AST) -> bool:
    name = called(node)
    method = name.rpartition(".")[2]
    if method in {"write_text", "write_bytes", "write_json"}:
        return not name.startswith("files.")
    functions = {"rename", "renames", "replace", "remove", "unlink", "rmdir", "mkdir", "makedirs"}
    if name.startswith("os.") and method in functions | {"truncate", "symlink", "link", "chmod"}:
        return True
    return name.startswith("shutil.") and method not in {"disk_usage", "get_terminal_size", "which"}


@rule("changes files through a path", "entrenar_core/io/files.py")
def _changes_through_path(node: ast.AST) -> bool:
    method = called(node).rpartition(".")[2]
    return method in {"touch", "mkdir", "unlink", "rmdir", "symlink_to", "hardlink_to"} and not (
        called(node).startswith(("os.", "os_calls."))
    )


@rule("evaluates code or objects from data")
def _evaluates(node: ast.AST) -> bool:
    unsafe = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load"}
    modules = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib"}
    return called(node) in unsafe or any(name.split(".")[0] in modules for name in imported(node))


@rule(
    "imports a module by a name that is not written there",
    "entrenar_core/kernels/registry.py",
    "entrenar_core/kernels/cpu/compiler.py",  # told by its parent, through a pipe
    "entrenar_core/models/architectures.py",
)
def _imports_by_name(node: ast.AST) -> bool:
    imports = {"importlib.import_module", "import_module", "importlib.util.find_spec"}
    return called(node) in imports and text(node.args[0]) is None


@rule("imports torch or a library of its world")
def _imports_torch(node: ast.AST) -> bool:
    heavy = {"torch", "transformers", "peft", "accelerate"}  # scipy: see the import contracts
    return any(name.split(".")[0] in heavy for name in imported(node))


def configured(*keys: str) -> list[str]:
    """What the root's pyproject.toml has for a tool there."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    for key in keys:
        found = found[key]
    return found


def offences(name: str, tree: ast.AST) -> Iterator[int]:
    function, _ = RULES[name]
    return (node.lineno for node in ast.walk(tree) if function(node))


@pytest.fixture(scope="module")
def nodes() -> dict[Path, list[ast.AST]]:
    """The nodes that a rule may be about."""
    kinds = (ast.Call, ast.Import, ast.ImportFrom, ast.ExceptHandler)
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    return {p: [n for n in ast.walk(tree) if isinstance(n, kinds)] for p, tree in trees.items()}


@pytest.mark.parametrize("name", RULES)
def test_no_source_file(name, nodes):
    broken, allowed = RULES[name]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, inside in nodes.items()
        if not path.as_posix().endswith(allowed)
        for node in inside
        if broken(node)
    ]
    assert not found, f"{name}: {found}"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("prints", "print(1)"),
        ("ends the process", "sys.exit(1)"),
        ("catches every exception", "try: pass\nexcept Exception: pass"),
        ("opens a file for writing", "open(path, 'w')"),
        ("opens a file for writing", "Path(name).open(mode='ab')"),
        ("opens a file for writing", "os.open(path, os.O_WRONLY | os.O_CREAT)"),
        ("changes files", "path.write_text('x')"),
        ("changes files", "shutil.move(a, b)"),
        ("changes files", "os.rename(a, b)"),
        ("changes files through a path", "path.unlink()"),
        ("evaluates code or objects from data", "eval(text)"),
        ("evaluates code or objects from data", "import pickle"),
        ("evaluates code or objects from data", "yaml.load(text)"),
        ("imports a module by a name that is not written there", "importlib.import_module(name)"),
        ("imports torch or a library of its world", "from torch.nn import Linear"),
    ],
)
def test_the_rule_finds_what_it_is_about(name, code):
    assert list(offences(name, ast.parse(code)))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("opens a file for writing", "path.open('rb')"),
        ("opens a file for writing", "store.open(path)"),
        ("changes files", "text.replace('a', 'b')"),
        ("changes files", "files.write_text(path, 'x')"),
        ("catches every exception", "try: pass\nexcept BaseException:\n    close()\n    raise"),
        ("imports a module by a name that is not written there", "import_module('cupy')"),
    ],
)
def test_the_rule_lets_other_code_pass(name, code):
    assert not list(offences(name, ast.parse(code)))


def test_a_source_file_is_short():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not [f"{p.relative_to(ROOT)}: {n}" for p, n in lines.items() if n > MAX_LINES]


@pytest.mark.parametrize(
    "keys",
    [
        ("ruff", "src"),
        ("pyright", "include"),
        ("pyright", "extraPaths"),
        ("pytest", "ini_options", "testpaths"),
        ("pytest", "ini_options", "pythonpath"),
        ("coverage", "run", "source"),
    ],
    ids=".".join,
)
def test_a_tool_is_given_folders_that_have_python_files(keys):
    # a tool that is given what is not there finds nothing wrong with it
    entries, expand = configured(*keys), keys[0] == "ruff"  # the only one that knows patterns
    folders = {entry: [*ROOT.glob(entry)] if expand else [ROOT / entry] for entry in entries}
    empty = [e for e, found in folders.items() if not any(any(f.rglob("*.py")) for f in found)]
    assert entries
    assert not empty


@pytest.mark.parametrize(
    "keys",
    [("pyright", "include"), ("pyright", "extraPaths"), ("coverage", "run", "source")],
    ids=".".join,
)
def test_a_tool_is_given_every_package(keys):
    assert set(PACKAGES) == {ROOT / entry for entry in configured(*keys)}


def test_the_contracts_are_about_every_package():
    inside = {child.name for source in PACKAGES for child in source.iterdir() if child.is_dir()}
    assert inside == set(configured("importlinter", "root_packages"))
