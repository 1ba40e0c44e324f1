"""Dialogues with several videos or windows, on both routes: all are used."""

import base64
import json
from typing import Any, cast

import httpx
import openai
import pytest

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
    placed,
    said,
    user,
    videos,
)
from tests.server.test_frame_lists import data_of
from tests.server.test_streams import until
from tests.server.test_uploads import upload

# --- what is one video, and what is several


def test_a_later_turn_with_another_window_is_seen_as_well(client: httpx.Client, first: str) -> None:
    body = asked(client, dialogue(said(part(first), "what is it"), ANSWER, said(ASK, part(first, **END))))
    assert placed(body) == "0:0 2:7"
    one, two = videos(body["receipt"])
    assert (one["video"], two["video"]) == (first, first)
    assert (one["frames"]["count"], two["frames"]["count"]) == (4, 2)
    assert min(two["frames"]["timestamps"]) >= 0.6 > min(one["frames"]["timestamps"])
    assert two["sampling"]["start"] == 0.6
    assert body["usage"]["prompt_tokens_details"]["video_tokens"] == 6


def test_two_windows_in_one_message_are_both_seen_in_order(client: httpx.Client, first: str) -> None:
    message = said("First:", part(first, end=0.5), "Then:", part(first, start=0.5), ASK)
    body = asked(client, dialogue(message, ANSWER, said(ASK)))
    assert placed(body) == "0:7 0:13"
    ends = [max(each["frames"]["timestamps"]) for each in videos(body["receipt"])]
    assert ends[0] < 0.5 < ends[1]


def test_a_second_video_is_seen_as_well(client: httpx.Client, first: str, second: str) -> None:
    body = asked(client, dialogue(said(part(first), "a"), ANSWER, said(part(second), ASK)))
    assert [each["video"] for each in videos(body["receipt"])] == [first, second]
    again = asked(client, dialogue(said(part(second), "a"), ANSWER, said(part(first), ASK)))
    assert [each["video"] for each in videos(again["receipt"])] == [second, first]
    assert [each["cache"]["features"] for each in videos(again["receipt"])] == ["hit", "hit"]


def test_a_picture_and_a_video_are_both_seen(client: httpx.Client, first: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data_of(0, 'JPEG')}"}}
    body = asked(client, dialogue(said(picture, "Like this?", part(first), ASK)))
    assert [each["frames"]["count"] for each in videos(body["receipt"])] == [1, 4]


SAME = {
    "as it is": {},
    "with the number that is the default": {"num_frames": 4},
    "with a window that is all of it": {"start": 0.0},
    "with another seed that is not used": {"seed": 7},
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_video_and_window_in_every_turn_is_one(client: httpx.Client, first: str, name: str) -> None:
    again = said(part(first, **SAME[name]), ASK)
    body = asked(client, dialogue(said(part(first), "a"), ANSWER, again, model=fakes.MODEL))
    assert placed(body) == "0:0"
    assert "videos" not in body["receipt"]
    assert body["usage"]["prompt_tokens_details"]["video_tokens"] == 3


def test_the_same_content_under_other_names_is_one(client: httpx.Client, clip: bytes) -> None:
    content = other(clip)
    names = [upload(client, content), upload(client, content)]
    names.append("data:video/mp4;base64," + base64.b64encode(content).decode())
    turns = [message for name in names for message in (said(part(name), "a"), ANSWER)]
    body = asked(client, dialogue(*turns, said(ASK), model=fakes.MODEL))
    assert placed(body) == "0:0"
    assert body["receipt"]["video"] == names[0]


def test_the_requests_sampling_holds_for_each_part_that_has_none(client: httpx.Client, first: str) -> None:
    message = said(part(first), part(first, num_frames=3), ASK)
    body = asked(client, dialogue(message, sampling={"num_frames": 2, "start": 0.2}))
    shown = [(each["sampling"]["num_frames"], each["sampling"]["start"]) for each in videos(body["receipt"])]
    assert shown == [(2, 0.2), (3, 0.2)]


# --- receipts


def test_a_receipt_of_several_is_that_of_the_first_with_a_list_of_all(
    client: httpx.Client, first: str, second: str
) -> None:
    alone = asked(client, dialogue(said(part(first), ASK)))["receipt"]
    receipt = asked(client, dialogue(said(part(first), ASK, part(second))))["receipt"]
    assert receipt.keys() - alone.keys() == {"videos"}
    for name in ("video", "frames", "sampling", "picture", "audio_ignored", "model", "fingerprint", "notice"):
        assert receipt[name] == alone[name]
    one, two = receipt["videos"]
    assert one.keys() == two.keys() == {
        "video", "frames", "warnings", "sampling", "picture", "audio_ignored", "seconds", "cache",
    }  # fmt: skip
    assert [one["cache"], two["cache"]] == [{"features": "hit"}, {"features": "miss"}]
    assert receipt["cache"] == {"features": "miss", "prompt_tokens": 2}
    assert receipt["seconds"]["decode"] == two["seconds"]["decode"] > 0


def test_a_stream_ends_with_the_receipt_of_all(
    shared: RunningServer, client: httpx.Client, first: str
) -> None:
    messages = [said(part(first), "what is it"), ANSWER, said(ASK, part(first, **END))]
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as api:
        stream = api.chat.completions.create(
            model=fakes.MANY,
            messages=cast(Any, messages),
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "0:0 2:7 "
    (receipt,) = [cast(Any, chunk).receipt for chunk in chunks if hasattr(chunk, "receipt")]
    assert [each["frames"]["count"] for each in receipt["videos"]] == [4, 2]


# --- our own route


def test_messages_of_our_own_route_show_further_videos(client: httpx.Client, first: str, second: str) -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [user("a", (second, None)), ANSWER, user(ASK, (first, END))]
    body = own(client, first, system, *turns, sampling={"num_frames": 3}).raise_for_status().json()
    assert placed(body) == "1:0 1:0 3:0"
    shown = [(each["video"], each["frames"]["count"]) for each in videos(body["receipt"])]
    assert shown == [(first, 3), (second, 3), (first, 2)]
    same = own(client, first, user("a"), ANSWER, user(ASK, (first, None)), model=fakes.MODEL)
    assert placed(same.raise_for_status().json()) == "0:0"


def test_of_several_models_those_answer_that_take_all_videos(client: httpx.Client, first: str) -> None:
    answer = own(client, first, user(ASK, (first, END)), model=[fakes.MODEL, fakes.MANY]).raise_for_status()
    refused, given = answer.json()["choices"]
    assert (refused["finish_reason"], refused["error"]["code"]) == ("error", "too_many_videos")
    assert refused["error"]["param"] == "messages[0].videos[0].video"
    assert len(given["receipt"]["videos"]) == 2


def test_only_users_show_videos_on_our_own_route(client: httpx.Client, first: str) -> None:
    shown = ANSWER | {"videos": [{"video": first}]}
    error = error_of(own(client, first, user("a"), shown, user(ASK)))
    assert error["param"] == "messages[1].videos[0]"
    assert "in a message of the assistant; allowed: user" in str(error["message"])


# --- what is computed, kept and freed


def test_videos_that_were_evicted_are_made_once_more(client: httpx.Client, clip: bytes) -> None:
    names = [upload(client, other(clip)) for _ in range(2)]
    body = dialogue(said(part(names[0]), "a"), ANSWER, said(part(names[1]), "!evicted"))
    before = count(client, "btchat_videos_decoded_total")
    receipt = asked(client, body)["receipt"]
    assert [each["video"] for each in receipt["videos"]] == names
    assert count(client, "btchat_videos_decoded_total") == before + 4


def test_one_who_leaves_frees_all(
    shared: RunningServer, client: httpx.Client, first: str, second: str
) -> None:
    services = shared.services
    body = dialogue(said(part(first), "a"), ANSWER, said(part(second), "!slow"), stream=True)
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(line for line in lines if line.startswith("data:"))[5:])["choices"]
    until(lambda: services.engine.num_waiting == 0)
    until(lambda: services.decoder.num_idle == services.decoder.size)
    assert shared.stats()["running"] == 0


def test_models_say_how_many_videos_they_take(client: httpx.Client) -> None:
    shown = {each["id"]: each["max_videos"] for each in client.get("/v1/models").json()["data"]}
    assert shown == {fakes.MODEL: 1, fakes.MANY: 3}
