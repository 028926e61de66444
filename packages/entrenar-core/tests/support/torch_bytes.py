"""Files of torch.save made by hand, byte by byte, for tests of what reads them."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."


def name(path: str) -> bytes:
    """GLOBAL: `path` is module.attribute."""
    module, _, attribute = path.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def value(item: object) -> bytes:
    """A plain value: None, a truth value, a number, text or a tuple; bytes are opcodes already."""
    if isinstance(item, bytes):
        return item
    if item is None:
        return b"N"
    if isinstance(item, bool):
        return b"\x88" if item else b"\x89"
    if isinstance(item, int):
        if -(2**31) <= item < 2**31:
            return b"J" + struct.pack("<i", item)
        raw = item.to_bytes((item.bit_length() + 8) // 8, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(item, float):
        return b"G" + struct.pack(">d", item)
    if isinstance(item, str):
        return text(item)
    if isinstance(item, tuple):
        return b"(" + b"".join(map(value, item)) + b"t"
    if isinstance(item, list):
        return b"](" + b"".join(map(value, item)) + b"e"
    assert isinstance(item, dict)
    return b"}(" + b"".join(value(k) + value(v) for k, v in item.items()) + b"u"


def call(function: str, *arguments: object) -> bytes:
    """REDUCE: what the function of that name is said to return."""
    return name(function) + value(tuple(arguments)) + b"R"


ORDERED = call("collections.OrderedDict")


def storage(
    kind: str = "torch.FloatStorage",
    key: object = "0",
    numel: object = 6,
    location: object = "cpu",
    *more: object,
) -> bytes:
    """BINPERSID: a storage by what a pickle says of it."""
    return value(("storage", name(kind), key, location, numel, *more)) + b"Q"


def tensor(
    of: bytes | None = None,
    offset: object = 0,
    shape: object = (2, 3),
    stride: object = (3, 1),
    requires_grad: object = False,
    hooks: bytes = ORDERED,
    *more: object,
) -> bytes:
    of = storage() if of is None else of
    arguments = (of, offset, shape, stride, requires_grad, hooks, *more)
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def pickled(*body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + b"".join(body) + b"."


def state(entries: Mapping[str, bytes] | None = None) -> bytes:
    """The pickle of an ordered dictionary of tensors."""
    entries = {"a": tensor()} if entries is None else entries
    items = b"".join(text(key) + found for key, found in entries.items())
    return pickled(ORDERED + b"(" + items + b"u")


FLOATS = struct.pack("<6f", 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


def records(data: bytes | None = None, **changed: bytes | None) -> dict[str, bytes]:
    """The records of a small archive; None leaves one out, and `_` in a name stands for `/`."""
    found = {"data.pkl": state() if data is None else data, "byteorder": b"little"}
    found |= {"data/0": FLOATS, "version": b"3\n"}
    for key, content in changed.items():
        key = key.replace("_", "/")
        if content is None:
            del found[key]
        else:
            found[key] = content
    return found


def archive(
    content: Mapping[str, bytes] | Iterable[tuple[str, bytes]] | None = None,
    *,
    root: str = "archive/",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A zip archive of these records, as the standard library writes it."""
    content = records() if content is None else content
    pairs = content.items() if isinstance(content, Mapping) else content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for key, data in pairs:
            target.writestr(zipfile.ZipInfo(root + key), data, compression)
    return file.getvalue()


def stacked(
    body: bytes | None = None,
    *,
    magic: bytes = MAGIC,
    version: bytes = VERSION,
    machine: object = None,
    keys: object = None,
    data: bytes | None = None,
) -> bytes:
    """A file as torch.save wrote them before the archives."""
    about = storage("torch.FloatStorage", "0", 6, "cpu", None)
    body = state({"a": tensor(about)}) if body is None else body
    machine = {"protocol_version": 1001, "little_endian": True} if machine is None else machine
    keys = ["0"] if keys is None else keys
    data = struct.pack("<q", 6) + FLOATS if data is None else data
    return magic + version + pickled(value(machine)) + body + pickled(value(keys)) + data
