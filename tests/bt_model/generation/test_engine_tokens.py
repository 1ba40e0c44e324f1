"""Contract: which tokens an engine gives, and how an answer ends."""

import time

import pytest
import torch
from transformers import LlamaConfig as HfLlamaConfig
from transformers import LlamaForCausalLM

from bt_model.generation.llama import Llama
from bt_model.generation.reference import continuation
from bt_model.generation.request import Delta, Engine, Event, Finish, Soft, Tokens
from tests.bt_model.generation.engines import SAMPLED, SLOTS, run_all
from tests.bt_model.generation.models import (
    CONFIG,
    CONTEXT,
    VOCAB,
    WIDTH,
    Options,
    finish_of,
    prompt,
    request,
    tokens_of,
)


def seeded(options: Options, seed: int) -> Options:
    return {**options, "seed": seed}


@pytest.mark.parametrize("count", [1, 16])
def test_greedy_tokens_equal_those_of_transformers(engine: Engine, lm: Llama, count: int) -> None:
    config = HfLlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads,
        num_key_value_heads=CONFIG.num_kv_heads,
        intermediate_size=CONFIG.mlp_width,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=CONFIG.eps,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    peer = LlamaForCausalLM(config).eval()
    peer.load_state_dict(lm.state_dict())
    requests = [request(prompt(i), 20 - i) for i in range(count)]
    for own, asked in zip(run_all(engine, requests), requests, strict=True):
        parts = [lm.embed(torch.tensor(s.ids)) if isinstance(s, Tokens) else s.embeds for s in asked.segments]
        embeds = torch.cat(parts)[None].detach()
        theirs = peer.generate(  # pyright: ignore[reportAttributeAccessIssue]  # its protocol wants private fields
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64),
            max_new_tokens=asked.max_new_tokens,
            do_sample=False,
        )
        assert list(tokens_of(own)) == theirs[0].tolist()


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.5}, SAMPLED, {"temperature": 1.3}])
@pytest.mark.parametrize("count", [1, 16])
def test_tokens_equal_the_slow_definition(engine: Engine, lm: Llama, count: int, options: Options) -> None:
    requests = [request(prompt(i), 20 - i, **seeded(options, i)) for i in range(count)]
    own = [tokens_of(events) for events in run_all(engine, requests)]
    assert own == [continuation(lm, r) for r in requests]


def test_rows_that_take_turns_keep_their_own_options(engine: Engine, lm: Llama) -> None:
    kinds: list[Options] = [{}, SAMPLED, {"temperature": 2.0}, {"repetition_penalty": 2.0}, {"top_k": 2}]
    requests = [request(prompt(i), 6, **seeded(kinds[i % 5], i)) for i in range(16)]
    own = [tokens_of(events) for events in run_all(engine, requests)]
    assert own == [continuation(lm, r) for r in requests]


def test_seeded_tokens_are_equal_alone_and_among_neighbours(engine: Engine) -> None:
    alone = tokens_of(run_all(engine, [request(prompt(3), 20, **seeded(SAMPLED, 5))])[0])
    mixed: list[Options] = [{}, {"temperature": 2.0}, {"temperature": 0.1, "top_k": 2}]
    crowd = [request(prompt(i), 9 + i, **seeded(mixed[i % 3], i)) for i in range(8)]
    crowd.insert(2, request(prompt(3), 20, **seeded(SAMPLED, 5)))
    assert tokens_of(run_all(engine, crowd)[2]) == alone


def test_different_seeds_give_different_tokens(engine: Engine) -> None:
    first, second = run_all(engine, [request(seed=s, temperature=2.0) for s in (1, 2)])
    assert tokens_of(first) != tokens_of(second)


def test_a_request_without_a_seed_differs_each_time(engine: Engine) -> None:
    first, second = run_all(engine, [request(temperature=2.0) for _ in range(2)])
    assert tokens_of(first) != tokens_of(second)


def test_a_reused_slot_gives_the_same_tokens(engine: Engine) -> None:
    asked = [request(prompt(i), 6 + 5 * (i % 3)) for i in range(2 * SLOTS)]
    fresh = [tokens_of(events) for events in run_all(engine, asked)]
    reverse = [request(r.segments, r.max_new_tokens) for r in reversed(asked)]
    assert [tokens_of(events) for events in run_all(engine, reverse)] == fresh[::-1]


def test_decoding_equals_prefilling_what_was_decoded(engine: Engine) -> None:
    whole = tokens_of(run_all(engine, [request(max_new_tokens=12)])[0])
    again = request((*prompt(0), Tokens(whole[:7])), max_new_tokens=5)
    assert tokens_of(run_all(engine, [again])[0]) == whole[7:]


def test_logprobs_come_with_the_tokens_of_those_who_asked(engine: Engine) -> None:
    asked, silent = run_all(engine, [request(logprobs=True), request()])
    deltas = [e for e in asked if isinstance(e, Delta)]
    assert all(len(d.logprobs) == len(d.token_ids) for d in deltas)
    assert all(each.chosen <= 0 for d in deltas for each in d.logprobs)
    assert not any(d.logprobs for d in silent if isinstance(d, Delta))


def test_a_finished_request_counts_its_tokens(engine: Engine) -> None:
    asked = request(prompt(2), 7)
    finish = finish_of(run_all(engine, [asked])[0])
    assert (finish.reason, finish.num_prompt, finish.num_new) == ("length", asked.num_prompt_tokens, 7)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_stop_token_ends_the_answer_and_is_never_emitted(engine: Engine, lm: Llama, place: int) -> None:
    ids = continuation(lm, request(prompt(1), temperature=1.5, seed=3))
    first = ids.index(ids[place])
    events = run_all(
        engine, [request(prompt(1), temperature=1.5, seed=3, stop_token_ids=frozenset({ids[place]}))]
    )[0]
    assert (tokens_of(events), finish_of(events).reason) == (ids[:first], "stop")


def test_each_request_has_exactly_one_terminal_event_and_it_is_the_last(engine: Engine) -> None:
    received: dict[str, list[Event]] = {}
    asked = [request(prompt(i), 1 + i, deadline=time.monotonic() - (i == 3)) for i in range(8)]
    asked.append(request((Soft(b"", torch.zeros(3, WIDTH + 1)),)))
    for each in asked:
        engine.submit(each, received.setdefault(each.id, []).append)
    for each in asked[::2]:
        engine.cancel(each.id)
        engine.cancel(each.id)
    engine.stop(10)
    kinds = [[isinstance(e, Finish) for e in received[r.id]] for r in asked]
    assert kinds == [[False] * (len(k) - 1) + [True] for k in kinds]


def test_timing_adds_up(engine: Engine) -> None:
    started = time.monotonic()
    timing = finish_of(run_all(engine, [request(max_new_tokens=20)])[0]).timing
    parts = (timing.queue, timing.prefill, timing.decode)
    assert all(seconds > 0 for seconds in parts)
    assert sum(parts) <= time.monotonic() - started
