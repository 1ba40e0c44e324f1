"""Which request runs when: a bounded queue before a fixed number of slots. Without tensors or threads."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from random import Random

from bt_model.errors import InvalidValueError, QueueFullError
from bt_model.generation.request import GenRequest, Sink


class JobState(Enum):
    """A job's state; it only changes to a later one."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(slots=True, eq=False)
class Job:
    """A request with its state. Times are time.monotonic() seconds; `cancel_message` says why it must end."""

    request: GenRequest
    sink: Sink
    submitted: float
    random: Random
    state: JobState = JobState.WAITING
    slot: int = -1
    admitted: float | None = None
    prefilled: float | None = None
    num_prompt: int = field(init=False)
    num_new: int = 0
    last_id: int = -1
    cancel_message: str | None = None

    def __post_init__(self) -> None:
        self.num_prompt = self.request.num_prompt_tokens

    @property
    def position(self) -> int:
        """Position of the newest token in the slot."""
        return self.num_prompt + self.num_new - 1


class Scheduler:
    """First come, first served; jobs get the lowest free slot, which keeps the used slots contiguous."""

    def __init__(self, max_batch: int, max_queue: int) -> None:
        self._max_queue = max_queue
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._free = list(range(max_batch))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Everything that has not finished."""
        return tuple(self._jobs.values())

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs with a slot, by slot."""
        return tuple(self._running)

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

    def admit(self, now: float) -> Job | None:
        """Give the next waiting job the lowest free slot, if there are both."""
        if not self._waiting or not self._free:
            return None
        job = self._waiting.popleft()
        job.state, job.slot, job.admitted = JobState.RUNNING, heappop(self._free), now
        self._running.append(job)
        self._running.sort(key=lambda j: j.slot)
        return job

    def overdue(self, now: float) -> tuple[Job, ...]:
        """Jobs to end now: cancelled, or past their deadline (then with a message that says so)."""
        for job in self._jobs.values():
            deadline = job.request.deadline
            if job.cancel_message is None and deadline is not None and now >= deadline:
                job.cancel_message = f"deadline passed {now - deadline:.3f} seconds ago"
        return tuple(job for job in self._jobs.values() if job.cancel_message is not None)

    def release(self, job: Job) -> None:
        """The job is over: forget it and free its slot."""
        if job.state is JobState.RUNNING:
            self._running.remove(job)
            heappush(self._free, job.slot)
        else:
            self._waiting.remove(job)
        job.state = JobState.FINISHED
        del self._jobs[job.request.id]
