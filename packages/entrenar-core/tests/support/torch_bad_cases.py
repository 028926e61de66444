"""Bad files of torch.save by what is wrong with them: bytes, what the error says, its class."""

import os
import pickle
import struct
import zipfile

from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    IntegrityError,
    RefusedError,
    UnsupportedError,
)
from torch_bytes import (
    FLOATS,
    MAGIC,
    ORDERED,
    VERSION,
    archive,
    call,
    name,
    pickled,
    records,
    stacked,
    state,
    storage,
    tensor,
    text,
    value,
)


def saved(body: bytes) -> bytes:
    """An archive with this pickle."""
    return archive(records(body))


def one(entry: bytes) -> bytes:
    """An archive whose pickle has a tensor, and this under `b`."""
    return saved(state({"a": tensor(), "b": entry}))


class Evil:
    """Pickles to a call of os.system, as malware does."""

    def __reduce__(self):
        return os.system, ("touch never",)


GLOBALS = [
    "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr",
    "builtins.__import__", "__builtin__.eval", "pip.main", "_interpreters.run_string",
    "pkgutil.resolve_name", "importlib.import_module", "subprocess.Popen",
    "copy_reg._reconstructor",
    "copyreg._reconstructor", "__builtin__.getattr", "torch.storage._load_from_bytes",
    "torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_wrapper_subclass",
    "torch._utils._rebuild_parameter_with_state", "torch.load", "torch.nn.Linear",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy.ndarray",
    "numpy.dtype", "torch.hub.load", "collections.Counter", "webbrowser.open", "os.path.join",
    "torch._utils..._rebuild_tensor", "torch.\x1b[2J",
]  # fmt: skip

FOREIGN_OPCODES = {
    "STACK_GLOBAL": text("os") + text("system") + b"\x93",
    "INST": b"(" + text("true") + b"ios\nsystem\n",
    "OBJ": b"(" + ORDERED + b"o",
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "NEWOBJ": name("collections.OrderedDict") + b")\x81",
    "NEWOBJ_EX": name("collections.OrderedDict") + b")}\x92",
    "PERSID": b"P0\n",
    "MEMOIZE": b"N\x94",
    "FRAME": b"\x95" + bytes(8),
    "POP": b"N0",
    "DUP": b"N2",
    "INT": b"I1\n",
    "NEXT_BUFFER": b"\x97",
    "0xff": b"\xff",
    "ADDITEMS": b"\x8f(N\x90",
}

MEMO = b"r\xff\xff\xff\x7f"
LOOP = b"]q\x01h\x01a"  # a list that contains itself
NESTED = b")" + b"\x85" * 100

REFUSED: dict[str, tuple[bytes, str]] = {
    **{f"global {path!a}": (one(call(path, "x")), "is not a tensor type") for path in GLOBALS},
    **{f"opcode {code}": (one(body), f"opcode.*{code}|none that torch.save writes")
       for code, body in FOREIGN_OPCODES.items()},
    "os.system by the standard pickler": (
        saved(pickle.dumps(Evil(), 2)), r"posix.system is not a tensor type"),
    "payload first, then broken": (saved(b"\x80\x02" + call("os.system", "x") + b"X"), "os.system"),
    "a storage is called": (one(call("torch.FloatStorage", 3)), "is no function"),
    "a dtype is called": (one(call("torch.float32")), "DType is called"),
    "text is called": (one(text("x") + b")R"), "str is called"),
    "SETITEM on a tensor": (one(tensor() + text("k") + b"Ns"), "TensorRef is filled"),
    "SETITEMS on a tensor": (one(tensor() + b"(" + text("k") + b"Nu"), "TensorRef is filled"),
    "SETITEM on a list": (one(b"]" + value(0) + b"Ns"), "list is filled"),
    "SETITEM on a storage": (one(storage() + value(0) + b"Ns"), "Storage is filled"),
    "APPEND to a tuple": (one(b")Na"), "tuple is appended"),
    "APPENDS to a set": (one(b"\x8f(Ne"), "set is appended"),
    "APPENDS to a tensor": (one(tensor() + b"(Ne"), "TensorRef is appended"),
    "BUILD of a tensor": (one(tensor() + b"}b"), "TensorRef is given a state"),
    "BUILD of a dictionary": (one(b"}}b"), "dict is given a state"),
    "BUILD of a tuple": (one(b")}b"), "tuple is given a state"),
    "tuple as key": (one(b"})Ns"), "a dictionary with a tuple as key"),
    "truth value as key": (one(b"}\x88Ns"), "a dictionary with a bool as key"),
    "persistent text": (one(text("storage") + b"Q"), "something else than a storage"),
    "persistent module": (one(value(("module", None, "f", "s")) + b"Q"), "else than a storage"),
    "persistent number": (one(b"K\x01Q"), "something else than a storage"),
    "storage before the object": (
        MAGIC + VERSION + pickled(storage("torch.FloatStorage", "0", 6, "cpu", None)),
        "something else than a storage"),
    "stride 0 bomb": (one(tensor(shape=(10**12,), stride=(0,))), "an expanded view"),
    "windows that overlap": (one(tensor(shape=(3, 2), stride=(1, 1))), "an expanded view"),
    "record ../../x": (archive({**records(), "../../x": b""}), "leads out of the archive"),
    "record with a backslash": (archive({**records(), "a\\b": b""}), "leads out of the archive"),
    "absolute record": (archive({**records(), "x": b""}, root="/archive/"), "leads out"),
}  # fmt: skip


def arguments(*values: object) -> bytes:
    return one(call("torch._utils._rebuild_tensor_v2", *values))


FIELDS = (storage(), 0, (2, 3), (3, 1), False, ORDERED)


def changed(place: int, item: object) -> bytes:
    """A tensor one of whose arguments is this."""
    return arguments(*FIELDS[:place], item, *FIELDS[place + 1 :])


FORMAT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "html": (b"<!DOCTYPE html><html>502</html>", "looks like HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "LFS pointer"),
    "gguf": (b"GGUF" + bytes(40), "this is a GGUF file"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "this is a safetensors file, named .bin"),
    "something": (b"abcdefgh" * 9, "not a file of torch.save"),
    "zip magic alone": (b"PK\x03\x04", "no end|runs past"),
    # the pickle
    "second pickle": (saved(state() + state()), "unexpected bytes after the pickle"),
    "trailing byte": (saved(state() + b"\0"), "1 unexpected bytes after the pickle"),
    "empty pickle": (saved(b""), "it is truncated"),
    "protocol 0": (saved(b"N."), "not a pickle of protocol 2"),
    "protocol 9": (saved(pickled(b"N", protocol=9)), "not a pickle of protocol 2"),
    "no STOP": (saved(state()[:-1]), "it is truncated"),
    "two values": (saved(pickled(b"NN")), "values left over"),
    "open mark": (saved(pickled(b"(N")), "values left over"),
    "empty stack": (saved(pickled(b"a")), "stack is empty"),
    "no mark": (saved(pickled(b"t")), "no mark"),
    "odd items": (saved(pickled(b"}(" + text("a") + b"u")), "a key without a value"),
    "duplicate key": (saved(pickled(b"}(" + (text("a") + b"N") * 2 + b"u")), "duplicate key 'a'"),
    "memo 2^31-1": (one(b"N" + MEMO), "memo number 2147483647 exceeds"),
    "memo of nothing": (one(b"h\x09"), "nothing was kept as number 9"),
    "list in itself": (one(LOOP), "a value that contains itself"),
    "dictionary in itself": (saved(pickled(b"}q\x01" + text("a") + b"h\x01s")), "contains itself"),
    "nested too deep": (one(NESTED), "nested more than 64"),
    "half a million lists": (saved(pickled(b"]" * 500_001)), "more than 500000 tuples, lists"),
    "tuples in each other": (saved(pickled(b")" + b"\x85" * 500_001)), "than 500000 tuples"),
    "half a million marks": (saved(pickled(b"(" * 500_001)), "more than 500000 marks"),
    "operations without end": (saved(pickled(b"N" * 4_000_001)), "more than 4000000 operations"),
    "long integer": (one(b"\x8a\xff" + bytes(255)), "an integer of 255 bytes"),
    "10 MB integer": (one(b"\x8b" + struct.pack("<I", 10**7) + bytes(10**7)), "of 10000000 bytes"),
    "4 GB text": (one(b"X\xff\xff\xff\xff"), "4294967295 bytes are wanted"),
    "text is not UTF-8": (one(text(b"\xff")), "not UTF-8"),
    "lone surrogate": (one(text(b"\xed\xa0\x80")), "not UTF-8"),
    "endless name": (one(b"c" + b"a" * 300), "a name without an end"),
    "control character in name": (saved(state({"a\x1b[31m": tensor()})), "control characters"),
    "name is too long": (saved(state({"a" * 1025: tensor()})), "longer than 1024 bytes"),
    "a tensor alone": (saved(pickled(tensor())), "no dictionary of tensors, but a TensorRef"),
    "numbers alone": (saved(pickled(value({"a": 1}))), "but a dictionary of a: int"),
    "two state dicts": (
        saved(pickled(b"}(" + b"".join(
            text(k) + b"}" + text("w") + tensor() + b"s" for k in ("ema", "net")) + b"u")),
        "2 dictionaries of tensors: ema, net"),
    "attributes that are no names": (one(ORDERED + value({1: 2}) + b"b"), "not names with values"),
    # arguments
    "too few arguments": (arguments(*FIELDS[:5]), "wrong number of arguments"),
    "too many arguments": (arguments(*FIELDS, {}, 1), "wrong number of arguments"),
    "arguments are a list": (one(name("torch.Size") + b"]R"), "wrong number of arguments"),
    "storage is text": (changed(0, "0"), "without storage"),
    "offset is a truth value": (changed(1, True), "whole number as offset"),
    "negative offset": (changed(1, -1), "whole number as offset"),
    "offset is a fraction": (changed(1, 1.0), "whole number as offset"),
    "shape is a list": (changed(2, [2, 3]), "shape of a tensor is not a tuple"),
    "shape of truth values": (changed(2, (True, 3)), "shape of a tensor is not a tuple"),
    "negative shape": (changed(2, (-2, 3)), "shape of a tensor is not a tuple"),
    "17 dimensions": (arguments(storage(), 0, (1,) * 17, (1,) * 17, False, ORDERED), "17 dim"),
    "strides are text": (changed(3, "31"), "stride of a tensor is not a tuple"),
    "negative stride": (changed(3, (-3, 1)), "stride of a tensor is not a tuple"),
    "too few strides": (changed(3, (1,)), "2 dimensions have 1 strides"),
    "product wraps": (
        arguments(storage(), 0, (4194305, 4194305, 211106198978564), (3, 2, 1), False, ORDERED),
        "too large to exist"),
    "huge and empty": (changed(2, (2**62, 0)), "too large to exist"),
    "requires_grad is 1": (changed(4, 1), "requires_grad is not a truth value"),
    "hooks": (changed(5, ORDERED + value(1) + b"Ns"), "there are hooks"),
    "hooks are a plain dict": (changed(5, b"}"), "there are hooks"),
    "metadata is a list": (arguments(*FIELDS, []), "metadata of a tensor"),
    "integers that require a gradient": (
        saved(state({"a": tensor(storage("torch.LongStorage"), 0, (3,), (1,), True)})),
        "I64 that requires a gradient"),
    "own type on a typed storage": (
        one(call("torch._utils._rebuild_tensor_v3", *FIELDS, name("torch.uint16"))),
        "on a storage that has one"),
    "parameter of text": (
        one(call("torch._utils._rebuild_parameter", "x", True, ORDERED)), "no tensor"),
    "set of lists": (one(call("builtins.set", [[]])), "a set of something else"),
    "bytes that are none": (one(call("_codecs.encode", "漢", "latin1")), "not text in latin1"),
    "bytes in another code": (one(call("_codecs.encode", "x", "zip")), "not text in latin1"),
    "bytearray bomb": (one(call("builtins.bytearray", 10**12)), "wrong number of arguments"),
    "device": (one(call("torch.device", "system")), "device"),
    # storages
    "storage too small": (archive({**records(), "data/0": FLOATS[:-1]}), "data/0 has 23 bytes"),
    "storage too large": (archive({**records(), "data/0": FLOATS + b"x"}), "data/0 has 25 bytes"),
    "no such storage": (archive(records(data_0=None)), "no record data/0"),
    "storage key": (one(tensor(storage(key="../0"))), "key is not a number"),
    "storage key is Arabic": (one(tensor(storage(key="٣"))), "key is not a number"),
    "storage key is a number": (one(tensor(storage(key=0))), "key is not a number"),
    "negative storage": (one(tensor(storage(numel=-6))), "number of elements is none"),
    "huge storage": (one(tensor(storage(numel=2**63 - 1))), "number of elements is none"),
    "storage of a function": (one(tensor(storage("torch.Size"))), "a storage without a type"),
    "storage with a view": (
        one(tensor(storage("torch.FloatStorage", "0", 6, "cpu", None))), "6 properties, not 5"),
    "storage in two ways": (
        one(tensor(storage("torch.IntStorage"))), "storage 0 is described in two ways"),
    "one past the end": (changed(1, 1), "last element is number 6 of a storage of 6"),
    "stride past the end": (changed(3, (4, 1)), "last element is number 6 of a storage of 6"),
    "scalar past the end": (one(tensor(offset=6, shape=(), stride=())), "number 6 of a storage"),
    "empty past the end": (one(tensor(offset=7, shape=(0,), stride=(1,))), "number 6 of a stor"),
    # the archive
    "no pickle": (archive({"version": b"3"}), "no record data.pkl"),
    "no version": (archive(records(version=None)), "no record version"),
    "version is text": (archive(records(version=b"x")), "version is not a number"),
    "byte order": (archive(records(byteorder=b"LITTLE")), "neither little nor big"),
    "long byte order": (archive(records(byteorder=b"little" * 99)), "byteorder has 594 bytes"),
    "deflated": (archive(compression=zipfile.ZIP_DEFLATED), "is compressed, method 8"),
    "prefix": (b"x" + archive(), "not a file of torch.save"),
    "prefix that is a record": (b"PK\x03\x04" + archive(), "follows a hole|does not fit"),
    "suffix": (archive() + b"x", "no end of a zip archive|runs past"),
    "comment": (archive()[:-2] + b"\x01\x00x", "no end of a zip archive"),
    "two roots": (archive({**records(), "../b/x": b""}, root="a/").replace(b"a/../b", b"bbbbbb"),
                  "2 root folders"),
    "no root": (archive(root=""), "root folders, not one"),
    # stacked pickles
    "other pickle": (pickled(value({"a": 1})), "its magic number is not there"),
    "bad magic": (stacked(magic=MAGIC.replace(b"F", b"E")), "its magic number is not there"),
    "other stack version": (stacked(version=pickled(value(1002))), "version of the stacked pick"),
    "version is true": (stacked(version=pickled(value(True))), "version of the stacked pickles"),
    "machine is none": (stacked(machine={"x": 1}), "does not say its byte order"),
    "machine is a list": (stacked(machine=[1]), "does not say its byte order"),
    "keys are numbers": (stacked(keys=[0]), "list of storages is not one of keys"),
    "missing key": (stacked(keys=[]), "list of storages is not that of the tensors"),
    "extra key": (stacked(keys=["0", "1"]), "list of storages is not that of the tensors"),
    "key twice": (stacked(keys=["0", "0"]), "list of storages is not that of the tensors"),
    "stack truncated": (stacked()[:-1], "storage 0 ends 1 bytes past the file"),
    "stack too long": (stacked() + b"x", "1 unexpected bytes after the last storage"),
    "stack says otherwise": (
        stacked(data=struct.pack("<q", 5) + FLOATS), "another number of elements"),
    "stack with archive's storages": (stacked(state()), "5 properties, not 6"),
}  # fmt: skip

UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "tar": (b"pickle".ljust(257, b"\0") + b"ustar\x0000".ljust(300, b"\0"), "a tar archive"),
    "torchscript": (archive({**records(), "constants.pkl": b""}), "TorchScript"),
    "torchscript code": (archive({**records(), "code/__torch__.py": b""}), "TorchScript"),
    "model archive": (archive({"MANIFEST.json": b"{}"}, root="MAR-INF/"), "a model archive"),
    "big endian": (archive(records(byteorder=b"big")), "big-endian"),
    "big endian stack": (stacked(machine={"little_endian": False}), "big-endian"),
    "version 99": (archive(records(version=b"99\n")), "version 99 of PyTorch's archives"),
    "version 0": (archive(records(version=b"0")), "version 0 of PyTorch's archives"),
    "quantized": (one(call("torch._utils._rebuild_qtensor", 1)), "_rebuild_qtensor: quantized"),
    "sparse": (one(call("torch._utils._rebuild_sparse_tensor", 1)), "are not read"),
    "128-bit": (one(tensor(storage("torch.ComplexDoubleStorage"))), "are not read"),
    "sparse layout": (
        one(call("torch.serialization._get_layout", "torch.sparse_coo")), "a sparse layout"),
    "conjugated": (one(tensor(storage(), 0, (2, 3), (3, 1), False, ORDERED, {"conj": True})),
                   "a conjugated or negated view"),
    "8-bit floats that require a gradient": (
        saved(state({"a": call(
            "torch._utils._rebuild_tensor_v3", storage("torch.storage.UntypedStorage", "0", 24),
            0, (24,), (1,), True, ORDERED, name("torch.float8_e5m2"))})),
        "F8_E5M2 that requires a gradient"),
    "storage of a storage": (
        stacked(state({"a": tensor(storage("torch.FloatStorage", "0", 6, "cpu", ("1", 0, 6)))})),
        "part of another one"),
}  # fmt: skip

BAD = {
    **{case: (*found, RefusedError) for case, found in REFUSED.items()},
    **{case: (*found, FormatError) for case, found in FORMAT.items()},
    **{case: (*found, UnsupportedError) for case, found in UNSUPPORTED.items()},
}
assert len(BAD) == len(REFUSED) + len(FORMAT) + len(UNSUPPORTED)


def at(data: bytes, pattern: bytes, count: int = 1) -> int:
    """Where the pattern is found for the count-th time."""
    place = -1
    for _ in range(count):
        place = data.index(pattern, place + 1)
    return place


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def central(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with the central directory's line of data/0 patched."""
    return patched(data, at(data, b"archive/data/0", 2) - 46 + offset, new)


def local(data: bytes, offset: int, new: bytes) -> bytes:
    return patched(data, at(data, b"archive/data/0") - 30 + offset, new)


GOOD = archive()
WARPED: dict[str, tuple[bytes, type[EntrenarError], str]] = {
    "duplicate name": (
        archive([*records().items(), ("data/1", FLOATS)]).replace(b"data/1", b"data/0"),
        FormatError, "two records are called 'archive/data/0'"),
    "same name in capitals": (
        archive([*records().items(), ("DATA/0", FLOATS)]), FormatError, "two records are called"),
    "local name": (local(GOOD, 30, b"archive/data/9"), FormatError, "local header"),
    "local size": (local(GOOD, 22, struct.pack("<I", 20)), FormatError, "sizes"),
    "local CRC": (local(GOOD, 14, b"abcd"), FormatError, "sizes"),
    "local flags": (local(GOOD, 6, b"\x01\x00"), FormatError, "local header"),
    "local method": (local(GOOD, 8, b"\x08\x00"), FormatError, "local header"),
    "local magic": (local(GOOD, 0, b"PK\x05\x04"), FormatError, "no local header"),
    "encrypted": (central(GOOD, 8, b"\x01\x00"), FormatError, "encrypted or patched"),
    "strongly encrypted": (central(GOOD, 8, b"\x40\x00"), FormatError, "encrypted or patched"),
    "central size": (central(GOOD, 24, struct.pack("<I", 20)), FormatError, "stored, and"),
    "both sizes": (central(GOOD, 20, struct.pack("<2I", 20, 20)), FormatError, "hole|sizes"),
    "size past the end": (
        central(GOOD, 20, struct.pack("<2I", 10**6, 10**6)), FormatError, "sizes|hole|overlap"),
    "64-bit size missing": (
        central(GOOD, 20, b"\xff" * 8), FormatError, "64-bit size or offset is missing"),
    "offset": (central(GOOD, 42, struct.pack("<I", 0)), FormatError, "overlaps|contradict"),
    "folder by its attributes": (
        central(GOOD, 38, b"\x10\0\0\0"), FormatError, "a folder among the records"),
    "folder by its name": (
        archive({**records(), "x/": b""}), FormatError, "a folder among the records"),
    "on another disk": (central(GOOD, 34, b"\x01\x00"), FormatError, "on another disk"),
    "number of records": (patched(GOOD, len(GOOD) - 14, b"\x03\x00\x03\x00"), FormatError, "unexp"),
    "too many records": (
        patched(GOOD, len(GOOD) - 14, b"\xff\xff\xff\xff"), FormatError, "do not fit"),
    "directory's size": (patched(GOOD, len(GOOD) - 10, b"\0\0\0\0"), FormatError, "does not fit"),
    "name is not UTF-8": (
        GOOD.replace(b"archive/byteorder", b"archive/byteord\xff\xff"), FormatError, "not UTF-8"),
    "CRC of the pickle": (patched(GOOD, at(GOOD, b"cpu"), b"cpv"), IntegrityError, "data.pkl"),
    "CRC of the version": (patched(GOOD, at(GOOD, b"3\n"), b"2"), IntegrityError, "version"),
}  # fmt: skip
