"""Input and output of a generation engine: the interface that every engine implements.

Tokeniser, prompts, stop strings, detokenising and vision are outside of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["stop", "length", "cancelled", "error"]


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
    repetition_penalty: float = 1.0
    seed: int | None = None
    logprobs: bool = False
    deadline: float | None = None

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(s.ids) if isinstance(s, Tokens) else int(s.embeds.shape[0]) for s in self.segments)

    @property
    def num_video_tokens(self) -> int:
        return sum(int(s.embeds.shape[0]) for s in self.segments if isinstance(s, Soft))


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens of one request; never holds a stop token."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()


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
    supports: frozenset[str]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for metrics and tests; KV counts are in tokens."""

    running: int
    waiting: int
    kv_used: int
    kv_total: int
    prefix_hits: int
    prefix_bytes: int
    tokens_total: int
    step_ms: float
    alive: bool


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
