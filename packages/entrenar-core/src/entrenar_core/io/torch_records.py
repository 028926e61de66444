"""What the pickle of a state dict may name, and what we make of it: records, and nothing that runs.

A pickle asks for functions by module and name. Here a name is looked up in one frozen table, and a
function that it stands for checks its arguments and returns a record of ours; nothing is imported.
All of it is allowed by `torch.load(weights_only=True)` too; the reverse does not hold.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from entrenar_common.errors import FormatError, RefusedError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.dtypes import DTYPES, DType, by_name

MAX_RANK = 16
MAX_BYTES = 2**63 - 1

CONTIGUOUS = "save the weights again, each made .contiguous() or .clone()d before"
DAMAGED = "the file is damaged or was made to mislead: fetch it again from where you trust"
SANDBOX = (
    "do not load this file elsewhere either; if you trust where it came from, save its weights "
    "again as safetensors on a machine where nothing can be harmed"
)


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `numel` elements, kept in the file under `key`."""

    dtype: DType
    key: str
    numel: int
    untyped: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes it takes."""
        return self.numel * self.dtype.bits // 8


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A view of a storage: element (i, j, …) is number `offset` + i·stride[0] + j·stride[1] + …"""

    storage: Storage
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Named:
    """What a name in the table stands for: a function, which makes a value of so many arguments,
    or the class of a storage, which is only passed on."""

    name: str
    build: Callable[..., Any] | None = None
    counts: tuple[int, ...] = ()
    storage: DType | None = None

    def call(self, arguments: Any) -> Any:
        """What the function makes of the arguments."""
        if self.build is None:
            raise RefusedError(f"{self.name} is called, and is no function", hint=SANDBOX)
        if type(arguments) is not tuple or len(arguments) not in self.counts:
            raise FormatError(f"wrong number of arguments for {self.name}", hint=DAMAGED)
        return self.build(*arguments)


class Attributed(OrderedDict[Any, Any]):
    """An ordered dictionary of the pickle, the one kind of value whose attributes may be set."""


def is_natural(value: Any) -> bool:
    """Whether it is a whole number that a size or an offset can be; True is none."""
    return type(value) is int and 0 <= value <= MAX_BYTES


def _naturals(value: Any, what: str) -> tuple[int, ...]:
    if type(value) is not tuple or not all(map(is_natural, value)):
        raise FormatError(f"the {what} of a tensor is not a tuple of whole numbers", hint=DAMAGED)
    if len(value) > MAX_RANK:
        raise FormatError(f"a tensor has {len(value)} dimensions, more than {MAX_RANK}")
    return value


def _view(storage: Any, dtype: DType, offset: Any, shape: Any, stride: Any) -> TensorRef:
    """A tensor that lies inside its storage, none of whose elements is there twice."""
    if type(storage) is not Storage or not is_natural(offset):
        raise FormatError("a tensor without storage, or without a whole number as offset")
    shape, stride = _naturals(shape, "shape"), _naturals(stride, "stride")
    if len(shape) != len(stride):
        raise FormatError(f"{len(shape)} dimensions have {len(stride)} strides", hint=DAMAGED)
    if prod(n for n in shape if n) * dtype.bits > 8 * MAX_BYTES:
        raise FormatError(f"shape {list(shape)} is too large to exist", hint=DAMAGED)
    room = 8 * storage.nbytes // dtype.bits
    if 0 in shape:
        last = offset - 1
    else:
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        _refuse_overlap(shape, stride, room)
    if last >= room:
        raise FormatError(
            f"a tensor's last element is number {last} of a storage of {room} elements",
            hint=DAMAGED,
        )
    return TensorRef(storage, dtype, offset, shape, stride)


def _refuse_overlap(shape: tuple[int, ...], stride: tuple[int, ...], room: int) -> None:
    covered = 0
    for step, n in sorted((s, n) for n, s in zip(shape, stride, strict=True) if n > 1):
        if step <= covered:
            raise RefusedError(
                f"an expanded view: shape {list(shape)} with strides {list(stride)} uses elements "
                f"of a storage of {room} more than once",
                hint=CONTIGUOUS,
            )
        covered += (n - 1) * step


def _check_gradient(dtype: DType, requires: Any, hooks: Any) -> None:
    if type(requires) is not bool or type(hooks) is not Attributed or hooks:
        raise FormatError("requires_grad is not a truth value, or there are hooks", hint=DAMAGED)
    if requires and (dtype.name == "BOOL" or dtype.name[0] not in "FBC"):
        raise FormatError(f"a tensor of {dtype} that requires a gradient", hint=DAMAGED)


def _check_metadata(metadata: Any) -> None:
    if type(metadata) is not dict:
        raise FormatError("the metadata of a tensor is not a dictionary", hint=DAMAGED)
    if set(metadata) - {"conj", "neg"} or any(type(v) is not bool for v in metadata.values()):
        raise UnsupportedError("a tensor with metadata other than conj and neg")
    if any(metadata.values()):
        raise UnsupportedError(
            "a conjugated or negated view", hint="save it again after .resolve_conj().resolve_neg()"
        )


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorRef:
    dtype = storage.dtype if type(storage) is Storage else by_name("U8")
    return _view(storage, dtype, offset, shape, stride)


def _tensor_v2(
    storage: Any, offset: Any, shape: Any, stride: Any, requires: Any, hooks: Any, *metadata: Any
) -> TensorRef:
    tensor = _tensor(storage, offset, shape, stride)
    _check_gradient(tensor.dtype, requires, hooks)
    if metadata:
        (only,) = metadata
        _check_metadata(only)
    return tensor


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires: Any,
    hooks: Any,
    dtype: Any,
    *metadata: Any,
) -> TensorRef:
    if type(storage) is not Storage or not storage.untyped or type(dtype) is not DType:
        raise FormatError("a tensor with a type of its own on a storage that has one", hint=DAMAGED)
    _check_gradient(dtype, requires, hooks)
    if requires:
        raise UnsupportedError(  # nor does PyTorch: it fails to give the tensor its storage
            f"a tensor of {dtype} that requires a gradient",
            hint="save it again as a parameter, or after .detach()",
        )
    if metadata:
        (only,) = metadata
        _check_metadata(only)
    return _view(storage, dtype, offset, shape, stride)


def _parameter(tensor: Any, requires: Any, hooks: Any) -> TensorRef:
    if type(tensor) is not TensorRef:
        raise FormatError("a parameter that is no tensor", hint=DAMAGED)
    _check_gradient(tensor.dtype, requires, hooks)
    return tensor


def _ordered(*pairs: Any) -> Attributed:
    found = Attributed()
    if pairs:
        (only,) = pairs
        if type(only) is not list or any(type(p) is not list or len(p) != 2 for p in only):
            raise FormatError("an ordered dictionary of something else than pairs", hint=DAMAGED)
        for key, value in only:
            put(found, key, value)
    return found


def put(target: dict[Any, Any], key: Any, value: Any) -> None:
    """target[key] = value, for a new key that is text or a whole number."""
    if type(key) is not str and type(key) is not int:
        raise RefusedError(f"a dictionary with a {type(key).__name__} as key", hint=SANDBOX)
    if key in target:
        raise FormatError(f"duplicate key '{escape_controls(str(key)[:80])}'", hint=DAMAGED)
    target[key] = value


def _size(shape: Any) -> tuple[int, ...]:
    return _naturals(shape, "size")


def _device(kind: Any, *index: Any) -> str:
    if kind not in ("cpu", "cuda", "mps", "xpu", "meta") or not all(map(is_natural, index)):
        raise FormatError("the name of a device is none", hint=DAMAGED)
    return kind


def _layout(value: Any) -> str:
    if value != "torch.strided":
        raise UnsupportedError("a sparse layout", hint="save the weights again as dense tensors")
    return value


def _encoded(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise FormatError("bytes that are not text in latin1", hint=DAMAGED)
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise FormatError("bytes that are not text in latin1", hint=DAMAGED) from None


def _bytes(*parts: Any) -> bytes:
    return _encoded(*parts) if parts else b""


def _set(members: Any) -> frozenset[Any]:
    atoms = (str, int, float, bool, bytes, type(None))
    if type(members) is not list or any(type(member) not in atoms for member in members):
        raise FormatError("a set of something else than plain values", hint=DAMAGED)
    return frozenset(members)


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise FormatError("a complex number of something else than numbers", hint=DAMAGED)
    return complex(real, imaginary)


_FUNCTIONS: Mapping[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "collections.OrderedDict": (_ordered, (0, 1)),
    "torch._utils._rebuild_tensor": (_tensor, (4,)),
    "torch._utils._rebuild_tensor_v2": (_tensor_v2, (6, 7)),
    "torch._utils._rebuild_tensor_v3": (_tensor_v3, (7, 8)),
    "torch._utils._rebuild_parameter": (_parameter, (3,)),
    "torch.Size": (_size, (1,)),
    "torch.device": (_device, (1, 2)),
    "torch.serialization._get_layout": (_layout, (1,)),
    "_codecs.encode": (_encoded, (2,)),
    **{
        f"{module}.{name}": made
        for module in ("builtins", "__builtin__")  # protocol 2 has the names of Python 2
        for name, made in {
            "bytearray": (_bytes, (0, 2)),
            "set": (_set, (1,)),
            "complex": (_complex, (2,)),
        }.items()
    },
}

STORAGES: Mapping[str, str] = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
}
"""Our name of the element type by PyTorch's name of its storage."""

UNTYPED = "torch.storage.UntypedStorage"

UNREAD = frozenset(
    {"torch.ComplexDoubleStorage", "torch.complex128", "torch.complex32"}
    | {f"torch.{kind}Storage" for kind in ("QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4")}
    | {"torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor"}
    | {"torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_meta_tensor_no_storage"}
)
"""Names of tensors that are harmless, and that nothing here reads."""


def _table() -> dict[str, Named | DType]:
    found: dict[str, Named | DType] = {
        name: Named(name, build, counts) for name, (build, counts) in _FUNCTIONS.items()
    }
    for storage, dtype in STORAGES.items():
        found[f"torch.{storage}"] = Named(f"torch.{storage}", storage=by_name(dtype))
    found[UNTYPED] = Named(UNTYPED, storage=by_name("U8"))
    found |= {f"torch.{dtype.torch_name}": dtype for dtype in DTYPES if dtype.torch_name}
    return found


GLOBALS: Mapping[str, Named | DType] = MappingProxyType(_table())
"""Everything that a pickle may name, by `module.name`."""
