"""What the fuzz tests of readers share: batches of files made field by field, a few of them wrong.

Random bytes end at a reader's first check. So a file is a list of fields, one to three of them are
changed, and the rest is written out again around them. ENTRENAR_EXAMPLES sets the number of files
of each format: 1,000,000 take some tens of minutes.
"""

import math
import os
import random
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

BATCH = 100
FILES = int(os.environ.get("ENTRENAR_EXAMPLES", "1000"))

batches = settings(deadline=None, max_examples=math.ceil(FILES / BATCH), database=None)
seeds = st.integers(0, 2**48)


def run(seed: int, build: Callable[[random.Random], bytes], check: Callable[[bytes], bool]) -> None:
    """A batch of files; some of them must be accepted, some refused, or the test tests nothing."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(BATCH):
        data = build(rng)
        try:
            accepted += check(data)
        except Exception as error:
            error.add_note(f"the file: {data.hex()}")
            raise
    assert 0 < accepted < BATCH


def how_many(rng: random.Random) -> int:
    """How many changes to make to a file."""
    return rng.choice([0, 1, 1, 1, 2, 2, 3])


def other_number(rng: random.Random, value: int, bits: int = 64) -> int:
    """A number near `value`, or at an edge of what `bits` hold."""
    top = 2**bits
    near = [value + 1, value - 1, value * 2, rng.randrange(8), rng.randrange(top)]
    return rng.choice([*near, 0, top - 1, top // 2, top // 4 + 1, 2 ** rng.randrange(bits)]) % top


def other_bytes(rng: random.Random, value: bytes) -> bytes:
    """`value` with something put in, or in place of one byte."""
    place = rng.randrange(len(value) + 1)
    new = rng.choice(
        [b"\0", b"\xff", b"\x1b", b"\xc3", b"\n", b'"', b"\\", struct.pack("<Q", 3), b"a", b""]
    )
    return value[:place] + new + value[place + rng.randrange(2) :]


def rearrange(rng: random.Random, fields: list[Any]) -> None:
    """Leaves a field out, repeats it, or exchanges two."""
    place, other = rng.randrange(len(fields)), rng.randrange(len(fields))
    what = rng.randrange(3)
    if what == 0:
        del fields[place]
    elif what == 1:
        fields.insert(other, fields[place])
    else:
        fields[place], fields[other] = fields[other], fields[place]


def cut(rng: random.Random, data: bytes) -> bytes:
    """`data`, now and then without its end or with something after it."""
    if rng.random() < 0.95:
        return data
    return data[: rng.randrange(len(data) + 1)] + bytes(rng.choice([0, 0, 1, 32]))
