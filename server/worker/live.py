"""Frames of live sessions: each passes the trunk once, beside others; a question costs the branch."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.assembly.memory import shown
from bt_model.errors import EngineDeadError, EngineError, InvalidValueError
from server.engine import wire
from server.worker.live_window import LiveWindow, frame_bytes
from server.worker.messages import read_frames
from server.worker.token_file import PooledTokens

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.chat import VideoChat
    from server.worker.models import ModelPool
    from server.worker.token_cache import TokenCache
    from server.worker.vision import VisionBatcher

MAX_FRAMES_PER_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class _WaitingFrame:
    """A frame (1, H, W, 3) uint8, where it belongs, and the future of the seconds that its batch takes."""

    pixels: "Tensor"
    chat: "VideoChat"
    window: LiveWindow
    number: int
    seen: asyncio.Future[float]


class LiveWindows:
    """All windows, which take `max_bytes` at most. State belongs to the event loop."""

    def __init__(
        self, models: "ModelPool", vision: "VisionBatcher", tokens: "TokenCache", max_bytes: int
    ) -> None:
        self._models = models
        self._vision = vision
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._windows: dict[str, LiveWindow] = {}
        self._waiting: deque[_WaitingFrame] = deque()
        self._work: asyncio.Task[None] | None = None
        self._num_frames = 0

    async def open(self, message: wire.LiveOpen) -> wire.Opened:
        """Raises InvalidValueError or EngineError where there is no room."""
        async with self._models.borrowed([message.model]) as lease:
            chat = lease.model(message.model).chat
            of_one = frame_bytes(chat)
            needed, taken = of_one * message.max_frames, self._num_bytes
            if needed > self._max_bytes:
                allowed = f"1 to {self._max_bytes // of_one}, for whose frames this server has memory"
                text = f"max_frames is {message.max_frames}; allowed for {chat.card.id}: {allowed}"
                raise InvalidValueError(text, param="max_frames")
            if needed + taken > self._max_bytes:
                text = f"this session needs {shown(needed)}, other live sessions leave "
                text += f"{shown(self._max_bytes - taken)}; try again later, or with a smaller max_frames"
                raise EngineError(text, code="overloaded", param="max_frames")
            self._windows[message.session] = LiveWindow(message.model, message.max_frames, needed)
            return wire.Opened(message.id, asdict(chat.card))

    async def see(self, message: wire.LiveFrame, fd: int) -> wire.Encoded:
        """Keep a frame. Raises EngineDeadError where there is no such window."""
        pixels = read_frames((1, message.height, message.width, 3), fd)
        window = self._window(message.session)
        async with self._models.borrowed([window.model]) as lease:
            seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            chat = lease.model(window.model).chat
            self._waiting.append(_WaitingFrame(pixels, chat, window, message.number, seen))
            if self._work is None or self._work.done():
                self._work = asyncio.create_task(self._see_waiting())
            return wire.Encoded(message.id, {}, await seen)

    async def encode(self, message: wire.LiveEncode) -> wire.Encoded:
        """Put the tokens of some frames into the cache; raises FeaturesMissingError where some are gone."""
        window = self._window(message.session)
        async with self._models.borrowed([window.model]) as lease:
            chat = lease.model(window.model).chat
            tokens, seconds = await self._vision.thread.run(_encoded, chat, window, message.numbers)
            self._tokens.put(message.key, PooledTokens(tokens, chat.card.fingerprint), message.receipt)
            return wire.Encoded(message.id, {}, seconds)

    def close(self, session: str) -> None:
        """Give a window up."""
        self._windows.pop(session, None)

    def stats(self) -> dict[str, float]:
        return {
            "live_window_bytes": float(self._num_bytes),
            "live_trunk_frames_total": float(self._num_frames),
        }

    @property
    def _num_bytes(self) -> int:
        return sum(window.num_bytes for window in self._windows.values())

    def _window(self, session: str) -> LiveWindow:
        if session not in self._windows:
            raise EngineDeadError("the frames of this session are gone: the engine was started again")
        return self._windows[session]

    async def _see_waiting(self) -> None:
        while self._waiting:
            frames = [self._waiting.popleft()]
            while self._waiting and _are_alike(self._waiting[0], frames):
                frames.append(self._waiting.popleft())
            try:
                seconds = await self._vision.thread.run(self._see, frames)
            except Exception as error:  # noqa: BLE001 - reported to each session of the batch; the next goes on
                for frame in frames:
                    if not frame.seen.done():
                        frame.seen.set_exception(error)
                continue
            for frame in frames:
                if not frame.seen.done():
                    frame.seen.set_result(seconds / len(frames))

    def _see(self, frames: Sequence[_WaitingFrame]) -> float:
        """On the vision thread; the seconds."""
        begin, chat = time.monotonic(), frames[0].chat
        self._vision.passes.expect(chat.encoder.tower, len(frames))
        states = chat.states(torch.cat([frame.pixels for frame in frames]))
        for place, frame in enumerate(frames):
            frame.window.keep(frame.number, states[:, place])
        self._num_frames += len(frames)
        return time.monotonic() - begin


def _are_alike(frame: _WaitingFrame, batch: Sequence[_WaitingFrame]) -> bool:
    """Whether it may pass the trunk with these."""
    first = batch[0]
    is_same = frame.chat is first.chat and frame.pixels.shape == first.pixels.shape
    return is_same and len(batch) < MAX_FRAMES_PER_BATCH


def _encoded(chat: "VideoChat", window: LiveWindow, numbers: Sequence[int]) -> "tuple[Tensor, float]":
    """On the vision thread: tokens (K, D), and the seconds."""
    begin = time.monotonic()
    tokens = chat.encode_states(window.states(numbers))
    return tokens, time.monotonic() - begin
