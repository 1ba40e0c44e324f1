"""One sampling on every route: what answers say was used, that sent back, and numbers rounded down."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bt_model.types import STRATEGIES, Sampling
from bt_model.video.sample import choose_frames
from server.main import engine_command
from server.settings import Settings
from tests import tiny
from tests.clips import ClipSpec, write_clip
from tests.server.conftest import QUICK, error_of, question, running
from tests.server.worker.processes import write_models

ODD, BELOW = (
    2 * tiny.MAX_FRAMES - 5,
    2 * tiny.MAX_FRAMES - 6,
)  # the branch merges pairs from tiny.MAX_FRAMES on
BRANCH, NO_BRANCH = "embedded", "second"

SAMPLINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    **{name: {"num_frames": 5, "strategy": name, "seed": 3} for name in STRATEGIES},
    "window": {"num_frames": 4, "start": 0.3, "end": 0.9},
    "seconds of a window": {"num_frames": 4, "start": 0.3, "strategy": "uniform_time"},
    "fewer than asked for": {"num_frames": 8, "end": 0.2},
    "rate": {"fps": 5},
    "bounded rate": {"fps": 10, "max_frames": 5, "start": 0.1, "strategy": "uniform_time"},
}
ROUNDED: dict[str, dict[str, Any]] = {
    **{name: {"num_frames": ODD, "strategy": name, "seed": 3} for name in STRATEGIES},
    "short window": {"num_frames": 16, "end": ODD / 25},
    "rate": {"fps": 25, "end": ODD / 25},
    "bounded rate": {"fps": 25, "max_frames": ODD},
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """A server with real tiny models, and an upload of 30 frames."""
    weights = tmp_path_factory.mktemp("weights")
    write_models(weights)
    values = {"weights_dir": weights, "device": "cpu", "threads": 1, "model": [BRANCH, NO_BRANCH]}
    chosen = Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("data")} | values)
    with running(chosen, engine_command(chosen)) as server, server.client() as client:
        clip = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4").read_bytes()
        yield client, client.post("/v1/video/uploads", content=clip).json()["id"]


def frames(client: httpx.Client, video: str, sampling: object, **more: object) -> dict[str, Any]:
    """What /v1/video/frames says, in the shape of a receipt."""
    body = {"video": video, "sampling": sampling, **more}
    answer = client.post("/v1/video/frames", json=body).raise_for_status().json()
    return {
        "indices": [each["index"] for each in answer["frames"]],
        "sampling": answer["sampling"],
        "warnings": answer["warnings"],
    }


def of_receipt(receipt: dict[str, Any]) -> dict[str, Any]:
    named = {name: receipt[name] for name in ("sampling", "warnings")}
    return {"indices": receipt["frames"]["indices"], **named}


def everywhere(
    client: httpx.Client, video: str, sampling: dict[str, Any], model: str
) -> list[dict[str, Any]]:
    """What each route says of one sampling: frames, chat, completions and tokens."""
    asked: dict[str, Any] = {"model": model, "sampling": sampling}
    part = {"type": "video_url", "video_url": {"url": video, **sampling}}
    text = {"type": "text", "text": "what happens here"}
    completion = {"model": model, "messages": [{"role": "user", "content": [text, part]}], "max_tokens": 2}
    chat = client.post("/v1/video/chat", json=question(video, max_tokens=2, **asked)).raise_for_status()
    completed = client.post("/v1/chat/completions", json=completion).raise_for_status()
    tokens = client.post(
        "/v1/video/tokens", json={"video": video, "format": "json", **asked}
    ).raise_for_status()
    receipts = [answer.json()["receipt"] for answer in (chat, completed, tokens)]
    return [frames(client, video, sampling, model=model), *map(of_receipt, receipts)]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_receipts_sampling_sent_back_gives_the_same_frames(
    client: httpx.Client, video: str, name: str
) -> None:
    receipt = client.post("/v1/video/chat", json=question(video, sampling=SAMPLINGS[name])).json()["receipt"]
    again = client.post("/v1/video/chat", json=question(video, sampling=receipt["sampling"])).json()[
        "receipt"
    ]
    assert of_receipt(again) == of_receipt(receipt)
    assert again["frames"] == receipt["frames"]
    assert frames(client, video, receipt["sampling"]) == of_receipt(receipt)
    assert receipt["warnings"] == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_strategy_that_was_asked_for_is_used(client: httpx.Client, video: str, name: str) -> None:
    sampling: dict[str, Any] = {"num_frames": 5, "strategy": name, "seed": 3}
    expected = choose_frames(30, Sampling(**sampling), 25.0, 5).indices
    assert frames(client, video, sampling)["indices"] == list(expected)


@pytest.mark.parametrize("name", ROUNDED)
def test_a_number_that_the_model_cannot_take_is_rounded_down_on_every_route(
    real: tuple[httpx.Client, str], name: str
) -> None:
    client, video = real
    said = everywhere(client, video, ROUNDED[name], BRANCH)
    assert all(each == said[0] for each in said)
    assert len(said[0]["indices"]) == BELOW
    assert f"{BELOW} frames are used, not {ODD}" in said[0]["warnings"][0]
    again = everywhere(client, video, said[0]["sampling"], BRANCH)
    assert all(each["indices"] == said[0]["indices"] for each in again)


def test_a_model_that_takes_any_number_has_it(real: tuple[httpx.Client, str]) -> None:
    client, video = real
    said = frames(client, video, {"num_frames": ODD}, model=NO_BRANCH)
    assert (len(said["indices"]), said["warnings"]) == (ODD, [])


def test_models_that_are_asked_together_see_the_same_frames(real: tuple[httpx.Client, str]) -> None:
    client, video = real
    body = question(video, model=[NO_BRANCH, BRANCH], sampling={"num_frames": ODD}, max_tokens=2)
    choices = client.post("/v1/video/chat", json=body).raise_for_status().json()["choices"]
    assert [len(choice["receipt"]["frames"]["indices"]) for choice in choices] == [BELOW, BELOW]
    assert all(choice["receipt"]["warnings"] for choice in choices)
    alone = question(video, model=NO_BRANCH, sampling={"num_frames": ODD}, max_tokens=2)
    receipt = client.post("/v1/video/chat", json=alone).raise_for_status().json()["receipt"]
    assert (receipt["frames"]["count"], receipt["warnings"]) == (ODD, [])


def test_a_number_beyond_the_models_most_is_refused_and_not_rounded(real: tuple[httpx.Client, str]) -> None:
    client, video = real
    most = 2 * tiny.MAX_FRAMES
    for path in ("frames", "tokens", "chat"):
        body = question(video) if path == "chat" else {"video": video}
        answer = client.post(f"/v1/video/{path}", json=body | {"sampling": {"num_frames": most + 1}})
        assert answer.status_code == 400
        assert f"takes 1 to {most}" in str(error_of(answer)["message"])


def test_tokens_as_a_file_have_the_warnings_in_a_header(real: tuple[httpx.Client, str]) -> None:
    client, video = real
    for number, warnings in ((ODD, 1), (BELOW, 0)):
        body = {"video": video, "sampling": {"num_frames": number}}
        answer = client.post("/v1/video/tokens", json=body).raise_for_status()
        assert len(json.loads(answer.headers["x-btchat-warnings"])) == warnings


@pytest.mark.parametrize("total", [2, 3, 5])
def test_a_short_upload_is_shown_frame_by_frame(client: httpx.Client, total: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.mp4", ClipSpec(num_frames=total)).read_bytes()
    video = client.post("/v1/video/uploads", content=clip).json()["id"]
    said = frames(client, video, {"num_frames": 8})
    assert said["indices"] == list(range(total))
    assert said["sampling"]["num_frames"] == total
