"""Reads a torch file's pickle without running it: tensors become storage locations, the rest placeholders.

A pickle is a program for a stack machine. This machine makes plain values and nothing else: no global is
looked up, nothing is called, no attribute is set, and only plain numbers and strings are hashed, so a small
file cannot run code or keep the machine busy.
"""

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
_MAX_STEPS = 4_000_000  # some seconds; the largest published pickle has a hundredth of it
_MAX_ARGUMENTS = 16  # also bounds tensor rank; a larger copy could be repeated to exhaust memory
_MAX_NAME = 512
_MAX_INT = 1 << 62  # an axis, a stride, an offset or a key


class Inert:
    """Placeholder for any object that is not a tensor."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's location in the file."""

    record: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Global:
    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    record: str
    dtype: torch.dtype


def describe(data: bytes) -> tuple[object, frozenset[str]]:
    """The pickled value, of plain types and tensor locations, and the names of globals that are not known.

    Raises:
        ValueError: an invalid program, storage or tensor, or more steps than any file needs.
        LookupError: the program pops from an empty stack.
    """
    machine = _Machine()
    steps = pickletools.genops(data)
    for opcode, argument, _ in islice(steps, _MAX_STEPS):
        if opcode.name == "STOP":
            return machine.stack.pop(), frozenset(machine.strangers)
        machine.step(opcode.name, argument)
    raise ValueError(f"more than {_MAX_STEPS} steps")


class _Machine:
    """The pickle machine's stack, the stacks below open marks, and its memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.strangers: set[str] = set()
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ValueError(f"the step {name} is in no torch file")

    def mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def pop_mark(self, _: Any) -> None:
        self.to_mark()

    def double(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def remember(self, number: int | None) -> None:
        self._memo[len(self._memo) if number is None else number] = self.stack[-1]

    def recall(self, number: int) -> None:
        self.stack.append(self._memo[number])

    def take(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def make_tuple(self, _: Any) -> None:
        items = self.to_mark()  # replaces self.stack, so before the append
        self.stack.append(tuple(items))

    def make_list(self, _: Any) -> None:
        items = self.to_mark()
        self.stack.append(items)

    def make_dict(self, _: Any) -> None:
        items = self.to_mark()
        self.stack.append(_filled({}, items))

    def append(self, _: Any) -> None:
        self._extend(self.take(1))

    def extend(self, _: Any) -> None:
        self._extend(self.to_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1] += items

    def set_item(self, _: Any) -> None:
        items = self.take(2)
        _filled(self.stack[-1], items)

    def set_items(self, _: Any) -> None:
        items = self.to_mark()
        _filled(self.stack[-1], items)

    def find(self, argument: str) -> None:
        self.stack.append(self._global(*argument.split(" ", 1)))

    def find_on_stack(self, _: Any) -> None:
        self.stack.append(self._global(*self.take(2)))

    def _global(self, module: object, name: object) -> _Global:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _MAX_NAME:
            raise ValueError("a global without a name")
        found = _Global(module, name)
        if found not in _KNOWN and _storage_dtype(found) is None:
            full = f"{module}.{name}"
            self.strangers.add(full if full.isprintable() else repr(full))
        return found

    def call(self, _: Any) -> None:
        called, arguments = self.take(2)
        known = _KNOWN.get(called) if isinstance(called, _Global) else None
        is_call = isinstance(arguments, tuple) and len(cast(tuple[Any, ...], arguments)) <= _MAX_ARGUMENTS
        self.stack.append(known(*arguments) if known is not None and is_call else Inert())

    def make_instance(self, _: Any) -> None:
        self.to_mark()
        self.stack.append(Inert())

    def name_instance(self, argument: str) -> None:
        self._global(*argument.split(" ", 1))
        self.make_instance(None)

    def call_named(self, _: Any) -> None:
        self.take(3)
        self.stack.append(Inert())

    def extension(self, _: Any) -> None:
        self.stack.append(Inert())

    def forget_state(self, _: Any) -> None:
        self.take(1)
        if not self.stack:
            raise ValueError("a state of nothing")

    def load_storage(self, _: Any) -> None:
        (told,) = self.take(1)
        kind, dtype, record = told[:3] if isinstance(told, tuple) else (None, None, None)
        found = _storage_dtype(dtype) if isinstance(dtype, _Global) else None
        if kind != "storage" or found is None or not isinstance(record, str):
            raise ValueError("not a storage of tensors")
        self.stack.append(_Storage(record, found))

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(self.take(count)))

    def nothing(self, _: Any) -> None: ...


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


def _place(*told: Any) -> Place:
    storage, offset, shape, stride = told[:4]
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without storage, shape or stride")  # noqa: TRY004 - the file's fault, no wrong argument
    axes, strides = cast(tuple[Any, ...], shape), cast(tuple[Any, ...], stride)
    if not len(axes) == len(strides) <= _MAX_ARGUMENTS or not _are_sizes((offset, *axes, *strides)):
        raise ValueError("a tensor whose offset, shape or stride are no sizes")
    return Place(storage.record, storage.dtype, offset, axes, strides)


def _are_sizes(numbers: Iterable[object]) -> bool:
    return all(type(number) is int and 0 <= number < _MAX_INT for number in numbers)


def _first(*told: Any) -> object:
    return told[0]


def _ordered(*_: Any) -> dict[Any, Any]:
    return {}


_KNOWN: dict[object, Callable[..., object]] = {
    _Global("collections", "OrderedDict"): _ordered,
    _Global("torch", "Size"): _first,
    _Global("torch._utils", "_rebuild_tensor_v2"): _place,
    _Global("torch._utils", "_rebuild_parameter"): _first,
}
_FRESH: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": Inert,
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
}  # fmt: skip
_PUSHED = frozenset({
    "NONE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing, "FRAME": _Machine.nothing, "MARK": _Machine.mark, "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark, "DUP": _Machine.double, "PUT": _Machine.remember,
    "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember, "MEMOIZE": _Machine.remember,
    "GET": _Machine.recall, "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "TUPLE": _Machine.make_tuple, "LIST": _Machine.make_list, "DICT": _Machine.make_dict,
    "APPEND": _Machine.append, "APPENDS": _Machine.extend, "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items, "ADDITEMS": _Machine.pop_mark, "FROZENSET": _Machine.make_instance,
    "GLOBAL": _Machine.find, "STACK_GLOBAL": _Machine.find_on_stack, "INST": _Machine.name_instance,
    "OBJ": _Machine.make_instance, "REDUCE": _Machine.call, "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_named, "BUILD": _Machine.forget_state, "BINPERSID": _Machine.load_storage,
    "EXT1": _Machine.extension, "EXT2": _Machine.extension, "EXT4": _Machine.extension,
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
}  # fmt: skip
