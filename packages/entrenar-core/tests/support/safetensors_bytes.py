"""The beginnings of safetensors files from bytes, whose data need not exist."""

import json
import struct


def safetensors(length: int | None = None, **shapes: tuple[int, ...]) -> tuple[bytes, int]:
    """The beginning of a file with float32 matrices, `length` up to the data, and its size."""
    described, place = {}, 0
    for name, (rows, columns) in shapes.items():
        end = place + 4 * rows * columns
        described[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [place, end]}
        place = end
    raw = json.dumps(described).encode()
    raw += b" " * (0 if length is None else length - 8 - len(raw))
    head = struct.pack("<Q", len(raw)) + raw
    assert length in (None, len(head))
    return head, len(head) + place
