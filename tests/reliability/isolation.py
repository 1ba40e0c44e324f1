"""What belongs to one key is not there for another, and no two videos' tokens share a key."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx

from bt_model.types import FrameSize, Sampling
from server.features.keys import feature_key
from tests import fakes
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, served

_OWNER, _OTHER = "owner-key-123", "other-key-456"


@dataclass(frozen=True, slots=True)
class _Source:
    """A video, as far as its key asks."""

    tenant: str
    sha256: str
    name: str = "inline"

    async def learn(self, facts: object, index: bytes, *, is_recounted: bool) -> bool:
        raise NotImplementedError

    def reading(self) -> Any:
        raise NotImplementedError


def foreign_videos(is_full: bool) -> Figure:
    """Every route that takes a video's id, asked with another's key, then with its own."""
    del is_full  # there are no more routes
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(f"{_OWNER}\n{_OTHER}\n", encoding="ascii")
        with (
            served("--api-keys-file", str(keys), is_fake=True, folder=Path(folder)) as program,
            _client(program, _OWNER) as owner,
            _client(program, _OTHER) as other,
        ):
            video = owner.post("/v1/video/uploads", content=program.clip).json()["id"]
            others = [other.request(*each, json=body) for *each, body in _requests(video)]
            listed = other.get("/v1/video/uploads").json()["data"]
            owners = [owner.request(*each, json=body) for *each, body in _requests(video)]
    codes = Counter(answer.json()["error"]["code"] for answer in others)
    is_met = set(codes) == {"video_not_found"} and not listed and all(answer.is_success for answer in owners)
    text = f"with another's key {dict(codes)}, {len(listed)} listed; with its own {len(owners)} answered"
    return Figure(text, is_met)


def alike_keys(is_full: bool) -> Figure:
    """Keys of tokens that differ in owner, content, sampling, frame size or model alone."""
    keys = list(_keys(num_samplings=100 if is_full else 20))
    same = len(keys) - len(set(keys))
    return Figure(f"{same} of {len(keys)} keys were another's", is_met=not same)


def _client(program: Program, key: str) -> httpx.Client:
    return program.client(headers={"authorization": f"Bearer {key}"})


def _requests(video: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Method, path and body of everything that can be asked about a video; its end comes last."""
    said = {"messages": [{"role": "user", "content": "what moves?"}]}
    parts = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": "?"}]
    return [
        ("GET", f"/v1/video/uploads/{video}", None),
        ("POST", "/v1/video/frames", {"video": video}),
        ("POST", "/v1/video/tokens", {"video": video}),
        ("POST", "/v1/video/chat", {"video": video, **said}),
        ("POST", "/v1/video/chat", {"video": video, "stream": True, **said}),
        (
            "POST",
            "/v1/chat/completions",
            {"model": fakes.MODEL, "messages": [{"role": "user", "content": parts}]},
        ),
        ("DELETE", f"/v1/video/uploads/{video}", None),
    ]


def _keys(num_samplings: int) -> Iterator[bytes]:
    tenants, digests = ("a", "ab", "", '"a"'), ("b0", "0", "a,b0", "0b")
    samplings = [Sampling(num_frames=number + 1) for number in range(num_samplings // 2)]
    samplings += [Sampling(fps=1 + number / 8) for number in range(num_samplings // 2)]
    sizes = (FrameSize(32, "crop"), FrameSize(32, "pad"), FrameSize(16, "crop"))
    cards = [replace(fakes.CARD, frame_size=size) for size in sizes]
    cards += [replace(fakes.CARD, fingerprint="e" * 16), replace(fakes.CARD, pooling="patches")]
    for tenant, digest, sampling, card in product(tenants, digests, samplings, cards):
        for reader in ("pyav", "decord"):
            yield feature_key(_Source(tenant, digest), sampling, card, reader)


GOALS = (
    Goal(
        "G26",
        "every route asked for another key's video: it is not found, for its own: answered",
        foreign_videos,
    ),
    Goal("G26 keys", "10,000 keys of tokens that are nearly alike: 0 the same", alike_keys),
)
