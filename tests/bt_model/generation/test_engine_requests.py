"""Contract: cancelling, deadlines, and what is refused at once."""

import time
from dataclasses import replace
from itertools import islice

import pytest

from bt_model.errors import ContextLengthError, InvalidValueError, QueueFullError
from bt_model.generation.request import Engine, Tokens
from tests.bt_model.generation.engines import QUEUE, SLOTS, GatedLlama, run_all, wait_until
from tests.bt_model.generation.models import CONTEXT, VOCAB, finish_of, prompt, request, soft, tokens_of


def test_cancel_ends_a_running_request_within_one_step(slow: Engine, gated: GatedLlama) -> None:
    handle = slow.submit(request(max_new_tokens=50))
    assert gated.entered.acquire(timeout=10)
    slow.cancel(handle.id)
    gated.steps.release()
    events = list(handle.stream())
    assert (len(tokens_of(events)), finish_of(events).reason) == (2, "cancelled")


def test_cancel_frees_the_slot_for_the_next_in_line(slow: Engine, gated: GatedLlama) -> None:
    handles = [slow.submit(request(prompt(i), 60)) for i in range(SLOTS)]
    gated.steps.release(SLOTS)
    wait_until(lambda: slow.stats().running == SLOTS)
    last = slow.submit(request(prompt(9), 2))
    slow.cancel(handles[1].id)
    gated.is_open = True
    assert finish_of(list(last.stream())).reason == "length"


def test_cancelled_memory_is_free_again(slow: Engine, gated: GatedLlama) -> None:
    handle = slow.submit(request(max_new_tokens=50))
    assert gated.entered.acquire(timeout=10)
    assert slow.stats().kv_used > 0
    slow.cancel(handle.id)
    gated.is_open = True
    list(handle.stream())
    stats = slow.stats()
    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)


def test_a_queued_request_can_be_cancelled_without_running(slow: Engine, gated: GatedLlama) -> None:
    for i in range(SLOTS):
        slow.submit(request(prompt(i), 60))
    gated.steps.release(SLOTS)
    wait_until(lambda: slow.stats().running == SLOTS)
    queued = slow.submit(request())
    slow.cancel(queued.id)
    gated.steps.release(2)
    events = list(queued.stream())
    assert (tokens_of(events), finish_of(events).reason) == ((), "cancelled")


def test_cancelling_the_unknown_and_the_finished_does_nothing(engine: Engine) -> None:
    asked = request()
    run_all(engine, [asked])
    engine.cancel(asked.id)
    engine.cancel("nobody")
    assert finish_of(run_all(engine, [request()])[0]).reason == "length"


@pytest.mark.parametrize("num_read", [0, 1, 3])
def test_closing_the_stream_early_cancels(slow: Engine, gated: GatedLlama, num_read: int) -> None:
    gated.steps.release(3)
    stream = slow.submit(request(max_new_tokens=60)).stream()
    list(islice(stream, num_read))
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]  # the protocol's Iterator does not name it
    gated.is_open = True
    wait_until(lambda: not slow.stats().running and not slow.stats().waiting)
    assert slow.stats().tokens_total < 60


def test_a_deadline_ends_a_running_request_with_a_message(slow: Engine, gated: GatedLlama) -> None:
    handle = slow.submit(request(max_new_tokens=50, deadline=time.monotonic() + 0.1))
    assert gated.entered.acquire(timeout=10)
    time.sleep(0.12)
    gated.is_open = True
    finish = finish_of(list(handle.stream()))
    assert finish.reason == "cancelled"
    assert "deadline" in finish.message


def test_a_request_past_its_deadline_is_never_run(engine: Engine) -> None:
    events = run_all(engine, [request(deadline=time.monotonic() - 1)])[0]
    assert (tokens_of(events), finish_of(events).reason) == ((), "cancelled")


def test_the_longest_allowed_request_runs_to_its_end(engine: Engine) -> None:
    asked = request((soft(CONTEXT - 30, 1),), 30)
    assert finish_of(run_all(engine, [asked])[0]).num_new == 30


def test_one_token_too_many_is_refused(engine: Engine) -> None:
    with pytest.raises(ContextLengthError, match="context holds 96"):
        engine.submit(request((soft(CONTEXT - 30, 1),), 31))


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("top_k", -1),
        ("min_p", 1.1),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", float("inf")),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("segments", ()),
        ("segments", (Tokens((1, VOCAB)),)),
        ("segments", (Tokens((-1, 1)),)),
    ],
)
def test_a_bad_value_is_refused_by_name(engine: Engine, param: str, value: object) -> None:
    with pytest.raises(InvalidValueError, match="allowed") as caught:
        engine.submit(replace(request(), **{param: value}))  # pyright: ignore[reportArgumentType]  # bad on purpose
    assert caught.value.param == param


def test_an_id_that_is_still_running_is_refused(slow: Engine) -> None:
    slow.submit(request(id="same"))
    with pytest.raises(InvalidValueError, match="same"):
        slow.submit(request(id="same"))


def test_a_full_queue_refuses_without_blocking(slow: Engine, gated: GatedLlama) -> None:
    for i in range(SLOTS):
        slow.submit(request(prompt(i), 60))
        while slow.stats().running <= i:  # between two steps the next one gets its slot; or some steps later
            gated.steps.release()
            time.sleep(0.005)
    for _ in range(QUEUE):
        slow.submit(request())
    started = time.monotonic()
    with pytest.raises(QueueFullError):
        slow.submit(request())
    assert time.monotonic() - started < 1
