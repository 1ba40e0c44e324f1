"""The engine as the web process sees it: questions out, events back, all matched by request id."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from bt_model import errors
from bt_model.errors import BtchatError, EngineDeadError, EngineError
from bt_model.types import GenerateOptions, ModelCard, Turn
from server.engine import wire
from server.engine.supervisor import Command, RestartRule, Supervisor
from server.engine.wire import Done, Failed, Features, Message, Piece, Stats, TokenData

log = logging.getLogger(__name__)

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Pooled tokens as the bytes of a safetensors file with the tensor `tokens`."""

    content: bytes
    shape: tuple[int, ...]
    dtype: str

    @property
    def array(self) -> bytes:
        """The numbers alone: what follows the length of the header and the header."""
        header_bytes = int.from_bytes(self.content[:_LENGTH_BYTES], "little")
        return self.content[_LENGTH_BYTES + header_bytes :]


Request = wire.Lookup | wire.Encode | wire.Fetch | wire.Ask | wire.AskStats
_R = TypeVar("_R", Features, TokenData, Stats)
Reply = Features | TokenData | Stats | Piece | Done | Failed


@dataclass(slots=True)
class _Inbox:
    """Replies to one request that nobody has read yet."""

    replies: asyncio.Queue[tuple[Reply, list[int]]] = field(default_factory=asyncio.Queue)
    is_finished: bool = False

    def put(self, reply: Reply, fds: list[int]) -> None:
        self.is_finished = self.is_finished or not isinstance(reply, Piece)
        self.replies.put_nowait((reply, fds))

    async def get(self) -> tuple[Reply, list[int]]:
        """The next reply; one that failed is raised."""
        reply, fds = await self.replies.get()
        if isinstance(reply, Failed):
            raise _exception(reply)
        return reply, fds


class EngineClient:
    """Asks the engine process. Every call that waits may raise EngineDeadError."""

    def __init__(self, command: Command, rule: RestartRule | None = None) -> None:
        self._waiting: dict[str, _Inbox] = {}
        self._rule = rule or RestartRule()
        self._supervisor = Supervisor(command, self._receive, self._fail_all, self._rule)
        self._nurse: asyncio.Task[None] | None = None

    @property
    def card(self) -> ModelCard:
        """The loaded model.

        Raises:
            EngineDeadError: no engine is ready.
        """
        card = self._supervisor.card
        if card is None:
            raise EngineDeadError("the engine is starting again; try again soon")
        return card

    @property
    def is_ready(self) -> bool:
        return self._supervisor.card is not None

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
        self, key: bytes, fd: int, shape: tuple[int, int, int], receipt: dict[str, Any]
    ) -> float:
        """Encode uint8 frames (T, H, W, 3) behind a descriptor, which stays the caller's. Seconds it took."""
        message = wire.Encode(_new_id(), key, *shape, receipt)
        features, _ = await self._request(message, Features, [os.dup(fd)])
        return features.encode_seconds

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

    async def stats(self) -> dict[str, float]:
        """Counters and gauges of the engine by metric name."""
        reply, _ = await self._request(wire.AskStats(_new_id()), Stats)
        return reply.values

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop cached tokens; an engine that is gone has none."""
        with contextlib.suppress(EngineDeadError):
            self._supervisor.send(wire.Forget(list(keys)))

    @asynccontextmanager
    async def ask(
        self, key: bytes, turns: Sequence[Turn], options: GenerateOptions, seconds: float
    ) -> AsyncGenerator[AsyncIterator[Piece | Done]]:
        """Pieces, then one Done. Leaving early cancels; `key` is empty for text without a video."""
        given = {name: value for name, value in asdict(options).items() if value not in (None, ())}
        dialogue = [[turn.role, turn.text] for turn in turns]
        message = wire.Ask(_new_id(), key, dialogue, given, seconds)
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
        self, message: Request, expected: type[_R], fds: Sequence[int] = ()
    ) -> tuple[_R, list[int]]:
        with self._expect(message.id) as inbox:
            self._supervisor.send(message, fds)
            reply, reply_fds = await inbox.get()
        if not isinstance(reply, expected):
            raise EngineError(f"the engine answered with {type(reply).__name__}")
        return reply, reply_fds

    @contextmanager
    def _expect(self, request_id: str) -> Generator[_Inbox]:
        inbox = self._waiting[request_id] = _Inbox()
        try:
            yield inbox
        finally:
            del self._waiting[request_id]
            while not inbox.replies.empty():
                _close_all(inbox.replies.get_nowait()[1])

    def _receive(self, message: Message, fds: list[int]) -> None:
        inbox = self._waiting.get(message.id) if isinstance(message, Reply) else None
        if inbox is None or not isinstance(message, Reply):  # the caller has left
            _close_all(fds)
        else:
            inbox.put(message, fds)

    def _fail_all(self) -> None:
        for request_id, inbox in self._waiting.items():
            text = "the engine process ended while it worked on this request"
            inbox.put(Failed(request_id, EngineDeadError.__name__, text, EngineDeadError.code, None), [])


async def _answer(inbox: _Inbox) -> AsyncIterator[Piece | Done]:
    while True:
        event, _ = await inbox.get()
        if isinstance(event, Piece | Done):
            yield event
        if isinstance(event, Done):
            return


def _exception(failed: Failed) -> BtchatError:
    kind = getattr(errors, failed.error, None)
    if not (isinstance(kind, type) and issubclass(kind, BtchatError)):
        return EngineError(failed.message, code=failed.code, param=failed.param)
    return kind(failed.message, code=failed.code, param=failed.param)


def _new_id() -> str:
    return uuid4().hex


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
