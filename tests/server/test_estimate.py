"""What is said of a question before it is asked is what is done when it is asked: with a real engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.main import engine_command
from server.settings import Settings
from tests import fakes, published
from tests.clips import ClipSpec, write_clip
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running

CHAT, FRAMES, ESTIMATE = "/v1/video/chat", "/v1/video/frames", "/v1/video/estimate"
SEVERAL, QFORMER = "llava-hf", "instructblip"
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 4}
UNEVEN = [0, 40, 90, 700, 710, 1500, 3000, 3010, 3020, 6000]
CLIPS = {
    "even": ClipSpec(),
    "uneven": ClipSpec(num_frames=len(UNEVEN), stamps_ms=UNEVEN),
    "long": ClipSpec(num_frames=150, fps=5),
    "one frame": ClipSpec(num_frames=1),
}
SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"num_frames": 3},
    {"num_frames": 12, "strategy": "uniform_time"},
    {"num_frames": 4, "strategy": "published", "end": 1.0},
    {"num_frames": 5, "strategy": "middle"},
    {"num_frames": 4, "strategy": "random", "seed": 7},
    {"num_frames": 4, "strategy": "retrieval", "start": 0.05},
    {"fps": 2, "start": 0.3},
    {"fps": 4, "end": 0.9},
    {"fps": 1, "max_frames": 2},
    {"start": 1.2, "end": 1.3, "strategy": "uniform_time"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    weights = tmp_path_factory.mktemp("weights")
    published.write_all(weights)
    models = [SEVERAL, QFORMER]
    values = {"data_dir": tmp_path_factory.mktemp("data"), "weights_dir": weights, "model": models}
    chosen = Settings.model_validate(QUICK | values | {"device": "cpu", "threads": 1})
    with running(chosen, engine_command(chosen)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def videos(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("clips")
    paths = {name: write_clip(folder / f"{name}.mp4", spec) for name, spec in CLIPS.items()}
    return {
        name: client.post("/v1/video/uploads", content=path.read_bytes()).json()["id"]
        for name, path in paths.items()
    }


def estimated(client: httpx.Client, video: str, **more: object) -> dict[str, Any]:
    answer = client.post(ESTIMATE, json={"video": video, **more})
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "video.estimate"
    return answer.json()


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("model", [SEVERAL, QFORMER])
def test_frames_are_those_that_are_shown(
    client: httpx.Client, videos: dict[str, str], model: str, clip: str, sampling: dict[str, Any]
) -> None:
    body = {"video": videos[clip], "sampling": sampling, "model": model}
    before, shown = client.post(ESTIMATE, json=body), client.post(FRAMES, json=body)
    assert before.status_code == shown.status_code
    if shown.status_code != 200:
        assert error_of(before) == error_of(shown)
        return
    (video,), frames = before.json()["videos"], shown.json()["frames"]
    assert video["frames"]["count"] == len(frames) == len(video["frames"]["indices"])
    assert video["frames"]["indices"] == [frame["index"] for frame in frames]
    assert video["frames"]["timestamps"] == pytest.approx([frame["timestamp"] for frame in frames], abs=1e-6)
    for name in ("sampling", "warnings", "facts"):
        assert video[name] == shown.json()[name]
    assert before.json()["fits"]
    assert video["decode"]["gigapixels"] > 0
    assert video["decode"]["seconds_allowed"] == 30.0


@pytest.mark.parametrize("model", [SEVERAL, QFORMER])
@pytest.mark.parametrize("clip", CLIPS)
def test_tokens_are_those_that_the_answer_counts(
    client: httpx.Client, videos: dict[str, str], model: str, clip: str
) -> None:
    asked = question(videos[clip], "what is it? \u3042", model=model, sampling={"num_frames": 2})
    before = estimated(client, **asked)  # pyright: ignore[reportArgumentType] - its video is a string
    answer = client.post(CHAT, json=asked | GREEDY).json()
    usage = answer["usage"]
    assert before["tokens"]["prompt"] == usage["prompt_tokens"]
    assert before["tokens"]["video"] == usage["prompt_tokens_details"]["video_tokens"]
    assert before["tokens"]["text"] == usage["prompt_tokens"] - before["tokens"]["video"]
    assert before["videos"][0]["frames"] == {
        name: answer["receipt"]["frames"][name] for name in ("count", "indices", "timestamps")
    }
    alone = estimated(client, videos[clip], model=model)
    assert alone["tokens"]["video"] == before["tokens"]["video"]
    assert alone["tokens"]["text"] is alone["tokens"]["prompt"] is None
    as_question = estimated(client, videos[clip], model=model, question="what is it? \u3042")
    assert as_question["tokens"] == before["tokens"]


def test_nothing_is_decoded_and_no_model_runs(client: httpx.Client, videos: dict[str, str]) -> None:
    names = ("btchat_videos_decoded_total", "btchat_tower_encodes_total", "btchat_engine_tokens_total")
    before = [count(client, name) for name in names]
    estimated(client, videos["even"], sampling={"num_frames": 5}, question="why?")
    assert [count(client, name) for name in names] == before


def test_tokens_that_are_there_are_told(client: httpx.Client, videos: dict[str, str]) -> None:
    body = question(videos["long"], model=SEVERAL, sampling={"num_frames": 7})
    assert estimated(client, **body)["videos"][0]["cache"] == "miss"  # pyright: ignore[reportArgumentType] - as above
    client.post(CHAT, json=body | GREEDY)
    assert estimated(client, **body)["videos"][0]["cache"] == "hit"  # pyright: ignore[reportArgumentType] - as above


def helped(client: httpx.Client, body: dict[str, Any]) -> None:
    """What the estimate says is what the answer is, and each way out is one."""
    found = estimated(client, **body)
    assert not found["fits"]
    refused = client.post(CHAT, json=body)
    error = error_of(refused)
    assert refused.status_code == 400
    assert {name: found["problem"][name] for name in ("code", "param")} == {
        name: error[name] for name in ("code", "param")
    }
    assert found["would_fit"]
    for fields in found["would_fit"]:
        sampling = {**body.get("sampling", {}), **fields.get("sampling", {})}
        other = {**body, **fields, "sampling": sampling}
        assert client.post(CHAT, json=GREEDY | other).status_code == 200, fields
        assert client.post(ESTIMATE, json=other).json()["fits"]


def test_more_frames_than_the_model_takes(tmp_path: Path, clip: bytes) -> None:
    with running(Settings.model_validate(QUICK | {"data_dir": tmp_path})) as few, few.client() as client:
        most = client.get(f"/v1/models/{fakes.MODEL}").json()["max_frames"]
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        ask: dict[str, Any] = question(video)
        helped(client, ask | {"sampling": {"num_frames": most + 1}})
        helped(client, ask | {"sampling": {"fps": 25, "start": 0.12}})
        helped(client, ask | {"sampling": {"fps": 25, "max_frames": most + 1}})
        found = estimated(client, video, sampling={"fps": 25, "start": 0.12})
        assert found["would_fit"][0] == {"sampling": {"max_frames": most}}
        assert found["would_fit"][1]["sampling"]["end"] == pytest.approx(0.12 + most / 25)


def test_more_frames_than_any_model_takes(client: httpx.Client, videos: dict[str, str]) -> None:
    helped(client, question(videos["long"], model=SEVERAL, sampling={"fps": 5}))


def test_more_tokens_than_the_context_holds(client: httpx.Client, videos: dict[str, str]) -> None:
    context = client.get(f"/v1/models/{SEVERAL}").json()["max_model_len"]
    body: dict[str, Any] = question(videos["even"], model=SEVERAL)
    tokens = estimated(client, **body)["tokens"]
    assert tokens["context"] == context
    assert tokens["room"] == context - tokens["prompt"]
    assert estimated(client, **body, max_tokens=tokens["room"])["fits"]
    assert client.post(CHAT, json=body | {"max_tokens": tokens["room"]}).status_code == 200
    found = estimated(client, **body, max_tokens=tokens["room"] + 1)
    assert found["would_fit"][0] == {"max_tokens": tokens["room"]}
    assert client.post(CHAT, json=body | {"max_tokens": tokens["room"] + 1}).status_code == 400
    long: dict[str, Any] = question(videos["even"], "word " * context, model=SEVERAL)
    found = estimated(client, **long)
    assert (found["fits"], found["problem"]["code"]) == (False, "context_length_exceeded")
    assert client.post(CHAT, json=long).json()["error"]["code"] == "context_length_exceeded"


def test_several_videos(client: httpx.Client, videos: dict[str, str]) -> None:
    shown = [{"video": videos["uneven"], "sampling": {"num_frames": 2}}, {"video": videos["even"]}]
    turn = {"role": "user", "content": "which one?", "videos": shown}
    body: dict[str, Any] = {"video": videos["even"], "messages": [turn], "model": SEVERAL}
    found = estimated(client, **body)
    answer = client.post(CHAT, json=body | GREEDY).json()
    assert [each["video"] for each in found["videos"]] == [videos["even"], videos["uneven"]]
    assert [each["frames"]["indices"] for each in found["videos"]] == [
        each["frames"]["indices"] for each in answer["receipt"]["videos"]
    ]
    assert found["tokens"]["prompt"] == answer["usage"]["prompt_tokens"]
    alone = estimated(client, **body | {"model": QFORMER})
    assert (alone["problem"]["code"], alone["would_fit"]) == ("too_many_videos", [{"videos": 1}])
    assert client.post(CHAT, json=body | {"model": QFORMER}).json()["error"]["code"] == "too_many_videos"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"question": "a", "messages": [{"role": "user", "content": "b"}]}, "question"),
        ({"question": " "}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"sampling": {"start": 99}}, "sampling.start"),
    ],
)
def test_what_no_question_can_be_is_refused(
    client: httpx.Client, videos: dict[str, str], more: dict[str, Any], param: str
) -> None:
    answer = client.post(ESTIMATE, json={"video": videos["even"], **more})
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_a_video_of_nobody_is_no_video(client: httpx.Client) -> None:
    answer = client.post(ESTIMATE, json={"video": "vid_" + "0" * 32})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "video_not_found")
