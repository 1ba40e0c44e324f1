"""Contract: failures stay alone; start and stop."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from bt_model.errors import (
    BtchatError,
    EngineDeadError,
)
from bt_model.generation.budget import PassBudget
from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import MODEL_FAILED, BatchEngine
from bt_model.generation.llama import Llama
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.reference import continuation
from bt_model.generation.request import Engine, Event, Soft
from tests.bt_model.generation.engines import (
    SLOTS,
    GatedLlama,
    Make,
    WatchedRunner,
    run_all,
    running,
    wait_until,
)
from tests.bt_model.generation.models import (
    CONFIG,
    WIDTH,
    finish_of,
    prompt,
    request,
    soft,
    tokens_of,
)


@pytest.mark.parametrize(
    "poison",
    [
        Soft(b"shape", torch.zeros(3, WIDTH + 1)),
        Soft(b"nan", torch.full((60, WIDTH), torch.nan)),
    ],
    ids=["bad shape", "nan"],
)
def test_a_poisoned_request_ends_alone(engine: Engine, lm: Llama, poison: Soft) -> None:
    good = [request(prompt(i), 10 + i) for i in range(8)]
    bad = [request((poison,), 20) for _ in range(4)]
    mixed = [r for pair in zip(good, bad * 2, strict=True) for r in pair]
    mixed = list({r.id: r for r in mixed}.values())
    events = dict(zip((r.id for r in mixed), run_all(engine, mixed), strict=True))
    assert [finish_of(events[r.id]).reason for r in bad] == ["error"] * 4
    assert [tokens_of(events[r.id]) for r in good] == [continuation(lm, r) for r in good]


class PoisonedRunner(LlamaRunner):
    """Gives NaN in the row of the second sequence from its third token on."""

    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor]:
        *_, logits = super().forward(embeds, chunks)
        assert logits is not None
        for row, chunk in enumerate(chunks):
            if chunk.pages[0] == 2 and chunk.start > 7:
                logits[row] = torch.nan
        yield logits


class PoisonedLlama(Llama):
    def start(self, num_pages: int, *, keep_weights: bool = True) -> LlamaRunner:
        return PoisonedRunner(self.model, self.head_weight, num_pages)


def test_a_row_that_turns_nan_ends_alone(make: Make, lm: Llama) -> None:
    poisoned = PoisonedLlama(CONFIG)
    poisoned.load_state_dict(lm.state_dict())
    requests = [request((soft(6, i),), 12, seed=i, temperature=0.5 * i) for i in range(3)]
    with running(make(poisoned)) as engine:
        events = run_all(engine, requests)
    assert [finish_of(e).reason for e in events] == ["length", "error", "length"]
    expected = [continuation(lm, r) for r in requests]
    assert [tokens_of(events[0]), tokens_of(events[2])] == [expected[0], expected[2]]


def test_a_stream_goes_on_between_the_layers_of_anothers_prompt(
    lm: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PassBudget, "seconds", 0.0)  # for one part beside each token
    told, submitted = list[str](), threading.Event()
    running_one, newcomer = request(max_new_tokens=40), request(prompt(3), 2)

    def tell_first(_event: Event) -> None:
        told.append("first")
        if len(told) == 2:  # the engine waits, however late this thread has its turn
            assert submitted.wait(10)

    engine = BatchEngine(lm, max_batch=2)
    with running(engine):
        first = engine.submit(running_one, tell_first)
        wait_until(lambda: len(told) == 2)
        second = engine.submit(newcomer, lambda event: told.append("second"))
        submitted.set()
        wait_until(lambda: told.count("second") == 3 and told.count("first") == 41)
    assert (first.id, second.id) == (running_one.id, newcomer.id)
    assert told.index("second") - 2 in (CONFIG.num_layers, CONFIG.num_layers + 1)


def begun_pass(engine: BatchEngine, count: int) -> bool:
    """Whether a pass of so many prompts is under way."""
    return len(engine._scheduler._pass) == count  # pyright: ignore[reportPrivateUsage] - nothing else tells


class BreakingRunner(LlamaRunner):
    """A pass of two prompts waits for the test after its first layer, and breaks."""

    gate = threading.Event()

    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor | None]:
        for part in super().forward(embeds, chunks):
            if len(chunks) > 1 and chunks[0].is_prompt:
                assert self.gate.wait(10)
                raise RuntimeError("no luck")
            yield part


class BreakingLlama(Llama):
    def start(self, num_pages: int, *, keep_weights: bool = True) -> LlamaRunner:
        return BreakingRunner(self.model, self.head_weight, num_pages)


def test_a_pass_that_breaks_after_one_of_it_was_cancelled_ends_nobody_else(lm: Llama) -> None:
    breaking, BreakingRunner.gate = BreakingLlama(CONFIG), threading.Event()
    breaking.load_state_dict(lm.state_dict())
    engine, kept, left = BatchEngine(breaking, max_batch=3), request(prompt(1)), request(prompt(2))
    with running(engine):
        with engine._changed:  # pyright: ignore[reportPrivateUsage] - so that both are in one pass
            handles = [engine.submit(each) for each in (kept, left)]
        wait_until(lambda: begun_pass(engine, 2))
        job = engine._scheduler.find(left.id)  # pyright: ignore[reportPrivateUsage] - as between two of its parts
        assert job is not None
        with engine._changed:  # pyright: ignore[reportPrivateUsage]
            engine._scheduler.release(job)  # pyright: ignore[reportPrivateUsage]
        BreakingRunner.gate.set()
        assert tokens_of(list(handles[0].stream())) == continuation(lm, kept)
        assert tokens_of(run_all(engine, [request(prompt(3))])[0])
        assert engine.stats().alive


class FailingLlama(Llama):
    """The first step of a new token raises."""

    has_failed = False

    def start(self, num_pages: int, *, keep_weights: bool = True) -> LlamaRunner:
        def fail(chunks: Sequence[Chunk]) -> None:
            if not self.has_failed and not chunks[0].is_prompt:
                self.has_failed = True
                raise RuntimeError("out of memory")

        return WatchedRunner(self, num_pages, fail)


def test_a_failed_step_ends_its_rows_and_the_engine_goes_on(make: Make, lm: Llama) -> None:
    failing = FailingLlama(CONFIG)
    failing.load_state_dict(lm.state_dict())
    asked = request()
    with running(make(failing)) as engine:
        finish = finish_of(run_all(engine, [request()])[0])
        assert (finish.reason, finish.message) == ("error", MODEL_FAILED)
        assert tokens_of(run_all(engine, [asked])[0]) == continuation(lm, asked)


def test_what_was_taken_by_an_engine_that_fails_at_its_start_is_finished(make: Make) -> None:
    let_go = threading.Event()

    class Late(Llama):
        def embed(self, ids: Tensor) -> Tensor:
            let_go.wait(10)
            raise RuntimeError("no memory left")

    with running(make(Late(CONFIG))) as engine:
        handle = engine.submit(request())
        let_go.set()
        assert finish_of(list(handle.stream())).message == "the engine failed"


def test_a_failing_receiver_ends_its_own_request_only(engine: Engine, lm: Llama) -> None:
    def broken(event: Event) -> None:
        raise OSError("pipe closed")

    engine.submit(request(max_new_tokens=80), broken)
    asked = request(prompt(1))
    assert tokens_of(run_all(engine, [asked])[0]) == continuation(lm, asked)
    wait_until(lambda: engine.stats().running == 0)
    assert engine.stats().tokens_total < 80


def test_it_takes_nothing_before_the_start(make: Make, lm: Llama) -> None:
    with pytest.raises(EngineDeadError):
        make(lm).submit(request())


def test_it_takes_nothing_after_the_stop(engine: Engine) -> None:
    engine.stop()
    with pytest.raises(EngineDeadError):
        engine.submit(request())
    assert not engine.stats().alive


def test_it_can_start_again(engine: Engine) -> None:
    engine.stop()
    engine.start()
    assert finish_of(run_all(engine, [request()])[0]).reason == "length"


def test_stop_without_a_drain_cancels(slow: Engine, gated: GatedLlama) -> None:
    handles = [slow.submit(request(max_new_tokens=60)) for _ in range(SLOTS + 2)]
    assert gated.entered.acquire(timeout=10)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(slow.stop)
        wait_until(lambda: _refuses(slow))
        gated.is_open = True
        stopping.result(10)
    assert {finish_of(list(h.stream())).reason for h in handles} == {"cancelled"}


def test_stop_with_a_drain_finishes_what_was_accepted(engine: Engine) -> None:
    handles = [engine.submit(request(prompt(i), 40)) for i in range(SLOTS + 2)]
    engine.stop(20)
    assert {finish_of(list(h.stream())).reason for h in handles} == {"length"}


def test_stop_returns_when_the_drain_time_is_over(slow: Engine, gated: GatedLlama) -> None:
    handle = slow.submit(request(max_new_tokens=60))
    assert gated.entered.acquire(timeout=10)
    opener = threading.Timer(0.3, lambda: setattr(gated, "is_open", True))
    opener.start()
    slow.stop(0.1)
    assert finish_of(list(handle.stream())).reason == "cancelled"
    assert not slow.stats().alive


def test_an_idle_engine_uses_no_processor_time(engine: Engine) -> None:
    run_all(engine, [request()])
    started = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - started < 0.05


def test_submit_and_cancel_from_many_threads_lose_nothing(engine: Engine) -> None:
    def use(i: int) -> str:
        handle = engine.submit(request(prompt(i % 7), 5 + i % 9))
        if i % 3 == 0:
            engine.cancel(handle.id)
        return finish_of(list(handle.stream())).reason

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(use, range(60)))
    assert {r for i, r in enumerate(reasons) if i % 3} == {"length"}
    stats = engine.stats()
    assert (stats.kv_used, stats.running, stats.waiting) == (0, 0, 0)


def test_tokens_are_counted_from_none_and_one_by_one(engine: Engine) -> None:
    assert engine.stats().tokens_total == 0
    run_all(engine, [request(max_new_tokens=5), request(prompt(1), 3)])
    assert engine.stats().tokens_total == 8


def test_figures_are_read_while_threads_submit_and_the_engine_steps(engine: Engine) -> None:
    """They are read without a lock, so at any moment between two of its operations."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(run_all, engine, [request(prompt(i % 7), 6)]) for i in range(40)]
            while not all(each.done() for each in asked):
                stats = engine.stats()
                assert 0 <= stats.running <= SLOTS
                assert 0 <= stats.kv_used <= stats.kv_total
                assert stats.waiting >= 0
        assert all(each.result() for each in asked)
    finally:
        sys.setswitchinterval(interval)


def _refuses(engine: Engine) -> bool:
    try:
        engine.submit(request(max_new_tokens=1))
    except BtchatError as error:
        return isinstance(error, EngineDeadError)
    return False
