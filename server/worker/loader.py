"""Loads models from disk, onto the device and in the number format of this process."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bt_model.assembly.catalog import find
from bt_model.assembly.load import OnFile, load, load_beside
from bt_model.assembly.memory import MemoryEstimate, adapter_bytes, encode_bytes, memory_estimate, shown
from bt_model.assembly.model_file import read_model_file
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache
from bt_model.backends.parts.llm import read_cache_sizes
from bt_model.chat import VideoChat
from bt_model.errors import CheckpointError, require
from bt_model.generation.chunk import PAGE, pages_of
from bt_model.generation.kv_cache import page_bytes
from bt_model.types import Quantise
from server.worker.memory import free_bytes


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What was set of the cache of keys and values; None is chosen from the model and the free memory."""

    max_batch: int = 64
    max_context: int | None = None
    num_bytes: int | None = None
    reserved_bytes: int = 0  # memory that is for other things than models
    model_bytes: int | None = None  # what all loaded models may take


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of a loaded model: its weights, its largest encode, and the pages of keys and values."""

    weights: MemoryEstimate
    encode_bytes: int
    page_bytes: int
    num_pages: int
    max_batch: int
    max_context: int

    @property
    def cache_bytes(self) -> int:
        return self.page_bytes * self.num_pages

    @property
    def total(self) -> int:
        return self.weights.total + self.encode_bytes + self.cache_bytes

    def __str__(self) -> str:
        tokens = self.num_pages * PAGE
        cache = f"{shown(self.cache_bytes)} for keys and values of {tokens} tokens"
        rows = f"up to {self.max_batch} answers at once, {self.max_context} tokens each"
        encode = f"{shown(self.encode_bytes)} for encoding"
        return f"{self.weights}; {encode}; {cache} ({rows}); {shown(self.total)} together"


DEFAULT_CACHE = CacheSettings()
_SHARE_OF_GPU = 0.9  # of the memory that is free, for the cache; the rest is for what no estimate knows
_SHARE_OF_MACHINE = 0.5  # which others use too


class DiskLoader:
    """Loads models by the id in their model file; they share frozen towers.

    Args:
        names: of models, or paths of model files.
        weights_dir: where names are looked up.
        device: see `Placement.pick`, as dtype and quantise.
        cache: what was set of the cache, and of the memory around it.

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
        cache: CacheSettings = DEFAULT_CACHE,
    ) -> None:
        self._cache = cache
        self._weights_dir = weights_dir
        self._device = device
        self._dtype = dtype
        self._quantise: Quantise = quantise
        self._place = Placement.pick(device, dtype, quantise)
        self._towers = TowerCache()
        self._files: dict[str, Path] = {}
        self._beside: dict[str, tuple[str, str]] = {}  # model and adapter by id
        for name in names:
            path = find(name, weights_dir)
            model = read_model_file(path, weights_dir)
            known = self._files.setdefault(model.id, path)
            if known != path:
                raise CheckpointError(
                    f"{path}: has the same id as {known}; models in one server need their own"
                )
            self._beside |= {id_: (model.id, adapter) for id_, adapter in model.ids_beside().items()}
        if twice := self._files.keys() & self._beside.keys():
            raise CheckpointError(
                f"{', '.join(twice)} is a model and an adapter of one; each needs its own id"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        return (*self._files, *self._beside)

    def base_of(self, name: str) -> str | None:
        return self._beside[name][0] if name in self._beside else None

    def estimate(self, name: str) -> Need:
        """What a model takes now: as many pages as it can use, or as memory allows, but one whole context.

        Raises:
            CheckpointError: files that are missing.
            InvalidValueError: a cache that was set too small for one request.
        """
        if name in self._beside:
            base, adapter = self._beside[name]
            num_bytes = adapter_bytes(self._files[base], adapter, self._place.dtype)
            return Need(MemoryEstimate(num_bytes, 0, 0), 0, 0, 0, self._cache.max_batch, 0)
        path, place = self._files[name], self._place
        weights = memory_estimate(str(path), self._weights_dir, place.dtype, self._quantise)
        model = read_model_file(path)
        encode, batch = encode_bytes(path, place.dtype), self._cache.max_batch
        if not model.llm:
            return Need(weights, encode, 0, 0, batch, self._cache.max_context or 0)
        config = read_cache_sizes(path.parent / model.llm)
        context = min(config.max_context, self._cache.max_context or config.max_context)
        per_page, least = page_bytes(config, place.dtype.itemsize), pages_of(context)
        if self._cache.num_bytes is None:
            room = self._room(weights.total + encode) // per_page
            return Need(weights, encode, per_page, min(max(room, least), batch * least), batch, context)
        allowed = f"{per_page * least} or more, for one request of {context} tokens; or a smaller max_context"
        require(self._cache.num_bytes >= per_page * least, "kv_bytes", self._cache.num_bytes, allowed)
        return Need(weights, encode, per_page, self._cache.num_bytes // per_page, batch, context)

    def _room(self, others: int) -> int:
        """Bytes for the pages of one model of several, once its weights are loaded."""
        share = _SHARE_OF_GPU if self._place.device.type == "cuda" else _SHARE_OF_MACHINE
        free = int((self.free_bytes() - self._cache.reserved_bytes - others) * share / len(self._files))
        limit = self._cache.model_bytes
        return free if limit is None else min(free, limit - others)

    def load(self, name: str, report: OnFile | None = None) -> VideoChat:
        chat = load(
            str(self._files[name]),
            self._weights_dir,
            device=self._device,
            dtype=self._dtype,
            quantise=self._quantise,
            towers=self._towers,
            report=report,
        )
        context = min(chat.card.max_context, self._cache.max_context or chat.card.max_context)
        return replace(chat, card=replace(chat.card, max_context=context))

    def load_beside(self, name: str, base: VideoChat) -> VideoChat:
        model, adapter = self._beside[name]
        return load_beside(base, self._files[model], adapter, self._place, self._towers)

    def free_bytes(self) -> int:
        return free_bytes(self._place.device)

    def collect(self) -> None:
        gc.collect()
        if self._place.device.type == "cuda":
            torch.cuda.empty_cache()
