"""The tensors of running jobs: KV cache, generated ids and sampling options."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.generation.request import EngineCaps, Tokens
from bt_model.generation.sampler import Choice, RowOptions
from bt_model.generation.scheduler import Job

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel


class Runner:
    """Runs one prompt, or one decode step of all rows, and chooses the next tokens."""

    def __init__(self, lm: "LanguageModel", caps: EngineCaps) -> None:
        self._lm = lm
        self._like = lm.embed(torch.empty(0, dtype=torch.int64)).detach()  # dtype and device of embeddings
        self._cache = lm.new_cache(caps.max_batch, caps.max_context)
        self._seen = torch.zeros(caps.max_batch, lm.vocab_size, dtype=torch.bool, device=self._like.device)
        self._rows: Sequence[Job] = ()
        self._slots = torch.empty(0, dtype=torch.int64)
        self._options = self._options_of(())

    def prefill(self, job: Job) -> Choice:
        """Run the prompt and choose the first new token."""
        self._seen[job.slot] = False
        embeds = torch.cat(
            [
                self._lm.embed(torch.tensor(s.ids)) if isinstance(s, Tokens) else s.embeds.to(self._like)
                for s in job.request.segments
            ]
        )
        logits = self._lm.prefill(self._cache, job.slot, embeds, 0)[None]
        rows = slice(job.slot, job.slot + 1)
        return self._options_of((job,)).choose(logits, self._seen[rows], _uniforms((job,)))

    def decode(self, rows: Sequence[Job]) -> Choice:
        """Append each row's newest token to its slot and choose the next one."""
        if rows != self._rows:
            self._rows, self._options = rows, self._options_of(rows)
            self._slots = torch.tensor([job.slot for job in rows])
        ids = torch.tensor([job.last_id for job in rows])
        positions = torch.tensor([job.position for job in rows])
        logits = self._lm.decode(self._cache, self._slots, ids, positions)
        if self._options.has_penalty:
            self._seen[self._slots, ids] = True
        seen = self._seen[self._slots] if self._options.has_penalty else self._seen
        return self._options.choose(logits, seen, _uniforms(rows))

    def _options_of(self, rows: Sequence[Job]) -> RowOptions:
        return RowOptions([job.request for job in rows], self._lm.vocab_size, self._like.device)


def _uniforms(rows: Sequence[Job]) -> list[float]:
    """One number in [0, 1) from each sampled row's own generator."""
    return [job.random.random() if job.request.temperature > 0 else 0.0 for job in rows]
