"""CLIP's joint space: texts and windows of a film as unit vectors, near where one describes the other.

n texts or windows, m texts of the bank, T frames, H height, W width, P patches, D width, E joint width.
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

BANK_SCALE = 30.0  # of cosines with the bank's texts
_TEXTS = 64  # in one pass
_FRAMES = 64  # that the branch sees in one pass


@dataclass(frozen=True, slots=True)
class JointSpace:
    """A temporal model and the text tower beside it; `bt_model.search.loading` makes one from disk.

    `bank` are embeddings (m, E) of texts that people might ask for, none where the model has no bank.
    `fingerprint` tells whether what is stored of windows is this model's; its frames are `frame_size`.
    """

    encoder: "TemporalEncoder"
    text: "ClipTextTower"
    tokenizer: "ClipTokenizer"
    frame_size: FrameSize
    bank: "Tensor"
    fingerprint: str

    @property
    def width(self) -> int:
        """E."""
        return self.text.config.projection_dim

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> "Tensor":
        """Texts -> unit rows (n, E) float32 on the CPU; of a text that is too long, the beginning counts."""
        return embed_texts(self.text, self.tokenizer, texts)

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

    def commonness(self, windows: "Tensor") -> "Tensor":
        """How well windows (n, E) fit the whole bank -> (n,), 0 without one; less it, their fits compare.

        A window fits a text by their cosine less its commonness (query bank normalisation, Bogolin et al.,
        2022): some windows are near every text, and would be found whatever is asked for.
        """
        if not len(self.bank):
            return torch.zeros(len(windows))
        return torch.logsumexp(BANK_SCALE * (windows @ self.bank.T), dim=1) / BANK_SCALE


@torch.inference_mode()
def embed_texts(text: "ClipTextTower", tokenizer: "ClipTokenizer", texts: Sequence[str]) -> "Tensor":
    """As `JointSpace.embed_texts`."""
    ids = tokenizer(texts, text.config.context_length)
    device = text.text_projection.weight.device
    passes = [text(some.to(device)) for some in ids.split(_TEXTS)] if texts else []
    return _unit_rows(passes, text.config.projection_dim)


def _windows(state: "Tensor", length: int, stride: int) -> "Tensor":
    """A hidden state (T, 1 + P, D) -> (n, length, 1 + P, D), without a copy."""
    return state.unfold(0, length, stride).movedim(-1, 1)


def _unit_rows(passes: "Sequence[Tensor]", width: int) -> "Tensor":
    if not passes:
        return torch.zeros(0, width)
    return normalize(torch.cat(list(passes)).float(), dim=1).cpu()
