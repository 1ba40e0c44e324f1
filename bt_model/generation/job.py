"""A request on its way through the engine. Without tensors or threads."""

import logging
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from bt_model.generation.chunk import Chunk
from bt_model.generation.pages import Key
from bt_model.generation.request import Event, Finish, FinishReason, GenRequest, GenTiming, Sink, Tokens

if TYPE_CHECKING:
    from bt_model.grammar.matching import GrammarRun

_logger = logging.getLogger(__name__)


class JobState(Enum):
    """A job's state; preemption alone leads back."""

    WAITING = auto()
    ADMITTED = auto()
    FINISHED = auto()


@dataclass(slots=True, eq=False)
class Job:
    """A request with its state. Times are time.monotonic() seconds; `cancel_message` says why it must end."""

    request: GenRequest
    sink: Sink
    submitted: float
    seed: int
    state: JobState = JobState.WAITING
    pages: list[int] = field(default_factory=list[int])
    num_computed: int = 0  # positions whose keys and values are in the pages
    num_cached: int = 0  # of the prompt, found in the prefix store
    new_ids: list[int] = field(default_factory=list[int])
    admitted: float | None = None
    prefilled: float | None = None
    cancel_message: str | None = None
    keys: tuple[Key, ...] = field(init=False)  # what stands at each position of the prompt
    grammar: "GrammarRun | None" = field(init=False)  # behind all that was said

    def __post_init__(self) -> None:
        self.grammar = None if self.request.grammar is None else self.request.grammar.begin()
        keys: list[Key] = []
        for segment in self.request.segments:
            if isinstance(segment, Tokens):
                keys += segment.ids
            else:
                keys += [(segment.key, number) for number in range(len(segment.embeds))]
        self.keys = tuple(keys)

    @property
    def num_prompt(self) -> int:
        return len(self.keys)

    @property
    def length(self) -> int:
        """Positions of prompt and new tokens."""
        return self.num_prompt + len(self.new_ids)

    @property
    def num_missing(self) -> int:
        """Positions to compute before the next token can be chosen."""
        return self.length - self.num_computed

    @property
    def is_row(self) -> bool:
        """Its next step is one token of its own, not a part of a prompt or of what was preempted."""
        return bool(self.new_ids) and self.num_missing == 1

    @property
    def is_early(self) -> bool:
        """Whether it is too short to end by a stop token."""
        return len(self.new_ids) < self.request.min_new_tokens

    @property
    def fault(self) -> str:
        """Why its grammar cannot be followed any further."""
        return "" if self.grammar is None else self.grammar.fault

    def add(self, token: int) -> FinishReason | None:
        """Append a new token; the reason to end behind it, if there is one."""
        self.new_ids.append(token)
        if self.grammar is not None:
            self.grammar.accept(token)
            if self.grammar.is_complete:
                return "stop"
        return "length" if len(self.new_ids) == self.request.max_new_tokens else None

    def emit(self, event: Event) -> None:
        """Tell the receiver; one that fails ends the job, and hurts nobody else."""
        try:
            self.sink(event)
        except Exception:
            _logger.exception("the receiver of request %s failed", self.request.id)
            self.cancel_message = "the receiver failed"

    def finish(self, reason: FinishReason, message: str) -> Finish:
        """The terminal event, if the job ends now."""
        now = time.monotonic()
        admitted = now if self.admitted is None else self.admitted
        prefilled = now if self.prefilled is None else self.prefilled
        timing = GenTiming(admitted - self.submitted, prefilled - admitted, now - prefilled)
        return Finish(reason, self.num_prompt, len(self.new_ids), self.num_cached, timing, message)


@dataclass(frozen=True, slots=True)
class Work:
    """What one job adds in a step."""

    job: Job
    chunk: Chunk
