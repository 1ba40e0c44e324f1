"""One real server, real engine, three tiny models on two towers, one uploaded clip."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from server.main import engine_command
from server.settings import Settings
from server.worker.loader import CacheSettings, DiskLoader
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running
from tests.server.worker.processes import write_models

FIRST, SAME_TOWER, OTHER_TOWER = "embedded", "embedded-zeroshot", "second"
ALL = [FIRST, SAME_TOWER, OTHER_TOWER]
SHORT: dict[str, Any] = {"max_tokens": 12, "seed": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_models(folder)
    return folder


def settings(folder: Path, weights: Path, **more: object) -> Settings:
    values = {"data_dir": folder, "weights_dir": weights, "device": "cpu", "threads": 1, "model": ALL}
    return Settings.model_validate(QUICK | values | more)


@pytest.fixture
def server(weights: Path, tmp_path: Path) -> Iterator[RunningServer]:
    chosen = settings(tmp_path, weights)
    with running(chosen, engine_command(chosen)) as server:
        yield server


@pytest.fixture(scope="module")
def shared(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """For tests that count nothing that others change."""
    chosen = settings(tmp_path_factory.mktemp("shared"), weights)
    with running(chosen, engine_command(chosen)) as server:
        yield server


def test_three_answers_from_one_decode_and_one_pass_through_each_tower(
    server: RunningServer, clip: bytes
) -> None:
    with server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        body = client.post("/v1/video/chat", json=question(video, model=ALL, **SHORT)).json()
        texts = {choice["model"]: choice["message"]["content"] for choice in body["choices"]}
        assert list(texts) == ALL
        assert all(texts.values())
        assert len(set(texts.values())) == 3
        assert count(client, "btchat_videos_decoded_total") == 1
        assert count(client, "btchat_tower_encodes_total") == 2
        assert count(client, "btchat_models_loaded") == 3
        assert count(client, "btchat_model_loads_total") == 3
        shown = client.get("/version").json()["models"]
        assert {each["id"]: (each["dtype"], each["quantise"]) for each in shown} == dict.fromkeys(
            ALL, ("torch.float32", "none")
        )
        for choice in body["choices"]:
            alone = client.post("/v1/video/chat", json=question(video, model=choice["model"], **SHORT)).json()
            assert alone["choices"][0]["message"]["content"] == choice["message"]["content"]
            assert alone["receipt"]["cache"]["features"] == "hit"
        assert count(client, "btchat_videos_decoded_total") == 1
        assert count(client, "btchat_tower_encodes_total") == 2
        assert count(client, "btchat_request_success_total", model_name=OTHER_TOWER) == 2


def test_first_uses_at_once_load_once(server: RunningServer) -> None:
    hello = {"model": OTHER_TOWER, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    with server.client() as client:
        assert count(client, "btchat_models_loaded") == 1
        with ThreadPoolExecutor(5) as pool:
            posts = pool.map(lambda _: client.post("/v1/chat/completions", json=hello), range(5))
            assert [answer.status_code for answer in posts] == [200] * 5
        assert count(client, "btchat_model_loads_total") == 2


def test_the_official_client_streams_a_model_that_is_not_loaded_yet(shared: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as api:
        chunks = list(
            api.chat.completions.create(
                model=OTHER_TOWER, messages=[{"role": "user", "content": "hello"}], max_tokens=8, stream=True
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert {chunk.model for chunk in chunks} == {OTHER_TOWER}
        assert [model.id for model in api.models.list()] == ALL


def test_choices_share_their_prompt_and_answer_as_they_would_alone(
    shared: RunningServer, clip: bytes
) -> None:
    with shared.client() as client, openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none") as api:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        parts = [{"type": "video_url", "video_url": video}, {"type": "text", "text": "what moves"}]
        options: Any = {
            "messages": [{"role": "user", "content": parts}], "model": FIRST, "temperature": 1.5,
            "max_tokens": 12, "logprobs": True, "top_logprobs": 3, "extra_body": {"ignore_eos": True},
        }  # fmt: skip
        together = api.chat.completions.create(**options, n=4, seed=7).choices
        cached = count(client, "btchat_prefix_cache_hits_total")
        assert cached > 3 * 10  # the video's tokens alone are ten
        alone = [api.chat.completions.create(**options, seed=7 + number).choices[0] for number in range(4)]
        assert [c.message.content for c in together] == [c.message.content for c in alone]
        assert len({c.message.content for c in together}) == 4
        assert [c.logprobs for c in together] == [c.logprobs for c in alone]  # to the bit
        for choice in together:
            tokens = (choice.logprobs and choice.logprobs.content) or []
            data = b"".join(bytes(token.bytes or ()) for token in tokens)
            assert data.decode(errors="replace").lstrip() == choice.message.content
            assert len(tokens) == 12
            assert all(token.top_logprobs[0].logprob >= token.logprob for token in tokens)


def test_under_a_limit_models_come_and_go(weights: Path, tmp_path: Path, clip: bytes) -> None:
    loader = DiskLoader(ALL, weights, device="cpu")
    limit = sum(loader.estimate(name).total for name in ALL) - 1
    chosen = settings(tmp_path, weights, model_memory_bytes=limit)
    with running(chosen, engine_command(chosen)) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        for model in [*ALL, *ALL]:
            answer = client.post("/v1/video/chat", json=question(video, model=model, **SHORT))
            assert answer.status_code == 200, answer.text
        assert count(client, "btchat_models_loaded") == 2
        assert count(client, "btchat_model_unloads_total") == 4
        assert count(client, "btchat_videos_decoded_total") == 3
        loaded = {m["id"]: m["loaded"] for m in client.get("/v1/models").json()["data"]}
        assert loaded == {FIRST: False, SAME_TOWER: True, OTHER_TOWER: True}
        together = client.post("/v1/video/chat", json=question(video, model=ALL, **SHORT)).json()
        ends = [choice["finish_reason"] for choice in together["choices"]]
        assert ends.count("error") <= 1  # they do not all fit at once


def test_a_model_larger_than_the_limit_is_refused_with_the_figures(weights: Path, tmp_path: Path) -> None:
    small, large = OTHER_TOWER, FIRST  # without and with a branch
    need = DiskLoader([small], weights, device="cpu", cache=CacheSettings(max_batch=1)).estimate(small)
    limit = need.total  # with room for one answer, which is the least
    chosen = settings(tmp_path, weights, model=[small, large], model_memory_bytes=limit)
    with running(chosen, engine_command(chosen)) as server, server.client() as client:
        hello = {"model": large, "messages": [{"role": "user", "content": "hello"}]}
        answer = client.post("/v1/chat/completions", json=hello)
        error = error_of(answer)
        assert (answer.status_code, error["code"]) == (503, "model_memory")
        assert "models may take" in str(error["message"])
        assert client.post("/v1/chat/completions", json=hello | {"model": small, "max_tokens": 2}).is_success
