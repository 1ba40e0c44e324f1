"""Continuous batching in one thread: a step computes all running rows, and a part of the prompts beside."""

import logging
import math
import secrets
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.errors import EngineDeadError
from bt_model.generation.budget import PassBudget
from bt_model.generation.chunk import PAGE, pages_of
from bt_model.generation.faults import breaks_device
from bt_model.generation.handle import QueuedHandle
from bt_model.generation.job import Job, JobState, Work
from bt_model.generation.language_model import compute
from bt_model.generation.prompt_pass import PromptPass
from bt_model.generation.request import (
    Delta,
    EngineCaps,
    EngineStats,
    FinishReason,
    GenRequest,
    Sink,
    TokenLogprobs,
    check,
)
from bt_model.generation.sampler import Choice
from bt_model.generation.scheduler import Scheduler
from bt_model.generation.step import StepTensors

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.language_model import LanguageModel, Runner

MODEL_FAILED = "the model failed on this request; the server's log has the cause"

_logger = logging.getLogger(__name__)


class BatchEngine:
    """Implements `request.Engine` over any `LanguageModel`.

    Events are emitted on the engine's thread. A request that fails does not affect others in its batch.

    Args:
        lm: the decoder.
        max_batch: rows of a step.
        max_queue: requests that may wait.
        max_context: positions of a request; without it the decoder's own limit.
        num_pages: of the cache; without it enough for `max_batch` whole contexts.
        keep_weights: the decoder remains of use for other things.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        *,
        max_batch: int = 16,
        max_queue: int = 256,
        max_context: int | None = None,
        num_pages: int | None = None,
        keep_weights: bool = True,
    ) -> None:
        context = min(lm.max_context, max_context or lm.max_context)
        pages = num_pages or max_batch * pages_of(context)
        self._caps = EngineCaps(min(context, pages * PAGE), max_batch, max_queue)
        self._lm = lm
        self._keep_weights = keep_weights
        self._scheduler = Scheduler(max_batch, max_queue, pages)
        # guards the scheduler; every change is told, so nothing is ever changed without it
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._pass: PromptPass | None = None
        self._budget = PassBudget()
        self._tokens_total = 0
        self._step_seconds = 0.0
        self._step_began: float | None = None

    @property
    def caps(self) -> EngineCaps:
        return self._caps

    def start(self) -> None:
        """Reserve the cache and start the thread; does nothing while it runs."""
        if self._thread is None:
            self._is_stopping = False
            runner = self._lm.start(self._scheduler.pool.count, keep_weights=self._keep_weights)
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
            self._thread = self._pass = None
            self._scheduler.store.forget(b"")  # the next cache is empty

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
        seed = secrets.randbits(63) if request.seed is None else request.seed
        job = Job(request, sink or handle.put, time.monotonic(), seed)
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

    def forget(self, source: bytes) -> None:
        """Drop what is stored of prompts with soft tokens whose key begins so."""
        with self._changed:
            self._scheduler.store.forget(source)

    def stats(self) -> EngineStats:
        running, thread, scheduler = self._scheduler.running, self._thread, self._scheduler
        began = self._step_began
        return EngineStats(
            running=len(running),
            waiting=scheduler.num_waiting,
            kv_used=sum(job.num_computed for job in running),
            kv_total=scheduler.pool.count * PAGE,
            prefix_hits=scheduler.num_cached,
            prefix_queries=scheduler.num_asked,
            prefix_bytes=scheduler.store.num_pages * self._lm.page_bytes,
            preemptions=scheduler.num_preemptions,
            tokens_total=self._tokens_total,
            step_ms=self._step_seconds * 1e3,
            busy_seconds=0.0 if began is None else time.monotonic() - began,
            alive=thread is not None and thread.is_alive(),
        )

    def _run(self, runner: "Runner") -> None:
        try:
            tensors = StepTensors(self._lm)
            with torch.inference_mode():
                while self._step(runner, tensors):
                    pass
        except Exception:
            _logger.exception("the engine failed")
        finally:  # on any error, so that every request gets its Finish
            with self._changed:
                self._is_stopping = True
            for job in self._scheduler.jobs:
                self._finish(job, "error", "the engine failed")

    def _step(self, runner: "Runner", tensors: StepTensors) -> bool:
        """End overdue requests, then compute one step. False once stopped and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._scheduler.jobs)
            if not self._scheduler.jobs:
                return False
            now = time.monotonic()
            overdue = self._scheduler.overdue(now)
            for job in overdue:
                self._scheduler.release(job)
            step = self._scheduler.plan(now, self._budget.tokens)
            self._changed.notify_all()
        for job in overdue:
            job.emit(job.finish("cancelled", job.cancel_message or ""))
        for source, target in step.copies:
            runner.copy(source, target)
        self._step_began = started = time.monotonic()
        if step.rows:
            self._compute(runner, tensors, step.rows)
            self._budget.rows_took(time.monotonic() - started)
        if step.prompts:
            seconds = self._budget.seconds if step.rows else step.patience
            self._compute(runner, tensors, step.prompts, seconds)
        else:
            self._pass = None  # one that was given up
        self._step_seconds, self._step_began = time.monotonic() - started, None
        return True

    def _compute(
        self, runner: "Runner", tensors: StepTensors, work: Sequence[Work], seconds: float = math.inf
    ) -> None:
        """Give each row its next token; a pass of prompts may need several steps, of so many seconds each.

        What fails is computed again in halves, until one alone fails. An error of the accelerator is raised:
        none of its work can be trusted any more.
        """
        try:
            logits = self._logits(runner, tensors, work, seconds)
            if logits is None:
                return
            choice = tensors.choose(logits, work)
        except Exception as error:
            if breaks_device(error):
                raise
            self._end_pass()
            left = [each for each in work if each.job.state is JobState.ADMITTED]  # not cancelled meanwhile
            if left and len(work) == 1:
                _logger.exception("generation failed for %s", left[0].job.request.id)
                self._end(runner, left[0].job, MODEL_FAILED)
                return
            middle = len(left) // 2
            for half in (left[:middle], left[middle:]):
                if half:
                    self._compute(runner, tensors, half)
            return
        self._accept_all(runner, work, choice)

    def _logits(
        self, runner: "Runner", tensors: StepTensors, work: Sequence[Work], seconds: float
    ) -> "Tensor | None":
        """(R, V), or None if a pass of prompts has not come to its end."""
        if not work[0].chunk.is_prompt:
            return compute(runner, tensors.embed(work), [each.chunk for each in work])
        if self._pass is None or self._pass.work is not work:
            self._pass = PromptPass(work, runner, tensors)
        self._pass.go_on()
        logits = next(self._pass.parts)
        while self._pass.has_time(seconds) and logits is None:
            logits = next(self._pass.parts)
        if logits is not None:
            self._budget.part_took(self._pass.longest, self._pass.num_tokens)
            self._end_pass()
        return logits

    def _end_pass(self) -> None:
        self._pass = None
        with self._changed:
            self._scheduler.end_pass()

    def _accept_all(self, runner: "Runner", work: Sequence[Work], choice: Choice) -> None:
        row = 0
        for each in work:
            each.job.num_computed = each.chunk.end
            if each.chunk.is_last and each.job.state is JobState.ADMITTED:
                logprobs = choice.logprobs[row : row + 1] if each.job.request.logprobs else ()
                self._accept(runner, each, choice.ids[row], logprobs)
            row += each.chunk.is_last

    def _accept(
        self, runner: "Runner", work: Work, token: int | None, logprobs: tuple[TokenLogprobs, ...]
    ) -> None:
        job = work.job
        if job.fault:
            self._finish(job, "refused", job.fault)
            return
        if token is None:
            self._end(runner, job, "the model's logits are not finite")
            return
        if job.prefilled is None:
            job.prefilled = time.monotonic()
            if self._lm.shares_prefixes:
                with self._changed:
                    self._scheduler.remember(job)
        if token in job.request.stop_token_ids:
            self._finish(job, "stop")
            return
        reason = job.add(token)
        self._tokens_total += 1
        job.emit(Delta((token,), logprobs))
        if reason is not None:
            self._finish(job, reason)

    def _end(self, runner: "Runner", job: Job, message: str) -> None:
        """End a request in an error; what it left in its pages may not be finite."""
        for page in self._finish(job, "error", message):
            runner.clear(page)

    def _finish(self, job: Job, reason: FinishReason, message: str = "") -> tuple[int, ...]:
        """The pages that are free now."""
        with self._changed:
            freed = self._scheduler.release(job)
            self._changed.notify_all()
        job.emit(job.finish(reason, message))
        return freed
