"""The bytes of uploads, in ranges, and by whom they may be seen."""

import hashlib
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image

from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, error_of, running
from tests.server.test_main import until
from tests.server.test_uploads import blob, stored


@pytest.fixture(scope="module")
def large(clip: bytes) -> bytes:
    """Some chunks of a response long."""
    return clip + (300_008).to_bytes(4, "big") + b"free" + secrets.token_bytes(300_000)


@pytest.fixture(scope="module")
def path(client: httpx.Client, large: bytes) -> Iterator[str]:
    video = client.post(
        "/v1/video/uploads", content=large, params={"filename": "../my \u20ac clip.mp4"}
    ).json()
    yield f"/v1/video/uploads/{video['id']}/content"
    client.delete(f"/v1/video/uploads/{video['id']}")


RANGES = {
    "bytes=0-0": slice(0, 1),
    "bytes=10-199999": slice(10, 200_000),
    "bytes=300000-": slice(300_000, None),
    "bytes=-7": slice(-7, None),
    "bytes=0-99999999": slice(0, None),
}


@pytest.mark.parametrize("asked", RANGES)
def test_a_range_is_these_bytes(client: httpx.Client, large: bytes, path: str, asked: str) -> None:
    wanted = large[RANGES[asked]]
    begin = large.index(wanted)
    answer = client.get(path, headers={"range": asked})
    assert (answer.status_code, answer.content == wanted) == (206, True)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(wanted) - 1}/{len(large)}"
    head = client.head(path, headers={"range": asked})
    assert (head.status_code, head.content) == (206, b"")
    assert head.headers["content-length"] == str(len(wanted))


def test_several_ranges_are_a_form_of_them(client: httpx.Client, large: bytes, path: str) -> None:
    answer = client.get(path, headers={"range": "bytes=0-9,100-109"})
    assert answer.status_code == 206
    assert large[:10] in answer.content
    assert large[100:110] in answer.content
    assert len(answer.content) < 600


def test_the_whole_says_what_it_is(client: httpx.Client, large: bytes, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content == large) == (200, True)
    digest = hashlib.sha256(large).hexdigest()
    wanted = {
        "etag": f'"{digest}"',
        "accept-ranges": "bytes",
        "content-type": "video/mp4",
        "content-disposition": "attachment; filename*=utf-8''my%20%E2%82%AC%20clip.mp4",
        "cache-control": "private, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    assert {name: answer.headers.get(name) for name in wanted} == wanted
    assert client.head(path).headers["content-length"] == str(len(large))


def test_what_a_client_has_is_not_sent_again(client: httpx.Client, large: bytes, path: str) -> None:
    etag = client.head(path).headers["etag"]
    answer = client.get(path, headers={"if-none-match": f'"other", W/{etag}'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(path, headers={"range": "bytes=0-1", "if-range": etag}).status_code == 206
    assert client.get(path, headers={"range": "bytes=0-1", "if-range": '"old"'}).content == large


def test_a_range_that_there_is_not_is_416_and_one_that_is_none_is_ignored(
    client: httpx.Client, large: bytes, path: str
) -> None:
    answer = client.get(path, headers={"range": f"bytes={len(large)}-"})
    assert (answer.status_code, error_of(answer)["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(large)}"
    for text in ("pages=1-2", "bytes=x", "bytes=9-1", "bytes"):
        assert client.get(path, headers={"range": text}).content == large


def test_the_type_is_that_of_the_bytes(client: httpx.Client, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (secrets.choice("rgb") == "r" and "red") or "blue").save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    video = client.post("/v1/video/uploads", content=content, params={"filename": "page.html"}).json()["id"]
    answer = client.get(f"/v1/video/uploads/{video}/content")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'


def test_openais_client_reads_a_file(server: RunningServer, client: httpx.Client, unseen: bytes) -> None:
    video = client.post("/v1/video/uploads", content=unseen).json()["id"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as sdk:
        assert sdk.files.content(video).read() == unseen
    answer = client.get(f"/v1/files/{video}/content")
    assert answer.headers["content-disposition"] == f'attachment; filename="{video}.mp4"'


def test_a_file_that_is_deleted_while_it_is_sent_comes_whole(
    server: RunningServer, client: httpx.Client, settings: Settings, clip: bytes
) -> None:
    content = clip + (16_000_008).to_bytes(4, "big") + b"free" + secrets.token_bytes(16_000_000)
    video = client.post("/v1/video/uploads", content=content).json()["id"]
    with client.stream("GET", f"/v1/video/uploads/{video}/content") as answer:
        parts = answer.iter_bytes()
        received = next(parts)
        with server.client() as other:
            assert other.delete(f"/v1/video/uploads/{video}").status_code == 200
        assert blob(settings, content).exists()
        received += b"".join(parts)
    assert received == content
    assert until(lambda: not blob(settings, content).exists(), 10)


def test_one_who_leaves_midway_holds_no_file(
    server: RunningServer, client: httpx.Client, settings: Settings, clip: bytes
) -> None:
    content = clip + (16_000_008).to_bytes(4, "big") + b"free" + secrets.token_bytes(16_000_000)
    video = client.post("/v1/video/uploads", content=content).json()["id"]
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as sock:
        sock.sendall(f"GET /v1/files/{video}/content HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        client.delete(f"/v1/video/uploads/{video}")
    assert until(lambda: not blob(settings, content).exists(), 10)


def test_nobody_reads_what_is_anothers(tmp_path: Path, clip: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\nsecond-key\n")
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data", "api_keys_file": keys})
    mine, other = ({"authorization": f"Bearer {name}-key"} for name in ("first", "second"))
    with running(settings) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=clip, headers=mine).json()["id"]
        for path in (f"/v1/video/uploads/{video}/content", f"/v1/files/{video}/content"):
            assert client.get(path, headers=mine).content == clip
            assert client.get(path, headers=other).status_code == 404
            assert client.get(path).status_code == 401


def test_curl_puts_a_file_under_its_name(
    server: RunningServer, client: httpx.Client, tmp_path: Path, unseen: bytes
) -> None:
    (tmp_path / "my clip.mp4").write_bytes(unseen)
    target = f"{server.url}/v1/video/uploads/"
    done = subprocess.run(
        ["curl", "-sSf", "-T", "my clip.mp4", target],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"filename":"my clip.mp4"' in done.stdout
    assert hashlib.sha256(unseen).hexdigest() in done.stdout


def test_a_name_that_is_put_is_shown_and_no_path(
    client: httpx.Client, settings: Settings, unseen: bytes
) -> None:
    before = set(stored(settings))
    put = client.put("/v1/video/uploads/%2e%2e%5cx.mp4", content=unseen).json()
    assert put["filename"] == "..\\x.mp4"
    assert set(stored(settings)) - before == {put["sha256"]}
    again = client.put("/v1/video/uploads?filename=other.mp4", content=unseen).json()
    assert (again["id"], again["filename"]) == (put["id"], "..\\x.mp4")
    disposition = client.head(f"/v1/video/uploads/{put['id']}/content").headers["content-disposition"]
    assert disposition == 'attachment; filename="x.mp4"'
    assert client.put("/v1/video/uploads/../../x", content=unseen).status_code in {404, 405}
    assert client.put(f"/v1/video/uploads/{'x' * 256}", content=unseen).status_code == 400
    assert client.put("/v1/video/uploads/a%0ab", content=unseen).status_code == 400
    assert client.put("/v1/video/uploads/x", content=b"text " * 500).status_code == 415
