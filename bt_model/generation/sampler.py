"""From next-token logits to token ids: pure functions over rows, and a batch of rows with own options.

B rows, V vocabulary. A row's choice depends on that row alone: its logits, options, history and its own
uniform number. Order of steps as in transformers: penalty, temperature, top-k, top-p.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bt_model.generation.request import GenRequest

_MIN_TEMPERATURE = 1e-5  # below it float32 scores would overflow, and the draw is the maximum anyway


@dataclass(frozen=True, slots=True)
class Choice:
    """Chosen ids (None where a row's logits are not finite); log probabilities if any row wants them."""

    ids: tuple[int | None, ...]
    logprobs: tuple[float, ...]


def penalised(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """(B, V), (B, V) true for generated ids, (B, 1) -> (B, V): lowers the logits of generated ids."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def truncated(scores: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """The `top_k` (B, 1) best ids, then the fewest of these with mass `top_p` (B, 1); others -inf. (B, V).

    Ids tied with the last one kept are kept too, so the result does not depend on sort order.
    """
    width = int(top_k.max())
    ordered = scores.topk(width).values if width < scores.shape[1] else scores.sort(descending=True).values
    outside = torch.arange(width, device=scores.device) >= top_k
    probabilities = ordered.masked_fill(outside, -math.inf).softmax(-1)
    mass_before = probabilities.cumsum(-1) - probabilities
    # the best id is always kept: a tiny top_p rounds to 0, and comparisons with NaN are false
    num_kept = ((mass_before < top_p) & ~outside).sum(-1, keepdim=True).clamp_min(1)
    return scores.masked_fill(scores < ordered.gather(1, num_kept - 1), -math.inf)


def drawn(scores: Tensor, uniform: Tensor) -> Tensor:
    """Ids (B,) at which the rows' cumulative probabilities pass `uniform` (B, 1) in [0, 1)."""
    cumulative = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    ids = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return ids[:, 0].clamp_max(scores.shape[1] - 1)


def logprobs_of(logits: Tensor, ids: Tensor) -> Tensor:
    """Log probabilities (B,) of ids (B,) under the model itself: no penalty, temperature or truncation."""
    return logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)


class RowOptions:
    """The options of a batch of rows as tensors, built once for as long as the batch stays the same."""

    def __init__(self, requests: Sequence[GenRequest], vocab_size: int, device: torch.device) -> None:
        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        sampled = [r for r in requests if r.temperature > 0]
        self.has_logprobs = any(r.logprobs for r in requests)
        self.has_penalty = any(r.repetition_penalty != 1 for r in requests)
        self._penalty = column([r.repetition_penalty for r in requests])
        self._is_sampled = [r.temperature > 0 for r in requests]
        self._sampled = torch.tensor(self._is_sampled, device=device).nonzero()[:, 0] if sampled else None
        self._temperature = column([max(r.temperature, _MIN_TEMPERATURE) for r in sampled])
        self._is_truncated = any(0 < r.top_k < vocab_size or r.top_p < 1 for r in sampled)
        self._top_k = column([min(r.top_k or vocab_size, vocab_size) for r in sampled], torch.int64)
        # top_p = 1 means no cut; infinity keeps rounding of the cumulative sum from making one
        self._top_p = column([r.top_p if r.top_p < 1 else math.inf for r in sampled])

    def choose(self, logits: Tensor, seen: Tensor, uniforms: Sequence[float]) -> Choice:
        """(B, V) logits, (B, V) generated ids so far, one uniform number a row -> one id a row."""
        logits = logits.float()
        scores = penalised(logits, seen, self._penalty) if self.has_penalty else logits
        best, ids = scores.max(-1)
        if self._sampled is not None:
            own = [u for u, is_sampled in zip(uniforms, self._is_sampled, strict=True) if is_sampled]
            ids = ids.index_copy(0, self._sampled, self._draw(scores[self._sampled], own))
        logprobs = tuple(logprobs_of(logits, ids).tolist()) if self.has_logprobs else ()
        # the maximum is not finite if any logit is NaN or +inf; -1 marks such rows: one device-to-host copy
        marked = torch.where(best.isfinite(), ids, -1).tolist()
        return Choice(tuple(None if i < 0 else i for i in marked), logprobs)

    def _draw(self, scores: Tensor, uniforms: Sequence[float]) -> Tensor:
        scores = (scores - scores.amax(-1, keepdim=True)) / self._temperature
        if self._is_truncated:
            scores = truncated(scores, self._top_k, self._top_p)
        return drawn(scores, torch.tensor(uniforms, dtype=torch.float64, device=scores.device)[:, None])
