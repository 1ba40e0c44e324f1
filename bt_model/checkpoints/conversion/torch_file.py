"""The only reader of pickles: tensors from a torch file, without executing code that the file names.

A torch file is a zip of raw storages and one pickle with the location of each tensor (pickle_machine.py
reads it). Tensors are read one by one, so a file of any size takes the memory of its largest tensor.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from bt_model.checkpoints.conversion.pickle_machine import TensorLocation, parse_pickle
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_PICKLE = 16 << 20  # bytes of the pickle, which holds no tensor data
_MAX_EXPANDED = 64 << 20  # bytes by which all tensors may exceed the stored data
_MAX_SHARED = 2  # tied tensors share a storage, so tensors may have twice its bytes
_TRUNCATED_PROJECTOR = 1 << 24  # bytes of the published sft_mm_projector.bin, fewer than its tensors take
_WRAPPERS = ("state_dict", "model", "model_state_dict")


class TorchFile(Mapping[str, "Tensor"]):
    """The tensors of one .pth or .bin file by name, read when asked for.

    `left_out` names the file's other entries, `unknown` the globals of other libraries, never called.

    Raises:
        CheckpointError: not a torch file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._folder = _folder_of(self._zip)
            value, self.unknown = parse_pickle(_read_pickle(self._zip, self._folder))
        except (OSError, zipfile.BadZipFile) as error:
            raise _unreadable(path, error) from error
        except Exception as error:  # a pickle can fail in any way
            why = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path}: its pickle cannot be read ({why})") from error
        self.locations, self.left_out = _tensors_of(path, value)
        self._size = path.stat().st_size
        total = sum(each.num_bytes for each in self.locations.values())
        if total > _MAX_SHARED * self._size + _MAX_EXPANDED:
            raise CheckpointError(f"{path}: its tensors would take {total} bytes, out of {self._size}")

    def __getitem__(self, name: str) -> "Tensor":
        where = self.locations[name]
        try:
            data = bytearray(self._read(where))
            flat = torch.frombuffer(data, dtype=where.dtype) if data else torch.empty(0, dtype=where.dtype)
            return flat.as_strided(where.shape, where.stride, where.offset).contiguous()
        except (KeyError, RuntimeError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise CheckpointError(f"{self.path}: {name} cannot be read ({error})") from error

    def _read(self, where: TensorLocation) -> bytes:
        info = self._zip.getinfo(f"{self._folder}data/{where.record}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses; data could expand endlessly
            raise ValueError("its data is compressed")
        if where.num_bytes > max(min(info.file_size, self._size), _MAX_EXPANDED):  # stride 0 repeats data
            raise ValueError(f"{where.num_bytes} bytes out of {info.file_size}")
        return self._zip.read(info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.locations)

    def __len__(self) -> int:
        return len(self.locations)


def _folder_of(file: zipfile.ZipFile) -> str:
    found = [name for name in file.namelist() if name.endswith("data.pkl")]
    if len(found) != 1:
        raise zipfile.BadZipFile("no data.pkl in it")
    return found[0].removesuffix("data.pkl")


def _read_pickle(file: zipfile.ZipFile, folder: str) -> bytes:
    info = file.getinfo(f"{folder}data.pkl")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed")
    if info.file_size > _MAX_PICKLE:
        raise ValueError(f"it has {info.file_size} bytes; allowed: {_MAX_PICKLE}")
    return file.read(info)


def _tensors_of(path: Path, value: object) -> tuple[dict[str, TensorLocation], dict[str, str]]:
    """The tensors of a state dict, bare or inside a training checkpoint, and why the rest is left out."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a torch file that holds no dictionary of tensors")
    whole = cast(dict[str | int, object], value)
    left: dict[str, str] = {}
    for wrapper in _WRAPPERS:
        inner = whole.get(wrapper)
        if isinstance(inner, dict):
            left = {
                _printable(name): "beside the weights: of the training run"
                for name in whole
                if name != wrapper
            }
            whole = cast(dict[str | int, object], inner)
            break
    tensors = {
        name: each
        for name, each in whole.items()
        if isinstance(name, str) and isinstance(each, TensorLocation)
    }
    if refused := [name for name in tensors if not name.isprintable()]:
        raise CheckpointError(
            f"{path}: a tensor is called {refused[0]!r}; allowed: names that can be printed"
        )
    left |= {_printable(name): "no tensor" for name in whole if name not in tensors}
    return tensors, left


def _printable(name: str | int) -> str:
    return name if isinstance(name, str) and name.isprintable() else repr(name)


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
