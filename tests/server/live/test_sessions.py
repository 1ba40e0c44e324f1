"""Live sessions on a real server, whose engine echoes."""

import base64
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from server.keys.offered import KEY_PROTOCOL, SUBPROTOCOL
from server.live import PATH
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, count, question, running
from tests.server.live.client import LiveClient, live, picture_data

KEY = "a-key-of-eight-or-more/+ü"
OTHER_KEY = "another-key"
TOO_BIG = (1009, 1006)  # a client that still sends may find the connection reset
PAGE = [SUBPROTOCOL, KEY_PROTOCOL + base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")]


@pytest.fixture
def session(server: RunningServer) -> Iterator[LiveClient]:
    with live(server.url) as client:
        client.begin(num_frames=4, max_frames=6, frame_acks=True)
        yield client


def closed(connection: ClientConnection) -> int:
    """The code with which the server closes."""
    with contextlib.suppress(ConnectionClosed):  # an error unless the code is 1000
        for _ in connection:
            pass
    assert connection.close_code is not None
    return connection.close_code


def status_of(url: str, **options: object) -> httpx.Response:
    """The refusal of a client that is no page."""
    with pytest.raises(InvalidStatus) as caught, live(url, **options):  # pyright: ignore[reportArgumentType] - passed on
        pass
    response = caught.value.response
    return httpx.Response(
        response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body)
    )


def test_frames_come_and_a_question_about_the_last_of_them_is_answered(server: RunningServer) -> None:
    with live(server.url) as client, server.client() as http:
        before = count(http, "btchat_live_frames_total", outcome="kept")
        created = client.begin(modalities=["text", "audio"], num_frames=4, max_frames=6, frame_acks=True)
        assert created == {
            "type": "session.created",
            "model": fakes.MODEL,
            "num_frames": 4,
            "max_frames": 6,
            "notices": ['answers are text: "audio" among modalities is ignored'],
        }
        assert [client.show(picture_data(n), timestamp=n / 4) for n in range(8)] == ["kept"] * 8
        client.send("audio.chunk", data="AAAA")
        client.send("video.query", text="what happens here")
        heard = [client.hear()]
        while heard[-1]["type"] != "response.text.done":
            heard.append(client.hear())
        assert heard[0] == {"type": "response.start", "query": 1}
        assert {each["type"] for each in heard[1:-1]} == {"response.text.delta"}
        assert "".join(each["delta"] for each in heard[1:-1]) == heard[-1]["text"] == "what happens here "
        assert (heard[-1]["finish_reason"], heard[-1]["usage"]["completion_tokens"]) == ("stop", 3)
        receipt = heard[-1]["receipt"]
        assert receipt["frames"]["count"] == 4
        assert set(receipt["frames"]["indices"]) <= set(range(2, 8))
        assert receipt["frames"]["timestamps"] == [index / 4 for index in receipt["frames"]["indices"]]
        told = {"received": 8, "kept": 8, "dropped": 0, "failed": 0, "left": 2}
        assert (receipt["live"], receipt["audio_ignored"], receipt["video"]) == (told, True, "live")
        assert count(http, "btchat_live_sessions") == 1
        client.send("video.done")
        assert client.hear() == {"type": "session.done", "reason": "done", "frames": told}
        assert closed(client.socket) == 1000
        assert count(http, "btchat_live_frames_total", outcome="kept") == before + 8
        assert count(http, "btchat_live_sessions") == 0


def test_the_frames_of_an_answer_are_those_of_the_same_window_as_a_list(
    session: LiveClient, client: httpx.Client
) -> None:
    pictures = [picture_data(n) for n in range(9)]
    assert [session.show(each) for each in pictures] == ["kept"] * 9
    indices = session.ask("what")["receipt"]["frames"]["indices"]
    url = "data:video/jpeg;base64," + ",".join(pictures[3:])
    listed = client.post("/v1/video/chat", json=question(url, sampling={"num_frames": 4})).json()
    assert indices == [3 + index for index in listed["receipt"]["frames"]["indices"]]


def test_a_client_without_settings_of_its_own_has_the_models(server: RunningServer) -> None:
    with live(server.url) as client:
        created = client.begin()
        assert (created["num_frames"], created["max_frames"], created["notices"]) == (4, 50, [])


def test_a_bad_message_or_picture_costs_nothing_but_itself(session: LiveClient) -> None:
    def refusal() -> tuple[str, str | None]:
        error = session.hear_of("error")
        return error["code"], error["param"]

    session.socket.send("{")
    assert refusal() == ("invalid_json", None)
    session.socket.send(b"\x00\x01")
    assert refusal() == ("invalid_json", None)
    session.send("video.frame")
    assert refusal() == ("missing_required_parameter", "data")
    session.send("session.config")
    assert refusal() == ("invalid_value", "type")
    session.send("video.query", text="too early?")
    assert refusal() == ("video_required", "text")
    session.send("video.frame", data="%%%")
    assert refusal() == ("invalid_value", "data")
    assert session.hear()["outcome"] == "failed"
    broken = base64.b64encode(base64.b64decode(picture_data(1))[:200]).decode()
    session.send("video.frame", data=broken)
    error = session.hear_of("error")
    assert (error["code"], error["frame"]) == ("undecodable_video", 1)
    assert session.hear()["outcome"] == "failed"
    assert session.show("data:image/jpeg;base64," + picture_data(2, "JPEG")) == "kept"
    assert session.show(picture_data(3, "WEBP", (64, 96))) == "kept"
    done = session.ask("still there?")
    assert (done["text"], done["query"]) == ("still there? ", 2)
    assert done["receipt"]["live"] == {"received": 4, "kept": 2, "dropped": 0, "failed": 2, "left": 0}


def test_an_answer_that_fails_says_which_and_others_are_told_in_turn(session: LiveClient) -> None:
    session.show(picture_data(1))
    for text in ("!fail after 2", "!late", "one two"):
        session.send("video.query", text=text)
    ends = [session.hear_of("response.text.done", "error") for _ in range(3)]
    assert [(each["type"], each["query"]) for each in ends] == [
        ("error", 1),
        ("response.text.done", 2),
        ("response.text.done", 3),
    ]


def test_more_questions_at_once_than_fit_are_refused(session: LiveClient) -> None:
    session.show(picture_data(1))
    for _ in range(5):
        session.send("video.query", text="!late")
    assert session.hear_of("error")["code"] == "overloaded"
    assert [session.hear_of("response.text.done")["query"] for _ in range(4)] == [1, 2, 3, 4]


def test_questions_are_answered_before_the_end(session: LiveClient) -> None:
    session.show(picture_data(1))
    session.send("video.query", text="!late")
    session.send("video.done")
    session.send("video.query", text="after the end")
    assert session.hear_of("response.text.done")["text"] == "!late "
    assert session.hear()["type"] == "session.done"


def test_one_that_leaves_takes_its_answer_and_its_window_along(server: RunningServer) -> None:
    before = server.stats()["fake_cancelled_total"]
    with live(server.url) as client:
        client.begin(frame_acks=True)
        client.show(picture_data(1))
        client.send("video.query", text="!slow")
        client.hear_of("response.text.delta")
    until = monotonic() + 10
    while server.stats()["fake_cancelled_total"] == before or server.services.live.num_taken:
        assert monotonic() < until
        sleep(0.02)
    assert server.services.admission.num_running == 0
    assert server.services.admission.num_bytes == 0


@pytest.mark.parametrize(
    ("config", "code", "param", "close"),
    [
        ({"model": "no/such"}, "model_not_found", "model", 1008),
        ({"num_frames": 9}, "invalid_value", "num_frames", 1008),
        ({"modalities": ["audio"]}, "unsupported_parameter", "modalities", 1008),
        ({"max_frames": fakes.MOST_LIVE_FRAMES + 1}, "overloaded", "max_frames", 1013),
    ],
)
def test_a_session_that_cannot_be_is_told_why(
    server: RunningServer, config: dict[str, object], code: str, param: str, close: int
) -> None:
    with live(server.url) as client:
        error = client.begin(**config)
        assert (error["type"], error["code"], error["param"]) == ("error", code, param)
        assert client.hear()["reason"] == code
        assert closed(client.socket) == close


def test_the_first_message_is_the_settings(server: RunningServer) -> None:
    with live(server.url) as client:
        client.send("video.query", text="what?")
        assert client.hear()["message"].startswith(
            "type is video.query; allowed: session.config, as the first"
        )
        assert client.begin()["type"] == "session.created"


def test_pages_of_others_are_refused(server: RunningServer) -> None:
    refused = status_of(server.url, headers={"origin": "https://elsewhere.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert refused.headers["x-request-id"]
    with live(server.url, headers={"origin": server.url}) as client:
        assert client.begin()["type"] == "session.created"


def test_a_page_whose_domain_points_here_is_refused_where_there_are_no_keys(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    address = f"ws://rebound.example:{port}{PATH}"
    origin = Origin(f"http://rebound.example:{port}")  # its own, as it believes
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(address, origin=origin, address=("127.0.0.1", port), proxy=None),
    ):
        pass
    assert caught.value.response.status_code == 421


def test_another_path_and_a_broken_handshake_are_ended(server: RunningServer) -> None:
    with server.client() as http:
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}
        assert http.get("/v1/video/chat/stream", headers=upgrade).status_code == 400
        handshake = {
            **upgrade,
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "sec-websocket-version": "13",
        }
        assert http.get("/v1/nothing", headers=handshake).json()["error"]["code"] == "not_found"
        assert http.post("/v1/video/chat", headers=upgrade, json={}).status_code == 400
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/v1/video/chat/stream", headers={**upgrade, "x": "y" * 9000})


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with keys and small limits."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "keys").write_text(f"{KEY}\n{OTHER_KEY}\n", encoding="utf-8")
    limits = {
        "api_keys_file": folder / "keys",
        "live_sessions": 4,
        "live_sessions_per_key": 2,
        "live_idle_seconds": 1.0,
        "live_message_bytes": 20_000,
        "cors_origins": ["https://pages.example"],
        "stream_stall_seconds": 2.0,
    }
    with running(Settings.model_validate(QUICK | {"data_dir": folder / "data"} | limits)) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_needed_before_anything_is_accepted(strict: RunningServer) -> None:
    for headers in ({}, bearer("wrong")):
        refused = status_of(strict.url, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    with live(strict.url, headers=bearer(OTHER_KEY)) as client:
        assert client.begin()["type"] == "session.created"
        assert client.socket.subprotocol is None


def test_a_page_has_its_key_as_a_subprotocol(strict: RunningServer) -> None:
    with live(strict.url, protocols=PAGE, headers={"origin": "https://pages.example"}) as client:
        assert client.socket.subprotocol == SUBPROTOCOL
        assert client.begin()["type"] == "session.created"


@pytest.mark.parametrize("coded", ["d3Jvbmc", "%%", "A"])
def test_a_page_with_a_wrong_key_sees_why_it_is_closed(strict: RunningServer, coded: str) -> None:
    offered = [SUBPROTOCOL, f"{KEY_PROTOCOL}{coded}"]
    with live(strict.url, protocols=offered) as client:
        assert client.hear()["code"] == "invalid_api_key"
        assert closed(client.socket) == 4401


def test_a_key_has_its_number_of_sessions(strict: RunningServer) -> None:
    with live(strict.url, headers=bearer(KEY)), live(strict.url, headers=bearer(KEY)):
        refused = status_of(strict.url, headers=bearer(KEY))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) == 10
        with live(strict.url, protocols=PAGE) as page:
            assert closed(page.socket) == 4429
        with live(strict.url, headers=bearer(OTHER_KEY)) as other:
            assert other.begin()["type"] == "session.created"


@pytest.mark.parametrize("is_configured", [True, False])
def test_one_that_says_nothing_is_ended(strict: RunningServer, is_configured: bool) -> None:
    with live(strict.url, headers=bearer(KEY)) as client:
        if is_configured:
            client.begin()
        begin = monotonic()
        error = client.hear()
        assert (error["code"], monotonic() - begin > 0.9) == ("body_timeout", True)
        assert client.hear()["reason"] == "body_timeout"
        assert closed(client.socket) == 1008


def test_a_message_that_is_too_long_ends_the_session(strict: RunningServer) -> None:
    with live(strict.url, headers=bearer(KEY)) as client:
        client.begin()
        with contextlib.suppress(ConnectionClosed):
            client.send("video.frame", data="A" * 20_000)
        assert closed(client.socket) in TOO_BIG


def test_a_message_in_too_many_pieces_ends_the_session(strict: RunningServer) -> None:
    with live(strict.url, headers=bearer(KEY)) as client:
        client.begin()
        with contextlib.suppress(ConnectionClosed):
            client.socket.send(["x"] * 2000)
        assert closed(client.socket) in TOO_BIG


def test_a_client_that_reads_nothing_is_left(strict: RunningServer) -> None:
    with live(strict.url, headers=bearer(KEY)) as client:
        client.begin(frame_acks=True)
        client.show(picture_data(1, "JPEG", (32, 32)))
        with pytest.raises(OSError, match=r"reset|Broken pipe|timed out"):
            flood(client.socket.socket, b'{"type": "' + b"x" * 40 + b'"}')
    wait_until_left(strict)


def flood(raw: socket.socket, payload: bytes) -> None:
    """Send this text for ever, each time in a frame whose mask is zero, and read nothing of the errors."""
    raw.settimeout(5)
    while True:
        raw.sendall((bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload) * 100)


def wait_until_left(server: RunningServer) -> None:
    until = monotonic() + 10
    while server.services.live.num_taken:
        assert monotonic() < until
        sleep(0.02)


def test_an_engine_that_dies_ends_the_sessions_that_had_frames_in_it(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data"})
    with running(settings) as server, live(server.url) as client:
        client.begin(frame_acks=True)
        client.show(picture_data(1))
        client.send("video.query", text="!die")
        error = client.hear_of("error")
        assert error["code"] == "engine_restarted"
        assert client.hear() == {
            "type": "session.done",
            "reason": "engine_restarted",
            "frames": {"received": 1, "kept": 1, "dropped": 0, "failed": 0, "left": 0},
        }
        assert closed(client.socket) == 1012


def test_a_server_that_stops_ends_sessions_after_their_answers(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data", "grace_seconds": 10})
    with running(settings) as server, live(server.url) as client, live(server.url) as idle:
        client.begin(frame_acks=True)
        client.show(picture_data(1))
        client.send("video.query", text="!late")
        sleep(0.2)
        server.stop()
        assert client.hear_of("response.text.done")["text"] == "!late "
        assert client.hear()["reason"] == "stopping"
        assert closed(client.socket) == 1012
        assert idle.hear()["code"] == "stopping"
        assert closed(idle.socket) == 1013
