"""Dialogues as chat pages send them, on both routes: what they mean, and what has no meaning."""

import json
from typing import Any

import httpx
import pytest

from bt_model.types import Place, Sampling, Turn
from server.bodies.dialogue import MessageParts, conversation_of
from server.bodies.video_part import VideoPart
from tests import fakes
from tests.server.conftest import error_of
from tests.server.dialogues.bodies import END, asked, dialogue, own, part, placed, said, user

TURNS = "!turns"  # the fake says what it was asked
SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = [["user", "a\n" + TURNS]]
EMPTY: list[Any] = ["", None, [], " \n", [{"type": "text", "text": ""}]]


def turns(body: dict[str, Any]) -> list[list[str]]:
    return json.loads(body["choices"][0]["message"]["content"])


def reply(content: object) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# --- what pages send


@pytest.mark.parametrize("content", EMPTY)
def test_an_answer_that_failed_does_not_end_the_dialogue(client: httpx.Client, content: object) -> None:
    body = dialogue(said("a"), reply(content), said(TURNS), model=fakes.MODEL)
    assert turns(asked(client, body)) == ASKED


def test_an_answer_that_was_left_out_does_not_either(client: httpx.Client) -> None:
    assert turns(asked(client, dialogue(said("a"), said(TURNS)))) == ASKED


def test_an_answer_without_content_is_none(client: httpx.Client) -> None:
    assert turns(asked(client, dialogue(said("a"), {"role": "assistant"}, said(TURNS)))) == ASKED


def test_instructions_are_one_wherever_they_stand(client: httpx.Client) -> None:
    developer = {"role": "developer", "content": "Be kind."}
    body = dialogue(SYSTEM, said("a"), developer, reply("b"), {"role": "system", "content": ""}, said(TURNS))
    assert turns(asked(client, body)) == [
        ["system", "Be brief.\nBe kind."], ["user", "a"], ["assistant", "b"], ["user", TURNS],
    ]  # fmt: skip


def test_two_answers_in_a_row_are_one(client: httpx.Client) -> None:
    body = dialogue(said("a"), reply("b"), reply("c"), said(TURNS))
    assert turns(asked(client, body))[1] == ["assistant", "b\nc"]


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/video/chat"])
def test_a_greeting_before_the_first_question_stays(client: httpx.Client, first: str, route: str) -> None:
    messages = [SYSTEM, reply("Hello! Ask me."), {"role": "user", "content": TURNS}]
    body = {"model": fakes.MODEL, "messages": messages, "video": first}
    answer = client.post(route, json=body).json()
    assert turns(answer) == [["system", "Be brief."], ["assistant", "Hello! Ask me."], ["user", TURNS]]
    again = client.post("/v1/video/chat", json={"receipt": answer["receipt"]}).json()
    assert turns(again) == turns(answer)
    assert again["receipt"]["request"] == answer["receipt"]["request"]


def test_our_own_route_takes_them_too(client: httpx.Client, first: str) -> None:
    answer = own(client, first, SYSTEM, user("a"), reply(None), SYSTEM, user("b"), reply(""), user(TURNS))
    expected = [["system", "Be brief.\nBe brief."], ["user", f"a\nb\n{TURNS}"]]
    assert turns(answer.raise_for_status().json()) == expected


def test_a_video_without_a_text_belongs_to_the_text_beside_it(client: httpx.Client, first: str) -> None:
    for shown in (said(part(first)), said("", part(first))):
        body = asked(client, dialogue(shown, reply(""), said("what?\n!videos")))
        assert (placed(body), body["receipt"]["video"]) == ("0:0", first)
    body = asked(client, dialogue(said("a"), reply("b"), said("!videos"), said(part(first))))
    assert placed(body) == "2:7"


def test_a_video_that_was_answered_by_itself_stays_where_it_was(client: httpx.Client, first: str) -> None:
    body = dialogue(said(part(first)), reply("nice"), said(TURNS))
    assert turns(asked(client, body))[0] == ["user", ""]
    body = dialogue(said(part(first)), reply("nice"), said("!videos"))
    assert placed(asked(client, body)) == "0:0"


@pytest.mark.parametrize("last", [[reply(TURNS)], [reply("it\nis"), reply(""), reply(TURNS)]])
def test_a_last_answer_goes_on(client: httpx.Client, last: list[dict[str, Any]]) -> None:
    begun = "\n".join(filter(None, (each["content"] for each in last)))
    assert turns(asked(client, dialogue(said("a"), *last))) == [["user", "a"], ["assistant", begun]]


# --- places


def test_each_video_stands_where_it_stood_in_the_messages_that_are_merged(
    client: httpx.Client, first: str
) -> None:
    messages = [
        said("one", part(first), "two"),
        reply(""),
        said(part(first, end=0.5), part(first, **END)),
        said("three\n!videos"),
    ]
    assert placed(asked(client, dialogue(*messages))) == "0:4 0:8 0:8"
    answer = own(client, first, user("one"), user("two", (first, END)), reply("b"), user("!videos"))
    assert placed(answer.raise_for_status().json()) == "0:0 0:4"


def shown(param: str) -> VideoPart:
    return VideoPart("vid", param, Sampling())


def test_places_are_in_front_of_the_line_that_comes_next_or_at_the_end() -> None:
    a, b, c, d, e = map(shown, "abcde")
    messages = [
        MessageParts("system", ["Be brief."]),
        MessageParts("user", [a, "one"]),
        MessageParts("user", [b]),
        MessageParts("assistant", ["", " "]),
        MessageParts("user", ["", "two", c, "three", d]),
        MessageParts("assistant", ["yes"]),
        MessageParts("system", ["Be kind."]),
        MessageParts("user", [e]),
        MessageParts("user", ["four"]),
    ]
    conversation = conversation_of(messages)
    assert conversation.turns == (
        Turn("system", "Be brief.\nBe kind."),
        Turn("user", "one\ntwo\nthree"),
        Turn("assistant", "yes"),
        Turn("user", "four"),
    )
    places = {video.param: video.place for video in conversation.videos}
    assert places == {
        "a": Place(1, 0),
        "b": Place(1, 4),
        "c": Place(1, 8),
        "d": Place(1, 13),
        "e": Place(3, 0),
    }


# --- what has no meaning, by the numbers of the client's own messages


NOTHING: dict[str, tuple[list[dict[str, Any]], str]] = {
    "an empty question": ([said("a"), said(""), said("b")], "messages[1].content"),
    "a question that is null": ([{"role": "user", "content": None}], "messages[0].content"),
    "no answer and no question": ([reply("")], "messages"),
    "instructions alone": ([SYSTEM], "messages"),
    "a greeting alone": ([SYSTEM, reply("hello")], "messages"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_dialogue_without_a_meaning_is_refused(client: httpx.Client, name: str) -> None:
    messages, param = NOTHING[name]
    answer = client.post("/v1/chat/completions", json=dialogue(*messages))
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_a_video_alone_asks_nothing(client: httpx.Client, first: str) -> None:
    body = dialogue(said("a"), reply("b"), said(part(first)), reply(""))
    error = error_of(client.post("/v1/chat/completions", json=body))
    assert error["param"] == "messages[2].content"
    assert "a question in the last message beside its video" in str(error["message"])
    assert error_of(own(client, first, user("")))["param"] == "messages[0].content"


def test_errors_name_the_clients_own_messages(client: httpx.Client, first: str) -> None:
    body = dialogue(said("a"), reply(""), said(part(first), "b"), said(part(first, num_frames=9), "c"))
    error = error_of(client.post("/v1/chat/completions", json=body))
    assert error["param"] == "messages[3].content[0].video_url.url"
