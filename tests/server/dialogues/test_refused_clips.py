"""Dialogues with a video that is one too many, or that cannot be used, are refused by its place."""

import base64
from typing import Any, cast

import httpx
import pytest

from bt_model.errors import PartlyDecodedError
from bt_model.types import MAX_VIDEOS, Sampling
from server.features.clips import ShownClip, at_clip
from tests import fakes
from tests.server.conftest import RunningServer, count, error_of
from tests.server.dialogues.bodies import (
    ANSWER,
    ASK,
    END,
    asked,
    dialogue,
    other,
    own,
    part,
    said,
    user,
)
from tests.server.test_streams import until
from tests.server.test_uploads import upload


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_takes_one_refuses_the_second_by_its_place(
    client: httpx.Client, first: str, stream: bool
) -> None:
    decoded = count(client, "btchat_videos_decoded_total")
    body = dialogue(said(part(first), "a"), ANSWER, said(ASK, part(first, **END)), model=fakes.MODEL)
    answer = client.post("/v1/chat/completions", json=body | {"stream": stream})
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (400, "too_many_videos")
    assert error["param"] == "messages[2].content[1].video_url.url"
    for words in ("messages[2].content[1]", f"{fakes.MODEL} takes 1", "one question per video", "max_videos"):
        assert words in str(error["message"])
    assert count(client, "btchat_videos_decoded_total") == decoded


def test_on_our_own_route_too(client: httpx.Client, first: str, second: str) -> None:
    answer = own(client, first, user("a"), ANSWER, user(ASK, (second, None)), model=fakes.MODEL)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (
        400, "too_many_videos", "messages[2].videos[0].video",
    )  # fmt: skip


def test_the_first_that_is_one_too_many_is_named(client: httpx.Client, first: str) -> None:
    windows = [part(first, start=number / 10, num_frames=2) for number in range(6)]
    error = error_of(client.post("/v1/chat/completions", json=dialogue(said(*windows, ASK))))
    assert (error["code"], error["param"]) == ("too_many_videos", "messages[0].content[3].video_url.url")
    assert "is video number 4" in str(error["message"])


def test_no_request_has_more_than_eight_whatever_the_model(client: httpx.Client, first: str) -> None:
    windows = [(first, {"start": number / 20}) for number in range(1, MAX_VIDEOS + 1)]
    error = error_of(own(client, first, user(ASK, *windows)))
    assert (error["code"], error["param"]) == ("too_many_videos", "messages[0].videos[7].video")
    assert "8 are allowed" in str(error["message"])


def test_a_stale_id_fails_the_request_by_its_place(client: httpx.Client, first: str, second: str) -> None:
    client.delete(f"/v1/video/uploads/{second}").raise_for_status()
    body = dialogue(said(part(first), "a"), ANSWER, said(part(second), ASK))
    answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "video_not_found")
    assert error_of(answer)["param"] == "messages[2].content[0].video_url.url"
    answer = own(client, first, user("a"), ANSWER, user(ASK, (second, None)))
    assert answer.status_code == 404
    assert error_of(answer)["param"] == "messages[2].videos[0].video"


def test_a_broken_file_fails_the_request_by_its_place(
    shared: RunningServer, client: httpx.Client, first: str, clip: bytes
) -> None:
    begin = clip.index(b"mdat") + 4
    blank = clip[:begin] + bytes(1500) + clip[begin + 1500 :]
    url = "data:video/mp4;base64," + base64.b64encode(blank).decode()
    body = dialogue(said(part(first), "a"), ANSWER, said("b", part(url), ASK))
    answer = client.post("/v1/chat/completions", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (400, "undecodable_video")
    assert error["param"] == "messages[2].content[1].video_url.url"
    until(lambda: list(shared.services.store.incoming.iterdir()) == [])


def test_frames_that_a_window_does_not_have_are_told_by_its_place(client: httpx.Client, first: str) -> None:
    body = dialogue(said(part(first), "a"), ANSWER, said(ASK, part(first, start=99.0)))
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["param"] == "messages[2].content[1].video_url.url"


def test_frames_that_are_kept_for_a_second_try_are_told_by_their_place() -> None:
    error = PartlyDecodedError("the time is over", (3, 4))
    named = at_clip(ShownClip(cast(Any, None), Sampling(), param="messages[2].videos[0].video"), error)
    assert isinstance(named, PartlyDecodedError)
    assert (named.message, named.indices, str(named)) == (error.message, (3, 4), str(error))
    assert (named.param, error.param) == ("messages[2].videos[0].video", None)


# --- what is one video is not counted twice


def test_more_names_of_the_same_bytes_than_there_may_be_videos_are_one(
    client: httpx.Client, clip: bytes
) -> None:
    content = other(clip)
    names = [upload(client, content) for _ in range(MAX_VIDEOS + 1)]
    message = said(*[part(name) for name in names], ASK)
    assert "videos" not in asked(client, dialogue(message, model=fakes.MODEL))["receipt"]
    shown = user(ASK, *[(name, None) for name in names[1:]])
    assert own(client, names[0], shown, model=fakes.MODEL).is_success


def test_more_spellings_of_a_window_than_there_may_be_videos_are_one(
    client: httpx.Client, first: str
) -> None:
    spelled: list[dict[str, Any]] = [{"start": 0.0}, *({"seed": number} for number in range(MAX_VIDEOS))]
    turns = [message for sampling in spelled for message in (user("a", (first, sampling)), ANSWER)]
    assert own(client, first, *turns, user(ASK), model=fakes.MODEL).is_success
