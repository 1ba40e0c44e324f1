"""Log probabilities of chosen ids and of the likeliest: the model's own, before penalties and temperature.

B rows, L of them asked for it, V vocabulary. What a row gets does not depend on the others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bt_model.generation.request import GenRequest, TokenLogprobs

_NOT_ASKED = TokenLogprobs(0.0)


class LogprobRows:
    """Which rows of a batch asked, and for how many of the likeliest ids."""

    def __init__(self, requests: Sequence[GenRequest], device: torch.device) -> None:
        self._counts = [request.top_logprobs if request.logprobs else None for request in requests]
        asked = [row for row, count in enumerate(self._counts) if count is not None]
        self._rows = torch.tensor(asked, dtype=torch.int64, device=device)

    def of(self, logits: Tensor) -> Tensor | None:
        """A copy of their rows (B, V) -> (L, V), as penalties change these; None if nobody asked."""
        return logits[self._rows] if len(self._rows) else None

    def read(self, asked: Tensor, ids: Tensor) -> tuple[TokenLogprobs, ...]:
        """From their rows (L, V) and all rows' chosen ids (B,), for each of the B rows, asked or not."""
        logprobs = asked.log_softmax(-1)
        chosen = iter(logprobs.gather(1, ids[self._rows, None])[:, 0].tolist())
        rows = zip(asked, logprobs, strict=True)
        return tuple(
            _NOT_ASKED if count is None else TokenLogprobs(next(chosen), _likeliest(*next(rows), count))
            for count in self._counts
        )


def _likeliest(logits: Tensor, logprobs: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The ids with the greatest logits (V,), and their log probabilities (V,); of equals the least id."""
    if not count:
        return ()
    least = logits.topk(min(count, len(logits))).values[-1]
    ids = (logits >= least).nonzero()[:, 0]  # with all that are equal to the last
    best = ids[logits[ids].sort(descending=True, stable=True).indices[:count]]
    return tuple(zip(best.tolist(), logprobs[best].tolist(), strict=True))
