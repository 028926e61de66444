"""What two runs of a command may differ in, and what is a finding."""

import json
from pathlib import Path

import pytest

from entrenar_shell.sameness import Paths, difference

PATHS = Paths({"/new/out": ["/made/out", "out"], "/new/out-2": ["/made/out-2", "./out-2"]})


@pytest.fixture
def compare(tmp_path):
    """Compares what two files of one name have."""

    def compared(name: str, first: str | bytes, second: str | bytes) -> str | None:
        found = []
        for folder, content in (("one", first), ("two", second)):
            (tmp_path / folder).mkdir()
            path: Path = tmp_path / folder / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            found.append(path)
        return difference(*found, PATHS)

    return compared


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a.gguf", "a.apr", "a.pth", "tokenizer.json", "vocab.txt", "x"]
)
def test_weights_and_tokenizers_have_the_same_bytes(compare, name):
    assert compare(name, b'{"a": "out"}', b'{"a": "/new/out"}') == "other bytes"


def test_equal_bytes_are_the_same_whatever_they_are(compare):
    assert compare("report.json", b"no json", b"no json") is None


FIELDS = ["seconds", "tokens_per_second", "rows_per_second", "memory_bytes", "config_hash"]


@pytest.mark.parametrize("field", FIELDS)
def test_timings_are_apart_wherever_they_are(compare, field):
    one, two = ({"phases": [{field: value, "steps": 4}]} for value in (1.5, 2.5))
    assert compare("report.json", json.dumps(one), json.dumps(two)) is None


@pytest.mark.parametrize(
    ("one", "two", "where"),
    [
        ({"loss": 1.0}, {"loss": 1.0000000000000002}, "loss"),
        ({"loss": 1}, {"loss": True}, "loss"),
        ({"loss": 1}, {"loss": 1.0}, "loss"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, "a"),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, "a"),
        ({"a": [{"seconds": 1, "b": "x"}]}, {"a": [{"seconds": 2, "b": "y"}]}, "a[0].b"),
        ({"seconds": 1}, {"minutes": 1}, "all of it"),
    ],
)
def test_any_other_field_is_a_finding_that_says_where(compare, one, two, where):
    found = compare("report.json", json.dumps(one), json.dumps(two))
    assert found is not None
    assert found.startswith(f"{where}: ")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("out/report.md", "/new/out/report.md", True),
        ("/made/out/report.md", "/new/out/report.md", True),
        ("run --output out-again", "run --output /new/out-again", True),
        ("without", "with/new/out", True),  # nothing else could have been meant
        ("out", "/new/elsewhere", False),
        ("/new/out", "out", False),
        ("./out-2/a and out", "/new/out-2/a and /new/out", True),
        ("out/a", "/new/out/b", False),
        ("run \\\n    --a out \\\n    --b", "run --a /new/out \\\n  --b", True),
        ("/bin/entrenar-lora merge out/a", "entrenar-lora merge '/new/out/a'", True),
        ("/bin/entrenar-lora merge out", "/bin/entrenar-bench merge out", False),
        ("/bin/entrenar-lora", "/usr/bin/entrenar-lora", False),  # no command: a path
    ],
)
def test_a_path_that_was_written_may_be_the_other_ones(compare, one, two, same):
    found = compare("report.json", json.dumps({"a": one}), json.dumps({"a": two}))
    assert (found is None) == same


def test_each_line_of_a_log_is_compared(compare):
    one = '{"step": 1, "loss": 2.0, "seconds": 1}\n{"step": 2, "loss": 1.0, "seconds": 1}\n'
    assert compare("metrics.jsonl", one, one.replace('"seconds": 1', '"seconds": 3')) is None


def test_a_log_that_goes_on_is_a_finding(compare):
    found = compare("metrics.jsonl", '{"step": 1}\n', '{"step": 1}\n{"step": 2}\n')
    assert found == 'line 2, all of it: null and {"step": 2}'


def test_a_manifest_is_compared_without_what_follows_from_a_time(compare):
    def manifest(weights: str, state: str) -> str:
        names = (("model.safetensors", weights), ("state.json", state))
        files = [{"name": name, "size": 3, "sha256": sha} for name, sha in names]
        return json.dumps({"step": 2, "files": files, "checksum": weights + state})

    assert compare("manifest.json", manifest("a", "b"), manifest("a", "c")) is None


def test_the_weights_in_a_manifest_are_compared(compare):
    files = [[{"name": "model.safetensors", "size": 3, "sha256": sha}] for sha in "ab"]
    one, two = (json.dumps({"files": each}) for each in files)
    assert compare("manifest.json", one, two) == 'files[0].sha256: "a" and "b"'


TABLE = """# Report

| Phase | Steps | Time | Tokens | Tokens/s |
| --- | ---: | ---: | ---: | ---: |
| student | 4 | 1.8s | 256 | 144 |

- configuration: `5cc826a878c6d652`
- report: `out/report.md`
- steps: `4 in 1.2s, 3.1K tokens/s`
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("1.8s | 256 | 144", "81.6ms | 256 | 3.14K", True),
        ("256", "257", False),
        ("5cc826a878c6d652", "9ff6e9d589970bdc", True),
        ("`5cc826a878c6d652`", "`none`", False),
        ("out/report.md", "/new/out/report.md", True),
        ("4 in 1.2s, 3.1K tokens/s", "4 in 2m 05s, 12 tokens/s", True),
        ("4 in 1.2s", "5 in 1.2s", False),
        ("student", "control", False),
        ("# Report", "# Report ", False),
    ],
)
def test_markdown_is_the_same_apart_from_times(compare, old, new, same):
    assert (compare("report.md", TABLE, TABLE.replace(old, new)) is None) == same


PAGE = """<h1>Distillation</h1>
<figure class="chart"><figcaption>Loss</figcaption><svg><path d="M0 18L333 133"/></svg></figure>
<figure class="chart"><figcaption>Tokens per second, student</figcaption><svg>1</svg></figure>
<table><thead><tr><th scope="col">Phase</th><th class="number">Time</th></tr></thead>
<tbody><tr><td>student</td><td class="number">1.8s</td></tr></tbody></table>
<table><tr><th>Phase</th><th></th><th>First</th></tr>
<tr><td>student</td><td>Peak memory</td><td>253939712</td></tr>
<tr><td>student</td><td>Loss</td><td>2.9</td></tr></table>
<dl><dt>output.dir</dt><dd>out</dd></dl>
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("<svg>1</svg>", "<svg>2</svg>", True),
        ("1.8s", "2m 05s", True),
        ("253939712", "7", True),
        ("<dd>out</dd>", "<dd>/new/out</dd>", True),
        ("<dd>out</dd>", "<dd>outer</dd>", False),
        ("M0 18L333 133", "M0 18L333 134", False),
        ("2.9", "3.0", False),
        ("<td>student</td><td>Loss", "<td>control</td><td>Loss", False),
        ("Distillation", "Training", False),
    ],
)
def test_a_page_is_the_same_apart_from_times(compare, old, new, same):
    assert (compare("report.html", PAGE, PAGE.replace(old, new)) is None) == same


@pytest.mark.parametrize(
    ("old", "new", "same"), [("0.25", "0.5", True), ("2.9", "2.8", False), ("1,", "2,", False)]
)
def test_a_csv_log_is_the_same_apart_from_times(compare, old, new, same):
    log = "step,loss,seconds\n1,2.9,0.25\n"
    assert (compare("metrics.csv", log, log.replace(old, new)) is None) == same


@pytest.mark.parametrize("name", ["spans.jsonl", "events.out.tfevents.0000000001.host.1.0"])
def test_what_only_says_when_is_not_compared(compare, name):
    assert compare(name, b"1", b"2") is None


def test_what_cannot_be_read_is_a_finding(compare):
    found = compare("report.json", b"{}", b"{")
    assert found is not None
    assert found.startswith("cannot be compared: ")
