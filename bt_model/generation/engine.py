"""Continuous batching in one thread: a step admits at most one prompt, then decodes all running rows."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.errors import ContextLengthError, EngineDeadError, require
from bt_model.generation.request import (
    Delta,
    EngineCaps,
    EngineStats,
    Event,
    Finish,
    FinishReason,
    GenRequest,
    GenTiming,
    Sink,
    Tokens,
)
from bt_model.generation.runner import Runner
from bt_model.generation.sampler import Choice
from bt_model.generation.scheduler import Job, Scheduler

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel

_SUPPORTS = frozenset({"seed", "penalty", "logprobs"})
_logger = logging.getLogger(__name__)


class BatchEngine:
    """Implements `request.Engine` over any `LanguageModel`.

    Events are emitted on the engine's thread. A request that fails does not affect others in its batch.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        *,
        max_batch: int = 16,
        max_queue: int = 256,
        max_context: int | None = None,
    ) -> None:
        context = min(lm.max_context, max_context or lm.max_context)
        self._caps = EngineCaps(context, max_batch, max_queue, _SUPPORTS)
        self._lm = lm
        self._scheduler = Scheduler(max_batch, max_queue)
        self._changed = threading.Condition()  # guards the scheduler, the thread and the stop flag
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._tokens_total = 0
        self._step_seconds = 0.0

    @property
    def caps(self) -> EngineCaps:
        return self._caps

    def start(self) -> None:
        """Reserve the cache and start the thread; does nothing while it runs."""
        with self._changed:
            if self._thread is None:
                runner = Runner(self._lm, self._caps)
                self._is_stopping = False
                self._thread = threading.Thread(
                    target=self._run, args=(runner,), name="generation", daemon=True
                )
                self._thread.start()

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Finish accepted requests for up to `drain_seconds`, cancel the rest, and release the cache."""
        with self._changed:
            thread = self._thread
            self._is_stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._scheduler.jobs, timeout=drain_seconds)
            for job in self._scheduler.jobs:
                job.cancel_message = job.cancel_message or "the engine was stopped"
        if thread is not None:
            thread.join()
        with self._changed:
            self._thread = None

    def submit(self, request: GenRequest, sink: Sink | None = None) -> "QueuedHandle":
        """Queue a request without blocking; see `request.Engine.submit`.

        Raises:
            QueueFullError: the waiting queue is at its bound.
            ContextLengthError: prompt plus new tokens exceed `caps.max_context`.
            InvalidValueError: a value out of range, or an id in use.
            EngineDeadError: not started, stopped or failed.
        """
        _check(request, self._caps, self._lm.vocab_size)
        handle = QueuedHandle(request.id, self.cancel)
        job = Job(request, sink or handle.put, time.monotonic(), Random(request.seed))
        with self._changed:
            if self._is_stopping or self._thread is None or not self._thread.is_alive():
                raise EngineDeadError("the engine is not running")
            self._scheduler.add(job)
            self._changed.notify_all()
        return handle

    def cancel(self, request_id: str) -> None:
        """End a request within one step; unknown and finished ids are ignored."""
        with self._changed:
            job = self._scheduler.find(request_id)
            if job is not None and job.cancel_message is None:
                job.cancel_message = "cancelled"
                self._changed.notify_all()

    def stats(self) -> EngineStats:
        with self._changed:
            running = self._scheduler.running
            return EngineStats(
                running=len(running),
                waiting=self._scheduler.num_waiting,
                kv_used=sum(job.num_prompt + job.num_new for job in running),
                kv_total=self._caps.max_batch * self._caps.max_context,
                prefix_hits=0,
                prefix_bytes=0,
                tokens_total=self._tokens_total,
                step_ms=self._step_seconds * 1e3,
                alive=self._thread is not None and self._thread.is_alive(),
            )

    def _run(self, runner: Runner) -> None:
        try:
            with torch.inference_mode():
                while self._step(runner):
                    pass
        finally:  # on any error, so that every request gets its Finish
            for job in self._scheduler.jobs:
                self._finish(job, "error", "the engine failed")

    def _step(self, runner: Runner) -> bool:
        """End overdue requests, admit one prompt, decode all rows. False once stopped and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._scheduler.jobs)
            if not self._scheduler.jobs:
                return False
            now = time.monotonic()
            overdue = self._scheduler.overdue(now)
        for job in overdue:
            self._finish(job, "cancelled", job.cancel_message or "")
        with self._changed:
            admitted = self._scheduler.admit(now)
        if admitted is not None:
            self._advance((admitted,), lambda: runner.prefill(admitted))
            admitted.prefilled = time.monotonic()
        rows = self._scheduler.running
        if rows:
            started = time.monotonic()
            self._advance(rows, lambda: runner.decode(rows))
            self._step_seconds = time.monotonic() - started
        return True

    def _advance(self, rows: Sequence[Job], compute: Callable[[], Choice]) -> None:
        """Give each row its next token; if computing them fails, these rows fail and the thread goes on."""
        try:
            choice = compute()
        except Exception as error:
            _logger.exception("generation failed for %s", [job.request.id for job in rows])
            for job in rows:
                self._finish(job, "error", f"generation failed: {error}")
            return
        for i, job in enumerate(rows):
            logprobs = choice.logprobs[i : i + 1] if job.request.logprobs else ()
            self._accept(job, choice.ids[i], logprobs)

    def _accept(self, job: Job, token: int | None, logprobs: tuple[float, ...]) -> None:
        if token is None:
            self._finish(job, "error", "the model's logits are not finite")
        elif token in job.request.stop_token_ids:
            self._finish(job, "stop")
        else:
            job.last_id = token
            job.num_new += 1
            self._tokens_total += 1
            self._emit(job, Delta((token,), logprobs))
            if job.num_new == job.request.max_new_tokens:
                self._finish(job, "length")

    def _finish(self, job: Job, reason: FinishReason, message: str = "") -> None:
        with self._changed:
            self._scheduler.release(job)
            self._changed.notify_all()
        now = time.monotonic()
        admitted = now if job.admitted is None else job.admitted
        prefilled = now if job.prefilled is None else job.prefilled
        timing = GenTiming(admitted - job.submitted, prefilled - admitted, now - prefilled)
        self._emit(job, Finish(reason, job.num_prompt, job.num_new, 0, timing, message))

    def _emit(self, job: Job, event: Event) -> None:
        try:
            job.sink(event)
        except Exception:
            _logger.exception("the receiver of request %s failed", job.request.id)
            job.cancel_message = "the receiver failed"


class QueuedHandle:
    """A submitted request whose events are queued for its one consumer."""

    def __init__(self, request_id: str, cancel: Callable[[str], None]) -> None:
        self._id = request_id
        self._cancel = cancel
        self._events: SimpleQueue[Event] = SimpleQueue()

    @property
    def id(self) -> str:
        return self._id

    def put(self, event: Event) -> None:
        """The sink of a request that was submitted without one."""
        self._events.put(event)

    def stream(self) -> "EventStream":
        """Deltas, then exactly one Finish; blocks until the next event. Can be read once."""
        return EventStream(self._events, lambda: self._cancel(self._id))


class EventStream(Iterator[Event]):
    """An iterator that cancels its request when it is closed or dropped before the end.

    Not a generator: closing a generator that was never started does not run its `finally`.
    """

    def __init__(self, events: SimpleQueue[Event], cancel: Callable[[], None]) -> None:
        self._events = events
        self._cancel = cancel
        self._is_over = False

    def __next__(self) -> Event:
        if self._is_over:
            raise StopIteration
        event = self._events.get()
        self._is_over = isinstance(event, Finish)
        return event

    def close(self) -> None:
        """Cancel the request unless it has finished; nothing more is delivered."""
        if not self._is_over:
            self._is_over = True
            self._cancel()

    def __del__(self) -> None:
        self.close()


def _check(request: GenRequest, caps: EngineCaps, vocab_size: int) -> None:
    r = request
    require(r.max_new_tokens >= 1, "max_new_tokens", r.max_new_tokens, "1 or more")
    require(math.isfinite(r.temperature) and r.temperature >= 0, "temperature", r.temperature, "0 or more")
    require(0 < r.top_p <= 1, "top_p", r.top_p, "above 0, up to 1")
    require(r.top_k >= 0, "top_k", r.top_k, "0 (off) or more")
    penalty = r.repetition_penalty
    require(math.isfinite(penalty) and penalty > 0, "repetition_penalty", penalty, "above 0")
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
