"""Which request computes what in a step, without any model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import pytest

from bt_model.errors import InvalidValueError, QueueFullError
from bt_model.generation.chunk import PAGE
from bt_model.generation.job import Job, JobState, Work
from bt_model.generation.request import Event, Tokens
from bt_model.generation.scheduler import Scheduler, Step
from tests.bt_model.generation.models import Options, request

NOW = 100.0
Parts = list[tuple[Job, int, int, bool]]


def ignore(event: Event) -> None:
    pass


def job(length: int = 10, first: int = 0, **options: Unpack[Options]) -> Job:
    segments = (Tokens(tuple(range(first, first + length))),)
    return Job(request(segments, **options), ignore, submitted=NOW, seed=0)


def filled(jobs: list[Job], *, rows: int = 4, pages: int = 20, queue: int = 9) -> Scheduler:
    scheduler = Scheduler(rows, queue, pages)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def run(scheduler: Scheduler, budget: int = 512, now: float = NOW) -> Parts:
    """One step as if it had been computed: job, start, count and whether it is a part of a prompt."""
    step = scheduler.plan(now, lambda num_rows: budget)
    scheduler.end_pass()
    compute((*step.prompts, *step.rows), now)
    return parts_of(step)


def parts_of(step: Step) -> Parts:
    work = (*step.prompts, *step.rows)
    return [(w.job, w.chunk.start, w.chunk.count, w.chunk.is_prompt) for w in work]


def compute(works: Sequence[Work], now: float = NOW) -> None:
    for work in works:
        work.job.num_computed = work.chunk.end
        if work.chunk.is_last:
            work.job.new_ids.append(1)
            work.job.prefilled = work.job.prefilled or now


def test_first_come_is_first_served_within_a_step() -> None:
    jobs = [job(first=100 * i) for i in range(3)]
    assert [each for each, *_ in run(filled(jobs))] == jobs


def test_owners_take_turns_and_each_has_its_own_order() -> None:
    many = [job(first=100 * i, owner=b"a") for i in range(6)]
    few = [job(first=100 * i, owner=b"b") for i in range(7, 9)]
    scheduler = filled([*many, *few], rows=2)
    order = list[Job]()
    while scheduler.jobs:
        run(scheduler)
        order += [each for each in scheduler.running if each not in order]
        scheduler.release(scheduler.running[0])
    assert order == [many[0], few[0], many[1], few[1], *many[2:]]


def test_no_free_row_admits_nobody() -> None:
    jobs = [job(), job(first=50)]
    scheduler = filled(jobs, rows=1)
    assert [each for each, *_ in run(scheduler)] == jobs[:1]
    assert run(scheduler) == [(jobs[0], 10, 1, False)]
    scheduler.release(jobs[0])
    assert run(scheduler) == [(jobs[1], 0, 10, True)]


def test_a_long_prompt_comes_in_parts_beside_the_rows() -> None:
    short, long = job(), job(100, first=50)
    scheduler = filled([short])
    run(scheduler)
    scheduler.add(long)
    assert run(scheduler, 60) == [(long, 0, 60, True), (short, 10, 1, False)]
    assert run(scheduler, 60) == [(long, 60, 40, True), (short, 11, 1, False)]
    assert run(scheduler, 60) == [(short, 12, 1, False), (long, 100, 1, False)]


def test_what_a_prompt_leaves_of_the_budget_is_the_next_ones() -> None:
    jobs = [job(30), job(30, first=50), job(300, first=100)]
    assert [count for _, _, count, _ in run(filled(jobs), 200)] == [30, 30, 128]


def test_a_part_ends_between_blocks_and_no_short_one_is_begun_beside_others() -> None:
    long, other = job(300), job(100, first=400)
    scheduler = filled([long, other])
    assert run(scheduler, 200) == [(long, 0, 192, True)]
    assert run(scheduler, 150) == [(long, 192, 108, True)]
    assert run(scheduler, 150, NOW + 9) == [(other, 0, 100, True), (long, 300, 1, False)]


def test_a_budget_below_a_block_still_leads_on() -> None:
    long = job(100)
    scheduler = filled([long])
    assert [run(scheduler, 30)[0][1:3] for _ in range(4)] == [(0, 30), (30, 30), (60, 4), (64, 30)]


def test_a_prompt_that_is_known_is_computed_from_where_it_differs() -> None:
    first, second = job(200), job(210)
    scheduler = filled([first])
    run(scheduler)
    scheduler.remember(first)
    scheduler.add(second)
    step = scheduler.plan(NOW, lambda num_rows: 512)
    work = step.prompts[0]
    assert (work.chunk.start, work.chunk.count) == (200, 10)
    assert work.chunk.pages[0] == first.pages[0]
    assert step.copies == ((first.pages[1], work.chunk.pages[1]),)
    assert (second.num_cached, scheduler.num_cached, scheduler.num_asked) == (200, 200, 410)


def test_the_last_token_of_a_known_prompt_is_computed_for_its_logits() -> None:
    first, second = job(2 * PAGE), job(2 * PAGE)
    scheduler = filled([first])
    run(scheduler)
    scheduler.remember(first)
    scheduler.add(second)
    run(scheduler)
    assert second.num_cached == 2 * PAGE - 1


def test_without_pages_the_last_one_admitted_gives_back_its_own_and_comes_again() -> None:
    jobs = [job(PAGE - 1), job(PAGE - 1, first=200), job(PAGE - 1, first=400)]
    scheduler = filled(jobs, pages=4)
    run(scheduler)
    run(scheduler)  # each now fills its page
    kept = run(scheduler)  # and two want another, of which there is one
    assert [each for each, *_ in kept] == jobs[:2]
    assert (jobs[2].state, jobs[2].num_computed, scheduler.num_preemptions) == (JobState.WAITING, 0, 1)
    scheduler.release(jobs[0])
    again = run(scheduler)
    assert again[0] == (jobs[2], 0, PAGE + 1, True)  # with what it has said
    assert jobs[2].num_cached == 0


def test_one_that_needs_every_page_is_admitted_though_its_beginning_is_known() -> None:
    first, second = job(100), job(3 * PAGE)
    scheduler = filled([first], pages=3)
    run(scheduler)
    scheduler.remember(first)
    scheduler.release(first)
    scheduler.add(second)
    assert run(scheduler) == [(second, 0, 3 * PAGE, True)]


def test_all_pages_come_back() -> None:
    jobs = [job(300), job(310), job(20, first=900)]
    scheduler = filled(jobs)
    for _ in range(3):
        run(scheduler)
    for each in jobs:
        scheduler.remember(each)
        scheduler.release(each)
    assert scheduler.pool.num_free == scheduler.pool.count - scheduler.store.num_pages
    scheduler.store.forget(b"")
    assert scheduler.pool.num_free == scheduler.pool.count


def test_a_pass_goes_on_beside_the_rows_until_it_is_ended() -> None:
    short, long = job(), job(100, first=50)
    scheduler = filled([short])
    run(scheduler)
    scheduler.add(long)
    first = scheduler.plan(NOW, lambda num_rows: 60)
    compute(first.rows)
    second = scheduler.plan(NOW, lambda num_rows: 60)
    assert second.prompts is first.prompts
    assert [work.chunk.start for work in second.rows] == [11]


def test_answers_that_have_just_begun_wait_for_prompts_that_came_with_them() -> None:
    jobs = [job(100), job(100, first=200), job(100, first=400)]
    scheduler = filled(jobs)
    assert run(scheduler, 170, NOW + 1) == [(jobs[0], 0, 100, True), (jobs[1], 0, 64, True)]
    assert run(scheduler, 170, NOW + 2) == [(jobs[1], 64, 36, True), (jobs[2], 0, 100, True)]
    assert run(scheduler) == [(each, 100, 1, False) for each in jobs]


@pytest.mark.parametrize(
    ("arrived", "now"), [(NOW + 1.5, NOW + 2), (NOW, NOW + 5)], ids=["later", "too long"]
)
def test_answers_wait_neither_for_those_that_come_later_nor_for_ever(arrived: float, now: float) -> None:
    first, other = job(100), replace(job(100, first=200), submitted=arrived)
    scheduler = filled([first])
    run(scheduler, now=NOW + 1)
    scheduler.add(other)
    assert run(scheduler, now=now) == [(other, 0, 100, True), (first, 100, 1, False)]


def test_they_wait_three_seconds_at_most_in_all() -> None:
    first, other = job(100), job(100, first=200)
    scheduler = filled([first, other])
    run(scheduler, 100, NOW + 1)
    step = scheduler.plan(NOW + 3, lambda num_rows: 64)
    assert (step.rows, step.patience) == ((), 1.0)


def test_answers_do_not_wait_for_a_prompt_that_finds_no_room() -> None:
    jobs = [job(), job(first=50)]
    scheduler = filled(jobs, rows=1)
    run(scheduler, now=NOW + 1)
    assert run(scheduler, now=NOW + 1) == [(jobs[0], 10, 1, False)]


def test_a_pass_holds_its_pages_when_one_of_its_jobs_ends() -> None:
    jobs = [job(100), job(100, first=200)]
    scheduler = filled(jobs)
    scheduler.plan(NOW, lambda num_rows: 512)
    assert scheduler.release(jobs[0]) == ()
    assert scheduler.pool.num_free == 18
    scheduler.end_pass()
    assert scheduler.pool.num_free == 19
    scheduler.release(jobs[1])
    assert scheduler.pool.num_free == 20


def test_a_pass_of_which_no_job_is_left_is_given_up() -> None:
    jobs = [job(100), job(100, first=200)]
    scheduler = filled(jobs)
    scheduler.plan(NOW, lambda num_rows: 512)
    for each in jobs:
        scheduler.release(each)
    assert scheduler.pool.num_free == 20
    assert scheduler.plan(NOW, lambda num_rows: 512) == Step((), ())


def test_a_pass_is_given_up_when_rows_need_its_pages() -> None:
    row, newcomer = job(PAGE - 1), job(PAGE, first=200)
    scheduler = filled([row], pages=2)
    run(scheduler)
    scheduler.add(newcomer)
    begun = scheduler.plan(NOW, lambda num_rows: 64)
    assert [work.job for work in begun.prompts] == [newcomer]
    compute(begun.rows)
    after = scheduler.plan(NOW, lambda num_rows: 64)
    assert ([work.job for work in after.rows], after.prompts) == ([row], ())
    assert (newcomer.state, newcomer.num_computed) == (JobState.WAITING, 0)


def test_a_full_queue_refuses() -> None:
    scheduler = filled([job(), job(first=50)], queue=2)
    with pytest.raises(QueueFullError, match="2 requests"):
        scheduler.add(job(first=99))


def test_an_id_in_use_is_refused() -> None:
    first = job()
    scheduler = filled([first])
    with pytest.raises(InvalidValueError, match="in use"):
        scheduler.add(job(id=first.request.id))


def test_a_released_waiting_job_is_never_admitted() -> None:
    jobs = [job(), job(first=50)]
    scheduler = filled(jobs)
    scheduler.release(jobs[0])
    assert [each for each, *_ in run(scheduler)] == [jobs[1]]
    assert jobs[0].state is JobState.FINISHED


def test_jobs_past_their_deadline_are_overdue() -> None:
    late, early = job(deadline=10.0), job(deadline=12.0)
    scheduler = filled([late, early])
    assert scheduler.overdue(10.5) == (late,)
    assert late.cancel_message is not None
    assert "deadline" in late.cancel_message
