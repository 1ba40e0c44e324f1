"""Clips to pooled tokens in the engine process, in batches on a thread of their own.

B clips, T frames, H height, W width, K pooled tokens, D width of the tower.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from bt_model.chat import encode_together
from server.worker.thread import WorkThread

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.chat import VideoChat
    from bt_model.vision.clip import ClipVisionTower

MAX_CLIPS_PER_BATCH = 8
NICENESS = 5  # on a CPU, so that streams flow while a clip is encoded, and the clip still is


@dataclass(frozen=True, slots=True)
class ClipTokens:
    """What each model made of a clip: tokens (K, D), or why it could not; the seconds are its batch's."""

    tokens: "Mapping[str, Tensor | Exception]"
    seconds: float
    num_clips: int


@dataclass(frozen=True, slots=True)
class _WaitingClip:
    """A clip (T, H, W, 3) uint8, and the models by name that look at it."""

    pixels: "Tensor"
    chats: "Mapping[str, VideoChat]"
    made: asyncio.Future[ClipTokens]

    @property
    def kind(self) -> tuple[object, ...]:
        """Clips of equal kind can be encoded in one batch."""
        return (self.pixels.shape, *sorted(self.chats))


class VisionBatcher:
    """Encodes waiting clips, those of one shape and the same models together."""

    def __init__(self) -> None:
        self.passes = TowerPasses()
        self.thread = WorkThread("vision", NICENESS)
        self._waiting: deque[_WaitingClip] = deque()
        self._work: asyncio.Task[None] | None = None

    async def encode(self, pixels: "Tensor", chats: "Mapping[str, VideoChat]") -> ClipTokens:
        """One clip (T, H, W, 3) uint8 for some models."""
        clip = _WaitingClip(pixels, chats, asyncio.get_running_loop().create_future())
        self._waiting.append(clip)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._encode_waiting())
        return await clip.made

    async def _encode_waiting(self) -> None:
        while self._waiting:
            clips = [self._waiting.popleft()]
            while (
                self._waiting and self._waiting[0].kind == clips[0].kind and len(clips) < MAX_CLIPS_PER_BATCH
            ):
                clips.append(self._waiting.popleft())
            try:
                made = await self.thread.run(self._encode, clips)
            except Exception as error:  # noqa: BLE001 - reported to each request of the batch; the next goes on
                made = [ClipTokens(dict.fromkeys(clip.chats, error), 0.0, len(clips)) for clip in clips]
            for clip, tokens in zip(clips, made, strict=True):
                if not clip.made.done():
                    clip.made.set_result(tokens)

    def _encode(self, clips: Sequence[_WaitingClip]) -> list[ClipTokens]:
        """On the vision thread."""
        begin = time.monotonic()
        pixels = torch.stack([clip.pixels for clip in clips])
        found = self._for_all(clips[0].chats, pixels)
        seconds = time.monotonic() - begin
        return [
            ClipTokens({name: _row(tokens, number) for name, tokens in found.items()}, seconds, len(clips))
            for number in range(len(clips))
        ]

    def _for_all(self, chats: "Mapping[str, VideoChat]", pixels: "Tensor") -> "dict[str, Tensor | Exception]":
        try:
            return dict(zip(chats, self._together(list(chats.values()), pixels), strict=True))
        except Exception as error:  # noqa: BLE001 - reported to each request of the batch
            if len(chats) == 1:
                return dict.fromkeys(chats, error)
        # one model's refusal is its own
        return {name: self._for_all({name: chat}, pixels)[name] for name, chat in chats.items()}

    def _together(self, chats: "Sequence[VideoChat]", pixels: "Tensor") -> "list[Tensor]":
        for chat in chats:
            self.passes.expect(chat.encoder.tower, len(pixels))
        return encode_together(chats, pixels)


def _row(tokens: "Tensor | Exception", number: int) -> "Tensor | Exception":
    """One clip's tokens, copied: a view would keep the whole batch alive."""
    return tokens if isinstance(tokens, Exception) else tokens[number].clone()


class TowerPasses:
    """Counts how often clips went through a frozen tower; used by the vision thread."""

    def __init__(self) -> None:
        self.total = 0
        self._num_clips = 0  # in the next pass
        self._watched: WeakSet[ClipVisionTower] = WeakSet()

    def expect(self, tower: "ClipVisionTower", num_clips: int) -> None:
        """Count this tower's passes from now on; the next is of so many clips."""
        self._num_clips = num_clips
        if tower not in self._watched:
            self._watched.add(tower)
            tower.register_forward_hook(self._add)

    def _add(self, *_: object) -> None:
        self.total += self._num_clips
