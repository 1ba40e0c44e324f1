"""What was demuxed for an upload's facts is not demuxed again for frames, by any route."""

from pathlib import Path

import httpx
import pytest

from tests.clips import write_damaged
from tests.fakes import MODEL
from tests.server.conftest import count, question
from tests.server.test_openai import data_url
from tests.server.test_uploads import upload

SCANNED = 31  # thirty packets and the end


def packets(client: httpx.Client) -> dict[str, float]:
    name = "btchat_decode_packets_total"
    return {purpose: count(client, name, **{"for": purpose}) for purpose in ("scan", "read")}


def more(client: httpx.Client, before: dict[str, float]) -> dict[str, float]:
    return {purpose: value - before[purpose] for purpose, value in packets(client).items()}


def content(url: str) -> list[dict[str, object]]:
    parts = [{"type": "text", "text": "what happens"}, {"type": "video_url", "video_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


def body_for(route: str, video: str) -> dict[str, object]:
    if route == "/v1/video/chat":
        return question(video)
    if route == "/v1/chat/completions":
        return {"model": MODEL, "messages": content(video)}
    return {"video": video}


ROUTES = ("/v1/video/frames", "/v1/video/chat", "/v1/video/tokens", "/v1/chat/completions")


@pytest.mark.parametrize("route", ROUTES)
def test_an_upload_is_scanned_once(client: httpx.Client, unseen: bytes, route: str) -> None:
    before = packets(client)
    video = upload(client, unseen)
    assert more(client, before) == {"scan": SCANNED, "read": 0}
    answer = client.post(route, json=body_for(route, video))
    assert answer.status_code == 200, answer.text
    counted = more(client, before)
    assert counted["scan"] == SCANNED
    assert 0 < counted["read"] <= SCANNED


def test_a_video_inside_of_a_request_is_scanned_once(client: httpx.Client, unseen: bytes) -> None:
    before = packets(client)
    body = {"model": MODEL, "messages": content(data_url(unseen))}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert more(client, before)["scan"] == SCANNED


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_damaged_upload_is_counted_out_once(client: httpx.Client, tmp_path: Path, suffix: str) -> None:
    video = upload(client, write_damaged(tmp_path / f"a.{suffix}").read_bytes() + b"once")
    assert client.post("/v1/video/frames", json={"video": video}).json()["facts"]["num_frames"] == 20
    before = packets(client)
    shown = client.post("/v1/video/frames", json={"video": video, "sampling": {"num_frames": 3}}).json()
    assert shown["facts"]["num_frames"] == 20
    counted = more(client, before)
    assert counted["scan"] == 0
    assert counted["read"] <= SCANNED  # once, and not again to count them
