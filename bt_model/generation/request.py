"""Input and output of a generation engine: the interface that every engine implements.

Tokeniser, prompts, stop strings, detokenising and vision are outside of it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from bt_model.errors import ContextLengthError, require

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.grammar.grammars import Grammar

FinishReason = Literal["stop", "length", "cancelled", "error", "refused"]  # refused: by its grammar


@dataclass(frozen=True, slots=True)
class Tokens:
    """A run of token ids."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Soft:
    """Soft tokens (n, hidden). `key` hashes content and model revision: equal keys, equal embeds."""

    key: bytes
    embeds: "Tensor"


Segment = Tokens | Soft


@dataclass(frozen=True, slots=True)
class GenRequest:
    """One prompt and how to continue it. Temperature 0 is greedy; `deadline` is on time.monotonic()."""

    id: str
    segments: tuple[Segment, ...]
    max_new_tokens: int
    stop_token_ids: frozenset[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_new_tokens: int = 0  # before a stop token may come
    logit_bias: tuple[tuple[int, float], ...] = ()  # (id, what is added to its logit)
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0  # the likeliest ids beside each chosen one, where `logprobs`
    deadline: float | None = None
    before: tuple[int, ...] = ()  # the prompt's last ids, where the answer goes on a text of theirs
    grammar: "Grammar | None" = None  # what the answer follows, to its end
    owner: bytes = b""  # only requests of one owner share what is computed of their prompts

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(s.ids) if isinstance(s, Tokens) else int(s.embeds.shape[0]) for s in self.segments)

    @property
    def has_penalty(self) -> bool:
        """Whether the next token depends on those that were said."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def num_video_tokens(self) -> int:
        return sum(int(s.embeds.shape[0]) for s in self.segments if isinstance(s, Soft))


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token's log probability, and the likeliest ids with theirs, the greatest first."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens of one request; never holds a stop token. Those who asked get log probabilities of each."""

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class GenTiming:
    """Seconds spent waiting in the queue, in the prompt's forward pass and in decoding."""

    queue: float
    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The one terminal event of a request. `cached` prompt tokens were not computed again."""

    reason: FinishReason
    num_prompt: int
    num_new: int
    num_cached: int
    timing: GenTiming
    message: str = ""


Event = Delta | Finish
Sink = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class EngineCaps:
    """An engine's limits."""

    max_context: int
    max_batch: int
    max_queue: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for metrics and tests; KV counts are in tokens."""

    running: int
    waiting: int
    kv_used: int
    kv_total: int
    prefix_hits: int  # prompt tokens
    prefix_queries: int
    prefix_bytes: int
    preemptions: int
    tokens_total: int
    step_ms: float
    busy_seconds: float  # of the step that runs now
    alive: bool


def check(request: GenRequest, caps: EngineCaps, vocab_size: int) -> None:
    """Refuse a request that an engine cannot take.

    Raises:
        InvalidValueError: a value out of range.
        ContextLengthError: prompt plus new tokens exceed `caps.max_context`.
    """
    r = request
    require(r.max_new_tokens >= 1, "max_new_tokens", r.max_new_tokens, "1 or more")
    require(math.isfinite(r.temperature) and r.temperature >= 0, "temperature", r.temperature, "0 or more")
    require(0 < r.top_p <= 1, "top_p", r.top_p, "above 0, up to 1")
    require(r.top_k >= 0, "top_k", r.top_k, "0 (off) or more")
    require(0 <= r.min_p <= 1, "min_p", r.min_p, "0 to 1")
    require(r.top_logprobs >= 0, "top_logprobs", r.top_logprobs, "0 or more")
    for name in ("presence_penalty", "frequency_penalty"):
        require(math.isfinite(getattr(r, name)), name, getattr(r, name), "a number")
    penalty = r.repetition_penalty
    require(math.isfinite(penalty) and penalty > 0, "repetition_penalty", penalty, "above 0")
    strangers = [number for number, _ in r.logit_bias if not 0 <= number < vocab_size]
    require(not strangers, "logit_bias", strangers[:1], f"token ids 0 to {vocab_size - 1}")
    runs = [s.ids for s in r.segments if isinstance(s, Tokens) and s.ids]
    outside = [i for ids in runs for i in (min(ids), max(ids)) if not 0 <= i < vocab_size]
    require(not outside, "segments", outside, f"token ids 0 to {vocab_size - 1}")
    length = r.num_prompt_tokens
    require(length > 0, "segments", r.segments, "at least one token")
    if length + r.max_new_tokens > caps.max_context:
        raise ContextLengthError(
            f"{length} prompt tokens and {r.max_new_tokens} new ones; the context holds {caps.max_context}",
            param="max_new_tokens",
        )


class Handle(Protocol):
    """A submitted request."""

    @property
    def id(self) -> str: ...

    def stream(self) -> Iterator[Event]:
        """Deltas, then exactly one Finish. Closing the iterator early cancels the request."""
        ...


class Engine(Protocol):
    """A generation engine. All methods may be called from any thread."""

    @property
    def caps(self) -> EngineCaps: ...

    def start(self) -> None: ...

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Finish running requests for up to `drain_seconds`, cancel the rest, and release everything."""
        ...

    def submit(self, request: GenRequest, sink: Sink | None = None) -> Handle:
        """Queue a request without blocking. Events go to `sink` (on the engine's thread) or to the handle.

        Raises:
            QueueFullError: the waiting queue is at its bound.
            ContextLengthError: prompt plus new tokens exceed `caps.max_context`.
            InvalidValueError: a sampling value out of range.
            EngineDeadError: not started, stopped or failed.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Idempotent; the terminal event follows within one step."""
        ...

    def stats(self) -> EngineStats: ...
