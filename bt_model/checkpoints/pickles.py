"""The only reader of pickles: tensors out of a torch file, without running anything that the file names.

A torch file is a zip of raw storages and one pickle that says which tensor lies where. Every global that the
pickle asks for is answered by our own inert stand-in: tensors become places in the zip, and everything else,
of whatever library, an object that does nothing. Tensors are read one by one, so a file of any size takes the
memory of its largest tensor.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_PICKLE = 256 << 20  # bytes; of the description alone, tensors lie outside it
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
_MAX_EXPANDED = 64 << 20  # bytes that a tensor may have beyond what is stored of it
_TRUNCATED_PROJECTOR = 1 << 24  # bytes of the published sft_mm_projector.bin (backends spec 1.1)
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True, slots=True)
class _Storage:
    record: str
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in the file."""

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


class Inert:
    """Stands for anything that is no tensor: takes every call, does nothing."""

    def __new__(cls, *_given: object, **_named: object) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *_given: object, **_named: object) -> None: ...

    def __call__(self, *_given: object, **_named: object) -> "Inert":
        return Inert()

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _value: object) -> None: ...

    def extend(self, _values: object) -> None: ...


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.strangers: set[str] = set()

    def persistent_load(self, pid: Any) -> object:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("not a storage of tensors")
        return _Storage(str(key), dtype)

    def find_class(self, module: str, name: str, /) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): _place,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in known:
            self.strangers.add(f"{module}.{name}")
        return known.get((module, name), Inert)


def _place(storage: _Storage, offset: int, shape: Any, stride: Any, *_more: object) -> Place:
    return Place(storage.record, storage.dtype, int(offset), tuple(shape), tuple(stride))


def _parameter(place: Place, *_more: object) -> Place:
    return place


class TorchFile(Mapping[str, "Tensor"]):
    """The tensors of one .pth or .bin file by name, read when asked for.

    `left_out` names what else the file holds; `strangers` the globals of other libraries that were not run.

    Raises:
        CheckpointError: not a torch file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._folder = _folder_of(self._zip)
            told, self.strangers = _describe(self._zip, self._folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise _unreadable(path, error) from error
        except Exception as error:  # a pickle can fail in any way
            why = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path}: its description cannot be read ({why})") from error
        self.places, self.left_out = _tensors_of(path, told)

    def __getitem__(self, name: str) -> "Tensor":
        place = self.places[name]
        try:
            data = bytearray(self._read(place))
            flat = torch.frombuffer(data, dtype=place.dtype) if data else torch.empty(0, dtype=place.dtype)
            return flat.as_strided(place.shape, place.stride, place.offset).contiguous()
        except (KeyError, RuntimeError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise CheckpointError(f"{self.path}: {name} cannot be read ({error})") from error

    def _read(self, place: Place) -> bytes:
        info = self._zip.getinfo(f"{self._folder}data/{place.record}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch never does; it could grow without bound
            raise ValueError("its data is compressed")
        if place.num_bytes > max(info.file_size, _MAX_EXPANDED):  # repeated by a stride of 0
            raise ValueError(f"{place.num_bytes} bytes out of {info.file_size}")
        return self._zip.read(info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _folder_of(file: zipfile.ZipFile) -> str:
    found = [name for name in file.namelist() if name.endswith("data.pkl")]
    if len(found) != 1:
        raise zipfile.BadZipFile("no data.pkl in it")
    if file.getinfo(found[0]).file_size > _MAX_PICKLE:
        raise zipfile.BadZipFile(f"its description is larger than {_MAX_PICKLE} bytes")
    return found[0].removesuffix("data.pkl")


def _describe(file: zipfile.ZipFile, folder: str) -> tuple[object, frozenset[str]]:
    with file.open(f"{folder}data.pkl") as opened:
        reader = _Reader(opened)
        return reader.load(), frozenset(reader.strangers)


def _tensors_of(path: Path, told: object) -> tuple[dict[str, Place], dict[str, str]]:
    """The state dict, itself or inside a training checkpoint, and what is beside it."""
    if not isinstance(told, dict):
        raise CheckpointError(f"{path}: a torch file that holds no dictionary of tensors")
    whole = cast(dict[str, object], told)
    left: dict[str, str] = {}
    for wrapper in _WRAPPERS:
        inner = whole.get(wrapper)
        if isinstance(inner, dict):
            left = {name: "beside the weights: of the training run" for name in whole if name != wrapper}
            whole = cast(dict[str, object], inner)
            break
    places = {str(name): place for name, place in whole.items() if isinstance(place, Place)}
    left |= {str(name): "no tensor" for name in whole if str(name) not in places}
    return places, left


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    try:
        size = path.stat().st_size
    except OSError:
        return CheckpointError(f"{path}: cannot be read ({error})")
    if size == _TRUNCATED_PROJECTOR:
        return CheckpointError(
            f"{path}: cut off at exactly {size} bytes, as the published sft_mm_projector.bin is (a whole one "
            "has 16795429 or more). Use the LLaVA folder's projector instead: that is the zero-shot setting"
        )
    return CheckpointError(
        f"{path}: {size} bytes, not a whole torch file ({error}); cut off, or saved by torch before 1.6"
    )
