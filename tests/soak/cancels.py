"""Answers that are cancelled at random tokens, beside others that must not notice."""

from dataclasses import replace
from random import Random

from bt_model.generation.chunk import PAGE
from bt_model.generation.engine import BatchEngine
from bt_model.generation.handle import QueuedHandle
from bt_model.generation.reference import continuation
from bt_model.generation.request import Delta, Event, GenRequest, Sink, Tokens
from tests.bt_model.generation.engines import running
from tests.bt_model.generation.models import CONFIG, VOCAB, finish_of, request, soft, tiny, tokens_of

NUM_CANCELS, NUM_NEIGHBOURS, NUM_TOKENS = 1000, 250, 30
NUM_KINDS = 25


def cancels() -> str:
    """Every neighbour says what it says alone, and every page is free at the end."""
    random = Random(0)
    lm = tiny(replace(CONFIG, max_context=4 * PAGE))
    expected = [continuation(lm, _asked(kind)) for kind in range(NUM_KINDS)]
    engine = BatchEngine(lm, num_pages=24, max_batch=8, max_queue=NUM_CANCELS + NUM_NEIGHBOURS)
    handles: list[tuple[int, QueuedHandle]] = []
    ends: list[Event] = []
    with running(engine):
        for number in range(NUM_CANCELS):
            victim = replace(_asked(random.randrange(VOCAB)), id=f"victim {number}")
            engine.submit(victim, _canceller(engine, victim.id, random.randrange(1, NUM_TOKENS), ends))
            if number % (NUM_CANCELS // NUM_NEIGHBOURS) == 0:
                kind = random.randrange(NUM_KINDS)
                handles.append((kind, engine.submit(replace(_asked(kind), id=f"neighbour {number}"))))
        for kind, handle in handles:
            events = list(handle.stream())
            assert tokens_of(events) == expected[kind], handle.id
        engine.stop(drain_seconds=60)
        reasons = [finish_of([end]).reason for end in ends]
        assert reasons == ["cancelled"] * NUM_CANCELS, set(reasons)
        pool = engine._scheduler.pool  # pyright: ignore[reportPrivateUsage] - nothing else tells pages
        assert pool.num_free == pool.count
        assert engine.stats().kv_used == 0
    free = f"{pool.num_free} of {pool.count} pages free"
    return f"{len(ends)} cancelled, {len(handles)} neighbours unchanged, {free}"


def _asked(kind: int) -> GenRequest:
    segments = (Tokens((1, 2, 3)), soft(PAGE + 10, kind % 7), Tokens((4, kind % VOCAB)))
    return request(segments, NUM_TOKENS, temperature=0.9, seed=kind)


def _canceller(engine: BatchEngine, request_id: str, after: int, ends: list[Event]) -> Sink:
    """Cancels its own request once it has so many tokens."""
    said: list[Event] = []

    def put(event: Event) -> None:
        said.append(event)
        if not isinstance(event, Delta):
            ends.append(event)
        elif len(said) == after:
            engine.cancel(request_id)

    return put
