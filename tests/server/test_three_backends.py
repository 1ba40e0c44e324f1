"""One real server with three backends on published layouts: llava, minigpt4 and instructblip; one clip."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.main import engine_command
from server.settings import Settings
from tests import published
from tests.server.conftest import QUICK, RunningServer, count, question, running

MODELS = ["llava-hf", "minigpt4", "instructblip"]
SHORT: dict[str, Any] = {"max_tokens": 12, "seed": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    return folder


@pytest.fixture
def server(weights: Path, tmp_path: Path) -> Iterator[RunningServer]:
    values = {"data_dir": tmp_path, "weights_dir": weights, "device": "cpu", "threads": 1, "model": MODELS}
    chosen = Settings.model_validate(QUICK | values)
    with running(chosen, engine_command(chosen)) as server:
        yield server


def test_three_backends_answer_from_one_decode_and_one_pass_through_each_tower(
    server: RunningServer, clip: bytes
) -> None:
    with server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        body = client.post("/v1/video/chat", json=question(video, model=MODELS, **SHORT)).json()
        texts = {choice["model"]: choice["message"]["content"] for choice in body["choices"]}
        assert list(texts) == MODELS
        assert len(set(texts.values())) == 3
        assert count(client, "btchat_videos_decoded_total") == 1
        assert count(client, "btchat_tower_encodes_total") == 2  # CLIP for one, EVA-CLIP for two
        backends = {each["id"]: each["backend"] for each in client.get("/version").json()["models"]}
        assert backends == {"llava-hf": "llava", "minigpt4": "minigpt4", "instructblip": "instructblip"}


def test_another_question_to_instructblip_decodes_and_encodes_nothing(
    server: RunningServer, clip: bytes
) -> None:
    with server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        answers: list[str] = []
        for text in ("what is it?", "where does it go?"):
            asked = question(video, text, model="instructblip", **SHORT)
            answers.append(
                client.post("/v1/video/chat", json=asked).json()["choices"][0]["message"]["content"]
            )
        assert answers[0] != answers[1]
        assert count(client, "btchat_videos_decoded_total") == 1
        assert count(client, "btchat_tower_encodes_total") == 1
