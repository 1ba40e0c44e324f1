"""OpenAI's files and uploads in parts, through its unmodified client, and what a sceptic sends."""

import hashlib
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from server.settings import Settings
from server.uploads import parts
from tests.server.conftest import QUICK, RunningServer, error_of, running
from tests.server.test_main import until
from tests.server.test_uploads import blob, stored, upload

DAY = 86_400


@pytest.fixture(scope="module")
def sdk(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def padded(clip: bytes, size: int) -> bytes:
    """The clip with so many bytes behind it that readers skip, and that no other test has."""
    return clip + (size + 8).to_bytes(4, "big") + b"free" + secrets.token_bytes(size)


def begun(client: httpx.Client, content: bytes, **more: object) -> str:
    asked = {"bytes": len(content), "filename": "a.mp4", "mime_type": "video/mp4", "purpose": "user_data"}
    answer = client.post("/v1/uploads", json=asked | more)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def sent(client: httpx.Client, upload_id: str, content: bytes) -> httpx.Response:
    return client.post(f"/v1/uploads/{upload_id}/parts", files={"data": content})


def completed(client: httpx.Client, upload_id: str, *part_ids: str, **more: str) -> httpx.Response:
    return client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids, **more})


def test_the_client_creates_lists_retrieves_and_deletes_files(
    sdk: openai.OpenAI, client: httpx.Client, unseen: bytes
) -> None:
    file = sdk.files.create(
        file=("my clip.mp4", unseen),
        purpose="vision",
        expires_after={"anchor": "created_at", "seconds": DAY},
    )
    assert file.id.startswith("vid_")
    assert (file.object, file.bytes, file.filename) == ("file", len(unseen), "my clip.mp4")
    assert (file.purpose, file.status, file.expires_at) == ("vision", "processed", file.created_at + DAY)
    assert sdk.files.retrieve(file.id) == file
    assert client.get(f"/v1/video/uploads/{file.id}").json()["sha256"] == hashlib.sha256(unseen).hexdigest()
    other = upload(client, padded(unseen, 9))
    assert [each.id for each in sdk.files.list(limit=2).data] == [other, file.id]
    assert file.id in {each.id for each in sdk.files.list(purpose="vision")}
    assert other not in {each.id for each in sdk.files.list(purpose="vision")}
    paged = [each.id for each in sdk.files.list(limit=1, order="asc")]  # by as many requests as there are
    assert paged[-2:] == [file.id, other]
    assert sdk.files.wait_for_processing(file.id) == file
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.files.retrieve(file.id)
    assert (caught.value.code, caught.value.param) == ("video_not_found", "file_id")


def form(**fields: str) -> dict[str, tuple[None, str]]:
    return {name: (None, text) for name, text in fields.items()}


REFUSED = {
    "no purpose": ({}, "missing_required_parameter", "purpose"),
    "no video's purpose": ({"purpose": "batch"}, "invalid_value", "purpose"),
    "too short a life": (
        {"purpose": "vision", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
        "invalid_value",
        "expires_after.seconds",
    ),
    "no number": (
        {"purpose": "vision", "expires_after[anchor]": "created_at", "expires_after[seconds]": "x"},
        "invalid_value",
        "expires_after.seconds",
    ),
    "no anchor": (
        {"purpose": "vision", "expires_after[seconds]": "3600"},
        "missing_required_parameter",
        "expires_after.anchor",
    ),
    "another field": ({"purpose": "vision", "model": "x"}, "invalid_value", "file"),
    "a long field": ({"purpose": "x" * 2000}, "invalid_value", "file"),
}


@pytest.mark.parametrize("is_file_first", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_with_wrong_fields_is_refused_whatever_comes_first(
    client: httpx.Client, settings: Settings, unseen: bytes, name: str, *, is_file_first: bool
) -> None:
    before = stored(settings)
    fields, code, param = REFUSED[name]
    file = {"file": ("a.mp4", unseen)}
    both = file | form(**fields) if is_file_first else form(**fields) | file
    answer = client.post("/v1/files", files=both)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert stored(settings) == before


def test_a_purpose_that_there_is_not_is_said_before_the_file_is_found_to_be_no_video(
    client: httpx.Client,
) -> None:
    answer = client.post("/v1/files", files=form(purpose="fine-tune") | {"file": ("a.jsonl", b"{}\n" * 9)})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "purpose")
    answer = client.post("/v1/files", content=b"{}")
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media")


def test_a_file_lives_no_longer_than_others(client: httpx.Client, settings: Settings, unseen: bytes) -> None:
    def life(**params: int) -> int:
        content = padded(unseen, len(params) + sum(params.values()) % 7 + 1)
        video = client.post("/v1/video/uploads", content=content, params=params).json()
        return video["expires_at"] - video["created_at"]

    assert life(expires_after=5) == 5
    assert life(expires_after=DAY * 365) == life() == settings.upload_ttl_seconds
    answer = client.post("/v1/video/uploads", content=unseen, params={"expires_after": 0})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "expires_after")


def test_the_client_uploads_in_chunks(
    sdk: openai.OpenAI, client: httpx.Client, settings: Settings, tmp_path: Path, clip: bytes
) -> None:
    content = padded(clip, 3_000_000)
    path = tmp_path / "long name.mp4"
    path.write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    done = sdk.uploads.upload_file_chunked(
        file=path, mime_type="video/mp4", purpose="user_data", part_size=1_000_000, md5=md5
    )
    assert (done.status, done.bytes, done.filename) == ("completed", len(content), "long name.mp4")
    assert done.file is not None
    assert done.file == sdk.files.retrieve(done.file.id)
    assert blob(settings, content).read_bytes() == content
    assert list((settings.data_dir / "incoming").iterdir()) == []
    assert client.post("/v1/video/frames", json={"video": done.file.id}).is_success
    again = sdk.uploads.upload_file_chunked(file=path, mime_type="video/mp4", purpose="user_data")
    assert again.file is not None
    assert again.file.id == done.file.id  # the same bytes


def test_parts_come_at_once_and_in_any_order_and_some_again(
    client: httpx.Client, settings: Settings, clip: bytes
) -> None:
    content = padded(clip, 200_000)
    pieces = [content[begin : begin + 20_000] for begin in range(0, len(content), 20_000)]
    upload_id = begun(client, content)
    with ThreadPoolExecutor(8) as pool:
        ids = [*pool.map(lambda piece: sent(client, upload_id, piece).json()["id"], reversed(pieces))]
    assert sent(client, upload_id, pieces[3]).json()["id"] == ids[::-1][3]  # as after an answer that was lost
    answer = completed(client, upload_id, *reversed(ids))
    assert answer.status_code == 200, answer.text
    assert blob(settings, content).read_bytes() == content
    assert completed(client, upload_id, *reversed(ids)).json() == answer.json()  # its answer was lost
    assert sent(client, upload_id, b"late").status_code == 404


def test_what_cannot_be_completed_goes_on(client: httpx.Client, unseen: bytes) -> None:
    upload_id = begun(client, unseen)
    first, second = (sent(client, upload_id, each).json()["id"] for each in (unseen[:999], unseen[999:]))
    wrong = {
        "part_ids": completed(client, upload_id, first),
        "part_ids ": completed(client, upload_id, first, "part_unknown"),
        "part_ids   ": completed(client, upload_id, first, second, "part_unknown"),
        "part_ids  ": client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": []}),
        "md5": completed(client, upload_id, first, second, md5="0" * 32),
        "md5 ": completed(client, upload_id, first, second, md5="no digest"),
    }
    for param, answer in wrong.items():
        assert (answer.status_code, error_of(answer)["param"]) == (400, param.strip())
    assert completed(client, upload_id, first, second).json()["status"] == "completed"


def test_parts_have_bounds(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch, unseen: bytes
) -> None:
    too_much = {"bytes": settings.max_upload_bytes + 1, "filename": "", "mime_type": "", "purpose": "vision"}
    answer = client.post("/v1/uploads", json=too_much)
    assert (answer.status_code, error_of(answer)["param"]) == (413, "bytes")
    upload_id = begun(client, unseen)
    monkeypatch.setattr(parts, "PART_BYTES", 2000)
    assert error_of(sent(client, upload_id, unseen[:2001]))["code"] == "body_too_large"
    assert error_of(sent(client, upload_id, b""))["param"] == "data"
    monkeypatch.setattr(parts, "PART_BYTES", len(unseen))
    monkeypatch.setattr(parts, "MAX_PARTS", 1)
    assert sent(client, upload_id, unseen[:1000]).status_code == 200
    assert error_of(sent(client, upload_id, unseen[1000:]))["code"] == "storage_quota"
    monkeypatch.setattr(parts, "MAX_PARTS", 3)
    assert error_of(sent(client, upload_id, unseen[999:]))["code"] == "body_too_large"  # one byte in all
    assert len(list((settings.data_dir / "incoming").iterdir())) == 2
    cancelled = client.post(f"/v1/uploads/{upload_id}/cancel").json()
    assert (cancelled["status"], cancelled["id"]) == ("cancelled", upload_id)
    assert list((settings.data_dir / "incoming").iterdir()) == []
    for answer in (
        client.post(f"/v1/uploads/{upload_id}/cancel"),
        completed(client, upload_id, "part_1"),
        client.head(f"/v1/video/uploads/resumable/{upload_id}", headers={"tus-resumable": "1.0.0"}),
    ):
        assert answer.status_code == 404


def test_a_part_whose_connection_breaks_leaves_nothing_and_is_sent_again(
    server: RunningServer, client: httpx.Client, settings: Settings, unseen: bytes
) -> None:
    upload_id = begun(client, unseen)
    head = (
        f"POST /v1/uploads/{upload_id}/parts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as sock:
        sock.sendall(head.encode() + unseen[:3000])
        assert until(lambda: len(list((settings.data_dir / "incoming").iterdir())) == 2, 10)
    assert until(lambda: len(list((settings.data_dir / "incoming").iterdir())) == 1, 10)
    part = sent(client, upload_id, unseen).json()["id"]
    assert completed(client, upload_id, part).status_code == 200


def test_an_upload_that_is_no_video_is_deleted(client: httpx.Client, settings: Settings) -> None:
    upload_id = begun(client, b"no video")
    answer = completed(client, upload_id, sent(client, upload_id, b"no video").json()["id"])
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media")
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_uploads_belong_to_their_key_count_for_it_and_survive_a_restart(tmp_path: Path, clip: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\nsecond-key\n")
    bounds = {"data_dir": tmp_path / "data", "api_keys_file": keys, "max_videos_per_key": 1}
    settings = Settings.model_validate(QUICK | bounds)
    mine, other = ({"authorization": f"Bearer {name}-key"} for name in ("first", "second"))
    with running(settings) as server, server.client(headers=mine) as client:
        upload_id = begun(client, clip)
        first = sent(client, upload_id, clip[:1000]).json()["id"]
        assert error_of(client.post("/v1/video/uploads", content=clip))["code"] == "storage_quota"
    (settings.data_dir / "incoming" / "part_of_no_upload").write_bytes(b"half")
    with running(settings) as server, server.client(headers=mine) as client:
        assert len(list((settings.data_dir / "incoming").iterdir())) == 2
        second = sent(client, upload_id, clip[1000:]).json()["id"]
        with server.client(headers=other) as stranger:
            assert sent(stranger, upload_id, clip).status_code == 404
            assert completed(stranger, upload_id, first, second).status_code == 404
            assert stranger.post(f"/v1/uploads/{upload_id}/cancel").status_code == 404
        file = completed(client, upload_id, first, second).json()["file"]["id"]
        with server.client(headers=other) as stranger:
            assert completed(stranger, upload_id, first, second).status_code == 404
            assert stranger.get(f"/v1/files/{file}").status_code == 404
            assert stranger.delete(f"/v1/files/{file}").status_code == 404
            assert stranger.get("/v1/files").json()["data"] == []
        assert [each["id"] for each in client.get("/v1/files").json()["data"]] == [file]
