"""What grammars leave of a batch's logits. B rows, G of them with a grammar, V vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from bt_model.grammar.matching import GrammarRun


@dataclass(frozen=True, slots=True)
class AllowedRows:
    """The numbers of rows (G,), and for each whether an id may be chosen (G, V)."""

    rows: Tensor
    ids: Tensor

    @classmethod
    def of(cls, runs: "Sequence[GrammarRun | None]", device: torch.device) -> "AllowedRows":
        """Computed on the CPU while an accelerator still computes the logits."""
        held = [(row, run) for row, run in enumerate(runs) if run is not None]
        ids = torch.from_numpy(np.stack([run.allowed() for _, run in held]))
        return cls(torch.tensor([row for row, _ in held], device=device), ids.to(device, non_blocking=True))

    def keep(self, logits: Tensor) -> None:
        """Change logits (B, V) in place: the others are never chosen."""
        logits[self.rows] = logits[self.rows].masked_fill(~self.ids, -torch.inf)
