"""Log probabilities of many rows, alone and beside others in any order."""

from dataclasses import replace
from random import Random

from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Event, GenRequest, Tokens
from tests.bt_model.generation.engines import run_all, running
from tests.bt_model.generation.models import CONFIG, VOCAB, request, soft, tiny

NUM_REQUESTS, NUM_TOKENS = 500, 20


def logprobs() -> str:
    """Every figure is the same to the bit, for any batch and order of arrival."""
    lm = tiny(CONFIG)
    asked = [_asked(number) for number in range(NUM_REQUESTS)]
    alone = dict[str, list[Event]]()
    with running(BatchEngine(lm, max_batch=1)) as engine:
        for each in asked:
            alone[each.id] = run_all(engine, [each])[0][:-1]
    num_compared = 0
    for seed, max_batch in enumerate((3, 16, 64)):
        shuffled = Random(seed).sample(asked, len(asked))
        with running(BatchEngine(lm, max_batch=max_batch, max_queue=NUM_REQUESTS)) as engine:
            for each, events in zip(shuffled, run_all(engine, shuffled), strict=True):
                assert events[:-1] == alone[each.id], each.id
                num_compared += len(events) - 1
    num_rows = sum(map(len, alone.values()))
    assert num_rows == NUM_REQUESTS * NUM_TOKENS
    return f"{num_rows} rows, compared {num_compared} times in batches of 3, 16 and 64: equal to the bit"


def _asked(number: int) -> GenRequest:
    text = tuple((number * 7 + i * (1 + number % 5)) % VOCAB for i in range(1 + number % 17))
    video = replace(soft(1 + number % 23, number), key=number.to_bytes(2))  # equal keys would be equal videos
    segments = (Tokens((1,)), video, Tokens(text))
    asked = request(segments, NUM_TOKENS, temperature=0.7 * (number % 3), seed=number, logprobs=True)
    return replace(asked, top_logprobs=number % 6, repetition_penalty=1 + 0.1 * (number % 2))
