"""What an engine reuses of earlier prompts, and what it does when memory is short."""

from dataclasses import replace

import pytest

from bt_model.errors import ContextLengthError
from bt_model.generation.chunk import PAGE
from bt_model.generation.engine import BatchEngine
from bt_model.generation.llama import Llama
from bt_model.generation.reference import continuation
from bt_model.generation.request import GenRequest, Tokens
from tests.bt_model.generation.engines import run_all, running
from tests.bt_model.generation.models import CONFIG, VOCAB, finish_of, request, soft, tiny, tokens_of

LONG = replace(CONFIG, max_context=4 * PAGE)
VIDEO = soft(PAGE + 20, 1)


@pytest.fixture(scope="module")
def lm() -> Llama:
    return tiny(LONG)


def asked(*text: int, owner: bytes = b"", count: int = 8) -> GenRequest:
    return replace(request((Tokens((1, 2, 3)), VIDEO, Tokens(text)), count), owner=owner)


def test_a_second_question_computes_its_own_text_alone_and_answers_as_the_first_time(lm: Llama) -> None:
    first, second = asked(4, 5, 6), asked(4, 7, 8, 9)
    with running(BatchEngine(lm)) as engine:
        alone = [run_all(engine, [each])[0] for each in (second, first)]
    with running(BatchEngine(lm)) as engine:
        told = [run_all(engine, [each])[0] for each in (first, replace(second, id="again"))]
    known = 3 + PAGE + 20 + 1
    assert [finish_of(events).num_cached for events in told] == [0, known]
    assert tokens_of(told[1]) == tokens_of(alone[0]) == continuation(lm, second)


def test_what_one_owner_asked_is_not_reused_for_another(lm: Llama) -> None:
    with running(BatchEngine(lm)) as engine:
        for owner, known in ((b"a", 0), (b"b", 0), (b"a", 3 + PAGE + 20 + 2)):
            events = run_all(engine, [asked(4, 5, 6, owner=owner)])[0]
            assert finish_of(events).num_cached == known


def test_a_video_that_is_forgotten_is_computed_again(lm: Llama) -> None:
    engine = BatchEngine(lm)
    with running(engine):
        run_all(engine, [asked(4)])
        engine.forget(VIDEO.key)
        assert finish_of(run_all(engine, [asked(4)])[0]).num_cached == 0
        assert engine.stats().prefix_bytes == 2 * lm.page_bytes


def test_logprobs_are_the_same_to_the_bit_warm_or_cold_and_beside_any_others(lm: Llama) -> None:
    wanted = replace(asked(4, 5), logprobs=True, temperature=0.8, seed=7)
    others = [asked(*range(i, i + 9), count=20) for i in range(6)]
    with running(BatchEngine(lm, max_batch=8)) as engine:
        runs = [run_all(engine, [replace(wanted, id="cold")])[0]]
        runs += [run_all(engine, [*others, replace(wanted, id="beside")])[-1]]
    with running(BatchEngine(lm, max_batch=3)) as engine:
        runs += [run_all(engine, [*others, replace(wanted, id="later")])[-1]]
    deltas = [events[:-1] for events in runs]
    assert deltas[0] == deltas[1] == deltas[2]


def test_with_too_few_pages_answers_wait_for_each_other_and_stay_right(lm: Llama) -> None:
    requests = [request((Tokens(tuple((i + j) % VOCAB for j in range(PAGE - 8))),), 40) for i in range(5)]
    with running(BatchEngine(lm, num_pages=6, max_batch=5)) as engine:
        events = run_all(engine, requests)
        stats = engine.stats()
    assert stats.preemptions > 0
    assert [tokens_of(each) for each in events] == [continuation(lm, each) for each in requests]
    assert (stats.kv_used, stats.running) == (0, 0)


def test_more_than_all_pages_is_refused(lm: Llama) -> None:
    with (
        running(BatchEngine(lm, num_pages=2)) as engine,
        pytest.raises(ContextLengthError, match="holds 256"),
    ):
        engine.submit(request((soft(2 * PAGE, 1),), 1))


def test_cancelled_answers_leave_every_page_free(lm: Llama) -> None:
    engine = BatchEngine(lm, num_pages=12, max_batch=6, max_queue=1000)
    with running(engine):
        handles = [engine.submit(asked(i % 60, i % 7, count=30)) for i in range(200)]
        for handle in handles[::2]:
            engine.cancel(handle.id)
        assert {finish_of(list(h.stream())).reason for h in handles[1::2]} == {"length"}
        engine.forget(b"")
        pool = engine._scheduler.pool  # pyright: ignore[reportPrivateUsage] - nothing else tells pages
        assert pool.num_free == pool.count
