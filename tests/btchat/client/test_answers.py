"""Questions through both clients: whole answers and streams, of one model and of several."""

import time
from pathlib import Path
from typing import Any

import pytest

from btchat.client import BtchatAPIError, ChatAnswer, ChatChoices, VideoUpload
from tests import fakes
from tests.server.conftest import RunningServer

QUESTION = "what happens here"


@pytest.fixture
def video(client: Any, clip: Path) -> VideoUpload:
    return client.upload(clip)


def test_an_answer_has_text_receipt_and_usage(client: Any, video: VideoUpload) -> None:
    answer = client.ask(video, QUESTION, sampling={"num_frames": 3}, max_tokens=20)
    assert isinstance(answer, ChatAnswer)
    assert (answer.text, answer.finish_reason, answer.model) == (f"{QUESTION} ", "stop", fakes.MODEL)
    assert answer.receipt is not None
    assert answer.receipt.frames is not None
    assert (answer.receipt.video, answer.receipt.frames.count) == (video.id, 3)
    assert answer.receipt.frames.indices == (5, 14, 24)
    assert answer.receipt.seconds.total > 0
    assert answer.receipt.cache.prompt_tokens == 2
    assert answer.usage is not None
    assert (answer.usage.total_tokens, answer.usage.prompt_tokens_details.video_tokens) == (10, 3)
    assert answer.request_id
    again = client.ask(video.id, QUESTION, sampling=answer.receipt.sampling)
    assert again.receipt.frames == answer.receipt.frames
    assert again.receipt.cache.features == "hit"


def test_a_file_is_uploaded_where_it_is_asked_about(client: Any, clip: Path, video: VideoUpload) -> None:
    answer = client.ask(clip, QUESTION)
    assert client.get(answer.receipt.video).sha256 == video.sha256


def test_a_stream_gives_text_and_at_its_end_the_receipt(client: Any, video: VideoUpload) -> None:
    stages: list[str] = []
    stream = client.chat(QUESTION, video=video, stream=True, on_stage=stages.append)
    pieces = list(stream)
    assert pieces == [f"{word} " for word in QUESTION.split()]
    assert stream.text == "".join(pieces) == stream.answer.text
    assert stream.receipt.video == video.id
    assert stream.usage.completion_tokens == 3
    assert stream.answer.finish_reason == "stop"
    assert stages
    whole = client.chat(QUESTION, video=video)
    assert whole.receipt.frames == stream.receipt.frames


def test_a_dialogue_is_answered_without_a_video_too(client: Any) -> None:
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three four"},
    ]
    assert client.chat(messages).text == "three four "
    stream = client.chat(messages, stream=True)
    assert "".join(stream) == "three four "
    assert stream.usage.completion_tokens == 2


def test_what_is_wrong_with_a_question_is_said_with_the_answer(client: Any) -> None:
    answer = client.chat("what happens in this video?")
    assert [warning.code for warning in answer.warnings] == ["no_video"]


def test_log_probabilities_are_typed(client: Any, video: VideoUpload) -> None:
    options = {"logprobs": True, "top_logprobs": 2}
    whole = client.chat(QUESTION, video=video, **options)
    stream = client.chat(QUESTION, video=video, stream=True, **options)
    assert list(stream)
    for answer in (whole, stream.answer):
        assert [token.token for token in answer.logprobs] == ["what ", "happens ", "here "]
        assert answer.logprobs[0].bytes == tuple(b"what ")
        assert (answer.logprobs[0].logprob, len(answer.logprobs[0].top_logprobs)) == (-0.5, 2)


def test_several_models_answer_and_one_that_fails_says_why(client: Any, video: VideoUpload) -> None:
    models = [fakes.MODEL, fakes.OTHER, fakes.BAD]
    whole = client.chat(QUESTION, video=video, model=models)
    stream = client.chat(QUESTION, video=video, model=tuple(models), stream=True)
    deltas = list(stream)
    assert {(delta.index, delta.model) for delta in deltas} == {(0, fakes.MODEL), (1, fakes.OTHER)}
    assert isinstance(whole, ChatChoices)
    both: list[Any] = [whole, stream.choices]
    for choices in both:
        assert [each.model for each in choices] == models
        assert [each.text for each in choices] == [f"{QUESTION} ", f"{QUESTION.upper()} ", ""]
        assert choices[fakes.OTHER].receipt.fingerprint == fakes.OTHER_CARD.model_fingerprint
        assert choices[0].usage.total_tokens * 2 == choices.usage.total_tokens
        failed = choices[2]
        assert failed.finish_reason == "error"
        assert (failed.error.code, failed.usage, failed.receipt) == ("bad_checkpoint", None, None)
    assert "".join(delta.text for delta in deltas if delta.index == 1) == f"{QUESTION.upper()} "


def test_closing_a_stream_ends_the_work_on_the_server(
    client: Any, video: VideoUpload, server: RunningServer
) -> None:
    before = server.stats()["fake_cancelled_total"]
    stream = client.chat("!slow", video=video, stream=True)
    assert next(stream)
    stream.close()
    assert list(stream) == []
    deadline = time.monotonic() + 10
    while server.stats()["fake_cancelled_total"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.stats()["fake_cancelled_total"] == before + 1
    assert server.stats()["running"] == 0


def test_an_answer_that_breaks_is_an_error_with_the_text_so_far(client: Any, video: VideoUpload) -> None:
    stream = client.chat("!fail after 2", video=video, stream=True)
    with pytest.raises(BtchatAPIError) as caught:
        list(stream)
    assert (caught.value.status, caught.value.code) == (200, "engine_error")
    assert caught.value.request_id
    assert stream.text == "0 1 "


def test_further_videos_of_a_message_are_shown(client: Any, video: VideoUpload) -> None:
    further = {"video": video.id, "sampling": {"start": 0.5}}
    messages = [{"role": "user", "content": "!videos", "videos": [further]}]
    answer = client.chat(messages, video=video, model=fakes.MANY)
    assert [each.video for each in answer.receipt.videos] == [video.id, video.id]
    assert answer.receipt.videos[1].sampling["start"] == 0.5


def test_fields_of_a_newer_server_are_sent(client: Any, video: VideoUpload) -> None:
    with pytest.raises(BtchatAPIError) as caught:
        client.ask(video, QUESTION, extra_body={"new_field": 1})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "new_field")
