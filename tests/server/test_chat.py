"""/v1/video/*: answers, receipts, frames and tokens, and what is computed only once."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests import fakes
from tests.clips import ClipSpec, write_clip
from tests.server.conftest import RunningServer, count, error_of, question
from tests.server.test_uploads import upload

COUNTERS = ("btchat_videos_decoded_total", "btchat_videos_encoded_total")


def counts(client: httpx.Client) -> list[float]:
    return [count(client, name) for name in COUNTERS]


def test_an_answer_has_text_usage_and_receipt(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    sampling = {"num_frames": 3}
    body = client.post("/v1/video/chat", json=question(video, "who is it", sampling=sampling)).json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "who is it "
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 3
    receipt = body["receipt"]
    assert (receipt["video"], receipt["model"], receipt["fingerprint"]) == (
        video,
        fakes.MODEL,
        body["system_fingerprint"],
    )
    assert receipt["frames"]["count"] == len(receipt["frames"]["indices"]) == 3
    assert receipt["sampling"]["num_frames"] == 3
    assert receipt["audio_ignored"] is False
    assert (receipt["picture"]["sample_aspect_ratio"], receipt["picture"]["tone_mapped"]) == ("1:1", False)
    assert receipt["cache"] == {"features": "miss", "prompt_tokens": 2}
    assert receipt["seconds"].keys() == {
        "decode", "encode", "queue", "prefill", "generate", "first_token", "total",
    }  # fmt: skip
    assert 0 < receipt["seconds"]["decode"] < receipt["seconds"]["first_token"] < receipt["seconds"]["total"]


def test_the_second_question_decodes_and_encodes_nothing(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    first = client.post("/v1/video/chat", json=question(video)).json()["receipt"]
    before, hits = counts(client), count(client, "btchat_feature_cache_hits_total")
    second = client.post("/v1/video/chat", json=question(video, "and then")).json()["receipt"]
    assert counts(client) == before
    assert count(client, "btchat_feature_cache_hits_total") == hits + 1
    assert (second["frames"], second["cache"]["features"]) == (first["frames"], "hit")


def test_other_sampling_is_computed_again(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    client.post("/v1/video/chat", json=question(video))
    before = counts(client)
    client.post("/v1/video/chat", json=question(video, sampling={"num_frames": 2}))
    assert counts(client) == [number + 1 for number in before]


def test_the_default_and_its_explicit_spelling_are_the_same(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    client.post("/v1/video/chat", json=question(video))
    same = {"num_frames": fakes.CARD.default_frames, "start": 0, "seed": 3}
    receipt = client.post("/v1/video/chat", json=question(video, sampling=same)).json()["receipt"]
    assert receipt["cache"]["features"] == "hit"


def test_concurrent_identical_questions_share_one_decode(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    before = counts(client)
    with ThreadPoolExecutor(6) as pool:
        bodies = list(
            pool.map(lambda _: client.post("/v1/video/chat", json=question(video)).json(), range(6))
        )
    assert counts(client) == [number + 1 for number in before]
    assert [body["receipt"]["cache"]["features"] for body in bodies].count("miss") == 1


def test_evicted_tokens_are_computed_once_more(client: httpx.Client, video: str) -> None:
    client.post("/v1/video/chat", json=question(video))
    before = counts(client)
    body = client.post("/v1/video/chat", json=question(video, "!evicted")).json()
    assert body["choices"][0]["message"]["content"] == "!evicted "
    assert counts(client) == [number + 1 for number in before]


def test_tokens_that_never_stay_are_an_error(client: httpx.Client, video: str) -> None:
    answer = client.post("/v1/video/chat", json=question(video, "!always evicted"))
    assert (answer.status_code, error_of(answer)["code"]) == (503, "features_missing")


def test_frames_are_those_of_the_answer(client: httpx.Client, video: str) -> None:
    sampling = {"num_frames": 5, "start": 0.4}
    frames = client.post("/v1/video/frames", json={"video": video, "sampling": sampling}).json()
    receipt = client.post("/v1/video/chat", json=question(video, sampling=sampling)).json()["receipt"]
    assert [frame["index"] for frame in frames["frames"]] == receipt["frames"]["indices"]
    assert [round(frame["timestamp"], 6) for frame in frames["frames"]] == receipt["frames"]["timestamps"]
    assert min(receipt["frames"]["timestamps"]) >= 0.4


def test_a_frame_is_a_jpeg(client: httpx.Client, video: str) -> None:
    frame = client.post("/v1/video/frames", json={"video": video}).json()["frames"][0]
    head, data = frame["image"].split(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data)[:3] == b"\xff\xd8\xff"


def test_tokens_come_as_safetensors(client: httpx.Client, video: str) -> None:
    answer = client.post("/v1/video/tokens", json={"video": video})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-btchat-shape"] == "3,4"
    assert load(answer.content)["tokens"].shape == (3, 4)


@pytest.mark.parametrize("wanted", ["format", "accept"])
def test_tokens_come_as_json(client: httpx.Client, video: str, wanted: str) -> None:
    body = {"video": video} | ({"format": "json"} if wanted == "format" else {})
    headers = {"accept": "application/json"} if wanted == "accept" else {}
    tokens = client.post("/v1/video/tokens", json=body, headers=headers).json()
    array = np.frombuffer(base64.b64decode(tokens["data"]), tokens["dtype"]).reshape(tokens["shape"])
    assert array.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert (tokens["fingerprint"], tokens["pooling"]) == (fakes.CARD.fingerprint, fakes.CARD.pooling)
    assert tokens["receipt"]["frames"]["count"] == fakes.CARD.default_frames


@pytest.mark.parametrize("has_sound", [True, False])
def test_a_receipt_says_that_sound_was_not_heard(
    client: httpx.Client, tmp_path: Path, *, has_sound: bool
) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(audio=has_sound)).read_bytes()
    receipt = client.post("/v1/video/chat", json=question(upload(client, clip))).json()["receipt"]
    assert receipt["audio_ignored"] is has_sound


def test_text_that_spells_a_special_token_is_carried_unchanged(client: httpx.Client, video: str) -> None:
    text = "<video> <vid_patch> </s> \u202e\u2028 \U0001f600"
    body = client.post("/v1/video/chat", json=question(video, text)).json()
    assert body["choices"][0]["message"]["content"].split() == text.split()


def test_all_the_frames_reached_the_engine(
    server: RunningServer, client: httpx.Client, unseen: bytes
) -> None:
    before = server.stats()["fake_frame_bytes"]
    client.post("/v1/video/chat", json=question(upload(client, unseen)))
    side = fakes.CARD.frame_size.side
    assert server.stats()["fake_frame_bytes"] - before == fakes.CARD.default_frames * side * side * 3


def test_a_receipt_tells_no_other_requests_sampling(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    samplings = [{"num_frames": 3, "seed": 123, "start": 0.0}, {"num_frames": 3}]
    first, second = (
        client.post("/v1/video/chat", json=question(video, sampling=each)).json()["receipt"]
        for each in samplings
    )
    assert [first["cache"]["features"], second["cache"]["features"]] == ["miss", "hit"]
    assert first["sampling"] == second["sampling"]
    assert (second["sampling"]["seed"], second["sampling"]["start"]) == (0, None)
