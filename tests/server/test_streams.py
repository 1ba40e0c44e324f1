"""The SSE contract, and clients that leave."""

import asyncio
import json
import time
from typing import cast

import httpx
import pytest
from sse_starlette import ServerSentEvent

from server.answers.question import Broken, Progress, Text
from server.features.steps import WaitStep
from server.problems import Problem
from server.settings import Settings
from server.streams.one_model import CompletionShape
from server.streams.reader import EventReader
from server.streams.sse import AnswerStream
from tests.server.conftest import QUICK, RunningServer, count, question, running


def events(client: httpx.Client, video: str, text: str) -> list[str]:
    """All lines that are not blank."""
    with client.stream("POST", "/v1/video/chat", json=question(video, text, stream=True)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [line for line in answer.iter_lines() if line]


def chunks(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def until(condition: object, seconds: float = 5.0) -> bool:
    """Wait for a condition that another process brings about."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_chunks_come_in_order(client: httpx.Client, video: str) -> None:
    bodies = chunks(events(client, video, "one two"))
    deltas = [choice["delta"] for body in bodies for choice in body["choices"]]  # pyright: ignore[reportGeneralTypeIssues,reportIndexIssue,reportArgumentType] - JSON
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "one "}, {"content": "two "}, {}]
    assert len({(body["id"], body["created"], body["model"]) for body in bodies}) == 1


def test_the_receipt_is_on_the_chunk_that_finishes(client: httpx.Client, video: str) -> None:
    bodies = chunks(events(client, video, "one two"))
    assert ["receipt" in body for body in bodies] == [False, False, False, True, False]
    assert ["usage" in body for body in bodies] == [False, False, False, False, True]


def test_a_stream_ends_with_done(client: httpx.Client, video: str) -> None:
    lines = events(client, video, "one two")
    assert lines[-1] == "data: [DONE]"
    assert lines.count("data: [DONE]") == 1


def test_a_failure_midway_is_one_error_and_done(client: httpx.Client, video: str) -> None:
    lines = events(client, video, "!fail after 1")
    assert lines[-1] == "data: [DONE]"
    bodies = chunks(lines)
    assert ["error" in body for body in bodies] == [False] * (len(bodies) - 1) + [True]
    assert bodies[-1]["error"] == {
        "message": "scripted engine_error",
        "type": "server_error",
        "param": None,
        "code": "engine_error",
    }


def test_a_wait_before_the_first_text_is_filled_with_comments(client: httpx.Client, video: str) -> None:
    lines = events(client, video, "!late")  # later than the server holds the status back
    first_text = next(i for i, line in enumerate(lines) if '"content": "!late' in line)
    assert any(line.startswith(": ") for line in lines[:first_text])


async def test_comments_tell_of_each_step_once_when_it_begins() -> None:
    progress, reader = Progress("m"), EventReader(1)
    shape = CompletionShape("id", 0, [progress])
    sent: list[str] = []

    async def read() -> None:
        async for event in AnswerStream(reader, shape).response(Settings()).body_iterator:
            sent.append(cast(ServerSentEvent, event).encode().decode())

    reading = asyncio.create_task(read())
    for step in (WaitStep("decode"), WaitStep("decode", 40, 100), WaitStep("encode"), WaitStep("answer")):
        await asyncio.sleep(0.6)  # more than twice as long as it takes to be seen
        progress.step = step
    await asyncio.sleep(0.6)
    await reader.put(Text(0, "hello"))
    await reader.put(Broken(0, Problem(503, "late", code="overloaded")))
    await reading
    comments = [event.strip() for event in sent if event.startswith(": ")]
    assert comments == [": lookup", ": decode", ": decode 40/100", ": encode", ": answer"]
    assert "hello" in sent[6]


@pytest.mark.parametrize("route", ["video/chat", "chat/completions", "responses"])
def test_what_a_client_accepts_does_not_begin_a_stream(client: httpx.Client, route: str) -> None:
    asked = {"input": "hi"} if route == "responses" else {"messages": [{"role": "user", "content": "hi"}]}
    body = asked | ({"video": None} if route == "video/chat" else {})
    answer = client.post(f"/v1/{route}", json=body, headers={"accept": "text/event-stream"})
    assert answer.raise_for_status().headers["content-type"] == "application/json"


@pytest.mark.parametrize("form", ["frames", "safetensors", "json"])
def test_frames_and_tokens_are_timed_as_well(client: httpx.Client, unseen: bytes, form: str) -> None:
    fresh = client.post("/v1/video/uploads", content=unseen).json()["id"]
    route, more = ("frames", {}) if form == "frames" else ("tokens", {"format": form})
    answer = client.post(f"/v1/video/{route}", json={"video": fresh} | more).raise_for_status()
    timed = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(timed) == ({"decode"} if form == "frames" else {"decode", "encode"})
    assert float(timed["decode"]) > 0


def test_steps_are_timed_in_a_header(client: httpx.Client, unseen: bytes) -> None:
    fresh = client.post("/v1/video/uploads", content=unseen).json()["id"]
    whole = client.post("/v1/video/chat", json=question(fresh))
    timed = dict(part.split(";dur=") for part in whole.headers["server-timing"].split(", "))
    seconds = whole.json()["receipt"]["seconds"]
    assert set(timed) == {"queue", "decode", "encode", "prefill", "generate", "total"}
    assert {name: float(value) for name, value in timed.items()} == pytest.approx(
        {name: 1e3 * seconds[name] for name in timed}, abs=0.06
    )
    assert float(timed["decode"]) > 0
    with client.stream("POST", "/v1/video/chat", json=question(fresh, stream=True)) as stream:
        assert stream.headers["server-timing"] == "decode;dur=0.0, encode;dur=0.0"
    assert "server-timing" not in client.post("/v1/video/chat", json=question(fresh, "!too long")).headers


def test_leaving_a_stream_cancels_the_answer(server: RunningServer, client: httpx.Client, video: str) -> None:
    before, aborted = server.stats(), count(client, "btchat_requests_aborted_total")
    with client.stream("POST", "/v1/video/chat", json=question(video, "!slow", stream=True)) as answer:
        next(answer.iter_lines())
    assert until(lambda: server.stats()["fake_cancelled_total"] == before["fake_cancelled_total"] + 1)
    assert server.stats()["running"] == 0
    assert count(client, "btchat_requests_aborted_total") == aborted + 1


def test_leaving_without_a_stream_cancels_the_answer(server: RunningServer, video: str) -> None:
    before = server.stats()
    with server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/video/chat", json=question(video, "!slow"), timeout=0.5)
    assert until(lambda: server.stats()["fake_cancelled_total"] == before["fake_cancelled_total"] + 1)


def test_leaving_before_the_first_text_cancels_the_answer(server: RunningServer, video: str) -> None:
    before = server.stats()
    with server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/video/chat", json=question(video, "!late", stream=True), timeout=0.15)
    assert until(lambda: server.stats()["fake_cancelled_total"] == before["fake_cancelled_total"] + 1)


def test_forty_streams_that_are_left_leave_nothing_behind(server: RunningServer, video: str) -> None:
    async def leave(client: httpx.AsyncClient, number: int) -> None:
        body = question(video, "!slow", stream=True)
        async with client.stream("POST", "/v1/video/chat", json=body) as answer:
            lines = answer.aiter_lines()
            for _ in range(number % 7):
                await anext(lines)

    async def leave_all() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            await asyncio.gather(*(leave(client, number) for number in range(40)))

    asyncio.run(leave_all())
    assert until(lambda: server.stats()["running"] == 0)
    assert until(lambda: server.services.engine.num_waiting == 0)
    assert server.services.admission.num_running == 0


def test_a_request_has_its_time(tmp_path_factory: pytest.TempPathFactory, clip: bytes) -> None:
    values = QUICK | {"data_dir": tmp_path_factory.mktemp("short"), "request_seconds": 0.5}
    with running(Settings.model_validate(values)) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        answer = client.post("/v1/video/chat", json=question(video, "!slow"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        assert chunks(events(client, video, "!slow"))[-1]["error"]
        assert until(lambda: server.stats()["running"] == 0)
