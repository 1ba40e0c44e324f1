"""The engine as the web process sees it: questions out, events back, all matched by request id."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any, TypeVar
from uuid import uuid4

from bt_model.errors import EngineDeadError, EngineError, UnknownNameError
from bt_model.types import GenerateOptions, ModelCard, Turn
from server.engine import wire
from server.engine.channel import close_all
from server.engine.errors import exception_of, failed
from server.engine.replies import Announcement, ClipEncoding, Inbox, Reply, TokenFile, card_of
from server.engine.supervisor import Command, RestartRule, Supervisor
from server.engine.wire import Done, Encoded, Features, Message, Opened, Piece, Stats, TokenData

log = logging.getLogger(__name__)

_R = TypeVar("_R", Opened, Features, Encoded, TokenData, Stats)


class EngineClient:
    """Asks the engine process. Every call that waits may raise EngineDeadError."""

    def __init__(self, command: Command, rule: RestartRule | None = None) -> None:
        self._waiting: dict[str, Inbox] = {}
        self._rule = rule or RestartRule()
        self._supervisor = Supervisor(command, self._receive, self._lose, self._rule)
        self._cards: dict[str, ModelCard] = {}  # of the engine that runs now
        self._held: tuple[str, ...] | None = None
        self._nurse: asyncio.Task[None] | None = None

    @property
    def card(self) -> ModelCard:
        """The first model, which is loaded at the start and answers where none is named.

        Raises:
            EngineDeadError: no engine is ready.
        """
        return self._announced.card

    @property
    def models(self) -> tuple[str, ...]:
        """The models that can be asked, loaded or not, the first the default. Raises as `card`."""
        return self._announced.models

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that are loaded now. Raises as `card`."""
        return (self.card.id,) if self._held is None else self._held

    @property
    def is_ready(self) -> bool:
        return self._supervisor.announced is not None

    def known_card(self, model: str) -> ModelCard | None:
        """A model's card, if it was ever loaded by this engine. Raises as `card`."""
        first = self.card
        return first if model == first.id else self._cards.get(model)

    def resolve(self, model: str | None) -> str:
        """The name of a model that can be asked; None is the default.

        Raises:
            UnknownNameError: no such model; the message lists those that there are.
            EngineDeadError: no engine is ready.
        """
        if model is None or model in self.models:
            return model or self.card.id
        text = f"no model {model[:80]!r}; available: {', '.join(self.models)}"
        raise UnknownNameError(text, code="model_not_found", param="model")

    async def open(self, model: str) -> ModelCard:
        """A model's card; loads it, which may take minutes, if this engine never did.

        Raises:
            CheckpointError: its weights cannot be used; the file and tensor.
            EngineError: no memory for it (code model_memory).
        """
        card = self.known_card(model)
        if card is None:
            reply, _ = await self._request(wire.Open(_new_id(), model), Opened)
            card = self._cards[model] = card_of(reply.card)
        return card

    @property
    def num_restarts(self) -> int:
        return self._supervisor.num_restarts

    @property
    def num_waiting(self) -> int:
        """Requests that still expect an answer."""
        return len(self._waiting)

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid

    async def start(self) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            CheckpointError: the one line that the engine gave for not starting.
        """
        await self._supervisor.start()
        self._nurse = asyncio.create_task(self._feel_pulse())

    async def stop(self, drain_seconds: float = 0.0) -> None:
        if self._nurse is not None:
            self._nurse.cancel()
            await asyncio.wait({self._nurse})
        await self._supervisor.stop(drain_seconds)
        self._fail_all()

    @property
    def has_given_up(self) -> bool:
        """True when the engine died too often to be started again."""
        return self._supervisor.gave_up.is_set()

    async def wait_given_up(self) -> None:
        """Return when the engine died too often to be started again."""
        await self._supervisor.gave_up.wait()

    async def lookup(self, key: bytes) -> dict[str, Any] | None:
        """The receipt kept with cached tokens, or None where they are not cached."""
        features, _ = await self._request(wire.Lookup(_new_id(), key), Features)
        return features.receipt if features.found else None

    async def encode(
        self, targets: Mapping[str, bytes], fd: int, shape: tuple[int, int, int], receipt: dict[str, Any]
    ) -> ClipEncoding:
        """Encode one clip for several models, each under its key.

        Behind the descriptor, which stays the caller's, are uint8 frames (T, H, W, 3).
        """
        pairs: list[list[Any]] = [[model, key] for model, key in targets.items()]
        message = wire.Encode(_new_id(), pairs, *shape, receipt)
        encoded, _ = await self._request(message, Encoded, [os.dup(fd)])
        failures = {model: exception_of(*said) for model, said in encoded.failures.items()}
        return ClipEncoding(encoded.seconds, failures)

    async def fetch_tokens(self, key: bytes) -> TokenFile:
        """The pooled tokens themselves.

        Raises:
            FeaturesMissingError: they are no longer cached.
        """
        data, fds = await self._request(wire.Fetch(_new_id(), key), TokenData)
        try:
            content = os.pread(fds[0], data.num_bytes, 0)
        finally:
            os.close(fds[0])
        return TokenFile(content, tuple(data.shape), data.dtype)

    async def stats(self) -> Stats:
        """Counters and gauges of the engine, and of each loaded model, by metric name."""
        reply, _ = await self._request(wire.AskStats(_new_id()), Stats)
        return reply

    def forget(self, prefix: bytes) -> None:
        """Drop the cached tokens of all keys that begin so; an engine that is gone has none."""
        with contextlib.suppress(EngineDeadError):
            self._supervisor.send(wire.Forget(prefix))

    @asynccontextmanager
    async def ask(
        self, model: str, key: bytes, turns: Sequence[Turn], options: GenerateOptions, seconds: float
    ) -> AsyncGenerator[AsyncIterator[Piece | Done]]:
        """Pieces, then one Done. Leaving early cancels; `key` is empty for text without a video."""
        given = {name: value for name, value in asdict(options).items() if value not in (None, ())}
        dialogue = [[turn.role, turn.text] for turn in turns]
        message = wire.Ask(_new_id(), model, key, dialogue, given, seconds)
        with self._expect(message.id) as inbox:
            self._supervisor.send(message)
            try:
                yield _answer(inbox)
            finally:
                if not inbox.is_finished:
                    with contextlib.suppress(EngineDeadError):
                        self._supervisor.send(wire.Cancel(message.id))

    async def _feel_pulse(self) -> None:
        """An engine that lives but does not answer is ended: its callers would wait until their deadlines."""
        while True:
            await asyncio.sleep(self._rule.pulse_seconds)
            if not self.is_ready:
                continue
            try:
                await asyncio.wait_for(self.stats(), self._rule.silence_seconds)
            except TimeoutError:
                log.error("the engine said nothing for %g seconds", self._rule.silence_seconds)  # noqa: TRY400 - one line, no trace
                self._supervisor.kill()
            except EngineError:
                continue  # it died, which others notice

    async def _request(
        self, message: wire.Request, expected: type[_R], fds: Sequence[int] = ()
    ) -> tuple[_R, list[int]]:
        with self._expect(message.id) as inbox:
            self._supervisor.send(message, fds)
            reply, reply_fds = await inbox.get()
        if not isinstance(reply, expected):
            raise EngineError(f"the engine answered with {type(reply).__name__}")
        return reply, reply_fds

    @contextmanager
    def _expect(self, request_id: str) -> Generator[Inbox]:
        inbox = self._waiting[request_id] = Inbox()
        try:
            yield inbox
        finally:
            del self._waiting[request_id]
            while not inbox.replies.empty():
                close_all(inbox.replies.get_nowait()[1])

    @property
    def _announced(self) -> Announcement:
        announced = self._supervisor.announced
        if announced is None:
            raise EngineDeadError("the engine is starting again; try again soon")
        return announced

    def _receive(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, wire.Holding):
            self._held = tuple(message.models)
            return
        inbox = self._waiting.get(message.id) if isinstance(message, Reply) else None
        if inbox is None or not isinstance(message, Reply):  # the caller has left
            close_all(fds)
        else:
            inbox.put(message, fds)

    def _lose(self) -> None:
        """The engine died: what the next one will have loaded is not what this one had."""
        self._cards, self._held = {}, None
        self._fail_all()

    def _fail_all(self) -> None:
        for request_id, inbox in self._waiting.items():
            error = EngineDeadError("the engine process ended while it worked on this request")
            inbox.put(failed(request_id, error), [])


async def _answer(inbox: Inbox) -> AsyncIterator[Piece | Done]:
    while True:
        event, _ = await inbox.get()
        if isinstance(event, Piece | Done):
            yield event
        if isinstance(event, Done):
            return


def _new_id() -> str:
    return uuid4().hex
