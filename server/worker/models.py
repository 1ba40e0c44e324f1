"""The models of the engine process: loaded at first use, the least recently used unloaded to free memory.

Requests borrow models; a borrowed one is never unloaded. All state belongs to the event loop; what takes long
(estimates, loading, unloading) runs on one thread, one model at a time, and everything else goes on.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_model.assembly.memory import shown
from bt_model.errors import BtchatError, CheckpointError, EngineError, UnknownNameError
from bt_model.generation.engine import BatchEngine
from server.worker.loaded import Lease, LoadedModel, Loader
from server.worker.thread import WorkThread

if TYPE_CHECKING:
    from bt_model.types import ModelCard


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _LoadFailure:
    error: BtchatError
    at: float


class ModelPool:
    """What is configured, and what of it is loaded.

    `max_bytes` bounds the sum of the loaded models' estimates; `on_change` gets the loaded models' names,
    `on_file` the model that is being loaded, the number of the file that is read, and that of all its files.
    """

    def __init__(
        self,
        loader: Loader,
        on_change: Callable[[list[str]], None],
        on_file: Callable[[str, int, int], None],
        *,
        max_bytes: int | None = None,
    ) -> None:
        self.names = loader.ids
        self.num_loads = 0
        self.num_unloads = 0
        self._loader = loader
        self._on_change = on_change
        self._on_file = on_file
        self._max_bytes = max_bytes
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()  # least recently used first
        self._failures: dict[str, _LoadFailure] = {}
        self._fingerprints: dict[str, str] = {}
        self._thread = WorkThread("loader")
        self._is_stopping = False
        self._turn = asyncio.Lock()  # of those who wait for a model that is not loaded

    async def start(self) -> "ModelCard":
        """Load the first model.

        Raises:
            BtchatError: the model cannot be loaded.
        """
        async with self._turn:
            return (await self._load(self.names[0])).chat.card

    @asynccontextmanager
    async def borrowed(self, names: Sequence[str]) -> AsyncGenerator[Lease]:
        """These models for the time of the `async with`, at once if they are loaded.

        One who leaves before his turn to load comes loads nothing.

        Raises:
            UnknownNameError: a name that is not configured.
        """
        for name in names:
            if name not in self.names:
                text = f"no model {name[:80]!r}; available: {', '.join(self.names)}"
                raise UnknownNameError(text, code="model_not_found", param="model")
        lease, since = Lease(), time.monotonic()
        try:
            for name in names:
                try:
                    lease.models[name] = await self._take(name, since)
                except BtchatError as error:
                    lease.failures[name] = error
            yield lease
        finally:
            for model in lease.models.values():
                model.num_users -= 1

    def stats(self) -> dict[str, float]:
        """By the names of metrics."""
        loaded = self.loaded()
        return {
            "models_loaded": float(len(loaded)),
            "model_memory_bytes": float(sum(model.num_bytes for model in loaded)),
            "model_loads_total": float(self.num_loads),
            "model_unloads_total": float(self.num_unloads),
        }

    def loaded(self) -> list[LoadedModel]:
        """The loaded models, least recently used first; they are not borrowed, so only for inspection."""
        return list(self._loaded.values())

    async def stop(self) -> None:
        """End all generation; nothing is loaded any more."""
        self._is_stopping = True
        engines = {model.engine for model in self._loaded.values()}
        await asyncio.gather(*(asyncio.to_thread(engine.stop) for engine in engines))

    async def _take(self, name: str, since: float) -> LoadedModel:
        """One more user of a model; those who waited while it failed to load share that failure."""
        if name in self._loaded:
            return self._use(name)
        async with self._turn:
            if name not in self._loaded:
                if self._is_stopping:
                    raise EngineError("the engine is stopping", code="stopping")
                failure = self._failures.get(name)
                if failure is not None and failure.at >= since:
                    raise _without_trace(failure.error)
                await _to_its_end(self._load(name))
            return self._use(name)

    def _use(self, name: str) -> LoadedModel:
        model = self._loaded[name]
        model.num_users += 1
        self._loaded.move_to_end(name)
        return model

    async def _load(self, name: str) -> LoadedModel:
        try:
            model = await self._loaded_model(name)
        except BtchatError as error:
            failure = _without_trace(error)
        except Exception as error:
            log.exception("a model cannot be loaded")
            text = " ".join(f"{name} cannot be loaded: {type(error).__name__}: {error}".split())
            failure = EngineError(text, code="model_failed")
        else:
            self._loaded[name] = model
            self.num_loads += 1
            self._report()
            return model
        await self._thread.run(self._loader.collect)
        self._failures[name] = _LoadFailure(failure, time.monotonic())
        raise _without_trace(failure)

    async def _loaded_model(self, name: str) -> LoadedModel:
        if (base := self._loader.base_of(name)) is not None:
            return await self._loaded_beside(name, self._loaded.get(base) or await self._load(base))
        estimate = await self._thread.run(self._loader.estimate, name)
        log.info("loading %s: %s", name, estimate)
        await self._make_room(name, estimate.total)
        loop = asyncio.get_running_loop()

        def report(number: int, count: int) -> None:
            loop.call_soon_threadsafe(self._on_file, name, number, count)

        chat = await self._thread.run(self._loader.load, name, report)
        self._check_same(name, chat.card.model_fingerprint)
        engine = BatchEngine(
            chat.backend.lm,
            max_batch=estimate.max_batch,
            max_context=estimate.max_context or None,
            num_pages=estimate.num_pages or None,
            keep_weights=False,
        )
        await self._thread.run(engine.start)  # which reserves its cache
        return LoadedModel(name, chat, engine, estimate.total, chat.grammars())

    async def _loaded_beside(self, name: str, base: LoadedModel) -> LoadedModel:
        """A model that shares all but its adapter with another, whose engine answers for both."""
        base.num_users += 1
        try:
            estimate = await self._thread.run(self._loader.estimate, name)
            log.info("loading %s beside %s: %s", name, base.name, estimate)
            await self._make_room(name, estimate.total)
            chat = await self._thread.run(self._loader.load_beside, name, base.chat)
        finally:
            base.num_users -= 1
        self._check_same(name, chat.card.model_fingerprint)
        return LoadedModel(name, chat, base.engine, estimate.total, base.grammars, base)

    def _check_same(self, name: str, fingerprint: str) -> None:
        """Raise if a model's weights changed since its first load, whose card the web process has."""
        if self._fingerprints.setdefault(name, fingerprint) != fingerprint:
            raise CheckpointError(
                f"{name}: its weights have changed on disk; start the server again to use them"
            )

    async def _make_room(self, name: str, num_bytes: int) -> None:
        """Unload idle models until one fits; unload none if it would not fit anyway.

        Raises:
            EngineError: code model_memory, with needed and available bytes.
        """
        idle = sum(model.num_bytes for model in self._idle())
        if complaint := self._shortage(name, num_bytes, idle):
            raise EngineError(complaint, code="model_memory")
        while complaint := self._shortage(name, num_bytes, 0):
            if not await self._unload_one():
                raise EngineError(complaint, code="model_memory")

    def _shortage(self, name: str, needed: int, idle: int) -> str:
        """Why `needed` bytes would not fit after unloading `idle` bytes; empty if they would."""
        held = self.loaded()
        taken = sum(model.num_bytes for model in held) - idle
        if self._max_bytes is not None and needed + taken > self._max_bytes:
            users = ", ".join(model.name for model in held if model.num_users)
            in_use = f", of which {shown(taken)} are taken by models in use ({users})" if taken else ""
            return f"{name} needs {shown(needed)}; models may take {shown(self._max_bytes)}{in_use}"
        free = self._loader.free_bytes() + idle
        if needed > free:
            way_out = "BTCHAT_KV_BYTES and BTCHAT_MAX_CONTEXT bound the cache, BTCHAT_QUANTISE the weights"
            return f"{name} needs {shown(needed)}; {shown(free)} are free on this device; {way_out}"
        return ""

    def _idle(self) -> list[LoadedModel]:
        """Those that nobody uses, least recently used first; a model is in use while one beside it is."""
        used = {(model.base or model).name for model in self._loaded.values() if model.num_users}
        return [
            model
            for model in self._loaded.values()
            if not model.num_users and (model.base is not None or model.name not in used)
        ]

    async def _unload_one(self) -> bool:
        """Unload the least recently used idle model, after those beside it; False if there is none."""
        bases = [model.base for model in self._loaded.values()]
        idle = next((model for model in self._idle() if model not in bases), None)
        if idle is None:
            return False
        del self._loaded[idle.name]
        if idle.base is None:
            await self._thread.run(idle.engine.stop)
        self.num_unloads += 1
        log.info("unloaded %s", idle.name)
        del idle, bases  # or their memory would be taken still
        await self._thread.run(self._loader.collect)
        self._report()
        return True

    def _report(self) -> None:
        self._on_change(list(self._loaded))


async def _to_its_end(load: Coroutine[Any, Any, LoadedModel]) -> None:
    """Wait for a load, which ends before the one who asked may leave: the next must know what there is."""
    task = asyncio.create_task(load)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _without_trace(error: BtchatError) -> BtchatError:
    """The same error; a trace would keep alive what was loaded so far."""
    return type(error)(error.message, code=error.code, param=error.param)
