"""Several videos of one dialogue through a real server and engine: two that take them, two that do not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load as load_tensors

from bt_model.assembly.load import load
from bt_model.generation.engine import BatchEngine
from bt_model.types import GenerateOptions, Place, Turn, VideoTokens
from server.main import engine_command
from server.settings import Settings
from tests import published
from tests.server.conftest import QUICK, RunningServer, count, error_of, running
from tests.server.dialogues.bodies import ANSWER, asked, dialogue, part, said, user
from tests.server.test_uploads import upload

SEVERAL = ["llava-hf", "minigpt4"]
EMBEDDED = Path(__file__).parents[2] / "weights"
START, END = {"end": 0.6}, {"start": 0.6, "num_frames": 2}
TURNS = [Turn("user", "what is it?"), Turn("assistant", "something"), Turn("user", "and then?")]
PLACES = (Place(0), Place(2))
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    return folder


def serving(folder: Path, weights: Path, models: list[str]) -> Iterator[RunningServer]:
    values = {"data_dir": folder, "weights_dir": weights, "device": "cpu", "threads": 1, "model": models}
    chosen = Settings.model_validate(QUICK | values)
    with running(chosen, engine_command(chosen)) as server:
        yield server


@pytest.fixture(scope="module")
def server(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from serving(tmp_path_factory.mktemp("data"), weights, [*SEVERAL, "instructblip"])


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from serving(tmp_path_factory.mktemp("data"), EMBEDDED, ["embedded"])


def two_windows(model: str, video: str, windows: list[dict[str, Any]]) -> dict[str, Any]:
    seen = [part(video, **window) for window in windows]
    turns = said(seen[0], TURNS[0].text), ANSWER, said(seen[1], TURNS[2].text)
    return dialogue(*turns, model=model, **GREEDY)


def tokens_of(client: httpx.Client, model: str, video: str, window: dict[str, Any]) -> torch.Tensor:
    body = {"video": video, "model": model, "sampling": window}
    answer = client.post("/v1/video/tokens", json=body).raise_for_status()
    return load_tensors(answer.content)["tokens"]


def locally(weights: Path, model: str, tokens: list[torch.Tensor]) -> str:
    """The answer to the prompt that is put together here, in an engine that has nothing in its caches."""
    chat = load(model, weights, device="cpu")
    engine = BatchEngine(chat.backend.lm, max_batch=1)
    engine.start()
    videos = [VideoTokens(bytes([n]), each, PLACES[n]) for n, each in enumerate(tokens)]
    text = "".join(chat.answer(engine, TURNS, videos, GenerateOptions(**GREEDY)))
    engine.stop()
    return text


@pytest.mark.parametrize("model", SEVERAL)
def test_an_answer_is_that_of_both_windows_in_their_order(
    server: RunningServer, weights: Path, clip: bytes, model: str
) -> None:
    with server.client() as client:
        video = upload(client, clip)
        for windows in ([START, END], [END, START], [START, END]):
            body = asked(client, two_windows(model, video, windows))
            tokens = [tokens_of(client, model, video, window) for window in windows]
            assert body["choices"][0]["message"]["content"] == locally(weights, model, tokens)
            starts = [each["sampling"]["start"] for each in body["receipt"]["videos"]]
            assert starts == [window.get("start") for window in windows]


@pytest.mark.parametrize("model", SEVERAL)
def test_a_further_window_adds_its_tokens_and_finds_those_of_before(
    server: RunningServer, clip: bytes, model: str
) -> None:
    with server.client() as client:
        video = upload(client, clip)
        one = asked(client, dialogue(said(part(video, **START), TURNS[0].text), model=model, **GREEDY))
        decoded = count(client, "btchat_videos_decoded_total")
        two = asked(client, two_windows(model, video, [START, {"start": 0.7, "num_frames": 3}]))
        assert count(client, "btchat_videos_decoded_total") == decoded + 1
        details = [body["usage"]["prompt_tokens_details"] for body in (one, two)]
        assert details[1]["video_tokens"] == 2 * details[0]["video_tokens"] > 0
        assert details[1]["cached_tokens"] > 0


def test_instructblip_refuses_a_second_window(server: RunningServer, clip: bytes) -> None:
    with server.client() as client:
        video = upload(client, clip)
        answer = client.post("/v1/chat/completions", json=two_windows("instructblip", video, [START, END]))
        error = error_of(answer)
        assert (answer.status_code, error["code"], error["param"]) == (
            400, "too_many_videos", "messages[2].content[0].video_url.url",
        )  # fmt: skip
        assert "instructblip takes 1" in str(error["message"])
        shown = {each["id"]: each["max_videos"] for each in client.get("/v1/models").json()["data"]}
        assert shown == {"llava-hf": 8, "minigpt4": 8, "instructblip": 1}


def test_the_embedded_model_takes_one_and_the_same_again(embedded: RunningServer) -> None:
    with embedded.client() as client:
        video = upload(client, (EMBEDDED / "embedded" / "sample.mp4").read_bytes())
        refused = client.post("/v1/chat/completions", json=two_windows("embedded", video, [START, END]))
        assert (refused.status_code, error_of(refused)["code"]) == (400, "too_many_videos")
        own = {"video": video, "messages": [user("what?"), ANSWER, user("and?", (video, END))]}
        assert error_of(client.post("/v1/video/chat", json=own))["param"] == "messages[2].videos[0].video"
        text = "does the circle appear or disappear?"
        once = asked(client, dialogue(said(part(video), text), model="embedded"))
        turns = said(part(video), "what is it?"), ANSWER, said(part(video), text)
        again = asked(client, dialogue(*turns, model="embedded"))
        assert once["choices"][0]["message"]["content"] == "It disappears."
        counts = [body["usage"]["prompt_tokens_details"]["video_tokens"] for body in (once, again)]
        assert counts[0] == counts[1] > 0


def test_an_answer_that_was_begun_goes_on_whole_and_streamed(embedded: RunningServer) -> None:
    with embedded.client() as client:
        video = upload(client, (EMBEDDED / "embedded" / "sample.mp4").read_bytes())
        question = said(part(video), "does the circle appear or disappear?")
        begun = {"role": "assistant", "content": "It"}
        body = asked(client, dialogue(question, begun, model="embedded", temperature=0))
        assert body["choices"][0]["message"]["content"] == " disappears."
        own = {"video": video, "messages": [user(question["content"][1]["text"]), begun], "stream": True}
        text = client.post("/v1/video/chat", json=own | {"temperature": 0}).text
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
        assert "".join(deltas) == " disappears."
