"""Which request computes what in the next step. Without tensors or threads.

Every running row gets its next token. Prompts are computed in passes of some hundred tokens, of which each
step may do a part. Next is whose owner has the fewest requests running; among equals, who came first. A
request holds the pages of its prompt from its admission, and gets others as it grows; when none are free, the
one that was admitted last gives back its own and is computed again later. A pass holds its pages to its end,
whatever becomes of their requests.
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from bt_model.errors import InvalidValueError, QueueFullError
from bt_model.generation.chunk import BLOCK, PAGE, Chunk, pages_of
from bt_model.generation.job import Job, JobState, Work
from bt_model.generation.pages import PagePool, Prefix, PrefixStore

_START_SECONDS = 3.0  # at most, in which answers that have just begun wait for others that came with them


@dataclass(frozen=True, slots=True)
class Step:
    """Rows that get a token, the pass of prompts that is to be gone on with, and pages to copy before.

    A pass that has begun is the same tuple in each step. A copy is (source, target).
    """

    rows: tuple[Work, ...]
    prompts: tuple[Work, ...]
    copies: tuple[tuple[int, int], ...] = ()
    patience: float = math.inf  # seconds that the pass may take, where rows wait for it


class Scheduler:
    """Jobs from their arrival to their end, and the pages that they hold."""

    def __init__(self, max_batch: int, max_queue: int, num_pages: int) -> None:
        self.pool = PagePool(num_pages)
        self.store = PrefixStore(self.pool)
        self._max_queue = max_queue
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._admitted: list[Job] = []  # in the order of their admission
        self._pass: tuple[Work, ...] = ()  # of prompts, begun and not ended
        self._max_batch = max_batch
        self.num_preemptions = 0
        self.num_asked = 0  # prompt tokens that were looked for in the store
        self.num_cached = 0  # and those that were found

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Everything that has not finished."""
        return tuple(self._jobs.values())

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs that have been let in, in that order."""
        return tuple(self._admitted)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Append to the waiting queue.

        Raises:
            InvalidValueError: a request of the same id is not finished yet.
            QueueFullError: the queue is at its bound.
        """
        if job.request.id in self._jobs:
            raise InvalidValueError(f"id {job.request.id!r} is in use; allowed: an id of its own", param="id")
        if len(self._waiting) >= self._max_queue:
            raise QueueFullError(f"{len(self._waiting)} requests are waiting; the limit is {self._max_queue}")
        self._jobs[job.request.id] = job
        self._waiting.append(job)

    def find(self, request_id: str) -> Job | None:
        """The unfinished job of this id."""
        return self._jobs.get(request_id)

    def plan(self, now: float, pass_tokens: Callable[[int], int]) -> Step:
        """The next step; `pass_tokens` of a pass that begins beside so many rows."""
        rows = self._rows_with_room()
        patience = self._patience(rows, now)
        copies = () if self._pass else self._begin_pass(now, pass_tokens(0 if patience else len(rows)))
        if rows and self._pass and patience:
            return Step((), self._pass, copies, patience)
        return Step(tuple(Work(job, self._row(job)) for job in rows), self._pass, copies)

    def end_pass(self) -> None:
        """The pass is computed, or given up: its pages are in use by their requests alone."""
        for work in self._pass:
            for page in work.chunk.used_pages:
                self.pool.release(page)
        self._pass = ()

    def _begin_pass(self, now: float, left: int) -> tuple[tuple[int, int], ...]:
        """What is admitted and not computed, then what waits; the copies to make before."""
        prompts: list[Work] = []
        copies: list[tuple[int, int]] = []
        for job in [job for job in self._admitted if not job.is_row]:
            if left > 0:
                left -= self._add_part(prompts, job, left)
        while left > 0 and self._waiting and len(self._admitted) < self._max_batch:
            if not self._admit(now, copies):
                break
            left -= self._add_part(prompts, self._admitted[-1], left)
        for source, _ in copies:  # copied before anything is written, so that nobody can have got them yet
            self.pool.release(source)
        for work in prompts:
            for page in work.chunk.used_pages:
                self.pool.share(page)
        self._pass = tuple(prompts)
        return tuple(copies)

    def _patience(self, rows: list[Job], now: float) -> float:
        """Seconds that these wait still, if all have just begun and the next prompt had come before they did.

        All of them end earlier if such prompts are computed first, beside nothing.
        """
        prompts = (job for job in self._admitted if not job.is_row)
        first = self._pass[0].job if self._pass else next(prompts, None) or self._next()
        begun = min((job.prefilled for job in rows if job.prefilled is not None), default=now)
        are_new = all(len(job.new_ids) == 1 for job in rows)
        have_company = first is not None and first.submitted < begun
        return max(begun + _START_SECONDS - now, 0.0) if are_new and have_company else 0.0

    def _rows_with_room(self) -> list[Job]:
        """Jobs that go on by one token, each with a page for it."""
        for job in [job for job in self._admitted if job.is_row]:
            while job.state is JobState.ADMITTED and len(job.pages) * PAGE < job.length:
                if self.store.give_up(1):
                    job.pages.append(self.pool.take())
                    continue
                if all(work.job.state is JobState.ADMITTED for work in self._pass):
                    self._preempt(self._admitted[-1])
                self.end_pass()  # it may hold pages of those that were cancelled
        return [job for job in self._admitted if job.is_row]

    @staticmethod
    def _row(job: Job) -> Chunk:
        return Chunk(tuple(job.pages), job.num_computed, 1, is_prompt=False)

    @staticmethod
    def _add_part(prompts: list[Work], job: Job, left: int) -> int:
        """The tokens that a prompt takes of those left. Its part ends between blocks, or the prompt does."""
        start, count = job.num_computed, min(left, job.num_missing)
        is_last = count == job.num_missing
        if not is_last:
            if prompts and count < BLOCK:
                return left
            count = max((start + count) // BLOCK * BLOCK - start, 0) or count
        prompts.append(Work(job, Chunk(tuple(job.pages), start, count, is_prompt=True, is_last=is_last)))
        return count if is_last else left

    def _next(self) -> Job | None:
        """Who is let in next: owners take turns, so that one who asks much keeps no other waiting."""
        running = Counter(job.request.owner for job in self._admitted)
        return min(self._waiting, key=lambda job: running[job.request.owner], default=None)

    def _admit(self, now: float, copies: list[tuple[int, int]]) -> bool:
        """Let the next waiting job in, with all pages that it has to fill; False if there are too few."""
        job = self._next()
        assert job is not None
        known = self.store.find(job.request.owner, job.keys[:-1])  # the last position makes the logits
        count = pages_of(job.length) - len(known.pages)
        if not self.store.give_up(count) and known.copied is not None:
            self.pool.release(known.copied)  # it may be the one page that is lacking
            known = Prefix(known.pages)
        if not self.store.give_up(count):
            for page in known.pages:
                self.pool.release(page)
            return False
        job.pages = [*known.pages, *(self.pool.take() for _ in range(count))]
        if known.copied is not None:
            copies.append((known.copied, job.pages[len(known.pages)]))
        job.num_computed = known.length
        if job.admitted is None:
            job.admitted, job.num_cached = now, known.length
            self.num_asked += job.num_prompt
            self.num_cached += known.length
        self._waiting.remove(job)
        job.state = JobState.ADMITTED
        self._admitted.append(job)
        return True

    def remember(self, job: Job) -> None:
        """The prompt is computed: others that begin like it may use its pages."""
        self.store.add(job.request.owner, job.keys, job.pages)

    def overdue(self, now: float) -> tuple[Job, ...]:
        """Jobs to end now: cancelled, or past their deadline (then with a message that says so)."""
        for job in self._jobs.values():
            deadline = job.request.deadline
            if job.cancel_message is None and deadline is not None and now >= deadline:
                job.cancel_message = f"deadline passed {now - deadline:.3f} seconds ago"
        return tuple(job for job in self._jobs.values() if job.cancel_message is not None)

    def release(self, job: Job) -> tuple[int, ...]:
        """The job is over: forget it; the pages that nobody uses any more."""
        freed = self._give_back(job) if job.state is JobState.ADMITTED else ()
        if job.state is JobState.WAITING:
            self._waiting.remove(job)
        job.state = JobState.FINISHED
        del self._jobs[job.request.id]
        if all(work.job.state is JobState.FINISHED for work in self._pass):
            self.end_pass()
        return freed

    def _preempt(self, job: Job) -> None:
        """Back to the front of the queue, to be computed again with all that it has said."""
        self._give_back(job)
        job.state = JobState.WAITING
        self._waiting.appendleft(job)
        self.num_preemptions += 1

    def _give_back(self, job: Job) -> tuple[int, ...]:
        self._admitted.remove(job)
        freed = tuple(page for page in job.pages if self.pool.release(page))
        job.pages, job.num_computed = [], 0
        return freed
