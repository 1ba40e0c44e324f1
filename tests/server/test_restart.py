"""A server with a real engine process, and its successor in the same data folder."""

import base64
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.main import engine_command
from server.settings import Settings
from tests import tiny
from tests.server.conftest import QUICK, RunningServer, count, question, running
from tests.server.test_streams import until
from tests.server.test_uploads import upload

WORK = ("btchat_videos_decoded_total", "btchat_videos_encoded_total", "btchat_tower_encodes_total")


@contextmanager
def serving(folder: Path, **more: object) -> Generator[tuple[RunningServer, httpx.Client]]:
    values = {"weights_dir": folder / "weights", "model": tiny.MODEL, "device": "cpu", **more}
    settings = Settings.model_validate(QUICK | values | {"data_dir": folder / "data"})
    with running(settings, engine_command(settings)) as server, server.client() as client:
        yield server, client


def ask(client: httpx.Client, video: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Answer and receipt."""
    answer = client.post("/v1/video/chat", json=question(video, max_tokens=8, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.json()["receipt"]


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "data" / "tokens").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restart")
    tiny.write_model_folder(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def before(folder: Path, clip: bytes) -> tuple[str, str, dict[str, Any]]:
    """An upload, the answer to a question about it, and its receipt, from a server that was stopped."""
    with serving(folder, encode_at_upload=True) as (_, client):
        video = upload(client, clip)
        assert until(lambda: count(client, "btchat_uploads_encoded_ahead_total", outcome="encoded") == 1)
        work = [count(client, name) for name in WORK]
        answer, receipt = ask(client, video)
        assert ([count(client, name) for name in WORK], receipt["cache"]["features"]) == (work, "hit")
        url = "data:video/mp4;base64," + base64.b64encode(clip + b"\0\0\0\x08free").decode()
        parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "?"}]
        body = {"model": tiny.MODEL, "messages": [{"role": "user", "content": parts}], "max_tokens": 1}
        assert client.post("/v1/chat/completions", json=body).status_code == 200  # leaves nothing on disk
    return video, answer, receipt


def test_after_a_restart_a_question_costs_no_decode_and_no_encode(
    folder: Path, before: tuple[str, str, dict[str, Any]]
) -> None:
    video, answer, receipt = before
    assert len(files(folder)) == 1
    with serving(folder) as (_, client):
        again, its_receipt = ask(client, video)
        assert (again, its_receipt["frames"]) == (answer, receipt["frames"])
        assert its_receipt["cache"]["features"] == "hit"
        assert [count(client, name) for name in WORK] == [0, 0, 0]
        assert count(client, "btchat_token_store_hits_total") == 1
        ask(client, video, sampling={"num_frames": 2})
        assert [count(client, name) for name in WORK] == [1, 1, 1]
        assert until(lambda: count(client, "btchat_token_store_entries") == len(files(folder)) == 2)
        client.delete(f"/v1/video/uploads/{video}")
        assert files(folder) == []
        assert until(lambda: count(client, "btchat_token_store_bytes") == 0)
