"""A chat model without weights: it repeats the question. For tests and for client development."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class EchoCache:
    """The ids written to each slot so far."""

    ids: dict[int, list[int]] = field(default_factory=dict[int, list[int]])


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
        return EchoCache()

    def prefill(self, cache: EchoCache, slot: int, embeds: "Tensor", start: int) -> "Tensor":
        """(n, VOCAB) -> logits (VOCAB,)."""
        cache.ids[slot] = [*cache.ids.get(slot, [])[:start], *embeds.argmax(dim=1).tolist()]
        return self._next(cache.ids[slot])

    def decode(self, cache: EchoCache, slots: "Tensor", ids: "Tensor", positions: "Tensor") -> "Tensor":
        """One id (B,) for each of B slots -> logits (B, VOCAB)."""
        for slot, token, position in zip(slots.tolist(), ids.tolist(), positions.tolist(), strict=True):
            cache.ids[slot] = [*cache.ids[slot][:position], token]
        return torch.stack([self._next(cache.ids[slot]) for slot in slots.tolist()])

    def _next(self, ids: list[int]) -> "Tensor":
        begin = len(ids) - ids[::-1].index(BEGIN)
        question, said = _split(ids[begin:])
        token = question[len(said)] if len(said) < len(question) else EOS
        return self.embed(torch.tensor([token]))[0] * 100


def _split(ids: list[int]) -> tuple[list[int], list[int]]:
    """The question, which ends with EOS, and the ids generated after it."""
    end = ids.index(EOS)
    return ids[:end], ids[end + 1 :]


@dataclass(frozen=True, slots=True)
class EchoBackend:
    """Takes video tokens of any width; each occupies one position of the prompt."""

    video_dim: int
    name: str = "echo"
    stop_strings: tuple[str, ...] = ()

    @property
    def defaults(self) -> GenerateOptions:
        return GenerateOptions(temperature=0.0, max_tokens=256)

    @property
    def lm(self) -> EchoLM:
        return EchoLM()

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return frozenset({EOS})

    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        check_turns(turns)
        question = Tokens((BEGIN, *self.encode(turns[-1].text), EOS))
        if video is None:
            return (question,)
        places = torch.zeros(len(video.tokens), dtype=torch.int64)
        return (Soft(video.key, one_hot(places, VOCAB).float()), question)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


def create(files: "BackendFiles") -> EchoBackend:
    """Needs no file."""
    return EchoBackend(files.video_dim)
