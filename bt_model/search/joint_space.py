"""CLIP's joint space: texts and windows of a film as unit vectors, near where one describes the other.

n texts or windows, T frames, H height, W width, S stored states, P patches, D width, E joint width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from bt_model.errors import require
from bt_model.types import MAX_FRAMES, FrameSize
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.text.clip_text import ClipTextTower
    from bt_model.text.clip_tokenizer import ClipTokenizer
    from bt_model.vision.encoder import TemporalEncoder

_TEXTS = 64  # in one pass
_FRAMES = 64  # that the branch sees in one pass


@dataclass(frozen=True, slots=True)
class JointSpace:
    """A temporal model and the text tower beside it; `bt_model.search.loading` makes one from disk.

    `fingerprint` tells whether stored embeddings of windows are this model's; its frames are `frame_size`.
    """

    encoder: "TemporalEncoder"
    text: "ClipTextTower"
    tokenizer: "ClipTokenizer"
    frame_size: FrameSize
    fingerprint: str

    @property
    def width(self) -> int:
        """E."""
        return self.text.config.projection_dim

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> "Tensor":
        """Texts -> unit rows (n, E) float32 on the CPU; of a text that is too long, the beginning counts."""
        ids = self.tokenizer(texts, self.text.config.context_length)
        device = self.text.text_projection.weight.device
        passes = [self.text(some.to(device)) for some in ids.split(_TEXTS)] if texts else []
        return _unit_rows(passes, self.width)

    @torch.inference_mode()
    def embed_windows(self, frames: "Tensor", length: int, stride: int) -> "Tensor":
        """Frames (T, H, W, 3) uint8 -> unit rows (n, E) float32 on the CPU, one for each window.

        Every frame passes the trunk once; a window costs the branch alone. There is one window of all frames
        where there are fewer than `length`.

        Raises:
            InvalidValueError: no frame or too many, or windows that this model cannot represent.
        """
        most = min(self.encoder.max_frames or MAX_FRAMES, MAX_FRAMES)
        require(1 <= len(frames) <= MAX_FRAMES, "frames", len(frames), f"1 to {MAX_FRAMES}")
        require(1 <= length <= most, "length", length, f"1 to {most}")
        require(1 <= stride <= length, "stride", stride, f"1 to {length}, the length")
        weight = self.encoder.tower.class_embedding
        pixels = normalise(frames.to(weight.device)).to(weight.dtype)
        states = hidden_states(self.encoder.tower, pixels[None], self.encoder.reads)
        windows = [_windows(each[0], min(length, len(frames)), stride) for each in states.values()]
        batches = zip(*(each.split(max(_FRAMES // length, 1)) for each in windows), strict=True)
        return _unit_rows([self.encoder.retrieve_from_trunk(batch) for batch in batches], self.width)


def _windows(state: "Tensor", length: int, stride: int) -> "Tensor":
    """A hidden state (T, 1 + P, D) -> (n, length, 1 + P, D), without a copy."""
    return state.unfold(0, length, stride).movedim(-1, 1)


def _unit_rows(passes: "Sequence[Tensor]", width: int) -> "Tensor":
    if not passes:
        return torch.zeros(0, width)
    return normalize(torch.cat(list(passes)).float(), dim=1).cpu()
