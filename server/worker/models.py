"""The models of the engine process: loaded at first use, the least recently used unloaded for room.

Requests borrow models; a borrowed one is never unloaded. One thread loads, so that everything else goes on,
and those who wait for the same model wait together.
"""

import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Protocol

from bt_model.assembly.memory import shown
from bt_model.errors import BtchatError, CheckpointError, EngineError, UnknownNameError
from bt_model.generation.engine import BatchEngine

if TYPE_CHECKING:
    from bt_model.chat import VideoChat
    from bt_model.types import ModelCard


class Estimate(Protocol):
    """What a model will take; its text is one line."""

    @property
    def total(self) -> int: ...


class Loader(Protocol):
    """Where models come from."""

    def estimate(self, name: str) -> Estimate: ...

    def load(self, name: str) -> "VideoChat": ...

    def free_bytes(self) -> int: ...

    def collect(self) -> None:
        """Give the memory of models that nobody holds back to the system."""
        ...


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A model and the thread that answers with it."""

    name: str
    chat: "VideoChat"
    engine: BatchEngine
    num_bytes: int
    num_users: int = 0


@dataclass(slots=True)
class Lease:
    """Borrowed models by name, and why others could not be had."""

    models: dict[str, LoadedModel] = field(default_factory=dict[str, LoadedModel])
    failures: dict[str, BtchatError] = field(default_factory=dict[str, BtchatError])


@dataclass(frozen=True, slots=True)
class _Wish:
    names: Sequence[str]
    then: Callable[[Lease], None]
    is_wanted: Callable[[], bool]
    since: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """What an error said, without its trace: that would keep alive what was loaded so far."""

    said: BtchatError
    at: float

    def error(self) -> BtchatError:
        return type(self.said)(self.said.message, code=self.said.code, param=self.said.param)


class Models:
    """What is configured, and what of it is loaded; thread-safe.

    `max_bytes` bounds the sum of the estimates of what is loaded, whose names `on_change` gets.
    """

    def __init__(
        self,
        names: Sequence[str],
        loader: Loader,
        on_change: Callable[[list[str]], None],
        *,
        max_bytes: int | None = None,
        max_batch: int = 16,
    ) -> None:
        self.names = tuple(names)
        self.num_loads = 0
        self.num_unloads = 0
        self._loader = loader
        self._on_change = on_change
        self._max_bytes = max_bytes
        self._max_batch = max_batch
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()  # least recently used first
        self._failures: dict[str, _Failure] = {}
        self._fingerprints: dict[str, str] = {}
        self._lock = Lock()
        self._wishes: SimpleQueue[_Wish] = SimpleQueue()
        self._is_stopping = False

    def start(self) -> "ModelCard":
        """Load the first model, then be ready to load the others.

        Raises:
            BtchatError: why it cannot be loaded.
        """
        first = self._load(self.names[0])
        first.num_users -= 1
        Thread(target=self._run, name="loader", daemon=True).start()
        return first.chat.card

    def borrow(
        self,
        names: Sequence[str],
        then: Callable[[Lease], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Call `then` with these models: at once if all are loaded, else from the loader's thread.

        `then` must not raise, and sees to it that the lease is returned. A wish that is no longer wanted when
        its turn comes loads nothing and gets an empty lease.

        Raises:
            UnknownNameError: a name that is not configured.
        """
        for name in names:
            if name not in self.names:
                text = f"no model {name[:80]!r}; available: {', '.join(self.names)}"
                raise UnknownNameError(text, code="model_not_found", param="model")
        with self._lock:
            lease = Lease({name: self._loaded[name] for name in names if name in self._loaded})
            is_complete = len(lease.models) == len(names)
            if is_complete:
                for model in lease.models.values():
                    self._use(model)
        if is_complete:
            then(lease)
        else:
            self._wishes.put(_Wish(names, then, is_wanted, time.monotonic()))

    def give_back(self, models: Iterable[LoadedModel]) -> None:
        """End a lease."""
        with self._lock:
            for model in models:
                model.num_users -= 1

    def loaded(self) -> list[LoadedModel]:
        """What is loaded now, the least recently used first; not borrowed, so only to be looked at."""
        with self._lock:
            return list(self._loaded.values())

    def has_died(self) -> bool:
        """Whether a loaded model can no longer answer."""
        silent = [model for model in self.loaded() if not model.engine.stats().alive]
        return any(
            model in self.loaded() for model in silent
        )  # one that was unloaded meanwhile may be silent

    def stop(self, drain_seconds: float) -> None:
        """Let running answers finish for up to `drain_seconds`; nothing is loaded any more."""
        self._is_stopping = True
        until = time.monotonic() + drain_seconds
        for model in self.loaded():
            model.engine.stop(max(until - time.monotonic(), 0.0))

    def _use(self, model: LoadedModel) -> None:
        model.num_users += 1
        self._loaded.move_to_end(model.name)

    def _run(self) -> None:
        while True:
            self._grant(self._wishes.get())

    def _grant(self, wish: _Wish) -> None:
        lease = Lease()
        for name in wish.names if wish.is_wanted() and not self._is_stopping else ():
            try:
                lease.models[name] = self._take(name, wish.since)
            except BtchatError as error:
                lease.failures[name] = error
        wish.then(lease)

    def _take(self, name: str, since: float) -> LoadedModel:
        """A borrowed model; those who waited while it failed to load share that failure."""
        with self._lock:
            model = self._loaded.get(name)
            if model is not None:
                self._use(model)
                return model
        failure = self._failures.get(name)
        if failure is not None and failure.at >= since:
            raise failure.error()
        try:
            return self._load(name)
        except BtchatError as error:
            self._failures[name] = failure = _Failure(error.with_traceback(None), time.monotonic())
        finally:
            self._loader.collect()
        raise failure.error()

    def _load(self, name: str) -> LoadedModel:
        try:
            estimate = self._loader.estimate(name)
            sys.stderr.write(f"engine: loading {name}: {estimate}\n")
            self._make_room(name, estimate.total)
            chat = self._loader.load(name)
            self._check_same(name, chat.card.fingerprint)
            engine = BatchEngine(chat.backend.lm, max_batch=self._max_batch)
            engine.start()
        except BtchatError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model does, the others go on
            traceback.print_exc()
            text = " ".join(f"{name} cannot be loaded: {type(error).__name__}: {error}".split())
            raise EngineError(text, code="model_failed") from None
        model = LoadedModel(name, chat, engine, estimate.total, num_users=1)
        with self._lock:
            self._loaded[name] = model
            self.num_loads += 1
        self._tell()
        return model

    def _check_same(self, name: str, fingerprint: str) -> None:
        """The web process knows a model's card from its first load, so another one needs a new start."""
        if self._fingerprints.setdefault(name, fingerprint) != fingerprint:
            raise CheckpointError(
                f"{name}: its weights have changed on disk; start the server again to use them"
            )

    def _make_room(self, name: str, num_bytes: int) -> None:
        """Unload until a model fits; nothing is unloaded for one that would not fit even so.

        Raises:
            EngineError: code model_memory, with what is needed and what there is.
        """
        idle = sum(model.num_bytes for model in self.loaded() if not model.num_users)
        if complaint := self._shortage(name, num_bytes, idle):
            raise EngineError(complaint, code="model_memory")
        while complaint := self._shortage(name, num_bytes, 0):
            if not self._unload_one():
                raise EngineError(complaint, code="model_memory")

    def _shortage(self, name: str, needed: int, idle: int) -> str:
        """Why `needed` bytes do not fit if `idle` bytes were unloaded; empty where they do."""
        held = self.loaded()
        taken = sum(model.num_bytes for model in held) - idle
        if self._max_bytes is not None and needed + taken > self._max_bytes:
            users = ", ".join(model.name for model in held if model.num_users)
            in_use = f", of which {shown(taken)} are taken by models in use ({users})" if taken else ""
            return f"{name} needs {shown(needed)}; models may take {shown(self._max_bytes)}{in_use}"
        free = self._loader.free_bytes() + idle
        if needed > free:
            return f"{name} needs {shown(needed)}; {shown(free)} are free on this device"
        return ""

    def _unload_one(self) -> bool:
        """Unload the least recently used model that nobody has borrowed; False where there is none."""
        with self._lock:
            idle = next((m.name for m in self._loaded.values() if not m.num_users), None)
            if idle is None:
                return False
            model = self._loaded.pop(idle)
            self.num_unloads += 1
        model.engine.stop()
        sys.stderr.write(f"engine: unloaded {idle}\n")
        del model
        self._loader.collect()
        self._tell()
        return True

    def _tell(self) -> None:
        self._on_change([model.name for model in self.loaded()])


def failure_of(lease: Lease, name: str) -> BtchatError:
    """Why a lease lacks a model; a lease that says nothing of it was given by an engine that stops."""
    return lease.failures.get(name) or EngineError("the engine is stopping", code="stopping")
