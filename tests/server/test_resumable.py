"""Uploads in pieces over HTTP, by the protocol tus."""

import base64
import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, error_of, running
from tests.server.test_main import until

PATH = "/v1/video/uploads/resumable"
TUS = {"tus-resumable": "1.0.0"}
PIECE = TUS | {"content-type": "application/offset+octet-stream"}


def begun(client: httpx.Client, num_bytes: int, **headers: str) -> str:
    """The path of a new upload."""
    answer = client.post(PATH, headers={**TUS, "upload-length": str(num_bytes), **headers})
    assert answer.status_code == 201, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    return answer.headers["location"]


def sent(client: httpx.Client, path: str, offset: int, content: bytes | Iterator[bytes]) -> httpx.Response:
    return client.patch(path, headers={**PIECE, "upload-offset": str(offset)}, content=content)


def offset_of(client: httpx.Client, path: str) -> int:
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def test_pieces_become_the_video_whose_id_the_upload_had(client: httpx.Client, unseen: bytes) -> None:
    name = base64.b64encode("Fälle.mp4".encode()).decode()
    path = begun(client, len(unseen), **{"upload-metadata": f"filetype dmlkZW8=,filename {name}"})
    for begin in range(0, len(unseen), 3000):
        assert offset_of(client, path) == begin
        answer = sent(client, path, begin, unseen[begin : begin + 3000])
        assert (answer.status_code, answer.content) == (204, b"")
        assert "GMT" in answer.headers["upload-expires"]
    video = client.get(f"/v1/video/uploads/{path.rpartition('/')[2]}").json()
    assert (video["sha256"], video["filename"]) == (hashlib.sha256(unseen).hexdigest(), "Fälle.mp4")
    assert offset_of(client, path) == len(unseen)  # for one who missed the last answer
    assert client.delete(path, headers=TUS).status_code == 404


def test_bytes_that_are_there_are_found_under_the_upload_s_id_too(
    client: httpx.Client, unseen: bytes
) -> None:
    video = client.post("/v1/video/uploads", content=unseen).json()
    path = begun(
        client, len(unseen), **{"upload-metadata": "filename " + base64.b64encode(b"b.mp4").decode()}
    )
    answer = sent(client, path, 0, unseen)
    assert (answer.status_code, answer.headers["x-btchat-video"]) == (204, video["id"])
    assert client.head(path, headers=TUS).headers["x-btchat-video"] == video["id"]
    other = path.rpartition("/")[2]
    assert other != video["id"]
    shown = client.get(f"/v1/video/uploads/{other}").json()
    assert (shown["id"], shown["filename"]) == (video["id"], "b.mp4")
    assert client.post("/v1/video/frames", json={"video": other}).is_success
    assert client.delete(f"/v1/video/uploads/{other}").json()["id"] == video["id"]
    assert client.head(path, headers=TUS).status_code == 404


def test_what_the_protocol_offers_is_told(client: httpx.Client, settings: Settings) -> None:
    answer = client.options(PATH)
    assert answer.status_code == 204
    assert answer.headers["tus-extension"] == "creation,expiration,termination"
    assert answer.headers["tus-max-size"] == str(settings.max_upload_bytes)


REFUSED = {
    "another version": ({"tus-resumable": "0.2.0"}, 412, "unsupported_protocol", "Tus-Resumable"),
    "no length": ({}, 400, "missing_required_parameter", "upload-length"),
    "nothing": ({"upload-length": "0"}, 400, "invalid_value", "upload-length"),
    "too much": ({"upload-length": str(1 << 50)}, 413, "body_too_large", "Upload-Length"),
    "a bad name": (
        {"upload-length": "9", "upload-metadata": "filename ?"}, 400, "invalid_value", "Upload-Metadata"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_beginning_is_refused(client: httpx.Client, name: str) -> None:
    headers, status, code, param = REFUSED[name]
    answer = client.post(PATH, headers=TUS | headers)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


def test_a_bad_piece_is_refused_and_the_upload_goes_on(client: httpx.Client, unseen: bytes) -> None:
    path = begun(client, len(unseen))
    assert sent(client, path, 0, unseen[:100]).status_code == 204
    answers = {
        "wrong offset": sent(client, path, 99, unseen[99:]),
        "declared too long": sent(client, path, 100, unseen[99:]),
        "streamed too long": sent(client, path, 100, iter([unseen[100:] + b"x"])),
        "another type": client.patch(path, headers=TUS | {"upload-offset": "100"}, content=b"x"),
        "unknown": sent(client, f"{PATH}/vid_1", 0, b"x"),
    }
    told = {name: (answer.status_code, error_of(answer)["code"]) for name, answer in answers.items()}
    assert told == {
        "wrong offset": (409, "offset_mismatch"),
        "declared too long": (413, "body_too_large"),
        "streamed too long": (413, "body_too_large"),
        "another type": (415, "unsupported_media"),
        "unknown": (404, "upload_not_found"),
    }
    assert answers["wrong offset"].headers["upload-offset"] == "100"
    assert {answer.headers["tus-resumable"] for answer in answers.values()} == {"1.0.0"}
    assert sent(client, path, 100, unseen[100:]).status_code == 204


def test_what_came_before_a_connection_broke_is_kept(
    server: RunningServer, client: httpx.Client, unseen: bytes
) -> None:
    path = begun(client, len(unseen))
    head = "".join(f"{name}: {value}\r\n" for name, value in {**PIECE, "upload-offset": "0"}.items())
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as sock:
        request = f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(unseen)}\r\n{head}\r\n"
        sock.sendall(request.encode() + unseen[:1000])
        busy = server.services.store.resumable._busy  # pyright: ignore[reportPrivateUsage] - to ask takes a turn
        assert until(lambda: path.rpartition("/")[2] in busy, 10)
        assert sent(client, path, 0, b"").status_code == 423  # it is at work on it
        time.sleep(0.1)  # uvicorn drops what was not read when the connection breaks
    assert until(lambda: offset_of(client, path) == 1000, 20)
    assert until(lambda: sent(client, path, 1000, unseen[1000:]).status_code == 204, 20)  # 423 before


def test_a_whole_upload_that_is_no_video_is_deleted(client: httpx.Client, settings: Settings) -> None:
    path = begun(client, 100)
    answer = sent(client, path, 0, bytes(100))
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media")
    assert client.head(path, headers=TUS).status_code == 404
    assert not (settings.data_dir / "incoming" / path.rpartition("/")[2]).exists()


def test_an_upload_that_is_given_up_leaves_nothing(client: httpx.Client, settings: Settings) -> None:
    path = begun(client, 100)
    sent(client, path, 0, b"half")
    assert client.delete(path, headers=TUS).status_code == 204
    assert client.head(path, headers=TUS).status_code == 404
    assert not (settings.data_dir / "incoming" / path.rpartition("/")[2]).exists()


def test_two_pieces_at_once_are_one_too_many(
    server: RunningServer, client: httpx.Client, unseen: bytes
) -> None:
    path = begun(client, len(unseen))
    busy: list[int] = []

    def slowly() -> Iterator[bytes]:
        yield unseen[:1000]
        with server.client() as other:
            assert until(lambda: busy.append(sent(other, path, 0, unseen).status_code) or busy[-1] == 423, 5)
        yield unseen[1000:]

    assert sent(client, path, 0, slowly()).status_code in {204, 409}
    assert 423 in busy


def test_pieces_survive_a_restart_and_belong_to_their_key(tmp_path: Path, clip: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\nsecond-key\n")
    bounds = {
        "data_dir": tmp_path / "data",
        "api_keys_file": keys,
        "max_videos_per_key": 1,
        "max_json_bytes": 9,
    }
    settings = Settings.model_validate(QUICK | bounds)
    mine, other = ({"authorization": f"Bearer {name}-key"} for name in ("first", "second"))
    with running(settings) as server, server.client(headers=mine) as client:
        path = begun(client, len(clip))
        sent(client, path, 0, clip[:1000])
        (part,) = (settings.data_dir / "incoming").iterdir()
        assert error_of(client.post("/v1/video/uploads", content=clip))["code"] == "storage_quota"
    with part.open("ab") as file:
        file.write(b"what a server that was killed had not noted yet")
    with running(settings) as server, server.client(headers=mine) as client:
        for method in ("HEAD", "PATCH", "DELETE"):
            answer = client.request(method, path, headers={**PIECE, **other, "upload-offset": "1000"})
            assert answer.status_code == 404
        assert offset_of(client, path) == 1000
        assert sent(client, path, 1000, clip[1000:]).status_code == 204
        video = client.get(f"/v1/video/uploads/{path.rpartition('/')[2]}").json()
        assert video["sha256"] == hashlib.sha256(clip).hexdigest()
