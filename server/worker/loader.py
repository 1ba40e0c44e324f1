"""Loads models from disk, onto the device and in the number format of this process."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bt_model.assembly.catalog import find
from bt_model.assembly.load import OnFile, load
from bt_model.assembly.memory import MemoryEstimate, memory_estimate, shown
from bt_model.assembly.model_file import read_model_file
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache
from bt_model.backends.parts.llm import read_llama_config
from bt_model.chat import VideoChat
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError
from bt_model.types import Quantise
from server.worker.memory import free_bytes


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of a loaded model: its weights, and the KV cache for a full batch."""

    weights: MemoryEstimate
    cache_bytes: int
    num_slots: int

    @property
    def total(self) -> int:
        return self.weights.total + self.cache_bytes

    def __str__(self) -> str:
        cache = f"{shown(self.cache_bytes)} for keys and values of {self.num_slots} answers at once"
        return f"{self.weights}; {cache}; {shown(self.total)} together"


class DiskLoader:
    """Loads models by the id in their model file; they share frozen towers.

    Raises:
        UnknownNameError: a name or path without a model file.
        CheckpointError: two files with the same id, or one that cannot be read.
        BtchatError: a device or number format that this machine does not support.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights_dir: Path,
        *,
        device: str = "auto",
        dtype: str | None = None,
        quantise: Quantise = "none",
        num_slots: int = 16,
    ) -> None:
        self._num_slots = num_slots
        self._weights_dir = weights_dir
        self._device = device
        self._dtype = dtype
        self._quantise: Quantise = quantise
        self._place = Placement.pick(device, dtype, quantise)
        self._towers = TowerCache()
        self._files: dict[str, Path] = {}
        for name in names:
            path = find(name, weights_dir)
            known = self._files.setdefault(read_model_file(path, weights_dir).id, path)
            if known != path:
                raise CheckpointError(
                    f"{path}: has the same id as {known}; models in one server need their own"
                )

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._files)

    @property
    def num_slots(self) -> int:
        return self._num_slots

    def estimate(self, name: str) -> Need:
        """Raises CheckpointError for files that are missing."""
        path, place = self._files[name], self._place
        weights = memory_estimate(str(path), self._weights_dir, place.dtype, self._quantise)
        llm = read_model_file(path).llm
        cache = cache_bytes(read_llama_config(path.parent / llm), self.num_slots, place.dtype) if llm else 0
        return Need(weights, cache, self.num_slots)

    def load(self, name: str, report: OnFile | None = None) -> VideoChat:
        return load(
            str(self._files[name]),
            self._weights_dir,
            device=self._device,
            dtype=self._dtype,
            quantise=self._quantise,
            towers=self._towers,
            report=report,
        )

    def free_bytes(self) -> int:
        return free_bytes(self._place.device)

    def collect(self) -> None:
        gc.collect()
        if self._place.device.type == "cuda":
            torch.cuda.empty_cache()


def cache_bytes(config: LlamaConfig, num_slots: int, dtype: torch.dtype) -> int:
    """Bytes of the KV cache: `num_slots` slots of the whole context, in every layer."""
    per_position = 2 * config.num_layers * config.num_kv_heads * (config.width // config.num_heads)
    return per_position * config.max_context * num_slots * dtype.itemsize
