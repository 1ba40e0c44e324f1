"""What one batch of dialogues about videos gives: the language loss, as a module that DDP and FSDP can wrap.

B dialogues, T frames, S stored states, P patches, D width of the tower, K video tokens, W width of the
language model, n positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.data.tokens import TokenBatch
from bt_model.training.objectives.answers import spliced, summed_loss
from bt_model.video.transform import normalise
from bt_model.vision.encoder import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.prompt.segments import SpecialIds
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder


@dataclass(frozen=True, slots=True)
class InstructBatch:
    """Dialogues with their videos: frames (T, H, W, 3) uint8, or stored states (S, T, 1 + P, D) float16.

    Videos may differ in length.
    """

    videos: "tuple[Tensor, ...]"
    tokens: TokenBatch
    num_skipped: int = 0

    def to(self, device: torch.device) -> "InstructBatch":
        """The same batch on a device."""
        return InstructBatch(
            tuple(x.to(device) for x in self.videos), self.tokens.to(device), self.num_skipped
        )


class MarkerRows(nn.Module):
    """The embeddings of the tokens before and after a video, which learn; all other rows stay as they are."""

    def __init__(self, lm: "Llama", ids: "SpecialIds") -> None:
        super().__init__()
        assert ids.video_start is not None
        assert ids.video_end is not None
        self.ids = (ids.video_start, ids.video_end)
        self.rows = nn.Parameter(lm.model.embed_tokens.weight[list(self.ids)].detach().float().clone())

    def forward(self, embeds: "Tensor", ids: "Tensor") -> "Tensor":
        """Embeddings (B, n, W) of ids (B, n), with these rows in their places."""
        for row, marker in zip(self.rows, self.ids, strict=True):
            embeds = torch.where((ids == marker)[..., None], row, embeds)
        return embeds


class InstructStep(nn.Module):
    """Encoder, projector and language model; which of their parameters learn is decided elsewhere.

    `stored` are the numbers of the states that batches have in place of frames.
    """

    def __init__(
        self,
        encoder: "TemporalEncoder",
        pool: "Callable[[ChatFeatures], Tensor]",
        projector: nn.Module,
        lm: "Llama",
        *,
        stored: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = pool
        self.projector = projector
        self.lm = lm
        self.stored = stored
        self.markers: MarkerRows | None = None

    def forward(self, batch: InstructBatch, shares: "Tensor") -> "Tensor":
        """The sum of all answer tokens' losses, each with the share of its dialogue, (B,)."""
        tokens = batch.tokens
        soft = self.projector(torch.cat(self.video_tokens(batch.videos)))
        with torch.no_grad():
            embeds = self.lm.embed(tokens.ids).float()
        if self.markers is not None:
            embeds = self.markers(embeds, tokens.ids)
        return summed_loss(self.lm, spliced(embeds, soft, tokens), tokens, shares)

    def video_tokens(self, videos: "Sequence[Tensor]") -> "list[Tensor]":
        """Pooled tokens of each video, (K, D); videos of one length go through the encoder together."""
        found: dict[int, Tensor] = {}
        for shape in dict.fromkeys(video.shape for video in videos):
            rows = [row for row, video in enumerate(videos) if video.shape == shape]
            states = self._states(torch.stack([videos[row] for row in rows]))
            found |= dict(zip(rows, self.pool(self.encoder.chat_from_trunk(states)), strict=True))
        return [found[row] for row in range(len(videos))]

    @torch.no_grad()
    def _states(self, videos: "Tensor") -> "list[Tensor]":
        """The frozen tower's part: frames (B, T, H, W, 3) or states -> the states that the encoder reads."""
        wanted, tower = self.encoder.chat_reads, self.encoder.tower
        if not self.stored:
            pixels = normalise(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
            return list(hidden_states(tower, pixels, wanted).values())
        known = {number: videos[:, place].float() for place, number in enumerate(self.stored)}
        if set(wanted) <= set(known):
            return [known[number] for number in wanted]
        first = wanted[0]
        return tower.advance(known[first], first, wanted)
