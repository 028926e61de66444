"""What the documentation says can be done: commands, options, links, snippets, figures."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

from entrenar_bench.cli import main as bench
from entrenar_core.merge.method import all_methods
from entrenar_core.train.config import load_config
from entrenar_core.train.declarative import resolve
from entrenar_distill.cli import main as distill
from entrenar_distill.config import DistillConfig
from entrenar_inspect.cli import main as inspect
from entrenar_lora.cli import main as lora
from entrenar_shell.cli import main as shell

pytestmark = pytest.mark.tier2

ROOT = Path(__file__).parents[1]
TOOLS = {"distill": distill, "lora": lora, "inspect": inspect, "bench": bench}
IGNORED = {
    "build", "demo", "dist", "__pycache__", ".git", ".pytest_cache", ".ruff_cache", ".hypothesis",
    ".import_linter_cache",
}  # fmt: skip


def walk(folder: Path) -> list[Path]:
    """The files of the project, without those that git ignores."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        is_ignored = path.name.startswith(".venv") or path.name.endswith(".egg-info")
        if is_ignored or path.name in IGNORED:
            continue
        found += walk(path) if path.is_dir() else [path]
    return found


FILES = walk(ROOT)
PAGES = {str(path.relative_to(ROOT)): path for path in FILES if path.suffix == ".md"}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language; of no language for ""."""
    text = PAGES[page].read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual viewers make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name):
    page, broken = PAGES[name], []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_exist(name):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = PAGES[name].read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *blocks(name, "")])
    named = re.findall(r"^make (?:[A-Z]+=\S+ )*([a-z][\w-]*)", code, re.MULTILINE)
    assert [target for target in named if target not in targets] == []


def test_the_makefile_describes_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    described = set(re.findall(r"^([\w-]+):.*## ", text, re.MULTILINE))
    assert set(phony[1].split()) == described


@pytest.mark.parametrize("name", PAGES)
def test_options_exist(name):
    text = PAGES[name].read_text(encoding="utf-8")
    unknown = []
    for tool, command, words in re.findall(r"^entrenar-(\w+) (\w+)(.*)$", text, re.MULTILINE):
        asked = shell if tool == "shell" else TOOLS[tool].commands[command]
        known = {option for p in asked.params for option in p.opts}
        known |= {"--help", "--version"}
        unknown += [word for word in re.findall(r"--[\w-]+", words) if word not in known]
    assert unknown == []


def test_configurations_are_valid(tmp_path):
    found = [text for page in PAGES for text in blocks(page, "yaml")]
    found.append((ROOT / "examples/02_distill.yaml").read_text())
    assert len(found) >= 2
    for text in found:
        path = tmp_path / "distill.yaml"
        path.write_text(text)
        if re.search("^model:", text, re.MULTILINE):  # of `train`
            assert resolve(path).data.train
            continue
        config, _ = load_config(DistillConfig, path)
        assert config.dataset.name


@pytest.mark.tier2
def test_the_first_snippets_of_the_readme_do_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks("README.md", "python")[:2]:
        check(code)
    assert (tmp_path / "tiny-llama/model.safetensors").exists()


@pytest.mark.parametrize(
    "name",
    [name for name in PAGES if name.startswith("packages/") or name == "docs/feature-losses.md"],
)
def test_snippets_of_the_packages_do_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks(name, "python"):
        check(code)


def check(code: str) -> None:
    """Run a snippet; the comment after a print is what it must print."""
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})
    lines = printed.getvalue().splitlines()
    assert [line for line in expected if line not in lines] == []


def test_the_command_line_help_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs/generate_cli.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = {path.name: path.read_text() for path in (ROOT / "docs/cli").glob("*.md")}
    assert written == generate.pages(), "run make docs"


def test_the_exit_codes_of_the_documentation_are_those_of_the_errors():
    from entrenar_common import errors

    rows = re.findall(r"^\| (\d+) \| (E-.*?) \|", PAGES["docs/faults.md"].read_text(), re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in names.split(", ")}
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert documented == {k.code: k.exit_code for k in kinds if k is not errors.EntrenarError}


def test_the_methods_of_merging_are_documented_with_their_parameters():
    text = PAGES["docs/merging.md"].read_text()
    rows = dict(re.findall(r"^\| `(\w+)`.*\| (.*) \|$", text, re.MULTILINE))
    for method in all_methods().values():
        as_other = re.match(r"as `(\w+)`", rows[method.name])
        said = rows[method.name] + (rows[as_other[1]] if as_other else "")
        assert [name for name in method.parameters if f"`{name}`" not in said] == [], method.name


def test_versions_are_pinned_without_addresses():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert lines == sorted(lines, key=str.lower)
    pinned = {line.partition("==")[0].lower() for line in lines}
    wanted = (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert {w for w in wanted if not w.startswith("#")} <= pinned


PRIVATE = {
    "a path of the machine it was written on": r"/(?:wor[k]|roo[t])/|/tm[p]/\w",
    "an address of a package registry": r"pyp[i]\.org|pythonhoste[d]|download\.pytorc[h]",
    "a reference that only its author knows": r"\bF\d{3}\b|\bissue #?\d+|\bsp[i]ne\b",
    "unfinished work": r"\bTO[D]O\b|\bFIX[M]E\b|\bXX[X]\b",
}


@pytest.mark.parametrize("what", PRIVATE)
def test_no_file_has(what):
    found = []
    for path in FILES:
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(PRIVATE[what], line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []
