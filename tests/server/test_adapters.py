"""One real server and engine, a tiny model with two other adapters, and models to compare them with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.main import engine_command
from server.settings import Settings
from tests import tiny
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running

OWN, PRETRAINED, NONE = "embedded", "embedded@pretrained", "embedded@none"
ALONE = {PRETRAINED: "alone-pretrained", NONE: "alone-none"}
ADAPTERS = {"pretrained": "bt_adapter.safetensors", "none": None}
SHORT: dict[str, Any] = {"max_tokens": 12, "seed": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    path = folder / "tiny" / f"{OWN}.model.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"adapters": ADAPTERS}), encoding="utf-8")
    for name, adapter in ADAPTERS.items():
        alone = values | {"id": f"alone-{name}", "adapter": adapter}
        path.with_name(f"alone-{name}.model.json").write_text(json.dumps(alone), encoding="utf-8")
    return folder


@pytest.fixture
def server(weights: Path, tmp_path: Path) -> Iterator[RunningServer]:
    models = [OWN, *ALONE.values()]
    values = {"data_dir": tmp_path, "weights_dir": weights, "device": "cpu", "threads": 1, "model": models}
    chosen = Settings.model_validate(QUICK | values)
    with running(chosen, engine_command(chosen)) as server:
        yield server


def test_all_adapters_answer_from_one_decode_and_one_pass_each_as_its_own_model_does(
    server: RunningServer, clip: bytes
) -> None:
    asked = [PRETRAINED, OWN, NONE]
    with server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        body = client.post("/v1/video/chat", json=question(video, model=asked, **SHORT)).json()
        texts = {choice["model"]: choice["message"]["content"] for choice in body["choices"]}
        assert list(texts) == asked
        assert len(set(texts.values())) == 3
        assert count(client, "btchat_videos_decoded_total") == 1
        assert count(client, "btchat_tower_encodes_total") == 1
        prints = {choice["receipt"]["fingerprint"] for choice in body["choices"]}
        assert len(prints) == 3
        for name, alone in ALONE.items():
            own = client.post("/v1/video/chat", json=question(video, model=alone, **SHORT)).json()
            assert own["choices"][0]["message"]["content"] == texts[name]
            assert own["receipt"]["fingerprint"] in prints


def test_adapters_are_listed_and_one_that_is_unknown_is_told_the_others(server: RunningServer) -> None:
    hello = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    with server.client() as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert listed == [OWN, *ALONE.values(), PRETRAINED, NONE]
        answer = client.post("/v1/chat/completions", json=hello | {"model": "embedded@nobody"})
        assert error_of(answer)["code"] == "model_not_found"
        assert all(name in answer.json()["error"]["message"] for name in (PRETRAINED, NONE))
        assert client.post("/v1/chat/completions", json=hello | {"model": NONE}).is_success
        shown = client.get(f"/v1/models/{NONE}").json()
        assert (shown["id"], shown["loaded"]) == (NONE, True)
        assert "With the adapter none" in shown["notice"]


def test_what_is_shared_is_in_memory_once(server: RunningServer) -> None:
    hello = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    with server.client() as client:
        before = count(client, "btchat_model_memory_bytes")
        for name in (PRETRAINED, NONE):
            assert client.post("/v1/chat/completions", json=hello | {"model": name}).is_success
        assert count(client, "btchat_models_loaded") == 3
        assert count(client, "btchat_model_memory_bytes") < 1.2 * before
