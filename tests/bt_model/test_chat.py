"""The whole flow over tiny models: frames to tokens, dialogue to request, request to text."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bt_model.assembly.load import load
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.chat import VideoChat
from bt_model.errors import ContextLengthError, EngineError, InvalidValueError
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Engine, Tokens
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.types import GenerateOptions, Turn, VideoTokens
from bt_model.vision.pool import patches_cls
from tests import tiny
from tests.tiny import CONTEXT, D, P

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
ASKED = [Turn("user", "which way does it move?")]
GREEDY = GenerateOptions(max_tokens=24, temperature=0.0)


@pytest.fixture(scope="module")
def chat(tiny_weights: Path) -> VideoChat:
    return load(tiny.MODEL, tiny_weights, device="cpu")


@pytest.fixture
def engine(chat: VideoChat) -> Iterator[Engine]:
    engine = BatchEngine(chat.backend.lm, max_batch=2)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def video(chat: VideoChat) -> VideoTokens:
    return VideoTokens(b"key", chat.encode(tiny.clips(1, 4))[0])


def test_encode_is_normalise_chat_and_pool(chat: VideoChat) -> None:
    clips = tiny.clips(2, 4)
    pixels = (clips.permute(0, 1, 4, 2, 3) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]
    expected = patches_cls(tiny.encoder().chat(pixels))
    torch.testing.assert_close(chat.encode(clips), expected, rtol=1e-4, atol=1e-4)


def test_encode_gives_each_clip_of_a_batch_its_own_tokens(chat: VideoChat) -> None:
    clips = tiny.clips(3, 4)
    together = chat.encode(clips)
    assert together.shape == (3, P + 1, D)
    torch.testing.assert_close(
        together, torch.cat([chat.encode(clips[b : b + 1]) for b in range(3)]), rtol=1e-4, atol=1e-4
    )


def test_encode_refuses_more_frames_than_the_branch_can_represent(chat: VideoChat) -> None:
    with pytest.raises(
        InvalidValueError, match="num_frames is 18; allowed: 1 to 8, or an even number up to 16"
    ):
        chat.encode(tiny.clips(1, 18))


def test_the_answer_depends_on_the_video(chat: VideoChat, engine: Engine) -> None:
    answers = {
        "".join(chat.answer(engine, ASKED, [VideoTokens(bytes([seed]), tokens)], GREEDY))
        for seed, tokens in enumerate(chat.encode(tiny.clips(3, 4)))
    }
    assert len(answers) == 3


def greedy(
    chat: VideoChat, turns: Sequence[Turn], video: VideoTokens, num_new: int, before: Sequence[int] = ()
) -> str:
    """The answer without an engine, behind `before`: the whole prompt is read again for every token."""
    lm = tiny_llama(chat)
    parts = chat.backend.segments(turns, [video])
    rows = [lm.embed(torch.tensor(p.ids)) if isinstance(p, Tokens) else p.embeds for p in parts]
    prompt: Tensor = torch.cat(rows)
    said: list[int] = []
    for _ in range(num_new):
        embeds = torch.cat([prompt, lm.embed(torch.tensor(said, dtype=torch.int64))])
        said.append(int(lm(embeds[None], None)[0, -1].argmax()))
    return chat.backend.decode([*before, *said]).lstrip()


def tiny_llama(chat: VideoChat) -> tiny.Llama:
    assert isinstance(chat.backend.lm, tiny.Llama)
    return chat.backend.lm


@torch.inference_mode()
def test_the_answer_is_what_the_decoder_says_after_the_prompt(
    chat: VideoChat, engine: Engine, video: VideoTokens
) -> None:
    answer = "".join(chat.answer(engine, ASKED, [video], GREEDY))
    assert answer == greedy(chat, ASKED, video, 24)
    assert answer


@torch.inference_mode()
def test_an_answer_that_has_begun_goes_on_as_the_decoder_says(
    chat: VideoChat, engine: Engine, video: VideoTokens
) -> None:
    turns = [*ASKED, Turn("assistant", "the red circle")]
    last = chat.backend.segments(turns, [video])[-1]
    assert isinstance(last, Tokens)
    assert chat.backend.decode(last.ids).endswith("the red circle")
    begun = chat.backend.decode(last.ids[-12:])
    whole = greedy(chat, turns, video, 24, last.ids[-12:])
    answer = "".join(chat.answer(engine, turns, [video], GREEDY))
    assert begun.lstrip() + answer == whole
    assert answer


def test_an_answer_ends_before_its_stop_string(chat: VideoChat, engine: Engine, video: VideoTokens) -> None:
    whole = "".join(chat.answer(engine, ASKED, [video], GREEDY))
    stop = whole[5:8]
    options = GenerateOptions(max_tokens=24, temperature=0.0, stop=(stop,))
    assert "".join(chat.answer(engine, ASKED, [video], options)) == whole[: whole.index(stop)]


def test_a_models_own_stop_strings_leave_the_client_its_four(chat: VideoChat) -> None:
    assert isinstance(chat.backend, TemplateBackend)
    mine = replace(chat, backend=replace(chat.backend, defaults=GenerateOptions(stop=("own",))))
    options = GenerateOptions(stop=("a", "b", "c", "d"))
    mine.request(ASKED, [], options, request_id="r")
    for stop in (*options.stop, "own", *chat.backend.stop_strings):
        stream = mine.text_stream(options)
        stream.push(chat.backend.tokenizer.encode(f"? {stop} !").ids)
        assert stream.stopped, stop


def wait_until_idle(engine: Engine) -> bool:
    for _ in range(1000):
        if engine.stats().running + engine.stats().waiting == 0:
            return True
        time.sleep(0.01)
    return False


def test_an_answer_that_is_closed_early_is_cancelled(
    chat: VideoChat, engine: Engine, video: VideoTokens
) -> None:
    answer = chat.answer(engine, ASKED, [video], GenerateOptions(temperature=0.0))
    next(answer)
    assert engine.stats().running == 1
    answer.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator, for those who know
    assert wait_until_idle(engine)
    assert engine.stats().tokens_total < CONTEXT // 2


def test_a_failing_decoder_ends_the_answer_with_an_error(chat: VideoChat, engine: Engine) -> None:
    broken = VideoTokens(b"nan", torch.full((P + 1, D), torch.nan))
    with pytest.raises(EngineError, match="not finite"):
        list(chat.answer(engine, ASKED, [broken], GREEDY))


def test_a_request_without_max_tokens_takes_the_backends_or_what_the_context_leaves(
    chat: VideoChat, video: VideoTokens
) -> None:
    request = chat.request(ASKED, [video], GenerateOptions(), request_id="a")
    assert request.max_new_tokens == chat.backend.defaults.max_tokens == 1024
    long = [Turn("user", "many words " * 200)]
    longer = chat.request(long, [video], GenerateOptions(), request_id="a")
    assert longer.num_prompt_tokens + longer.max_new_tokens == CONTEXT
    assert longer.max_new_tokens < 1024


def test_a_request_holds_what_was_asked_for(chat: VideoChat, video: VideoTokens) -> None:
    options = GenerateOptions(
        5, temperature=0.7, top_p=0.8, top_k=9, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=-0.3, seed=3,
    )  # fmt: skip
    request = chat.request(ASKED, [video], options, request_id="a", deadline=12.5)
    held = (
        request.id, request.max_new_tokens, request.temperature, request.top_p, request.top_k,
        request.min_p, request.repetition_penalty, request.presence_penalty, request.frequency_penalty,
        request.seed, request.deadline, request.stop_token_ids,
    )  # fmt: skip
    assert held == ("a", 5, 0.7, 0.8, 9, 0.1, 1.1, 0.2, -0.3, 3, 12.5, chat.backend.stop_token_ids)


def test_an_answer_may_go_on_past_its_end(chat: VideoChat, video: VideoTokens) -> None:
    request = chat.request(ASKED, [video], GenerateOptions(ignore_eos=True), request_id="a")
    assert request.stop_token_ids == frozenset()


def test_the_models_defaults_fill_what_was_not_given(chat: VideoChat, video: VideoTokens) -> None:
    assert chat.request(ASKED, [video], GenerateOptions(), request_id="a").temperature == 0.0


def test_a_temperature_of_zero_is_not_mistaken_for_none(chat: VideoChat, video: VideoTokens) -> None:
    assert chat.request(ASKED, [video], GenerateOptions(temperature=0.0), request_id="a").temperature == 0.0


def test_a_prompt_that_fills_the_context_is_refused(chat: VideoChat, video: VideoTokens) -> None:
    with pytest.raises(
        ContextLengthError, match=rf"\({P + 1} for the video\).*the context holds {CONTEXT}"
    ) as caught:
        chat.request([Turn("user", "q" * (CONTEXT - P))], [video], GenerateOptions(), request_id="a")
    assert caught.value.param == "messages"


def test_a_dialogue_that_no_context_holds_is_refused_before_it_is_tokenised(
    chat: VideoChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextTokenizer, "encode", None)
    turns = [Turn("user", "many words " * CONTEXT)]
    with pytest.raises(ContextLengthError, match="tokens or more") as caught:
        chat.request(turns, [], GenerateOptions(), request_id="a")
    assert caught.value.param == "messages"
    with pytest.raises(ContextLengthError, match="tokens or more"):
        chat.card.check_length(turns)


def test_more_new_tokens_than_there_is_room_for_are_refused(chat: VideoChat, video: VideoTokens) -> None:
    with pytest.raises(ContextLengthError, match=f"and {CONTEXT} are to be generated") as caught:
        chat.request(ASKED, [video], GenerateOptions(max_tokens=CONTEXT), request_id="a")
    assert caught.value.param == "max_tokens"


def test_frames_from_the_decoder_are_taken_as_they_are(chat: VideoChat) -> None:
    frames = np.zeros((4, tiny.SIDE, tiny.SIDE, 3), np.uint8)
    assert chat.encode(torch.from_numpy(frames)[None]).shape == (1, P + 1, D)
