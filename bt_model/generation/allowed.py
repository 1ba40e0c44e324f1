"""What requests add to a batch's logits, and what may come next. B rows, G of them bound, V vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_model.generation.job import Job
    from bt_model.generation.request import GenRequest


@dataclass(frozen=True, slots=True)
class BiasRows:
    """Row, id and value of each bias, all (n,)."""

    rows: Tensor
    ids: Tensor
    values: Tensor

    @classmethod
    def of(cls, requests: "Sequence[GenRequest]", device: torch.device) -> Self | None:
        """None where no request has any."""
        biases = [(row, *bias) for row, request in enumerate(requests) for bias in request.logit_bias]
        if not biases:
            return None
        rows, ids, values = (torch.tensor(column, device=device) for column in zip(*biases, strict=True))
        return cls(rows, ids, values.float())

    def add(self, logits: Tensor) -> None:
        """Change logits (B, V) in place."""
        logits[self.rows, self.ids] += self.values


@dataclass(frozen=True, slots=True)
class AllowedRows:
    """The numbers of rows (G,), and for each whether an id may be chosen (G, V)."""

    rows: Tensor
    ids: Tensor

    @classmethod
    def of(cls, jobs: "Sequence[Job]", vocab_size: int, device: torch.device) -> Self | None:
        """None where anything may come. An accelerator may still compute the logits meanwhile."""
        bound = [(row, job) for row, job in enumerate(jobs) if job.grammar is not None or job.is_early]
        if not bound:
            return None
        ids = torch.from_numpy(np.stack([_allowed(job, vocab_size) for _, job in bound]))
        return cls(torch.tensor([row for row, _ in bound], device=device), ids.to(device, non_blocking=True))

    def keep(self, logits: Tensor) -> None:
        """Change logits (B, V) in place: the others are never chosen."""
        logits[self.rows] = logits[self.rows].masked_fill(~self.ids, -torch.inf)


def _allowed(job: "Job", vocab_size: int) -> "NDArray[np.bool_]":
    """(V,)."""
    ids = np.ones(vocab_size, np.bool_) if job.grammar is None else job.grammar.allowed()
    if job.is_early:
        ids[list(job.request.stop_token_ids)] = False
    return ids
