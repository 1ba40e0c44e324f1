"""From next-token logits to token ids, on whole batches of rows with options of their own.

B rows, S of them sampled, V vocabulary. A row's choice depends on that row alone: its logits, options,
history and its own uniform number. Order of steps as in transformers: biases, penalties, what may come
next, temperature, top-k, top-p, min-p.

A vocabulary is looked at in blocks: their maxima and sums are cheap, and lead to the few ids that matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bt_model.generation.allowed import AllowedRows, BiasRows
from bt_model.generation.history import History, Said
from bt_model.generation.logprobs import LogprobRows
from bt_model.generation.nucleus import BLOCK, Bounds, draw
from bt_model.generation.request import GenRequest, TokenLogprobs

_LEAST_SCORE = -60.0  # below the best; shares beyond would be denormal numbers, which take ten times as long
_MIN_TEMPERATURE = 1e-5  # below it float32 scores would overflow, and the draw is the maximum anyway


@dataclass(frozen=True, slots=True)
class Choice:
    """Chosen ids (None where a row's logits are not finite); log probabilities if any row wants them."""

    ids: tuple[int | None, ...]
    logprobs: tuple[TokenLogprobs, ...]


def best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest of each row (B, V), and the first id that has it; both (B,)."""
    if logits.device.type != "cpu" or logits.shape[1] % BLOCK:
        values, ids = logits.max(-1)
        return values, ids
    blocks = logits.unflatten(1, (-1, BLOCK))
    number = blocks.amax(-1).argmax(-1)
    values, within = blocks.gather(1, number[:, None, None].expand(-1, 1, BLOCK))[:, 0].max(-1)
    return values, number * BLOCK + within


class RowOptions:
    """The options of a batch of rows as tensors, built once for as long as the batch stays the same."""

    def __init__(self, requests: Sequence[GenRequest], vocab_size: int, device: torch.device) -> None:
        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        sampled = [r for r in requests if r.temperature > 0]
        self._logprobs = LogprobRows(requests, device)
        self._bias = BiasRows.of(requests, device)
        self.has_history = any(r.has_penalty for r in requests)
        self._requests = requests
        self._is_sampled = [r.temperature > 0 for r in requests]
        self._sampled = torch.tensor([i for i, on in enumerate(self._is_sampled) if on], device=device)
        self._has_temperature = any(r.temperature != 1 for r in sampled)
        self._by_temperature = column([1 / max(r.temperature, _MIN_TEMPERATURE) for r in sampled])
        self._bounds = Bounds.of(sampled, vocab_size, device)
        width = -(-vocab_size // BLOCK) * BLOCK
        self._scores = torch.empty(len(sampled), width, device=device)  # used again and again
        self._shares = torch.empty_like(self._scores)

    def choose(
        self,
        logits: Tensor,
        said: Sequence[History],
        uniforms: Sequence[float],
        allowed: AllowedRows | None = None,
    ) -> Choice:
        """(B, V) logits, which may be changed; the ids of each row so far; one uniform number a row."""
        given = logits.float()
        asked = self._logprobs.of(given)
        if self._bias is not None:
            self._bias.add(given)
        if self.has_history:
            Said.of(said, self._requests).penalise(given)
        if allowed is not None:
            allowed.keep(given)
        if uniforms and all(self._is_sampled):
            values = given.amax(-1)
            ids = self._draw(given, values, uniforms)
        else:
            values, ids = best(given)
            own = [u for u, is_sampled in zip(uniforms, self._is_sampled, strict=True) if is_sampled]
            if own:
                rows = self._sampled
                ids = ids.index_copy(0, rows, self._draw(given[rows], values[rows], own))
        logprobs = () if asked is None else self._logprobs.read(asked, ids)
        # the maximum is not finite if any logit is NaN or +inf; -1 marks such rows: one device-to-host copy
        marked = torch.where(values.abs() < math.inf, ids, -1).tolist()
        return Choice(tuple(None if i < 0 else i for i in marked), logprobs)

    def _draw(self, logits: Tensor, values: Tensor, uniforms: Sequence[float]) -> Tensor:
        """Of rows (S, V) that are sampled, and their maxima (S,)."""
        scores = self._scores[:, : logits.shape[1]]
        self._scores[:, logits.shape[1] :] = -math.inf
        least = values[:, None] * self._by_temperature + _LEAST_SCORE
        if self._has_temperature:
            logits = torch.mul(logits, self._by_temperature, out=scores)
        torch.maximum(logits, least, out=scores)
        torch.softmax(self._scores, -1, out=self._shares)
        numbers = torch.tensor(uniforms, dtype=torch.float64, device=self._shares.device)[:, None]
        return draw(self._shares, self._bounds, numbers, self._scores)
