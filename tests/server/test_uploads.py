"""Uploads over HTTP: what is stored, what is refused, and what stays on disk."""

import base64
import contextlib
import errno
import hashlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import httpx
import pytest

from server.settings import Settings
from tests import fakes
from tests.clips import write_cut, write_sound
from tests.server.conftest import QUICK, RunningServer, error_of, question, running
from tests.server.test_main import until

LIMIT = 20_000


def stored(settings: Settings) -> list[str]:
    """Names of everything below the data folder but the database."""
    return sorted(
        path.name for folder in ("videos", "incoming") for path in (settings.data_dir / folder).iterdir()
    )


def upload(client: httpx.Client, content: bytes, **params: str) -> str:
    answer = client.post("/v1/video/uploads", content=content, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def blob(settings: Settings, content: bytes) -> Path:
    """Where these bytes are stored, if they are."""
    return settings.data_dir / "videos" / hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("limited")
    settings = Settings.model_validate(QUICK | {"data_dir": folder, "max_upload_bytes": LIMIT})
    with running(settings) as server:
        yield server


def test_an_upload_is_described_with_its_facts(client: httpx.Client, clip: bytes) -> None:
    body = client.post("/v1/video/uploads", content=clip, params={"filename": "my clip.mp4"}).json()
    assert body["object"] == "video"
    assert body["bytes"] == len(clip)
    assert body["sha256"] == hashlib.sha256(clip).hexdigest()
    assert body["filename"] == "my clip.mp4"
    assert (body["facts"]["num_frames"], body["facts"]["width"]) == (30, 96)
    assert body["facts"]["pix_fmt"] == "yuv420p"


def test_an_id_is_vid_and_32_hexadecimal_digits(video: str) -> None:
    assert video.startswith("vid_")
    assert int(video.removeprefix("vid_"), 16) >= 0
    assert len(video) == 36


def test_a_body_without_length_is_stored_too(client: httpx.Client, clip: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(clip), 1000):
            yield clip[start : start + 1000]

    answer = client.post("/v1/video/uploads", content=chunks())
    assert answer.json()["sha256"] == hashlib.sha256(clip).hexdigest()


def test_the_same_bytes_are_stored_once_under_one_id(
    client: httpx.Client, settings: Settings, unseen: bytes
) -> None:
    before = stored(settings)
    video = upload(client, unseen)
    assert upload(client, unseen, filename="again.mp4") == video
    assert client.get(f"/v1/video/uploads/{video}").json()["filename"] == "again.mp4"  # it had none
    assert set(stored(settings)) - set(before) == {hashlib.sha256(unseen).hexdigest()}
    answer = client.delete(f"/v1/video/uploads/{video}").json()
    assert (answer["id"], answer["object"], answer["deleted"]) == (video, "video", True)
    assert answer["removed"]["file_bytes"] == len(unseen)
    assert not blob(settings, unseen).exists()
    assert upload(client, unseen) != video


def test_a_client_finds_its_video_by_the_bytes_before_it_sends_them(
    client: httpx.Client, unseen: bytes
) -> None:
    digest = hashlib.sha256(unseen).hexdigest()
    page = client.get("/v1/video/uploads", params={"sha256": digest}).json()
    assert (page["data"], page["has_more"]) == ([], False)
    assert client.head(f"/v1/video/uploads/{digest}").status_code == 404
    assert error_of(client.get(f"/v1/video/uploads/{digest}"))["code"] == "video_not_found"
    video = upload(client, unseen)
    page = client.get("/v1/video/uploads", params={"sha256": digest}).json()
    assert [each["id"] for each in page["data"]] == [video]
    head = client.head(f"/v1/video/uploads/{digest}")
    assert (head.status_code, head.content) == (200, b"")
    assert client.get(f"/v1/video/uploads/{digest}").json()["id"] == video
    answer = client.get("/v1/video/uploads", params={"sha256": digest.upper()})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "sha256")


def test_concurrent_uploads_of_the_same_bytes_share_one_file(
    client: httpx.Client, settings: Settings, unseen: bytes
) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: upload(client, unseen), range(8)))
    assert len(ids) == 1
    assert stored(settings).count(hashlib.sha256(unseen).hexdigest()) == 1
    for video in ids:
        client.delete(f"/v1/video/uploads/{video}")
    assert not blob(settings, unseen).exists()


def test_files_are_for_the_server_alone(client: httpx.Client, settings: Settings, video: str) -> None:
    folder = settings.data_dir / "videos"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("excess", [-1, 0, 1])
@pytest.mark.parametrize("is_declared", [True, False])
def test_the_upload_limit_is_exact(
    limited: RunningServer, clip: bytes, excess: int, is_declared: bool
) -> None:
    size = LIMIT + excess
    content = clip + (size - len(clip)).to_bytes(4, "big") + b"free" + bytes(size - len(clip) - 8)
    with limited.client() as client:
        answer = client.post("/v1/video/uploads", content=content if is_declared else iter([content]))
    assert answer.status_code == (413 if excess > 0 else 200)
    assert (error_of(answer)["code"] if excess > 0 else answer.json()["bytes"]) in {"body_too_large", size}
    assert stored(limited.services.settings).count(hashlib.sha256(content).hexdigest()) == (excess <= 0)
    assert len(list(limited.services.store.incoming.iterdir())) == 0


@pytest.mark.parametrize("path", ["/v1/video/uploads", "/v1/video/uploads/"])
def test_an_upload_has_its_bound_with_and_without_a_slash(tmp_path: Path, clip: bytes, path: str) -> None:
    bounds = {"max_json_bytes": 1000, "max_upload_bytes": 2 * LIMIT}
    settings = Settings.model_validate(QUICK | bounds | {"data_dir": tmp_path})
    with running(settings) as server, server.client() as client:
        assert client.post(path, content=clip).status_code == 200
        assert client.post(path, content=bytes(2 * LIMIT + 1)).status_code == 413


def write_nothing(path: Path) -> Path:
    """A video stream without a frame."""
    with av.open(str(path), "w") as output:
        output.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        output.start_encoding()
    return path


BROKEN: dict[str, tuple[Callable[[Path], bytes], int, str]] = {
    "empty": (lambda folder: b"", 422, "empty_file"),
    "text": (lambda folder: b"this is no video " * 100, 415, "unsupported_media"),
    "few bytes": (lambda folder: b"abc", 415, "unsupported_media"),
    "no index": (lambda folder: write_cut(folder / "cut.mp4", 0.6).read_bytes(), 422, "truncated_video"),
    "cut index": (
        lambda folder: write_cut(folder / "cut.mp4", 0.05, index_first=True).read_bytes(),
        422,
        "truncated_video",
    ),
    "audio only": (lambda folder: write_sound(folder / "sound.mp4").read_bytes(), 422, "no_video_stream"),
    "zero frames": (lambda folder: write_nothing(folder / "none.mp4").read_bytes(), 422, "no_video_stream"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unusable_upload_is_refused_and_nothing_stays(
    client: httpx.Client, settings: Settings, tmp_path: Path, name: str
) -> None:
    before = stored(settings)
    make, status, code = BROKEN[name]
    answer = client.post("/v1/video/uploads", content=make(tmp_path))
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["param"] == "video"
    assert stored(settings) == before


def test_a_stalled_body_is_given_up(server: RunningServer, clip: bytes, settings: Settings) -> None:
    before = stored(settings)
    head = f"POST /v1/video/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(clip)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as sock:
        sock.sendall(head.encode() + clip[:100])
        answer = b"".join(iter(lambda: sock.recv(65536), b""))  # until the server closes
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in answer
    assert stored(settings) == before


def test_a_client_that_leaves_midway_leaves_nothing(
    server: RunningServer, clip: bytes, settings: Settings
) -> None:
    before = stored(settings)

    def chunks() -> Iterator[bytes]:
        yield clip[:5000]
        raise KeyboardInterrupt

    with server.client() as client, pytest.raises(KeyboardInterrupt):
        client.post("/v1/video/uploads", content=chunks())
    with server.client() as client:
        for _ in range(100):
            if stored(settings) == before:
                break
            client.get("/health/live")
    assert stored(settings) == before


def test_an_upload_whose_client_leaves_while_it_waits_for_a_decoder_is_not_stored(
    server: RunningServer, settings: Settings, unseen: bytes
) -> None:
    before = stored(settings)
    (child,) = server.services.decoder.pids
    head = f"POST /v1/video/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(unseen)}\r\n\r\n"
    os.kill(child, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as sock:
            sock.sendall(head.encode() + unseen)
            assert until(lambda: not server.services.decoder.num_idle, 20)
        assert until(lambda: stored(settings) == before, 20)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed, as nobody waits for it
            os.kill(child, signal.SIGCONT)
    assert until(lambda: server.services.decoder.num_idle == 1, 20)
    assert stored(settings) == before


def test_a_full_disk_is_507_and_nothing_stays(
    client: httpx.Client, settings: Settings, unseen: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = stored(settings)
    monkeypatch.setattr("server.uploads.disk.os.fsync", full)
    answer = client.post("/v1/video/uploads", content=unseen)
    assert (answer.status_code, error_of(answer)["code"]) == (507, "storage_full")
    assert stored(settings) == before


def test_a_list_pages_in_both_orders(client: httpx.Client, unseen: bytes) -> None:
    boxes = [(9).to_bytes(4, "big") + b"free" + bytes([number]) for number in range(4)]
    ids = [upload(client, unseen + box) for box in boxes]

    def listed(**params: str | int) -> tuple[list[str], bool]:
        page = client.get("/v1/video/uploads", params=params).json()
        found = [video["id"] for video in page["data"]]
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", found[0], found[-1])
        return found, page["has_more"]

    assert listed(limit=2) == (ids[:1:-1], True)
    assert listed(limit=2, after=ids[2])[0] == [ids[1], ids[0]]
    assert listed(limit=2, order="asc", after=ids[0]) == (ids[1:3], True)
    assert listed(limit=2, order="asc", after=ids[1]) == (ids[2:], False)


def test_an_unknown_cursor_is_refused(client: httpx.Client) -> None:
    answer = client.get("/v1/video/uploads", params={"after": "vid_unknown"})
    assert (answer.status_code, error_of(answer)["param"]) == (404, "after")


def test_a_deleted_upload_is_gone_for_all_routes(client: httpx.Client, unseen: bytes) -> None:
    video = upload(client, unseen)
    client.delete(f"/v1/video/uploads/{video}")
    answers = [
        client.get(f"/v1/video/uploads/{video}"),
        client.delete(f"/v1/video/uploads/{video}"),
        client.post("/v1/video/frames", json={"video": video}),
        client.post("/v1/video/tokens", json={"video": video}),
        client.post("/v1/video/chat", json=question(video)),
    ]
    assert {(answer.status_code, error_of(answer)["code"]) for answer in answers} == {
        (404, "video_not_found")
    }


def test_deleting_forgets_what_was_computed(
    server: RunningServer, client: httpx.Client, unseen: bytes
) -> None:
    video = upload(client, unseen)
    client.post("/v1/video/chat", json=question(video))
    before = server.stats()["fake_forgotten_total"]
    client.delete(f"/v1/video/uploads/{video}")
    assert server.stats()["fake_forgotten_total"] == before + 1


def test_deleting_forgets_all_that_was_computed_however_long_ago(
    server: RunningServer, client: httpx.Client, unseen: bytes
) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(unseen).decode()
    part = {"type": "video_url", "video_url": {"url": url}}
    body = {
        "model": fakes.MODEL,
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}],
    }
    client.post("/v1/chat/completions", json=body)
    video = upload(client, unseen)
    for end in range(3):
        client.post("/v1/video/tokens", json={"video": video, "sampling": {"num_frames": 1, "end": 1 + end}})
    before = server.stats()["fake_forgotten_total"]
    client.delete(f"/v1/video/uploads/{video}")
    assert server.stats()["fake_forgotten_total"] == before + 4


def test_a_restart_keeps_uploads_and_sweeps_what_was_interrupted(tmp_path: Path, clip: bytes) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data"})
    with running(settings) as server, server.client() as client:
        video = upload(client, clip, filename="kept.mp4")
    (settings.data_dir / "incoming" / "left").write_bytes(b"half")
    (settings.data_dir / "videos" / "orphan").write_bytes(b"no row")
    with running(settings) as server, server.client() as client:
        assert client.get(f"/v1/video/uploads/{video}").json()["filename"] == "kept.mp4"
        assert stored(settings) == [hashlib.sha256(clip).hexdigest()]
        assert client.post("/v1/video/chat", json=question(video)).status_code == 200


def test_an_upload_ends_by_itself(client: httpx.Client, settings: Settings, unseen: bytes) -> None:
    body = client.get(f"/v1/video/uploads/{upload(client, unseen)}").json()
    assert body["expires_at"] - body["created_at"] == settings.upload_ttl_seconds == 7 * 86_400


def test_a_name_with_control_characters_is_refused(client: httpx.Client, clip: bytes) -> None:
    answer = client.post("/v1/video/uploads", content=clip, params={"filename": "a\nb"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "filename")
