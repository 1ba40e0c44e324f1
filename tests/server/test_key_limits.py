"""Limits of keys and wrong keys, as clients meet them."""

from collections.abc import Iterator

import httpx
import pytest

from server.keys.file import line_of
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, error_of, question, running

LIMITS: dict[str, dict[str, int]] = {
    "few": {"requests_per_minute": 3},
    "terse": {"tokens_per_minute": 15},
    "short": {"video_seconds_per_day": 2},
    "free": {},
}
USER = {"role": "user", "content": "what is it"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("limits")
    lines = [line_of(name, f"key of {name}".replace(" ", "-"), limits) for name, limits in LIMITS.items()]
    (folder / "keys").write_text("\n".join(lines))
    values = {"data_dir": folder / "data", "api_keys_file": folder / "keys", "wrong_keys_per_minute": 5}
    with running(Settings.model_validate(QUICK | values)) as server:
        yield server


def keyed(server: RunningServer, name: str) -> httpx.Client:
    return server.client(headers={"authorization": f"Bearer key-of-{name}"})


def asked(client: httpx.Client, **more: object) -> httpx.Response:
    """A question without a video; 7 tokens of prompt and 3 of answer each."""
    return client.post("/v1/chat/completions", json={"model": fakes.MODEL, "messages": [USER], **more})


def refusal(answer: httpx.Response) -> int:
    """Seconds of the `Retry-After` of a 429."""
    assert (answer.status_code, error_of(answer)["code"]) == (429, "rate_limited"), answer.text
    assert error_of(answer)["type"] == "rate_limit_error"
    return int(answer.headers["retry-after"])


def test_requests_a_minute_are_told_with_every_answer_until_they_are_used_up(server: RunningServer) -> None:
    with keyed(server, "few") as client:
        answers = [asked(client) for _ in range(4)]
        assert client.get("/v1/models").status_code == 200  # costs nothing
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"3"}
    assert 55 <= float(answers[-1].headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    assert 55 <= refusal(answers[-1]) <= 60


def test_tokens_a_minute_are_charged_after_the_answer_and_refuse_the_next(server: RunningServer) -> None:
    with keyed(server, "terse") as client:
        answers = [asked(client) for _ in range(3)]
        upload = client.post("/v1/video/uploads", content=b"no video")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["5", "0", "0"]
    assert 55 <= refusal(answers[-1]) <= 60
    assert upload.status_code == 415  # needs no tokens


@pytest.mark.parametrize("n", [1, 3])
def test_a_prompt_is_charged_once_and_every_choice(server: RunningServer, n: int) -> None:
    spent: list[int] = []
    rates, tenant = server.services.admission.rates, "name:free"
    before = rates.spend_tokens
    try:
        rates.spend_tokens = lambda tenant, count: spent.append(count)
        with keyed(server, "free") as client:
            assert asked(client, n=n).status_code == 200
    finally:
        rates.spend_tokens = before
    assert (sum(spent), tenant) == (7 + 3 * n, "name:free")


def test_seconds_of_video_are_counted_where_it_is_decoded(server: RunningServer, clip: bytes) -> None:
    """The clip has 1.2 seconds, charged as one."""
    with keyed(server, "short") as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        picture = f"/v1/video/uploads/{video}/frames/0.jpg"
        frames = [client.get(picture), client.post("/v1/video/frames", json={"video": video})]
        frames.append(client.get(picture))
        decoded = client.post("/v1/video/chat", json=question(video))
    assert [answer.status_code for answer in frames] == [200, 200, 429]
    assert 86_000 < refusal(frames[-1]) <= 86_400
    refusal(decoded)
    with keyed(server, "free") as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        assert client.post("/v1/video/chat", json=question(video)).status_code == 200


def test_without_limits_a_key_is_told_what_it_may_have_at_once(server: RunningServer) -> None:
    with keyed(server, "free") as client:
        headers = asked(client).headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == (
        "232",
        "231",
    )
    assert "x-ratelimit-limit-tokens" not in headers


def test_wrong_keys_are_slowed_down_and_never_a_right_one_of_the_same_address(server: RunningServer) -> None:
    with server.client() as client:
        for _ in range(10):
            assert client.get("/v1/models").status_code == 401  # none at all is no guess
        wrong = [
            client.get("/v1/models", headers={"authorization": f"Bearer guess-{number}"})
            for number in range(7)
        ]
    assert [answer.status_code for answer in wrong] == [401] * 5 + [429] * 2
    assert 55 <= refusal(wrong[-1]) <= 60
    with keyed(server, "free") as client:
        assert client.get("/v1/models").status_code == 200
