"""A video whose frames take longer than allowed: asked again, the server goes on from those that it has."""

from collections.abc import Generator
from pathlib import Path

import openai
import pytest

from bt_model.decoding import process
from server.settings import Settings
from tests import fakes
from tests.clips import ClipSpec, write_clip
from tests.faulty_child import COMMAND, with_fault, write_hurried
from tests.server.conftest import QUICK, RunningServer, running

FRAMES = {"num_frames": 8}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    folder = tmp_path_factory.mktemp("slow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_COMMAND", COMMAND)
        with running(Settings.model_validate(QUICK | {"data_dir": folder / "data"})) as server:
            yield server


def uploaded(server: RunningServer, folder: Path, group: int) -> str:
    with server.client() as client:
        path = write_hurried(folder / "a.mp4", group)
        return client.post("/v1/video/uploads", content=path.read_bytes()).json()["id"]


def test_the_same_request_is_answered_in_the_end(server: RunningServer, tmp_path: Path) -> None:
    video = uploaded(server, tmp_path, group=5)
    with server.client() as client:
        answers = [
            client.post("/v1/video/frames", json={"video": video, "sampling": FRAMES}) for _ in range(3)
        ]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    error = answers[1].json()["error"]
    assert (error["code"], error["param"]) == ("decode_timeout", "video")
    assert error["message"].startswith("7 of 8 frames were decoded within 30 s and are kept")
    assert "BTCHAT_DECODE_MOST_SECONDS" in error["message"]
    assert answers[1].headers["retry-after"] == "1"
    assert answers[2].json()["num_frames"] == 8


def test_a_client_that_tries_again_by_itself_gets_its_answer(server: RunningServer, tmp_path: Path) -> None:
    content = [
        {"type": "video_url", "video_url": {"url": uploaded(server, tmp_path, group=6)}},
        {"type": "text", "text": "what happens?"},
    ]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=3) as client:
        completion = client.chat.completions.create(
            model=fakes.MODEL,
            messages=[{"role": "user", "content": content}],  # pyright: ignore[reportArgumentType] - vLLM's part
            extra_body={"sampling": FRAMES},
        )
    assert completion.choices[0].message.content


@pytest.mark.parametrize("route", ["video/chat", "chat/completions", "responses"])
def test_a_stream_tells_how_many_frames_are_decoded(
    server: RunningServer, tmp_path: Path, route: str
) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(30))
    slow = with_fault(path.read_bytes(), "slow", route.encode())
    with server.client() as client:
        video = client.post("/v1/video/uploads", content=slow).json()["id"]
        messages = [{"role": "user", "content": "what happens?"}]
        body: dict[str, object] = {"messages": messages, "video": video, "sampling": FRAMES}
        if route == "responses":
            parts = [
                {"type": "input_video", "file_id": video, **FRAMES},
                {"type": "input_text", "text": "what happens?"},
            ]
            body = {"input": [{"role": "user", "content": parts}]}
        body |= {"stream": True}
        lines = client.post(f"/v1/{route}", json=body).text.splitlines()
    comments = [line for line in lines if line.startswith(": ")]
    counts = [int(line.split()[2].removesuffix("/8")) for line in comments if line.startswith(": decode ")]
    assert counts == sorted(set(counts))
    assert len(counts) > 1
    assert counts[0] > 0
    assert counts[-1] <= 8
    assert comments[0] == ": decode"
    texts = [number for number, line in enumerate(lines) if "happens" in line]
    assert max(number for number, line in enumerate(lines) if line.startswith(": ")) < min(texts)


def test_without_a_frame_trying_again_is_of_no_use(server: RunningServer, tmp_path: Path) -> None:
    video = uploaded(server, tmp_path, group=30)
    with server.client() as client:
        late = {"start": 0.8, "num_frames": 1}
        answer = client.post("/v1/video/frames", json={"video": video, "sampling": late})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "decode_timeout")


def test_deleting_a_video_deletes_the_frames_that_are_kept(server: RunningServer, tmp_path: Path) -> None:
    path = write_hurried(tmp_path / "a.mp4", group=3)
    messages: list[str] = []
    with server.client() as client:
        for _ in range(2):
            video = client.post("/v1/video/uploads", content=path.read_bytes()).json()["id"]
            answer = client.post("/v1/video/frames", json={"video": video, "sampling": FRAMES})
            messages.append(answer.json()["error"]["message"])
            client.delete(f"/v1/video/uploads/{video}")
    assert messages[0].startswith("5 of 8")
    assert messages[1] == messages[0]
