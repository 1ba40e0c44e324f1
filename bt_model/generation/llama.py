"""A Llama decoder; parameter names are those of Hugging Face checkpoints.

B rows, n positions, W width, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from bt_model.config import LlamaConfig
from bt_model.generation.kernel_choice import triton_kernels
from bt_model.generation.kv_cache import page_bytes
from bt_model.generation.language_model import widened
from bt_model.generation.llama_layers import CausalPattern, LlamaDecoder
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.paged_runner import PagedRunner

if TYPE_CHECKING:
    from bt_model.generation.decode_kernels import DecodeKernels
    from bt_model.generation.language_model import Runner

_INIT_STD = 0.02


class Llama(nn.Module):
    """Embeddings in, next-token logits out: cached for generation, whole sequences for training.

    Tied embeddings have no `lm_head.weight` of their own, as in their checkpoints.
    """

    shares_prefixes = True

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = LlamaDecoder(cfg)
        self.lm_head = None if cfg.tie_embeddings else nn.Linear(cfg.width, cfg.vocab_size, bias=False)
        for weight in self.parameters():
            if weight.dim() > 1:  # norms keep their ones
                nn.init.normal_(weight, std=_INIT_STD)

    @property
    def decoder(self) -> str:
        return "own" if self._kernels is None else "own, Triton kernels"

    @property
    def _kernels(self) -> "DecodeKernels | None":
        """What a GPU computes steps with, if it can."""
        like = self.model.norm.weight
        return triton_kernels(self.cfg, like.device, like.dtype) if like.device.type == "cuda" else None

    @property
    def vocab_size(self) -> int:
        """Rows of the token table; a table may have been grown for a prompt's markers, the head not."""
        return self.model.embed_tokens.num_embeddings

    @property
    def hidden_size(self) -> int:
        return self.cfg.width

    @property
    def max_context(self) -> int:
        return self.cfg.max_context

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, n, W) and which tokens are real, (B, n) with padding on the right -> logits (B, n, V)."""
        return self.logits(self.states(embeds, mask))

    def states(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's outputs (B, n, W), the input of `logits`; arguments as in `forward`."""
        return self.model(embeds, CausalPattern.of(self.model.rope(embeds.shape[1]), mask))

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids, any shape (...) int64 -> (..., W)."""
        return self.model.embed_tokens(ids.to(self.model.embed_tokens.weight.device, non_blocking=True))

    def start(self, num_pages: int, *, keep_weights: bool = True) -> "Runner":
        """A runner of steps with a cache of so many pages, the fastest that this device allows.

        Without `keep_weights` the decoder's matrices move into the runner, and only that and `embed` can be
        used from then on.
        """
        kernels = self._kernels
        if kernels is None:
            return LlamaRunner(self.model, self.head_weight, num_pages, keep_weights=keep_weights)
        return PagedRunner(self.model, self.head_weight, num_pages, kernels, keep_weights=keep_weights)

    @property
    def page_bytes(self) -> int:
        """Memory of one page of the cache."""
        return page_bytes(self.cfg, self.model.norm.weight.itemsize)

    def logits(self, x: Tensor) -> Tensor:
        """States of any positions (..., W) -> (..., V)."""
        return widened(F.linear(self.model.norm(x), self.head_weight), self.vocab_size)

    @property
    def head_weight(self) -> Tensor:
        """(V, W)."""
        return (self.model.embed_tokens if self.lm_head is None else self.lm_head).weight
