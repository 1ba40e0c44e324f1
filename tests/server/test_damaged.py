"""Damaged videos: facts, frames, windows and receipts agree, also about what only decoding finds out."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clips import ClipSpec, write_cut, write_damaged

LOST = "20 of 30 frames can be decoded; the others are left out"


def uploaded(client: httpx.Client, content: bytes) -> dict[str, Any]:
    answer = client.post("/v1/video/uploads", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()


def facts_of(client: httpx.Client, video: str) -> dict[str, Any]:
    return client.get(f"/v1/video/uploads/{video}").json()["facts"]


def asked(client: httpx.Client, video: str, sampling: dict[str, float]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "what happens?"}]
    body = {"video": video, "messages": messages, "sampling": sampling}
    return client.post("/v1/video/chat", json=body).json()["receipt"]


@pytest.fixture(scope="module", params=["mkv", "avi"])
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_damaged(tmp_path_factory.mktemp("damaged") / f"a.{request.param}").read_bytes()


@pytest.mark.parametrize("route", ["frames", "chat"])
def test_what_decoding_finds_out_stands_in_the_facts_from_then_on(
    client: httpx.Client, damaged: bytes, route: str
) -> None:
    content = damaged + bytes(4) + route.encode()  # another file for each route
    video = uploaded(client, content)["id"]
    assert facts_of(client, video)["num_frames"] == 30
    window = {"num_frames": 4, "start": 0.9}
    before = asked(client, video, window)["frames"]["indices"]
    if route == "frames":
        shown = client.post("/v1/video/frames", json={"video": video}).json()
        assert (shown["facts"]["num_frames"], shown["warnings"][-1]) == (20, LOST)
    else:
        assert asked(client, video, {"num_frames": 8})["warnings"][-1] == LOST
    facts = facts_of(client, video)
    assert (facts["num_frames"], facts["warnings"][-1]) == (20, LOST)
    after = asked(client, video, window)
    has_moved = before[-1] >= 20  # an AVI's frames are counted by any decode
    assert after["cache"]["features"] == ("miss" if has_moved else "hit")
    assert after["frames"]["indices"] == [index - 10 * has_moved for index in before]
    assert after["warnings"] == facts["warnings"]
    assert uploaded(client, content)["facts"] == facts


def test_a_file_that_is_cut_off_is_answered_with_warnings(client: httpx.Client, tmp_path: Path) -> None:
    spec = ClipSpec(30, codec="mjpeg", pix_fmt="yuvj420p")
    upload = uploaded(client, write_cut(tmp_path / "a.mp4", 0.7, spec, index_first=True).read_bytes())
    shown = client.post("/v1/video/frames", json={"video": upload["id"]}).json()
    receipt = asked(client, upload["id"], {"num_frames": 8})
    assert "cut off" in upload["facts"]["warnings"][0]
    assert upload["facts"]["warnings"] == shown["warnings"] == receipt["warnings"]
    assert upload["facts"] == shown["facts"]
