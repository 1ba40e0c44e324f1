"""Videos whose file is deleted and whose tokens are kept, with a real engine process and its successor."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests import tiny
from tests.server.conftest import error_of, question
from tests.server.test_restart import ask, files, serving
from tests.server.test_streams import until
from tests.server.test_uploads import upload

_NO_PIXELS = {"file_bytes": 0, "token_files": 0, "token_bytes": 0, "index_bytes": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forgotten")
    tiny.write_model_folder(folder / "weights")
    return folder


def forget(client: httpx.Client, video: str) -> dict[str, Any]:
    answer = client.delete(f"/v1/video/uploads/{video}", params={"keep": "tokens"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: httpx.Response, status: int = 410) -> str:
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, "pixels_forgotten"), answer.text
    return error["message"] or ""


def asked_of_openai(client: httpx.Client, video: str, **more: Any) -> httpx.Response:
    url = {"type": "video_url", "video_url": {"url": video, **more}}
    content = [url, {"type": "text", "text": "what is it"}]
    body = {"model": tiny.MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": content}]}
    return client.post("/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def before(folder: Path, clip: bytes) -> tuple[str, str]:
    """A video whose pixels a server that was stopped has deleted, and an answer about it."""
    with serving(folder) as (_, client):
        video = upload(client, clip)
        answer, _ = ask(client, video)
        assert until(lambda: len(files(folder)) == 1)
        gone = forget(client, video)
        assert (gone["id"], gone["deleted"]) == (video, False)
        assert gone["removed"]["file_bytes"] == len(clip)
        assert gone["removed"]["index_bytes"] > 0
        assert gone["removed"]["token_files"] == 0
        assert forget(client, video)["removed"] == _NO_PIXELS  # again
        assert [*(folder / "data" / "videos").iterdir()] == []
    return video, answer


@pytest.fixture(scope="module")
def later(folder: Path, before: tuple[str, str]) -> Iterator[httpx.Client]:
    """The next server in its folder."""
    with serving(folder) as (_, client):
        yield client


def test_what_its_tokens_are_there_for_is_answered_also_after_a_restart(
    later: httpx.Client, before: tuple[str, str]
) -> None:
    video, answer = before
    assert ask(later, video)[0] == answer
    assert asked_of_openai(later, video).status_code == 200
    assert later.post("/v1/video/tokens", json={"video": video}).status_code == 200
    shown = later.get(f"/v1/video/uploads/{video}", params={"wait": "true"}).json()
    assert (shown["pixels"], shown["status"]) == (False, "processed")


def test_what_needs_pixels_names_the_samplings_that_need_none(
    later: httpx.Client, before: tuple[str, str]
) -> None:
    video, _ = before
    path, other = f"/v1/video/uploads/{video}", {"num_frames": 2}
    text = refusal(later.post("/v1/video/chat", json=question(video, sampling=other)))
    assert text.endswith("Samplings that are there: {}")
    refusal(asked_of_openai(later, video, num_frames=2), 400)
    refusal(later.post("/v1/video/tokens", json={"video": video, "sampling": other}))
    refusal(later.post("/v1/video/frames", json={"video": video}))
    refusal(later.post("/v1/video/estimate", json={"video": video}))
    refusal(later.get(f"{path}/content"))
    refusal(later.get(f"{path}/frames/0.jpg"))


def test_the_same_bytes_bring_the_pixels_back_under_the_same_id(
    later: httpx.Client, folder: Path, unseen: bytes
) -> None:
    video, others = upload(later, unseen), len(files(folder))
    ask(later, video, sampling={"num_frames": 3})
    assert until(lambda: len(files(folder)) == others + 1)
    forget(later, video)
    text = refusal(later.post("/v1/video/chat", json=question(video)))
    assert text.endswith('Samplings that are there: {"num_frames": 3}')
    assert upload(later, unseen) == video
    assert later.get(f"/v1/video/uploads/{video}").json()["pixels"] is True
    assert later.get(f"/v1/video/uploads/{video}/content").content == unseen
    assert ask(later, video, sampling={"num_frames": 3})[1]["cache"]["features"] == "hit"
    ask(later, video)
    assert until(lambda: len(files(folder)) == others + 2)
    removed = later.delete(f"/v1/video/uploads/{video}").json()["removed"]
    assert (removed["file_bytes"], removed["token_files"]) == (len(unseen), 2)
    assert removed["token_bytes"] > 0
    assert len(files(folder)) == others


def test_a_deletion_after_that_removes_the_tokens(later: httpx.Client, folder: Path, unseen: bytes) -> None:
    video, others = upload(later, unseen), len(files(folder))
    ask(later, video)
    assert until(lambda: len(files(folder)) == others + 1)
    forget(later, video)
    removed = later.delete(f"/v1/video/uploads/{video}").json()["removed"]
    assert (removed["file_bytes"], removed["index_bytes"], removed["token_files"]) == (0, 0, 1)
    assert len(files(folder)) == others
    assert later.post("/v1/video/chat", json=question(video)).status_code == 404


def test_only_tokens_can_be_kept(client: httpx.Client, video: str) -> None:
    answer = client.delete(f"/v1/video/uploads/{video}", params={"keep": "pixels"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "keep")
    assert client.get(f"/v1/video/uploads/{video}").json()["pixels"] is True


def test_openai_s_client_reads_a_deletion_that_says_more(client: httpx.Client, unseen: bytes) -> None:
    sdk = openai.OpenAI(api_key="none", base_url=f"{client.base_url}/v1")
    file = sdk.files.create(file=("clip.mp4", unseen), purpose="user_data")
    deleted = sdk.files.delete(file.id)
    assert deleted.deleted
    assert (deleted.model_extra or {})["removed"]["file_bytes"] == len(unseen)
