"""The language loss of one batch of dialogues about videos, as a module that DDP and FSDP can wrap.

B dialogues, T frames, S stored states, P patches, D width of the tower, K video tokens, W width of the
language model, n positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.data.tokens import TokenBatch
from bt_model.training.objectives.answers import spliced, summed_loss
from bt_model.video.transform import normalise
from bt_model.vision.clip import states_of

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.prompt.segments import SpecialIds
    from bt_model.training.instruct.settings import Weighing
    from bt_model.training.trainer.parallel import World
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder


@dataclass(frozen=True, slots=True)
class InstructBatch:
    """Dialogues with their videos: frames (T, H, W, 3) uint8, or stored states (S, T, 1 + P, D) float16.

    Videos may differ in length.
    """

    videos: "tuple[Tensor, ...]"
    tokens: TokenBatch
    num_skipped: int = 0

    def __len__(self) -> int:
        return len(self.videos)

    def to(self, device: torch.device) -> "InstructBatch":
        """The same batch on a device."""
        return InstructBatch(
            tuple(x.to(device) for x in self.videos), self.tokens.to(device), self.num_skipped
        )


class MarkerRows(nn.Module):
    """Trained embeddings of the tokens before and after a video; all other rows are frozen."""

    def __init__(self, lm: "Llama", ids: "SpecialIds") -> None:
        super().__init__()
        assert ids.video_start is not None
        assert ids.video_end is not None
        self.ids = (ids.video_start, ids.video_end)
        self.rows = nn.Parameter(lm.model.embed_tokens.weight[list(self.ids)].detach().float().clone())

    def forward(self, embeds: "Tensor", ids: "Tensor") -> "Tensor":
        """Embeddings (B, n, W) of ids (B, n), with the markers' replaced by these rows."""
        for row, marker in zip(self.rows, self.ids, strict=True):
            embeds = torch.where((ids == marker)[..., None], row, embeds)
        return embeds


class InstructStep(nn.Module):
    """Encoder, projector and language model; learning.py decides which of their parameters are trained.

    `stored` are the numbers of the hidden states that batches have instead of frames.
    """

    def __init__(
        self,
        encoder: "TemporalEncoder",
        pool: "Callable[[ChatFeatures], Tensor]",
        projector: nn.Module,
        lm: "Llama",
        *,
        stored: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = pool
        self.projector = projector
        self.lm = lm
        self.stored = stored
        self.markers: MarkerRows | None = None

    def forward(self, batch: InstructBatch, shares: "Tensor") -> "Tensor":
        """The sum of all answer tokens' losses, each weighted by its dialogue's share, (B,)."""
        tokens = batch.tokens
        soft = self.projector(torch.cat(self.video_tokens(batch.videos)))
        embeds = self.lm.embed(tokens.ids).float()
        if self.markers is not None:
            embeds = self.markers(embeds, tokens.ids)
        return summed_loss(self.lm, spliced(embeds, soft, tokens), tokens, shares)

    def video_tokens(self, videos: "Sequence[Tensor]") -> "list[Tensor]":
        """Pooled tokens of each video, (K, D); videos of one length go through the encoder together."""
        found: dict[int, Tensor] = {}
        for shape in dict.fromkeys(video.shape for video in videos):
            rows = [row for row, video in enumerate(videos) if video.shape == shape]
            # the CPU's autocast cannot join float16 tensors, as stored states are
            clips = torch.stack([videos[row].float() if self.stored else videos[row] for row in rows])
            states = states_of(self.encoder.tower, clips, self.encoder.chat_reads, self.stored, normalise)
            found |= dict(zip(rows, self.pool(self.encoder.chat_from_trunk(states)), strict=True))
        return [found[row] for row in range(len(videos))]


def weighed(
    step: "Callable[[InstructBatch, Tensor], Tensor]", weigh: "Weighing", world: "World"
) -> "Callable[[InstructBatch], Mapping[str, Tensor]]":
    """The step as a function of the batch alone, with dialogues or answer tokens counting alike."""
    return lambda batch: {"answers": step(batch, shares_of(batch, weigh, world))}


def shares_of(batch: InstructBatch, weigh: "Weighing", world: "World") -> "Tensor":
    """The weight of one answer token of each dialogue in the batch's sum, (B,). All ranks call it together.

    The sums' mean over ranks is then the mean over all answer tokens, or over all dialogues' means.
    """
    counts = batch.tokens.num_answer_tokens
    if weigh == "dialogue":
        return 1 / (counts * len(counts))
    (total,) = world.sums([float(counts.sum())])
    return torch.full_like(counts, world.size / total, dtype=torch.float32)
