"""Dialogues as rows of tokens, and batches of such rows.

B dialogues, n positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.generation.request import Soft, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.prompt.segments import Dialogue

IGNORED = -100  # a label that is not supervised, as torch's cross entropy takes it


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One dialogue: ids with `num_video` placeholders at `video_at`, and labels for the answers only."""

    ids: list[int]
    labels: list[int]
    video_at: int

    def cut(self, length: int) -> "TokenRow":
        """The row's first tokens."""
        return TokenRow(self.ids[:length], self.labels[:length], self.video_at)


def token_row(dialogue: "Dialogue", bos: int) -> TokenRow:
    """A dialogue with its answers as a row; exactly the positions of the answers are supervised.

    The video's positions hold BOS as placeholder. Without a video, `video_at` is the end of the row.
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
    """Rows padded on the right: ids and labels (B, n); masks of video and of non-padding, (B, n) bool."""

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
    """Rows of different length -> one batch; `num_video` is one count for all rows, or one a row."""
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
