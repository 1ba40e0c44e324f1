"""Messages of a live session: those of vLLM-Omni's clients, our options, and refusals in words."""

import json
from typing import Any

import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import GenerateOptions
from server.bodies.live import AudioChunk, SessionConfig, VideoDone, VideoFrame, VideoQuery, message_of
from server.problems import Problem

CONFIG = '{"type": "session.config", '


def read(kind: str, **fields: Any) -> Any:
    return message_of(json.dumps({"type": kind, **fields}))


def config(**fields: Any) -> SessionConfig:
    return read("session.config", **fields)


def test_every_message_of_the_wire_is_read() -> None:
    whole = config(
        model=None,
        modalities=["text", "audio"],
        num_frames=4,
        max_frames=50,
        system_prompt=None,
        use_audio_in_video=True,
        sampling_params_list=None,
        enable_frame_filter=True,
        frame_filter_threshold=0.95,
        speaker="ethan",
    )
    assert (whole.num_frames, whole.max_frames) == (4, 50)
    assert isinstance(read("video.frame", data="AAAA", timestamp=1.5), VideoFrame)
    assert isinstance(read("audio.chunk", data="AAAA"), AudioChunk)
    assert isinstance(read("video.query", text="what?"), VideoQuery)
    assert isinstance(read("video.done"), VideoDone)


def test_names_of_before_are_those_of_now() -> None:
    old = config(num_sample_frames=7, evs_enabled=False, evs_threshold=0.5)
    assert (old.num_frames, old.enable_frame_filter, old.frame_filter_threshold) == (7, False, 0.5)


def test_the_first_list_of_options_goes_before_those_beside_it() -> None:
    stages = [{"temperature": 0.5, "max_tokens": 9}, {"of another stage": 1}]
    given = config(sampling_params_list=stages, max_tokens=5, seed=3)
    assert given.chosen_options() == GenerateOptions(temperature=0.5, max_tokens=9, seed=3)
    assert config(seed=3).chosen_options() == GenerateOptions(seed=3)


def test_milliseconds_are_seconds() -> None:
    assert read("video.frame", data="AAAA", pts_ms=1500, frame_id="x").seconds == 1.5
    assert read("video.frame", data="AAAA").seconds is None


@pytest.mark.parametrize(
    ("text", "param", "words"),
    [
        ("{", None, "is not JSON"),
        ("[]", "", "an object"),
        ("{}", "type", "type is not there; allowed: session.config, video.frame"),
        ('{"type": "video.cut"}', "type", "type is video.cut; allowed: session.config, video.frame"),
        ('{"type": "video.frame"}', "data", "data is missing"),
        ('{"type": "video.query", "text": "a", "x": 1}', "x", "x is no field"),
        (CONFIG + '"num_frames": 129}', "num_frames", "num_frames is 129; allowed: up to 128"),
        (CONFIG + '"max_frames": 0}', "max_frames", "max_frames is 0; allowed: 1 or more"),
        (CONFIG + '"modalities": ["video"]}', "modalities[0]", 'allowed: \\["text"\\]'),
        (CONFIG + '"sampling_params_list": [{"x": 1}]}', "sampling_params_list[0].x", "no field"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_in_words(text: str, param: str | None, words: str) -> None:
    with pytest.raises(Problem, match=words) as caught:
        message_of(text)
    assert caught.value.status_code == 400
    assert caught.value.param == (param or None)


@pytest.mark.parametrize("fields", [{"modalities": ["audio"]}, {"logprobs": True}, {"temperature": 9.0}])
def test_what_no_answer_has_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="allowed"):
        config(**fields).chosen_options()
