"""The web process's client of the engine: requests and replies, matched by request id."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from bt_model.errors import EngineDeadError, EngineError, UnknownNameError
from bt_model.types import GenerateOptions, ModelCard, Place, Turn
from server.engine import wire
from server.engine.channel import close_all
from server.engine.errors import exception_of, failed
from server.engine.replies import ClipEncoding, EngineInfo, Inbox, Reply, TokenFile, card_of
from server.engine.supervisor import Command, Launch, RestartRule, Supervisor, launch_process
from server.engine.watchdog import watch
from server.engine.wire import Compiled, Encoded, Features, Measured, Message, Opened, Stats, TokenData
from server.log.request import current_id

_R = TypeVar("_R", Opened, Compiled, Features, Encoded, TokenFile, Measured, Stats)


class EngineClient:
    """Asks the engine process. Every call that waits may raise EngineDeadError."""

    def __init__(
        self, command: Command, rule: RestartRule | None = None, launch: Launch = launch_process
    ) -> None:
        self._waiting: dict[str, Inbox] = {}
        self._numbers = itertools.count()
        self._rule = rule or RestartRule()
        self._supervisor = Supervisor(command, self._receive, self._lose, self._rule, launch)
        self._cards: dict[str, ModelCard] = {}  # of the current engine process
        self._loaded: tuple[str, ...] | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._begun_at = 0.0

    @property
    def card(self) -> ModelCard:
        """The card of the first model, which is loaded at the start and is the default.

        Raises:
            EngineDeadError: no engine is ready.
        """
        return self._info.card

    @property
    def models(self) -> tuple[str, ...]:
        """All configured models, loaded or not, the default first. Raises as `card`."""
        return self._info.models

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that are loaded now. Raises as `card`."""
        return (self.card.id,) if self._loaded is None else self._loaded

    @property
    def is_ready(self) -> bool:
        return self._supervisor.info is not None

    def known_card(self, model: str) -> ModelCard | None:
        """A model's card, if this engine process has loaded it before. Raises as `card`."""
        first = self.card
        return first if model == first.id else self._cards.get(model)

    def resolve(self, model: str | None) -> str:
        """The name of a configured model; None is the default.

        Raises:
            UnknownNameError: no such model; the message lists all models.
            EngineDeadError: no engine is ready.
        """
        if model is None or model in self.models:
            return model or self.card.id
        text = f"no model {model[:80]!r}; available: {', '.join(self.models)}"
        raise UnknownNameError(text, code="model_not_found", param="model")

    async def open(self, model: str) -> ModelCard:
        """A model's card; loads the model, which may take minutes, if this engine process has not done so.

        Raises:
            CheckpointError: its weights cannot be used; names the file and tensor.
            EngineError: no memory for it (code model_memory).
        """
        card = self.known_card(model)
        if card is None:
            reply = await self.request(wire.Open(self.new_id(), model), Opened)
            card = self._cards[model] = card_of(reply.card)
        return card

    async def compile(self, model: str, owner: str, schema: str) -> None:
        """Make a model ready to answer by a schema; raises InvalidValueError where it cannot."""
        await self.request(wire.Compile(self.new_id(), model, owner, schema), Compiled)

    @property
    def num_restarts(self) -> int:
        return self._supervisor.num_restarts

    @property
    def num_waiting(self) -> int:
        """Number of requests without a terminal reply."""
        return len(self._waiting)

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid

    def begin(self) -> None:
        """Start the process; its model is loaded while this one goes on."""
        self._begun_at = time.monotonic()
        self._starting = asyncio.create_task(self._supervisor.start())
        self._watchdog = asyncio.create_task(watch(self, self._rule, self._supervisor.kill))

    async def wait_started(self) -> None:
        """Return when the model is loaded for the first time.

        Raises:
            CheckpointError: the engine's one-line reason for not starting.
        """
        assert self._starting is not None
        await asyncio.shield(self._starting)

    async def start(self) -> None:
        """Start the process and wait until its model is loaded. Raises as `wait_started`."""
        self.begin()
        await self.wait_started()

    async def stop(self, drain_seconds: float = 0.0) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait({self._watchdog})
        await self._supervisor.stop(drain_seconds)
        self.fail_all(EngineDeadError("the engine process was stopped"))

    def fail_all(self, error: EngineError) -> None:
        """End every request in this error."""
        for request_id, inbox in self._waiting.items():
            inbox.put(failed(request_id, error))

    @property
    def has_given_up(self) -> bool:
        """Whether the engine died too often to be started again."""
        return self._supervisor.gave_up.is_set()

    async def wait_given_up(self) -> None:
        """Return when the engine died too often to be started again."""
        await self._supervisor.gave_up.wait()

    async def lookup(self, key: bytes) -> dict[str, Any] | None:
        """The receipt stored with cached tokens, or None if they are not cached."""
        features = await self.request(wire.Lookup(self.new_id(), key), Features)
        return features.receipt if features.found else None

    async def encode(
        self, targets: Mapping[str, bytes], fd: int, shape: tuple[int, int, int], receipt: dict[str, Any]
    ) -> ClipEncoding:
        """Encode one clip for several models, each under its key.

        The descriptor, which the caller keeps, is a memory file of uint8 frames (T, H, W, 3).
        """
        pairs: list[list[Any]] = [[model, key] for model, key in targets.items()]
        message = wire.Encode(self.new_id(), pairs, *shape, receipt)
        encoded = await self.request(message, Encoded, [os.dup(fd)])
        failures = {model: exception_of(*fields) for model, fields in encoded.failures.items()}
        return ClipEncoding(encoded.seconds, failures)

    async def fetch_tokens(self, key: bytes) -> TokenFile:
        """The pooled tokens themselves.

        Raises:
            FeaturesMissingError: they are no longer cached.
        """
        return await self.request(wire.Fetch(self.new_id(), key), TokenFile)

    async def measure(self, model: str, places: Sequence[Place], turns: Sequence[Turn]) -> Measured:
        """The tokens of a prompt; raises ContextLengthError where its text is too long to be counted."""
        seen, dialogue = [[each.turn, each.at] for each in places], [[each.role, each.text] for each in turns]
        return await self.request(wire.Measure(self.new_id(), model, seen, dialogue), Measured)

    async def stats(self) -> Stats:
        """Counters and gauges of the engine, and of each loaded model, by metric name."""
        return await self.request(wire.AskStats(self.new_id()), Stats)

    def forget(self, prefix: bytes) -> None:
        """Drop the cached tokens of all keys that begin so; an engine that is gone has none."""
        with contextlib.suppress(EngineDeadError):
            self.send(wire.Forget(prefix))

    @contextmanager
    def ask(
        self,
        model: str,
        owner: str,
        videos: Sequence[tuple[bytes, Place]],
        turns: Sequence[Turn],
        options: GenerateOptions,
        seconds: float,
    ) -> Generator[Inbox]:
        """Pieces, then one Done. Leaving early cancels; `videos` are keys of tokens, and their places."""
        given = {name: value for name, value in asdict(options).items() if value not in (None, ())}
        dialogue = [[turn.role, turn.text] for turn in turns]
        seen: list[list[Any]] = [[key, place.turn, place.at] for key, place in videos]
        message = wire.Ask(self.new_id(), model, owner, seen, dialogue, given, seconds)
        with self._expect(message.id) as inbox:
            self.send(message)
            try:
                yield inbox
            finally:
                if not inbox.is_finished:
                    with contextlib.suppress(EngineDeadError):
                        self.send(wire.Cancel(message.id))

    def new_id(self) -> str:
        """Of one message; begins with the id of its request, which the engine's log then has."""
        return f"{current_id() or 'server'}.{next(self._numbers)}"

    async def request(self, message: wire.Request, expected: type[_R], fds: Sequence[int] = ()) -> _R:
        """The one reply to a message; takes ownership of the descriptors.

        Raises:
            BtchatError: what the engine answers in its place.
        """
        with self._expect(message.id) as inbox:
            self.send(message, fds)
            reply = await inbox.get()
        if not isinstance(reply, expected):
            raise EngineError(f"the engine answered with {type(reply).__name__}")
        return reply

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send to the current engine; takes ownership of the descriptors.

        Raises:
            EngineDeadError: no engine is running.
        """
        channel = self._supervisor.channel
        if channel is None:
            close_all(fds)
            raise EngineDeadError("the engine is not running")
        try:
            channel.send(message, fds)
        except ConnectionError as error:
            raise EngineDeadError("the engine is not running") from error

    @contextmanager
    def _expect(self, request_id: str) -> Generator[Inbox]:
        inbox = self._waiting[request_id] = Inbox()
        try:
            yield inbox
        finally:
            del self._waiting[request_id]

    @property
    def _info(self) -> EngineInfo:
        info = self._supervisor.info
        if info is None:
            raise self.not_ready()
        return info

    def not_ready(self) -> EngineDeadError:
        """What a client is told as long as no engine is ready."""
        loading = self._supervisor.loading
        progress = f": {loading.model}, file {loading.number} of {loading.count}" if loading else ""
        if self._starting is None or self._starting.done():
            return EngineDeadError(f"the engine is starting again{progress}; try again soon")
        text = f"the model is being loaded, for {time.monotonic() - self._begun_at:.0f} s now{progress}"
        return EngineDeadError(text, code="not_ready")

    def _receive(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, wire.Holding):
            self._loaded = tuple(message.models)
            return
        reply = TokenFile.read(message, fds[0]) if isinstance(message, TokenData) else message
        close_all(fds)
        if isinstance(reply, Reply) and (inbox := self._waiting.get(reply.id)):  # else the caller has left
            inbox.put(reply)

    def _lose(self) -> None:
        """The engine died: forget its loaded models, which the next process will not have."""
        self._cards, self._loaded = {}, None
        self.fail_all(EngineDeadError("the engine process ended while it worked on this request"))
