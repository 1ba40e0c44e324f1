"""Tiny random decoders and requests for the generation tests."""

from collections.abc import Sequence
from itertools import count
from typing import TypedDict, Unpack

import torch

from bt_model.config import LlamaConfig
from bt_model.generation.llama import Llama
from bt_model.generation.request import Delta, Event, Finish, GenRequest, Segment, Soft, Tokens

WIDTH = 32
VOCAB = 61
CONTEXT = 96
CONFIG = LlamaConfig(
    vocab_size=VOCAB,
    width=WIDTH,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    mlp_width=48,
    max_context=CONTEXT,
)


def wake(lm: Llama, seed: int = 0) -> Llama:
    """Weights large enough that attention and position matter, so that wrong code changes tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lm.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.35, generator=generator)
            else:
                weight.uniform_(0.5, 1.5, generator=generator)
    return lm.eval()


def tiny(config: LlamaConfig = CONFIG) -> Llama:
    return wake(Llama(config))


def soft(length: int, seed: int) -> Soft:
    generator = torch.Generator().manual_seed(seed)
    return Soft(key=bytes([seed % 256]), embeds=torch.randn(length, WIDTH, generator=generator))


def prompt(index: int) -> tuple[Segment, ...]:
    """Prompt number `index`: text, soft tokens, text, with a length of its own."""
    before = tuple((7 * index + 3 * i) % VOCAB for i in range(2 + index % 3))
    after = tuple((5 * index + i) % VOCAB for i in range(1 + 2 * index % 11))
    return (Tokens(before), soft(4 + index % 5, index), Tokens(after))


_ids = count()


class Options(TypedDict, total=False):
    """What else a request may say."""

    id: str
    owner: bytes
    stop_token_ids: frozenset[int]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    logprobs: bool
    deadline: float | None


def request(
    segments: Sequence[Segment] | None = None, max_new_tokens: int = 12, **options: Unpack[Options]
) -> GenRequest:
    chosen = prompt(0) if segments is None else tuple(segments)
    fields: Options = {"id": f"r{next(_ids)}", "stop_token_ids": frozenset(), **options}
    return GenRequest(segments=chosen, max_new_tokens=max_new_tokens, **fields)


def tokens_of(events: Sequence[Event]) -> tuple[int, ...]:
    return tuple(i for event in events if isinstance(event, Delta) for i in event.token_ids)


def finish_of(events: Sequence[Event]) -> Finish:
    last = events[-1]
    assert isinstance(last, Finish)
    return last
