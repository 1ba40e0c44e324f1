"""Several models in one server, over HTTP: which are asked, one question to many, one that goes wrong."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, get_args

import httpx
import pytest

from bt_model.errors import EngineError
from server.answers.question import Progress
from server.features.steps import Stage
from server.settings import Settings
from tests import fakes
from tests.fakes import BAD, MODEL, OTHER, TWIN
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running
from tests.server.test_streams import until

ALL = [MODEL, OTHER, TWIN, BAD]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = Settings.model_validate(
        QUICK | {"data_dir": tmp_path_factory.mktemp("data"), "max_requests": 1}
    )
    with running(settings, fakes.command(*ALL)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("odd"), 500), (EngineError("busy"), 503)])
def test_an_error_that_nobody_foresaw_is_logged_with_its_trace(
    error: Exception,
    status: int,
    server: RunningServer,
    client: httpx.Client,
    video: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_model: str) -> None:
        raise error

    monkeypatch.setattr(server.services.engine, "open", fail)
    assert client.post("/v1/video/chat", json=question(video, model=OTHER)).status_code == status
    traces = [record for record in caplog.records if record.name == "server.answers.flow"]
    assert bool(traces) == (status == 500)
    assert all(record.exc_info and OTHER in record.getMessage() for record in traces)


def test_what_an_answer_waits_for_first_is_a_stage() -> None:
    assert Progress(MODEL).step.stage in get_args(Stage)


@pytest.fixture
def video(client: httpx.Client, unseen: bytes) -> str:
    """An upload that nobody has asked about."""
    return client.post("/v1/video/uploads", content=unseen).json()["id"]


def asked(client: httpx.Client, video: str, text: str = "who is it", **more: object) -> httpx.Response:
    return client.post("/v1/video/chat", json=question(video, text, **more))


def streamed(client: httpx.Client, video: str, text: str, models: list[str]) -> tuple[list[Any], list[str]]:
    """The chunks of a stream, and all its data lines."""
    body = question(video, text, model=models, stream=True)
    with client.stream("POST", "/v1/video/chat", json=body) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")], lines


def test_a_named_model_answers(client: httpx.Client, video: str) -> None:
    body = asked(client, video, model=OTHER).json()
    assert body["choices"][0]["message"]["content"] == "WHO IS IT "
    assert (body["model"], body["receipt"]["model"]) == (OTHER, OTHER)
    assert body["system_fingerprint"] == body["receipt"]["fingerprint"] == fakes.OTHER_CARD.model_fingerprint
    assert body["receipt"]["frames"]["count"] == fakes.OTHER_CARD.default_frames


def test_without_a_name_the_first_answers(client: httpx.Client, video: str) -> None:
    assert asked(client, video).json()["model"] == MODEL


def test_the_openai_route_takes_every_model(client: httpx.Client) -> None:
    body = {"model": OTHER, "messages": [{"role": "user", "content": "hello"}]}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == (OTHER, "HELLO ")


def test_frames_and_tokens_are_those_of_the_named_model(client: httpx.Client, video: str) -> None:
    frames = client.post("/v1/video/frames", json={"video": video, "model": OTHER}).json()
    assert frames["num_frames"] == fakes.OTHER_CARD.default_frames
    tokens = client.post("/v1/video/tokens", json={"video": video, "model": OTHER, "format": "json"}).json()
    assert (tokens["fingerprint"], tokens["receipt"]["model"]) == (fakes.OTHER_CARD.fingerprint, OTHER)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/video/chat", "gpt"),
        ("/v1/video/chat", [MODEL, "gpt"]),
        ("/v1/video/frames", "gpt"),
        ("/v1/video/tokens", "gpt"),
    ],
)
def test_an_unknown_model_is_not_found_and_the_known_are_named(
    client: httpx.Client, video: str, path: str, model: object
) -> None:
    body = question(video) if path == "/v1/video/chat" else {"video": video}
    answer = client.post(path, json={**body, "model": model})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert all(name in str(error["message"]) for name in ("gpt", *ALL))


@pytest.mark.parametrize("models", [[], [MODEL, MODEL], [f"m{n}" for n in range(9)]])
def test_a_list_is_of_one_to_eight_different_models(
    client: httpx.Client, video: str, models: list[str]
) -> None:
    answer = asked(client, video, model=models)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "model")


def test_a_model_of_another_kind_is_refused_by_its_field(client: httpx.Client, video: str) -> None:
    for value in (5, [5]):
        answer = asked(client, video, model=value)
        assert answer.status_code == 400
        assert error_of(answer)["param"] == "model"


def test_the_openai_route_takes_no_list(client: httpx.Client) -> None:
    body = {"model": [MODEL], "messages": [{"role": "user", "content": "hello"}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "model")


def test_every_model_of_a_list_has_its_choice(client: httpx.Client, video: str) -> None:
    body = asked(client, video, model=[OTHER, MODEL]).json()
    choices = body["choices"]
    assert [(c["index"], c["model"], c["message"]["content"]) for c in choices] == [
        (0, OTHER, "WHO IS IT "),
        (1, MODEL, "who is it "),
    ]
    assert [c["finish_reason"] for c in choices] == ["stop", "stop"]
    assert [c["receipt"]["model"] for c in choices] == [OTHER, MODEL]
    assert body["usage"]["total_tokens"] == sum(c["usage"]["total_tokens"] for c in choices) == 20
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "video_tokens": 6}


def test_a_list_of_one_has_the_shape_of_a_list(client: httpx.Client, video: str) -> None:
    body = asked(client, video, model=[MODEL]).json()
    assert body["choices"][0]["receipt"]["model"] == MODEL
    assert "receipt" not in body


def test_many_models_share_one_decode_and_see_the_same_frames(
    client: httpx.Client, server: RunningServer, video: str
) -> None:
    decoded = count(client, "btchat_videos_decoded_total")
    before = server.stats()
    choices = asked(client, video, model=[OTHER, MODEL, TWIN]).json()["choices"]
    assert count(client, "btchat_videos_decoded_total") == decoded + 1
    # one clip for each size; the twins see the same, so one of them is encoded
    assert server.stats()["fake_encoded_total"] == before["fake_encoded_total"] + 2
    sides = (fakes.CARD.frame_size.side, fakes.OTHER_CARD.frame_size.side)
    num_frames = fakes.OTHER_CARD.default_frames  # the first's default counts for all
    frame_bytes = sum(num_frames * side * side * 3 for side in sides)
    assert server.stats()["fake_frame_bytes"] == before["fake_frame_bytes"] + frame_bytes
    assert [c["receipt"]["frames"]["count"] for c in choices] == [num_frames] * 3
    assert [c["receipt"]["cache"]["features"] for c in choices] == ["miss"] * 3


def test_what_one_model_encoded_serves_its_twin_later(client: httpx.Client, video: str) -> None:
    asked(client, video)
    decoded = count(client, "btchat_videos_decoded_total")
    assert asked(client, video, model=TWIN).json()["receipt"]["cache"]["features"] == "hit"
    assert count(client, "btchat_videos_decoded_total") == decoded


def test_only_what_is_missing_is_encoded(client: httpx.Client, server: RunningServer, video: str) -> None:
    same = {"num_frames": 3}
    asked(client, video, sampling=same)
    before = server.stats()["fake_encoded_total"]
    choices = asked(client, video, model=[MODEL, OTHER], sampling=same).json()["choices"]
    assert [c["receipt"]["cache"]["features"] for c in choices] == ["hit", "miss"]
    assert server.stats()["fake_encoded_total"] == before + 1


def test_many_models_are_one_request(client: httpx.Client, server: RunningServer, video: str) -> None:
    """This server lets one in."""
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(asked, client, video, "!late", model=[MODEL, OTHER, TWIN])
        assert until(lambda: server.services.admission.num_running == 1)
        refused = asked(client, video)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "overloaded")
        assert [c["finish_reason"] for c in slow.result().json()["choices"]] == ["stop"] * 3


def test_a_model_that_does_not_load_has_an_error_and_the_others_answer(
    client: httpx.Client, video: str
) -> None:
    good, bad = asked(client, video, model=[MODEL, BAD]).json()["choices"]
    assert good["message"]["content"] == "who is it "
    assert "error" not in good
    assert (bad["finish_reason"], bad["usage"], bad["receipt"]) == ("error", None, None)
    assert bad["error"] == {
        "message": fakes.BAD_LINE, "type": "server_error", "param": None, "code": "bad_checkpoint",
    }  # fmt: skip


def test_a_model_that_cannot_take_the_frames_has_an_error_and_the_others_answer(
    client: httpx.Client, video: str
) -> None:
    sampling = {"num_frames": fakes.REFUSED_FRAMES}
    bad, good = asked(client, video, model=[MODEL, OTHER], sampling=sampling).json()["choices"]
    assert (bad["error"]["code"], bad["error"]["param"]) == ("invalid_value", "sampling.num_frames")
    assert good["finish_reason"] == "stop"


def test_a_model_that_fails_has_an_error_and_the_others_answer(client: httpx.Client, video: str) -> None:
    failed = count(client, "btchat_requests_failed_total", model_name=OTHER)
    first, second, third = asked(client, video, f"!{OTHER} fails", model=[OTHER, MODEL, TWIN]).json()[
        "choices"
    ]
    assert first["error"]["code"] == "engine_error"
    assert [second["finish_reason"], third["finish_reason"]] == ["stop", "stop"]
    assert count(client, "btchat_requests_failed_total", model_name=OTHER) == failed + 1


def test_where_no_model_answers_the_request_fails(client: httpx.Client, video: str) -> None:
    answer = asked(client, video, "!too long", model=[MODEL, OTHER])
    assert (answer.status_code, error_of(answer)["code"]) == (400, "context_length_exceeded")
    body = question(video, "!too long", model=[MODEL, OTHER], stream=True)
    assert client.post("/v1/video/chat", json=body).status_code == 400


def test_what_no_context_can_hold_is_refused_before_a_video_is_decoded_or_the_engine_asked(
    server: RunningServer, client: httpx.Client, video: str
) -> None:
    assert asked(client, video, "word " * 128, model=TWIN).status_code == 200
    decoded, before = count(client, "btchat_videos_decoded_total"), server.stats()["fake_asked_total"]
    answer = asked(client, video, "word " * 129, model=TWIN, sampling={"num_frames": 2})
    assert (answer.status_code, error_of(answer)["code"]) == (400, "context_length_exceeded")
    assert error_of(answer)["message"] == "the messages have 128 tokens or more; the context holds 128"
    assert count(client, "btchat_videos_decoded_total") == decoded
    assert server.stats()["fake_asked_total"] == before


def test_a_failed_model_alone_is_an_error_of_the_server(client: httpx.Client, video: str) -> None:
    answer = asked(client, video, model=BAD)
    assert (answer.status_code, error_of(answer)["message"]) == (500, fakes.BAD_LINE)
    assert asked(client, video).status_code == 200


def test_a_stream_tells_whose_each_chunk_is(client: httpx.Client, video: str) -> None:
    chunks, lines = streamed(client, video, "one two", [OTHER, MODEL])
    texts, ends = {0: "", 1: ""}, dict[int, Any]()
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        assert chunk["model"] == [OTHER, MODEL][choice["index"]]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            assert choice["index"] not in ends
            ends[choice["index"]] = choice
    assert texts == {0: "ONE TWO ", 1: "one two "}
    assert [ends[i]["receipt"]["model"] for i in (0, 1)] == [OTHER, MODEL]
    assert [ends[i]["usage"]["completion_tokens"] for i in (0, 1)] == [2, 2]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 4)
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert lines[-1] == "data: [DONE]"
    assert lines.count("data: [DONE]") == 1


def test_answers_are_made_at_the_same_time(client: httpx.Client, video: str) -> None:
    chunks, _ = streamed(client, video, "words " * 30, [MODEL, OTHER])
    spoken = [c["choices"][0]["index"] for c in chunks if c["choices"]]
    changes = sum(a != b for a, b in pairwise(spoken[2:]))
    assert changes > 10  # one after the other would change once


def test_an_answer_that_breaks_in_a_stream_ends_alone(client: httpx.Client, video: str) -> None:
    chunks, lines = streamed(client, video, f"!{OTHER} fails", [OTHER, MODEL, BAD])
    ends = {c["choices"][0]["index"]: c["choices"][0] for c in chunks[3:-1]}
    assert [ends[i]["finish_reason"] for i in range(3)] == ["error", "stop", "error"]
    assert [ends[i].get("error", {}).get("code") for i in range(3)] == [
        "engine_error",
        None,
        "bad_checkpoint",
    ]
    assert lines.count("data: [DONE]") == 1


def test_leaving_cancels_all_answers(server: RunningServer, client: httpx.Client, video: str) -> None:
    before = server.stats()["fake_cancelled_total"]
    body = question(video, "!slow", model=[MODEL, OTHER, TWIN], stream=True)
    with client.stream("POST", "/v1/video/chat", json=body) as answer:
        lines = answer.iter_lines()
        while '"content": "1 "' not in next(lines):
            pass
    assert until(lambda: server.stats()["fake_cancelled_total"] == before + 3)
    assert until(lambda: server.services.engine.num_waiting == 0)
    assert server.services.admission.num_running == 0


def test_models_are_listed_whether_loaded_or_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("data")})
    with running(settings, fakes.command(MODEL, OTHER)) as server, server.client() as client:
        first, second = client.get("/v1/models").json()["data"]
        assert (first["id"], first["loaded"], first["max_model_len"]) == (MODEL, True, fakes.CARD.max_context)
        assert (second["id"], second["loaded"], second["max_model_len"]) == (OTHER, False, None)
        assert client.get(f"/v1/models/{OTHER}").json() == second
        assert client.get("/v1/models/none").status_code == 404
        assert [each["id"] for each in client.get("/version").json()["models"]] == [MODEL]
        hello = {"model": OTHER, "messages": [{"role": "user", "content": "hello"}]}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: client.post("/v1/chat/completions", json=hello), range(4)))
        assert [each["loaded"] for each in client.get("/v1/models").json()["data"]] == [True, True]
        shown = client.get("/version").json()["models"][1]
        assert (shown["id"], shown["fingerprint"]) == (OTHER, fakes.OTHER_CARD.model_fingerprint)
        assert shown.keys() >= {
            "dtype",
            "quantise",
            "accepted",
            "notes",
            "device",
            "backend",
            "pooling",
            "temporal",
        }
        assert count(client, "btchat_kv_cache_tokens_used", model_name=OTHER) == 1
