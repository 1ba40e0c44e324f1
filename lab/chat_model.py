"""The laboratory's models of text: a small chat model, and CLIP's text tower with its tokenizer.

B texts, n tokens, E joint width.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.text.clip_tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.text.clip_text import ClipTextTower

INITIAL_SCALE = 1 / 0.07  # CLIP's initial value of the learnt temperature


class TextEncoder(nn.Module):
    """Text tower with its tokenizer and CLIP's learnt temperature."""

    def __init__(self, tower: "ClipTextTower", tokenizer: ClipTokenizer) -> None:
        super().__init__()
        self.tower = tower
        self.tokenizer = tokenizer
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())

    def ids(self, texts: Sequence[str]) -> "Tensor":
        """Token ids (B, n)."""
        return self.tokenizer(texts, self.tower.config.context_length)

    def forward(self, texts: Sequence[str]) -> "Tensor":
        """Embeddings (B, E)."""
        return self.tower(self.ids(texts))


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A decoder and the projector before it."""

    lm: "Llama"
    projector: nn.Linear

    def copy(self) -> "ChatModel":
        """A trainable copy."""
        copied = ChatModel(deepcopy(self.lm), deepcopy(self.projector))
        for part in (copied.lm, copied.projector):
            part.requires_grad_(requires_grad=True).train()
        return copied

    def with_own_projector(self) -> "ChatModel":
        """The same decoder behind a copy of the projector, which learns."""
        return ChatModel(self.lm, deepcopy(self.projector).requires_grad_(requires_grad=True))

    def freeze(self) -> None:
        """No gradients from here on."""
        freeze(self.lm)
        freeze(self.projector)


def freeze(module: nn.Module) -> None:
    """Disable gradients of all parameters."""
    module.requires_grad_(requires_grad=False).eval()
