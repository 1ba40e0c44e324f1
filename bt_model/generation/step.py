"""The two ends of a step in tensors: the rows of its chunks, and the next token of each finished one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.generation.allowed import AllowedRows
from bt_model.generation.draw import uniform
from bt_model.generation.history import History
from bt_model.generation.request import Tokens
from bt_model.generation.sampler import Choice, RowOptions

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.job import Job, Work
    from bt_model.generation.language_model import LanguageModel


class StepTensors:
    """What goes into the runner's steps, and what is made of what comes out."""

    def __init__(self, lm: "LanguageModel") -> None:
        self._lm = lm
        self._like = lm.embed(torch.empty(0, dtype=torch.int64)).detach()  # dtype and device of embeddings
        self._said: dict[Job, History] = {}
        self._prompts: dict[Job, Tensor] = {}  # embeddings of prompts that are not computed to their end
        self._rows: tuple[Job, ...] = ()
        self._options = self._options_of(())

    def embed(self, work: "Sequence[Work]") -> "Tensor":
        """The rows of all chunks (N, W), which are parts of prompts or one new token each."""
        if work[0].chunk.is_prompt:
            return torch.cat(self._prompt_rows(work))
        return self._lm.embed(torch.tensor([each.job.new_ids[-1] for each in work]))

    def choose(self, logits: "Tensor", work: "Sequence[Work]") -> Choice:
        """From logits (R, V) one id for each chunk that is its job's last."""
        rows = tuple(each.job for each in work if each.chunk.is_last)
        if rows != self._rows:
            self._rows, self._options = rows, self._options_of(rows)
        numbers = [uniform(job.seed, len(job.new_ids)) for job in rows]
        allowed = AllowedRows.of(rows, self._lm.vocab_size, logits.device)
        return self._options.choose(logits, self._histories(rows), numbers, allowed)

    def _prompt_rows(self, work: "Sequence[Work]") -> "list[Tensor]":
        begun = self._prompts
        whole = {
            each.job: begun[each.job] if each.job in begun else self._embedded(each.job) for each in work
        }
        self._prompts = {each.job: whole[each.job] for each in work if not each.chunk.is_last}
        return [whole[each.job][each.chunk.start : each.chunk.end] for each in work]

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

    def _histories(self, rows: "tuple[Job, ...]") -> list[History]:
        """What each row has said, if any row's penalties ask for it."""
        if not self._options.has_history:
            return []
        known = self._said
        self._said = {job: known[job] if job in known else History() for job in rows}
        for job, history in self._said.items():
            history.update(job.new_ids)
        return list(self._said.values())

    def _options_of(self, rows: "tuple[Job, ...]") -> RowOptions:
        return RowOptions([job.request for job in rows], self._lm.vocab_size, self._like.device)
