"""A chat model without weights: it repeats the question. For tests and for client development."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import one_hot

from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.types import GenerateOptions, Turn, VideoTokens, check_turns

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.backends.base import BackendFiles

EOS, BEGIN = 256, 257  # after the 256 bytes
VOCAB = 258
MAX_CONTEXT = 4096
EchoCache = dict[int, list[int]]  # the ids of each slot so far


class EchoLM:
    """Predicts the bytes after the last BEGIN mark once more, then EOS. Embeddings are one-hot."""

    vocab_size = VOCAB
    hidden_size = VOCAB
    max_context = MAX_CONTEXT

    def embed(self, ids: "Tensor") -> "Tensor":
        """(n,) -> (n, VOCAB)."""
        return one_hot(ids, VOCAB).float()

    def new_cache(self, num_slots: int, max_context: int) -> EchoCache:
        del num_slots, max_context  # it grows as needed
        return {}

    def prefill(self, cache: EchoCache, slot: int, embeds: "Tensor", start: int) -> "Tensor":
        """(n, VOCAB) -> logits (VOCAB,)."""
        cache[slot] = [*cache.get(slot, [])[:start], *embeds.argmax(dim=1).tolist()]
        return self._next(cache[slot])

    def decode(self, cache: EchoCache, slots: "Tensor", ids: "Tensor", positions: "Tensor") -> "Tensor":
        """One id (B,) for each of B slots -> logits (B, VOCAB)."""
        for slot, token, position in zip(slots.tolist(), ids.tolist(), positions.tolist(), strict=True):
            cache[slot] = [*cache[slot][:position], token]
        return torch.stack([self._next(cache[slot]) for slot in slots.tolist()])

    def _next(self, ids: list[int]) -> "Tensor":
        begin = len(ids) - ids[::-1].index(BEGIN)
        end = ids.index(EOS, begin)
        question, answer = ids[begin:end], ids[end + 1 :]
        token = question[len(answer)] if len(answer) < len(question) else EOS
        return self.embed(torch.tensor([token]))[0] * 100


class EchoBackend:
    """Takes video tokens of any width; each occupies one position of the prompt."""

    lm = EchoLM()
    stop_token_ids = frozenset({EOS})
    stop_strings = ()
    defaults = GenerateOptions(temperature=0.0, max_tokens=256)

    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        check_turns(turns)
        question = Tokens((BEGIN, *turns[-1].text.encode(), EOS))
        if video is None:
            return (question,)
        places = torch.zeros(len(video.tokens), dtype=torch.int64)
        return (Soft(video.key, one_hot(places, VOCAB).float()), question)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


def create(files: "BackendFiles") -> EchoBackend:
    """Needs no file."""
    del files
    return EchoBackend()
