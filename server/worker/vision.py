"""Clips to pooled tokens in the engine process, on a thread of its own.

B clips, T frames, H height, W width, K pooled tokens, D width of the tower.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from bt_model.chat import encode_together
from server.engine.wire import Encode
from server.worker.models import Lease

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.chat import VideoChat
    from bt_model.vision.clip import ClipVisionTower

MAX_CLIPS_PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip (T, H, W, 3) uint8 and the models that are borrowed for it."""

    message: Encode
    pixels: "Tensor"
    lease: Lease

    @property
    def kind(self) -> tuple[object, ...]:
        """What clips have in common that are encoded together."""
        return (self.pixels.shape, *sorted(self.lease.models))


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one kind and what each model made of them: tokens (B, K, D), or why it could not."""

    clips: Sequence[Clip]
    tokens: "dict[str, Tensor | Exception]"
    seconds: float


class VisionBatcher:
    """Encodes waiting clips, those of one shape and the same models together."""

    def __init__(self, deliver: Callable[[Batch], None]) -> None:
        self._deliver = deliver
        self._waiting: SimpleQueue[Clip | None] = SimpleQueue()
        self._held: deque[Clip | None] = deque()  # taken out, but of another kind
        self.passes = TowerPasses()
        self._thread = Thread(target=self._run, name="vision", daemon=True)
        self._thread.start()

    def add(self, clip: Clip) -> None:
        """Queue one clip."""
        self._waiting.put(clip)

    def stop(self) -> None:
        """Finish what is queued and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._encode_next():  # a function of its own: between batches nothing here holds a model
            pass

    def _encode_next(self) -> bool:
        first = self._held.popleft() if self._held else self._waiting.get()
        if first is None:
            return False
        clips = [first]
        while len(clips) < MAX_CLIPS_PER_BATCH and not self._waiting.empty():
            more = self._waiting.get()
            if more is None or more.kind != first.kind:
                self._held.append(more)  # begins the next batch, so that no shape waits for ever
                break
            clips.append(more)
        begin = time.monotonic()
        tokens = self._encode(clips)
        self._deliver(Batch(clips, tokens, time.monotonic() - begin))
        return True

    def _encode(self, clips: Sequence[Clip]) -> "dict[str, Tensor | Exception]":
        chats = {name: model.chat for name, model in clips[0].lease.models.items()}
        pixels = torch.stack([clip.pixels for clip in clips])
        try:
            found = self._together(list(chats.values()), pixels)
            return dict(zip(chats, found, strict=True))
        except Exception as error:  # noqa: BLE001 - reported to each request of the batch
            if len(chats) == 1:
                return dict.fromkeys(chats, error)
        return {
            name: self._alone(chat, pixels) for name, chat in chats.items()
        }  # one model's refusal is its own

    def _alone(self, chat: "VideoChat", pixels: "Tensor") -> "Tensor | Exception":
        try:
            return self._together([chat], pixels)[0]
        except Exception as error:  # noqa: BLE001 - reported to each request of the batch
            return error

    def _together(self, chats: "Sequence[VideoChat]", pixels: "Tensor") -> "list[Tensor]":
        for chat in chats:
            self.passes.watch(chat.encoder.tower)
        self.passes.num_clips = len(pixels)
        return encode_together(chats, pixels)


class TowerPasses:
    """Counts how often clips went through a frozen tower; used by the vision thread."""

    def __init__(self) -> None:
        self.total = 0
        self.num_clips = 0  # in the pass that comes next
        self._watched: WeakSet[ClipVisionTower] = WeakSet()

    def watch(self, tower: "ClipVisionTower") -> None:
        """Count this tower's passes from now on."""
        if tower not in self._watched:
            self._watched.add(tower)
            tower.register_forward_hook(self._add)

    def _add(self, *_: object) -> None:
        self.total += self.num_clips
