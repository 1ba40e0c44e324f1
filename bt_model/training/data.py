"""Batches: pictures with captions, cached trunk states of clips, dialogues as token rows.

B samples, T frames, P patches, D width, K video tokens, n tokens.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.errors import InvalidValueError
from bt_model.generation.request import Soft, Tokens
from bt_model.prompt.segments import Dialogue
from bt_model.training.losses import IGNORED
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from bt_model.video.transform import normalise
from bt_model.vision.encoder import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder

CACHE_BATCH = 32


def group_numbers(texts: Sequence[str]) -> "Tensor":
    """Equal texts get equal numbers, (B,) int64."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


@dataclass(frozen=True, slots=True)
class TrunkCache:
    """Hidden states of a frozen trunk in one file: (clips, S, T, 1 + P, D) float16, read by row.

    `numbers` says which states stand along the second axis.
    """

    states: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]"
    numbers: tuple[int, ...]

    def in_memory(self) -> "TrunkCache":
        """The same states, all read now: rows drawn at random from a file cost a wait each."""
        return TrunkCache(np.array(self.states), self.numbers)

    def batch(self, rows: Sequence[int], reads: Collection[int] | None = None) -> "list[Tensor]":
        """Some states, or all, rising: each (B, T, 1 + P, D) float32.

        Raises:
            InvalidValueError: a state that is not cached.
        """
        wanted = self.numbers if reads is None else sorted(reads)
        if not set(wanted) <= set(self.numbers):
            raise InvalidValueError(f"reads is {wanted}; allowed: {self.numbers}, as cached", param="reads")
        order = torch.tensor(rows).argsort().argsort()
        axes = [self.numbers.index(number) for number in wanted]
        return [torch.from_numpy(self.states[sorted(rows), axis]).float()[order] for axis in axes]


def build_cache(
    path: Path,
    clips: Sequence[Path],
    encoders: "Sequence[TemporalEncoder]",
    num_frames: int,
    tick: Callable[[int], None],
) -> TrunkCache:
    """Decode every clip and run the frozen trunk once; resumes after the last complete batch.

    The encoders share one tower; what any of them reads, for retrieval or chat, is kept. `tick` is told how
    many clips are done.

    Raises:
        InvalidValueError: the file holds the states of something else.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    retrieval = {number for encoder in encoders for number in encoder.reads}
    chat = {number for encoder in encoders if encoder.has_chat for number in encoder.chat_reads}
    numbers = tuple(sorted(retrieval | chat))
    vision = tower.config
    shape = (len(clips), len(numbers), num_frames, 1 + vision.num_patches, vision.width)
    expected = math.prod(shape) * np.dtype(np.float16).itemsize
    if path.exists() and path.stat().st_size != expected:
        found = path.stat().st_size
        raise InvalidValueError(f"{path} has {found} bytes; allowed: {expected}, of {shape} in float16")
    mode = "r+" if path.exists() else "w+"
    states = np.memmap(path, np.float16, mode, shape=shape)
    mark = path.with_suffix(".done")
    done = int(mark.read_text()) if mark.exists() else 0
    size = FrameSize(vision.image_size)
    for begin in range(done, len(clips), CACHE_BATCH):
        batch = clips[begin : begin + CACHE_BATCH]
        frames = [decode(clip, Sampling(num_frames=num_frames), size, num_frames).pixels for clip in batch]
        with torch.inference_mode():
            pixels = torch.stack([normalise(torch.from_numpy(f)) for f in frames])
            kept = torch.stack(list(hidden_states(tower, pixels, numbers).values()), dim=1)
        states[begin : begin + len(batch)] = kept.half().numpy()
        states.flush()
        mark.write_text(str(begin + len(batch)))
        tick(begin + len(batch))
    return TrunkCache(states, numbers)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One dialogue: ids with `num_video` placeholders at `video_at`, and labels for the answers only."""

    ids: list[int]
    labels: list[int]
    video_at: int

    def cut(self, length: int) -> "TokenRow":
        """The row's first tokens."""
        return TokenRow(self.ids[:length], self.labels[:length], self.video_at)


def token_row(dialogue: Dialogue, bos: int) -> TokenRow:
    """A dialogue with its answers as a row; exactly the positions of the answers are supervised.

    BOS stands where the video's tokens go. Without a video, `video_at` is the end of the row.
    """
    ids: list[int] = []
    video_at = None
    for part in dialogue.segments:
        if isinstance(part, Soft):
            video_at = len(ids)
        ids += part.ids if isinstance(part, Tokens) else [bos] * len(part.embeds)
    labels = [IGNORED] * len(ids)
    for answer in dialogue.answers:
        labels[answer.start : answer.stop] = ids[answer.start : answer.stop]
    assert any(label != IGNORED for label in labels), "a dialogue has an answer"
    return TokenRow(ids, labels, len(ids) if video_at is None else video_at)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows padded on the right: ids, labels (B, n); where the video stands and what is real, (B, n) bool."""

    ids: "Tensor"
    labels: "Tensor"
    is_video: "Tensor"
    is_real: "Tensor"

    def to(self, device: torch.device) -> "TokenBatch":
        """The same batch on a device."""
        moved = (x.to(device) for x in (self.ids, self.labels, self.is_video, self.is_real))
        return TokenBatch(*moved)

    @property
    def num_answer_tokens(self) -> "Tensor":
        """How many tokens each dialogue is supervised on, (B,)."""
        return (self.labels[:, 1:] != IGNORED).sum(dim=1)


def collate(rows: Sequence[TokenRow], num_video: int | Sequence[int], pad: int) -> TokenBatch:
    """Rows of different length -> one batch; their videos' tokens are as many for all, or row by row."""
    counts = [num_video] * len(rows) if isinstance(num_video, int) else num_video
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad)
    labels = torch.full((len(rows), length), IGNORED)
    is_video = torch.zeros(len(rows), length, dtype=torch.bool)
    is_real = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        labels[number, : len(row.labels)] = torch.tensor(row.labels)
        is_video[number, row.video_at : row.video_at + counts[number]] = True
        is_real[number, : len(row.ids)] = True
    return TokenBatch(ids, labels, is_video, is_real)
