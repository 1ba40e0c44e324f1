"""Reads a torch file's pickle without running it: tensors become storage locations, the rest placeholders.

A pickle is a program for a stack machine. This machine makes plain values and nothing else: no global is
looked up, nothing is called, no attribute is set, and only plain numbers and strings are hashed, so a small
file cannot run code or keep the machine busy.
"""

import math
import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAX_STEPS = 500_000  # half a second; the largest published pickle has a twelfth of it
_MAX_ARGUMENTS = 16  # also bounds tensor rank; a larger copy could be repeated to exhaust memory
_MAX_NAME = 512
_MAX_INT = 1 << 62  # an axis, a stride, an offset or a key


class Placeholder:
    """Any object that is not a tensor."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """A tensor's location in the file."""

    record: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Global:
    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    record: str
    dtype: torch.dtype


def parse_pickle(data: bytes) -> tuple[object, frozenset[str]]:
    """The pickled value, of plain types and tensor locations, and the names of globals that are not known.

    Raises:
        ValueError: an invalid program, storage or tensor, or more steps than any file needs.
        LookupError: the program pops from an empty stack.
    """
    machine = _Machine()
    for opcode, argument, _ in islice(pickletools.genops(data), _MAX_STEPS):
        if opcode.name == "STOP":
            return machine.stack.pop(), frozenset(machine.unknown)
        machine.step(opcode.name, argument)
    raise ValueError(f"more than {_MAX_STEPS} steps")


class _Machine:
    """The pickle machine's stack, the stacks below open marks, and its memo; `unknown` globals by name."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.unknown: set[str] = set()
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.push(argument)
        elif name in _NEW:
            self.push(_NEW[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"the step {name} is in no torch file")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self._below.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def pop(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop_item_or_mark(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_to_mark()

    def put(self, number: int | None) -> None:
        self._memo[len(self._memo) if number is None else number] = self.stack[-1]

    def get(self, number: int) -> None:
        self.push(self._memo[number])

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1] += items

    def set_items(self, items: Sequence[Any]) -> None:
        _filled(self.stack[-1], items)

    def find_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _MAX_NAME:
            raise ValueError("a global without a name")
        found = _Global(module, name)
        if found not in _KNOWN and _storage_dtype(found) is None:
            full = f"{module}.{name}"
            self.unknown.add(full if full.isprintable() else repr(full))
        self.push(found)

    def call(self) -> None:
        called, arguments = self.pop(2)
        known = _KNOWN.get(called) if isinstance(called, _Global) else None
        is_call = isinstance(arguments, tuple) and len(cast(tuple[Any, ...], arguments)) <= _MAX_ARGUMENTS
        self.push(known(*arguments) if known is not None and is_call else Placeholder())

    def make_instance(self, names: str | None) -> None:
        self.pop_to_mark()
        if names is not None:  # otherwise the class lay on the stack
            self.find_global(*names.split(" ", 1))
            self.pop(1)
        self.push(Placeholder())

    def drop_state(self) -> None:
        self.pop(1)
        if not self.stack:
            raise ValueError("a state of nothing")

    def load_storage(self) -> None:
        (reference,) = self.pop(1)
        kind, dtype, record = reference[:3] if isinstance(reference, tuple) else (None, None, None)
        found = _storage_dtype(dtype) if isinstance(dtype, _Global) else None
        if kind != "storage" or found is None or not isinstance(record, str):
            raise ValueError("not a storage of tensors")
        self.push(_Storage(record, found))


def _filled(target: Any, items: Sequence[Any]) -> Any:
    """Set alternating keys and values; entries whose key is no string or ordinary integer are left out.

    Hashing any other key, such as an integer of a million digits or nested tuples, may never end.
    """
    if isinstance(target, dict):
        entries = cast(dict[Any, Any], target)
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str) or (isinstance(key, int) and -_MAX_INT < key < _MAX_INT):
                entries[key] = value
    return target


def _storage_dtype(found: _Global) -> torch.dtype | None:
    return _STORAGES.get(found.name) if found.module in ("torch", "torch.storage") else None


def _location(*arguments: Any) -> TensorLocation:
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without storage, shape or stride")  # noqa: TRY004 - the file's fault, no wrong argument
    axes, strides = cast(tuple[Any, ...], shape), cast(tuple[Any, ...], stride)
    if not len(axes) == len(strides) <= _MAX_ARGUMENTS or not _are_sizes((offset, *axes, *strides)):
        raise ValueError("a tensor whose offset, shape or stride are no sizes")
    return TensorLocation(storage.record, storage.dtype, offset, axes, strides)


def _are_sizes(numbers: Iterable[object]) -> bool:
    return all(type(number) is int and 0 <= number < _MAX_INT for number in numbers)


def _first(*arguments: Any) -> object:
    return arguments[0]


_KNOWN: dict[object, Callable[..., object]] = {
    _Global("collections", "OrderedDict"): lambda *_: {},
    _Global("torch", "Size"): _first,
    _Global("torch._utils", "_rebuild_tensor_v2"): _location,
    _Global("torch._utils", "_rebuild_parameter"): _first,
}
_NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": Placeholder,
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EXT1": Placeholder, "EXT2": Placeholder, "EXT4": Placeholder,
}  # fmt: skip
_PUSHED = frozenset({
    "NONE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_IGNORED = frozenset({"PROTO", "FRAME"})
_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.pop_item_or_mark(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "ADDITEMS": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop(3))),
    "LIST": lambda m, _: m.push(m.pop_to_mark()),
    "DICT": lambda m, _: m.push(_filled({}, m.pop_to_mark())),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    "APPENDS": lambda m, _: m.extend(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "GLOBAL": lambda m, names: m.find_global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.find_global(*m.pop(2)),
    **dict.fromkeys(("INST", "OBJ", "FROZENSET"), _Machine.make_instance),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "NEWOBJ_EX": lambda m, _: (m.pop(3), m.push(Placeholder())),
    "BUILD": lambda m, _: m.drop_state(),
    "BINPERSID": lambda m, _: m.load_storage(),
}
