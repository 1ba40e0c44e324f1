"""Uploads as a multipart form: what browsers and `curl -F` send."""

import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator

import httpx
import pytest

from bt_model.errors import InvalidValueError
from server.settings import Settings
from server.uploads.form import FormVideo
from tests.server.conftest import RunningServer, error_of
from tests.server.test_uploads import stored

UPLOADS = "/v1/video/uploads"
PART = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
VIDEO = b"bytes\r\n--edg of a video\r"
WHOLE = PART + VIDEO + b"\r\n--edge--\r\n"


def test_curl_uploads_a_form(server: RunningServer, settings: Settings, clip: bytes) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    path = settings.data_dir.parent / "my clip.mp4"
    path.write_bytes(clip)
    command = [curl, "-sS", "-F", f"file=@{path}", f"{server.url}{UPLOADS}"]
    body = httpx.Response(200, content=subprocess.run(command, check=True, capture_output=True).stdout).json()
    assert (body["sha256"], body["filename"]) == (hashlib.sha256(clip).hexdigest(), "my clip.mp4")


def test_a_name_in_the_address_goes_before_the_form_s(client: httpx.Client, unseen: bytes) -> None:
    answer = client.post(UPLOADS, files={"file": ("form.mp4", unseen)}, params={"filename": "mine.mp4"})
    assert answer.json()["filename"] == "mine.mp4"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_form_may_come_in_chunks_of_any_size(size: int) -> None:
    form = FormVideo.announced("Multipart/Form-Data; boundary=edge")
    assert form is not None
    assert b"".join([chunk async for chunk in form.content(chunks_of(WHOLE, size))]) == VIDEO
    assert form.filename == "a.mp4"


async def test_a_name_in_the_extended_notation_is_read() -> None:
    form = FormVideo.announced("multipart/form-data; boundary=edge")
    assert form is not None
    whole = WHOLE.replace(b'filename="a.mp4"', b"filename*=UTF-8''%e2%82%ac%20clip.mp4")
    _ = [chunk async for chunk in form.content(chunks_of(whole, 50))]
    assert form.filename == "€ clip.mp4"


BROKEN = {
    "cut off": WHOLE[:-9],
    "empty": b"--edge--\r\n",
    "nothing": b"",
    "no form": b"\x00\x00\x00 ftypmp42",
    "another field": WHOLE.replace(b'"file"', b'"video"'),
    "two fields": PART + VIDEO + b"\r\n" + WHOLE,
    "a long name": WHOLE.replace(b"a.mp4", b"a" * 256),
    "a name with control characters": WHOLE.replace(b"a.mp4", b"a\x07.mp4"),
    "a name that is not UTF-8": WHOLE.replace(b"a.mp4", b"\xe9.mp4"),
    "long headers": WHOLE.replace(b"form-data", b"form-data; x=" + b"x" * 9000),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_form_with_one_file_is_refused(name: str) -> None:
    form = FormVideo.announced("multipart/form-data; boundary=edge")
    assert form is not None
    with pytest.raises(InvalidValueError, match="allowed: ") as caught:
        _ = [chunk async for chunk in form.content(chunks_of(BROKEN[name], 40))]
    assert caught.value.param == "file"
    assert "Error" not in caught.value.message


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="Empty boundary"):
        FormVideo.announced("multipart/form-data")


def test_a_refused_form_leaves_nothing(client: httpx.Client, settings: Settings, clip: bytes) -> None:
    before = stored(settings)
    second = client.post(UPLOADS, files={"file": ("a.mp4", clip), "more": ("b.mp4", clip)})
    assert (second.status_code, error_of(second)["param"]) == (400, "file")
    text = client.post(UPLOADS, files={"file": ("a.txt", b"text " * 1000)})
    assert (text.status_code, error_of(text)["code"]) == (415, "unsupported_media")
    assert stored(settings) == before


async def chunks_of(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
