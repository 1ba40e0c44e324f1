"""Queue and slots, without any model."""

from random import Random
from typing import Unpack

import pytest

from bt_model.errors import InvalidValueError, QueueFullError
from bt_model.generation.request import Event
from bt_model.generation.scheduler import Job, JobState, Scheduler
from tests.bt_model.generation.models import Options, request


def ignore(event: Event) -> None:
    pass


def job(**options: Unpack[Options]) -> Job:
    return Job(request(**options), ignore, submitted=0.0, random=Random(0))


def filled(count: int, *, slots: int, queue: int = 9) -> tuple[Scheduler, list[Job]]:
    scheduler = Scheduler(slots, queue)
    jobs = [job() for _ in range(count)]
    for each in jobs:
        scheduler.add(each)
    return scheduler, jobs


def test_first_come_is_first_served() -> None:
    scheduler, jobs = filled(3, slots=3)
    assert [scheduler.admit(0.0) for _ in range(3)] == jobs


def test_no_free_slot_admits_nobody() -> None:
    scheduler, _ = filled(2, slots=1)
    scheduler.admit(0.0)
    assert scheduler.admit(0.0) is None


def test_a_released_slot_is_given_to_the_next() -> None:
    scheduler, jobs = filled(4, slots=3)
    for _ in range(3):
        scheduler.admit(0.0)
    scheduler.release(jobs[1])
    scheduler.admit(0.0)
    assert [j.slot for j in (jobs[0], jobs[3], jobs[2])] == [0, 1, 2]


def test_running_jobs_are_in_the_order_of_their_slots() -> None:
    scheduler, jobs = filled(4, slots=3)
    for _ in range(3):
        scheduler.admit(0.0)
    scheduler.release(jobs[0])
    scheduler.admit(0.0)
    assert scheduler.running == (jobs[3], jobs[1], jobs[2])


def test_a_full_queue_refuses() -> None:
    scheduler, _ = filled(2, slots=1, queue=2)
    with pytest.raises(QueueFullError, match="2 requests"):
        scheduler.add(job())


def test_an_id_in_use_is_refused() -> None:
    scheduler, jobs = filled(1, slots=1)
    with pytest.raises(InvalidValueError, match="in use"):
        scheduler.add(job(id=jobs[0].request.id))


def test_a_released_waiting_job_is_never_admitted() -> None:
    scheduler, jobs = filled(2, slots=2)
    scheduler.release(jobs[0])
    assert scheduler.admit(0.0) is jobs[1]
    assert jobs[0].state is JobState.FINISHED


def test_jobs_past_their_deadline_are_overdue() -> None:
    scheduler = Scheduler(2, 2)
    late, early = job(deadline=10.0), job(deadline=12.0)
    scheduler.add(late)
    scheduler.add(early)
    assert scheduler.overdue(10.5) == (late,)
    assert late.cancel_message is not None
    assert "deadline" in late.cancel_message
