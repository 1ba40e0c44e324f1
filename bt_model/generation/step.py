"""One step of the engine in tensors: the rows of its chunks in, the next token of each finished chunk out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.generation.draw import uniform
from bt_model.generation.request import Tokens
from bt_model.generation.sampler import Choice, RowOptions

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.language_model import LanguageModel, Runner
    from bt_model.generation.scheduler import Job, Work


class StepComputer:
    """Embeds, runs and samples. `lanes` rows remember what they have said, for the repetition penalty."""

    def __init__(self, lm: "LanguageModel", runner: "Runner", lanes: int) -> None:
        self.runner = runner
        self._lm = lm
        self._like = lm.embed(torch.empty(0, dtype=torch.int64)).detach()  # dtype and device of embeddings
        self._seen = torch.zeros(lanes, lm.vocab_size, dtype=torch.bool, device=self._like.device)
        self._prompts: dict[Job, Tensor] = {}  # embeddings of prompts that are not computed to their end
        self._rows: tuple[Job, ...] = ()
        self._options = self._options_of(())

    def compute(self, work: "Sequence[Work]") -> Choice:
        """One id for each chunk that is its job's last."""
        embeds = torch.cat([*self._prompt_rows(work), *self._new_rows(work)])
        logits = self.runner.step(embeds, [each.chunk for each in work])
        rows = tuple(each.job for each in work if each.chunk.is_last)
        if rows != self._rows:
            self._rows, self._options = rows, self._options_of(rows)
        seen = self._seen
        if self._options.has_penalty:
            seen = self._marked(rows)
        return self._options.choose(logits, seen, [uniform(job.seed, len(job.new_ids)) for job in rows])

    def _prompt_rows(self, work: "Sequence[Work]") -> "list[Tensor]":
        prompts = [each for each in work if each.chunk.is_prompt]
        begun = self._prompts
        self._prompts = {
            each.job: begun[each.job] if each.job in begun else self._embedded(each.job) for each in prompts
        }
        return [self._prompts[each.job][each.chunk.start : each.chunk.end] for each in prompts]

    def _new_rows(self, work: "Sequence[Work]") -> "list[Tensor]":
        ids = [each.job.new_ids[-1] for each in work if not each.chunk.is_prompt]
        return [self._lm.embed(torch.tensor(ids))] if ids else []

    def _embedded(self, job: "Job") -> "Tensor":
        """Prompt and new tokens (n, W)."""
        segments = (*job.request.segments, Tokens(tuple(job.new_ids)))
        return torch.cat(
            [
                self._lm.embed(torch.tensor(s.ids, dtype=torch.int64))
                if isinstance(s, Tokens)
                else s.embeds.to(self._like)
                for s in segments
            ]
        )

    def _marked(self, rows: "tuple[Job, ...]") -> "Tensor":
        """(B, V): which tokens each row has said."""
        seen = self._seen[: len(rows)].zero_()
        for row, job in enumerate(rows):
            if job.new_ids:
                seen[row, job.new_ids] = True
        return seen

    def _options_of(self, rows: "tuple[Job, ...]") -> RowOptions:
        return RowOptions([job.request for job in rows], self._lm.vocab_size, self._like.device)
