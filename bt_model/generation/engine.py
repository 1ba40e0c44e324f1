"""Continuous batching in one thread: a step admits at most one prompt, then decodes all running rows."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.errors import EngineDeadError
from bt_model.generation.handle import QueuedHandle
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
    check,
)
from bt_model.generation.sampler import Choice, RowOptions
from bt_model.generation.scheduler import Job, Scheduler

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel

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
        self._caps = EngineCaps(context, max_batch, max_queue)
        self._lm = lm
        self._scheduler = Scheduler(max_batch, max_queue)
        # guards the scheduler; every change is told, so nothing is ever changed without it
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._tokens_total = 0
        self._step_seconds = 0.0

    @property
    def caps(self) -> EngineCaps:
        return self._caps

    def start(self) -> None:
        """Reserve the cache and start the thread; does nothing while it runs."""
        if self._thread is None:
            self._is_stopping = False
            runner = Runner(self._lm, self._caps)
            self._thread = threading.Thread(target=self._run, args=(runner,), name="generation", daemon=True)
            self._thread.start()

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Finish accepted requests for up to `drain_seconds`, cancel the rest, and release the cache."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._scheduler.jobs, timeout=drain_seconds)
            for job in self._scheduler.jobs:
                job.cancel_message = job.cancel_message or "the engine was stopped"
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def submit(self, request: GenRequest, sink: Sink | None = None) -> QueuedHandle:
        """Queue a request without blocking; see `request.Engine.submit`.

        Raises:
            QueueFullError: the waiting queue is at its bound.
            ContextLengthError: prompt plus new tokens exceed `caps.max_context`.
            InvalidValueError: a value out of range, or an id in use.
            EngineDeadError: not started, stopped or failed.
        """
        check(request, self._caps, self._lm.vocab_size)
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
        running, thread = self._scheduler.running, self._thread
        return EngineStats(
            running=len(running),
            waiting=self._scheduler.num_waiting,
            kv_used=sum(job.num_prompt + job.num_new for job in running),
            kv_total=self._caps.max_batch * self._caps.max_context,
            prefix_hits=0,
            prefix_bytes=0,
            tokens_total=self._tokens_total,
            step_ms=self._step_seconds * 1e3,
            alive=thread is not None and thread.is_alive(),
        )

    def _run(self, runner: "Runner") -> None:
        try:
            with torch.inference_mode():
                while self._step(runner):
                    pass
        finally:  # on any error, so that every request gets its Finish
            for job in self._scheduler.jobs:
                self._finish(job, "error", "the engine failed")

    def _step(self, runner: "Runner") -> bool:
        """End overdue requests, admit one prompt, decode all rows. False once stopped and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._scheduler.jobs)
            if not self._scheduler.jobs:
                return False
            now = time.monotonic()
            overdue = self._scheduler.overdue(now)
            for job in overdue:
                self._scheduler.release(job)
            admitted = self._scheduler.admit(now)
            self._changed.notify_all()
        for job in overdue:
            self._emit_finish(job, "cancelled", job.cancel_message or "")
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
        self._emit_finish(job, reason, message)

    def _emit_finish(self, job: Job, reason: FinishReason, message: str) -> None:
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
