"""A simulated engine process, which speaks the wire's messages; what it says tells what it was asked.

An answer names its model, the content of its video's tokens and the last turn: who gets another's sees it.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

from bt_model.types import FrameSize, ModelCard, TokenBound
from server.engine import wire
from server.engine.packing import HEADER, pack, unpack
from server.engine.supervisor import Command, Process
from server.worker.feature_cache import FeatureCache
from tests.simulation.draws import Draws
from tests.simulation.loop import TICK, SimulatedLoop
from tests.simulation.sockets import SimulatedSocket
from tests.simulation.trace import Trace

FIRST = ModelCard(
    id="sim/first",
    backend="echo",
    frame_size=FrameSize(32, "crop"),
    default_frames=4,
    max_frames=8,
    max_context=128,
    num_video_tokens=3,
    video_dim=4,
    fingerprint="f" * 16,
    pooling="patches_cls",
    text_bound=TokenBound(16, 1),
)
CARDS = {
    card.id: card
    for card in (
        FIRST,
        replace(FIRST, id="sim/twin"),  # sees exactly what the first sees
        replace(FIRST, id="sim/other", fingerprint="e" * 16),  # has another tower
        replace(FIRST, id="sim/small", frame_size=FrameSize(16, "pad")),
    )
}
MODELS = tuple(CARDS)
_FIELDS = {name: asdict(card) for name, card in CARDS.items()}
REFUSED_FRAMES = 7
_MAX_LOADED = 2
_MAX_BATCH = 6
_CACHE_ENTRIES = 64


def tokens_text(model: str, frames: str) -> str:
    """What a model's tokens of some frames are."""
    card = CARDS[model]
    return f"{frames} {card.fingerprint[0]}{card.frame_size.side}"


def answer_text(model: str, tokens: str, question: str) -> str:
    """What an engine that mixes nothing up says."""
    return f"{model}|{tokens}|{question}."


@dataclass(slots=True, eq=False)
class EngineFaults:
    """What goes wrong in engines from now on."""

    stalls: bool = False  # answers that begin now never end by themselves
    slowness: float = 1.0
    failures: float = 0.0  # share of requests
    starts_fail: bool = False


@dataclass(slots=True, eq=False)
class _Answer:
    ask: wire.Ask
    draws: Draws
    text: str
    is_running: bool = False


Find = Callable[[str, str], None]
"""Told of an invariant that was broken, and how."""


class SimulatedEngine:
    """One process from its start to its death."""

    def __init__(
        self, loop: SimulatedLoop, draws: Draws, faults: EngineFaults, trace: Trace, find: Find
    ) -> None:
        self._loop = loop
        self._draws = draws
        self._faults = faults
        self._trace = trace
        self._find = find
        self._owners: dict[bytes, str] = {}
        self.pid = 10_000 + draws.below(10_000)
        self.returncode: int | None = None
        self.hangs_until = 0.0
        self._exited = asyncio.Event()
        self.socket = SimulatedSocket(loop, draws, self._arrive)
        self._inbound: deque[bytes] = deque()
        self._bytes = bytearray()
        self._fds: deque[int] = deque()
        self._last_arrival = 0.0
        self.cache: FeatureCache[str] = FeatureCache(_CACHE_ENTRIES)
        self.receipts: dict[bytes, str] = {}
        self.loaded = [MODELS[0]]
        self.answers: dict[str, _Answer] = {}
        self._waiting: deque[_Answer] = deque()
        self.num_running = 0
        self._pending: dict[int, set[bytes]] = {}  # keys of frames that are being encoded, by descriptor

    # --- as a process

    async def wait(self) -> int:
        await self._exited.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        self._loop.call_later(TICK, self.die, -9)

    def start(self) -> None:
        """Load the first model, unless it cannot be."""
        seconds = self._draws.between(0.05, 0.5) * self._faults.slowness
        self._loop.call_later(seconds / 2, self._send, wire.Loading(MODELS[0], 1, 2))
        if self._faults.starts_fail:
            self._loop.call_later(seconds, self._fail_start)
        else:
            self._loop.call_later(seconds, self._send, wire.Ready(_FIELDS[FIRST.id], list(MODELS)))

    def _fail_start(self) -> None:
        self._send(wire.StartFailed("weights.safetensors: tensor proj.weight is missing"))
        self.die(1)

    def die(self, code: int = 9) -> None:
        """End as a process does: its descriptors are closed, its socket ends."""
        if self.returncode is not None:
            return
        self._trace.add("engine", f"ends with {code}")
        self.returncode = code
        for fd in (*self._fds, *self._pending):
            os.close(fd)
        self._fds.clear()
        self._pending.clear()
        self.answers.clear()
        self._waiting.clear()
        self.num_running = 0
        self.socket.end()
        self._exited.set()

    # --- what the simulation looks at

    @property
    def num_fds(self) -> int:
        return len(self._fds) + len(self._pending)

    def token_keys(self) -> list[bytes]:
        return list(self.cache._entries)  # pyright: ignore[reportPrivateUsage]

    def cache_text(self, key: bytes) -> str:
        entry = self.cache.get(key)
        return entry.value if entry else ""

    def answers_of(self, question: str) -> list[str]:
        return [name for name, answer in self.answers.items() if answer.ask.turns[-1][1] == question]

    # --- messages

    def _arrive(self, data: bytes, fds: list[int]) -> None:
        """Bytes need a while; they arrive in order."""
        if self.returncode is not None:
            for fd in fds:
                os.close(fd)
            return
        self._fds.extend(fds)
        when = self._loop.time() + self._draws.below(3) * TICK
        self._last_arrival = max(self._last_arrival, when)
        self._inbound.append(data)
        self._loop.call_at(self._last_arrival, self._read)

    def _read(self) -> None:
        if self.returncode is not None:
            return
        if self._loop.time() < self.hangs_until:
            self._loop.call_at(self.hangs_until, self._read)
            return
        self._bytes += self._inbound.popleft()
        while len(self._bytes) >= HEADER.size:
            num_bytes, num_fds = HEADER.unpack_from(self._bytes)
            end = HEADER.size + num_bytes
            if len(self._bytes) < end:
                return
            message = unpack(bytes(self._bytes[HEADER.size : end]))
            del self._bytes[:end]
            self._receive(message, [self._fds.popleft() for _ in range(num_fds)])

    def _send(self, message: wire.Message, fds: Sequence[int] = ()) -> None:
        if self.returncode is None:
            self.socket.put(pack(message), fds)

    def _after(self, low: float, high: float, function: Callable[..., None], *arguments: object) -> None:
        seconds = self._draws.between(low, high) * self._faults.slowness
        self._loop.call_later(seconds, self._guarded, function, arguments)

    def _guarded(self, function: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if self.returncode is None:
            until = self.hangs_until
            if self._loop.time() < until:
                self._loop.call_at(until, self._guarded, function, arguments)
            else:
                function(*arguments)

    def _receive(self, message: wire.Message, fds: list[int]) -> None:
        request_id = getattr(message, "id", "")
        if request_id and not isinstance(message, wire.Cancel) and self._draws.chance(self._faults.failures):
            for fd in fds:
                os.close(fd)
            self._after(0.001, 0.01, self._fail, request_id, "EngineError", "engine_error")
            return
        match message:
            case wire.Lookup():
                self._after(0.0, 0.003, self._lookup, message)
            case wire.Ask():
                self._after(0.0, 0.004, self._ask, message)
                self.answers[message.id] = _Answer(message, self._draws, "")
            case wire.Encode():
                self._pending[fds[0]] = {key for _, key in message.targets}
                self._after(0.01, 0.2, self._encode, message, fds[0])
            case wire.Open():
                self._after(0.0, 0.3, self._open, message)
            case wire.Fetch():
                self._after(0.0, 0.01, self._fetch, message)
            case _:
                self._receive_at_once(message)

    def _receive_at_once(self, message: wire.Message) -> None:
        match message:
            case wire.Cancel(id=id):
                self._cancel(id)
            case wire.Forget(prefix=prefix):
                self.cache.forget(prefix)
                for wanted in self._pending.values():
                    wanted -= {key for key in wanted if key.startswith(prefix)}
            case wire.AskStats(id=id):
                self._send(wire.Stats(id, {"running": float(self.num_running)}, {}))
            case wire.Shutdown(drain=seconds):
                self._loop.call_later(min(seconds, 0.5) + TICK, self.die, 0)
            case _:
                raise AssertionError(f"an unexpected {message}")

    def _fail(self, request_id: str, error: str, code: str) -> None:
        self._send(wire.Failed(request_id, error, f"simulated {code}", code, None))

    def _lookup(self, message: wire.Lookup) -> None:
        entry = self.cache.get(message.key)
        self._send(wire.Features(message.id, entry is not None, {} if entry is None else entry.receipt))

    def _open(self, message: wire.Open) -> None:
        self._load(message.model)
        self._send(wire.Opened(message.id, _FIELDS[message.model]))

    def _load(self, model: str) -> None:
        if model in self.loaded:
            return
        self.loaded = [*self.loaded[-(_MAX_LOADED - 1) :], model]
        self._send(wire.Holding(self.loaded))

    def _encode(self, message: wire.Encode, fd: int) -> None:
        wanted = self._pending.pop(fd)
        content = os.pread(fd, 4096, 0).decode()
        os.close(fd)
        failures: dict[str, list[object]] = {}
        for model, key in message.targets:
            size = CARDS[model].frame_size
            if (message.height, message.width) != (size.side, size.side):
                self._find("frames of another size", f"{message.height} x {message.width} for {model}")
            if message.num_frames == REFUSED_FRAMES:
                error = "simulated: an odd number"
                failures[model] = ["InvalidValueError", error, "invalid_value", "num_frames"]
            elif key in wanted:
                self.cache.put(key, tokens_text(model, content), 1, message.receipt)
        self._trace.add("engine", f"encoded {content} for {len(message.targets)}")
        self._send(wire.Encoded(message.id, failures, 0.001))

    def _fetch(self, message: wire.Fetch) -> None:
        entry = self.cache.get(message.key)
        if entry is None:
            self._fail(message.id, "FeaturesMissingError", "features_missing")
            return
        fd = os.memfd_create("tokens", os.MFD_CLOEXEC)
        data = entry.value.encode()
        os.write(fd, data)
        self._send(wire.TokenData(message.id, len(data), [3, 4], "float32"), [fd])

    # --- answers: a few run, the others wait for their turn

    def _ask(self, ask: wire.Ask) -> None:
        answer = self.answers.get(ask.id)
        if answer is None:
            return  # cancelled before
        self._load(ask.model)
        video = "-"
        for key, _, _ in ask.videos:
            if self._owners.setdefault(key, ask.owner) != ask.owner:
                self._find("tokens of another owner", f"are used for {ask.turns[-1][1]}")
            entry = self.cache.get(key)
            if entry is None:
                del self.answers[ask.id]
                self._fail(ask.id, "FeaturesMissingError", "features_missing")
                return
            video = entry.value
        answer.text = answer_text(ask.model, video, ask.turns[-1][1])
        if not self._faults.stalls:
            self._waiting.append(answer)
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self.num_running < _MAX_BATCH:
            answer = self._waiting.popleft()
            if answer.ask.id in self.answers:
                answer.is_running = True
                self.num_running += 1
                pieces = 1 + answer.draws.below(4)
                self._after(0.005, 0.05, self._step, answer, 0, -(-len(answer.text) // pieces))

    def _step(self, answer: _Answer, position: int, size: int) -> None:
        request_id = answer.ask.id
        if request_id not in self.answers:
            return
        if position and answer.draws.chance(self._faults.failures):
            self._end(answer, "")
            return
        piece = answer.text[position : position + size]
        position += len(piece)
        self._send(wire.Piece(request_id, piece, []))
        if position < len(answer.text):
            self._after(0.002, 0.1, self._step, answer, position, size)
        else:
            self._end(answer, "stop")

    def _end(self, answer: _Answer, reason: str) -> None:
        """Without a reason it fails."""
        del self.answers[answer.ask.id]
        usage = {"prompt": 7, "completion": 3, "video": 3 * len(answer.ask.videos), "cached": 0}
        seconds = {"queue": 0.0, "prefill": 0.0, "decode": 0.0}
        if reason:
            self._send(wire.Done(answer.ask.id, reason, usage, seconds))
        else:
            self._fail(answer.ask.id, "EngineError", "engine_error")
        if answer.is_running:
            self.num_running -= 1
            self._admit()

    def _cancel(self, request_id: str) -> None:
        answer = self.answers.get(request_id)
        if answer is not None:
            if answer in self._waiting:
                self._waiting.remove(answer)
            self._end(answer, "cancelled")


class Machine:
    """Starts engines, one after the other, as the supervisor asks."""

    def __init__(self, loop: SimulatedLoop, draws: Draws, trace: Trace, find: Find) -> None:
        self._loop = loop
        self._draws = draws
        self._trace = trace
        self.faults = EngineFaults()
        self._find = find
        self.engine: SimulatedEngine | None = None

    async def launch(self, _command: Command) -> tuple[socket.socket, Process]:
        await asyncio.sleep(TICK)
        draws = Draws(self._draws.below(2**32))
        self.engine = SimulatedEngine(self._loop, draws, self.faults, self._trace, self._find)
        self.engine.start()
        self._trace.add("engine", "starts")
        return cast(socket.socket, self.engine.socket), self.engine
