"""Datasets for a hub on the loopback interface, in every layout and with every fault."""

import io
import random
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from hub_server import Repository, Stored, branch, repository

OLD, CONVERTED = "b" * 40, "c" * 40
ROWS, GROUP = 20_000, 1000


def texts(count: int, word: str = "row") -> list[str]:
    """Different texts, which do not compress to nothing."""
    draw = random.Random(word)
    return [f"{word} {i} ä {draw.randbytes(20).hex()}" for i in range(count)]


def table(lines: list[str], *, group: int = GROUP) -> bytes:
    """A Parquet file of the texts beside a column that is much larger."""
    noise = random.Random(0)
    columns: dict[str, Any] = {
        "noise": [noise.randbytes(200) for _ in lines], "text": lines,
    }  # fmt: skip
    found = io.BytesIO()
    parquet.write_table(arrow.table(columns), found, row_group_size=group)
    return found.getvalue()


def lines(texts: list[str]) -> bytes:
    return "".join(f'{{"text": "{text}"}}\n' for text in texts).encode()


def lfs(data: bytes, **faults: Any) -> Stored:
    """A file that another server keeps."""
    return Stored(data, elsewhere=True, **faults)


CHUNK = 10 * 2**20
"""What huggingface_hub receives before it writes it: a download goes on at a multiple."""
LONG = [letter * 2**20 for letter in "abcdefghijkl"]
BIG = texts(ROWS, "big")
SMALL = table(texts(7))
CARD = b"""---
license: mit
configs:
- config_name: en
  data_files:
  - split: train
    path: en/*.jsonl
  - split: test
    path: [held/en.jsonl]
- config_name: de
  data_files: de/*.jsonl
%s---
# Two languages
"""
LANGUAGES = {
    "en/1.jsonl": lines(texts(2, "en 1")), "en/0.jsonl": lines(texts(2, "en 0")),
    "held/en.jsonl": lines(texts(1, "held")), "de/0.jsonl": lines(texts(3, "de")),
}  # fmt: skip


def converted(files: dict[str, bytes | Stored], **converted: bytes) -> Repository:
    """A repository that the hub has converted."""
    found = repository(files)
    made = {path.replace("__", "/") + "/0000.parquet": data for path, data in converted.items()}
    found.others = (
        branch("refs/convert/parquet", CONVERTED, {p: lfs(d) for p, d in made.items()}),
    )
    return found


def repositories() -> dict[str, Repository]:
    """Datasets by name, as the server of tests knows them."""
    large = table(BIG)
    moved = repository({"train.jsonl": lines(texts(2, "new"))})
    moved.others = (branch("old", OLD, {"train.jsonl": lines(texts(2, "old"))}),)
    gated = repository({"train.parquet": SMALL})
    gated.gated = True
    damaged = SMALL[:100] + bytes([SMALL[100] ^ 1]) + SMALL[101:]
    found = {
        "shards": repository({
            "README.md": b"# Nothing about files",
            "data/train-00000-of-00002.parquet": lfs(table(texts(3, "a"), group=2)),
            "data/train-00001-of-00002.parquet": lfs(table(texts(3, "b"))),
            "data/test-00000-of-00001.parquet": Stored(table(texts(2, "t"))),
        }),
        "big": repository({"train.parquet": lfs(large)}),
        "big-lines": repository({"train.jsonl": lfs(lines(texts(200_000, "lines")))}),
        "configs": repository({"README.md": CARD % b"  default: true\n", **LANGUAGES}),
        "ambiguous": repository({"README.md": CARD % b"", **LANGUAGES}),
        "csv": repository({"valid.csv": b"id,text\n1,one\n2,\"t\nwo\"\n"}),
        "story": repository({"story.txt": b"Once.\nUpon.\n", "chapter.txt": b"A time."}),
        "script": converted(
            {"script.py": b"raise SystemExit('run')", "raw.csv": b"x\n"},
            default__train=table(texts(4, "made")),
        ),
        "script-only": repository({"script-only.py": b"raise SystemExit()", "raw.csv": b"x\n"}),
        "archives": converted(
            {"a.jsonl.gz": b"1"}, a__train=table(texts(2, "a")), b__train=table(texts(2, "b")),
            **{"b__partial-test": table(texts(1, "part"))},
        ),
        "archives-only": repository({"a.jsonl.gz": b"1"}),
        "semicolons": repository({
            "README.md": b"---\nconfigs: [{config_name: x, data_files: a.csv, sep: ';'}]\n---\n",
            "a.csv": b"text;n\n",
        }),
        "bad-card": repository({"README.md": b"---\nconfigs: 3\n---\n", "a.csv": b"text\n"}),
        "nothing": repository({"README.md": b"# Nothing"}),
        "moved": moved,
        "gated": gated,
        "cut": repository({"train.jsonl": lfs(lines(LONG), cuts=[CHUNK + 5000])}),
        "wrong-content": repository({"train.parquet": lfs(damaged, listed=SMALL)}),
        "wrong-content-in-git": repository({"a.csv": Stored(b"text\nx\n", listed=b"text\ny\n")}),
        "wrong-size": repository({"train.parquet": lfs(SMALL[:-5], listed=SMALL)}),
        "refused-file": repository({"train.parquet": lfs(SMALL, statuses=[403] * 99)}),
        "failing-file": repository({"train.parquet": Stored(SMALL, statuses=[500] * 99)}),
        "no-rows": repository({"train.parquet": lfs(b"not Parquet at all")}),
        "failing": Repository(answer=(500, None, b"oops")),
        "refused": Repository(answer=(401, None, b"{}")),
        "private": Repository(answer=(401, "RepoNotFound", b"{}")),
        "login-page": Repository(answer=(200, None, b"<html>please log in</html>")),
        "no-commit": Repository(answer=(200, None, b"{\"id\": \"org/no-commit\"}")),
    }  # fmt: skip
    return {f"datasets/org/{name}": each for name, each in found.items()}


def texts_of(data: bytes) -> list[str]:
    """The texts in a Parquet file, by pyarrow."""
    return parquet.read_table(io.BytesIO(data))["text"].to_pylist()


def column_bytes(data: bytes) -> int:
    """The bytes of a Parquet file that are the text column, by pyarrow."""
    found = parquet.read_metadata(io.BytesIO(data))
    column = found.schema.names.index("text")
    groups = [found.row_group(i).column(column) for i in range(found.num_row_groups)]
    return sum(group.total_compressed_size for group in groups)
