"""Single frames over HTTP, as an `<img>` asks for them."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.clips import ClipSpec, numbers_in, write_clip
from tests.server.conftest import count, error_of
from tests.server.test_uploads import upload


def picture(client: httpx.Client, video: str, name: str, **params: object) -> Image.Image:
    answer = client.get(f"/v1/video/uploads/{video}/frames/{name}.jpg", params=params)  # pyright: ignore[reportArgumentType] - numbers
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize("index", [0, 17, 29])
def test_a_picture_is_the_frame_of_this_index(client: httpx.Client, video: str, index: int) -> None:
    shown = picture(client, video, str(index))
    assert shown.size == (96, 64)
    assert numbers_in(np.asarray(shown)[None]) == [index]


@pytest.mark.parametrize(("t", "index"), [(0, 0), (0.41, 10), (1.2, 29)])
def test_a_picture_is_the_one_on_screen_at_a_time(
    client: httpx.Client, video: str, t: float, index: int
) -> None:
    assert numbers_in(np.asarray(picture(client, video, "at", t=t))[None]) == [index]


@pytest.mark.parametrize(("width", "size"), [(48, (48, 32)), (1920, (96, 64))])
def test_a_picture_is_as_wide_as_asked_and_never_wider_than_the_video(
    client: httpx.Client, video: str, width: int, size: tuple[int, int]
) -> None:
    assert picture(client, video, "3", width=width).size == size


def test_a_picture_stands_as_a_player_shows_it(client: httpx.Client, tmp_path: Path) -> None:
    turned = write_clip(tmp_path / "turned.mp4", ClipSpec(rotation=90)).read_bytes()
    assert picture(client, upload(client, turned), "3", width=32).size == (32, 48)


def test_a_browser_keeps_a_picture(client: httpx.Client, video: str) -> None:
    path = f"/v1/video/uploads/{video}/frames/5.jpg"
    first = client.get(path, params={"width": 32})
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    decoded = count(client, "btchat_video_decode_seconds_count")
    tag = {"if-none-match": first.headers["etag"]}
    again = client.get(path, params={"width": 32}, headers=tag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert count(client, "btchat_video_decode_seconds_count") == decoded
    others = [client.get(path, headers=tag), client.get(path.replace("5.jpg", "6.jpg"), headers=tag)]
    assert [each.status_code for each in others] == [200, 200]
    head = client.head(path, params={"width": 32})
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


@pytest.mark.parametrize(
    ("name", "params", "param", "text"),
    [
        ("30", {}, "index", "index is 30; allowed: 0 to 29, the frames of the video"),
        ("at", {"t": 1.3}, "t", "t is 1.3; allowed: 0 to 1.2, the seconds of the video"),
        ("at", {}, "t", "t is missing"),
        ("at", {"t": "nan"}, "t", "finite"),
        ("-1", {}, "index", "0 or more"),
        ("a", {}, "index", "a whole number"),
        ("3", {"width": 15}, "width", "16 or more"),
        ("3", {"width": 1921}, "width", "up to 1920"),
    ],
)
def test_what_is_no_picture_says_what_is(
    client: httpx.Client, video: str, name: str, params: dict[str, str], param: str, text: str
) -> None:
    answer = client.get(f"/v1/video/uploads/{video}/frames/{name}.jpg", params=params)
    error = error_of(answer)
    assert (answer.status_code, error["param"]) == (400, param)
    assert text in (error["message"] or "")


def test_of_an_unknown_upload_there_is_no_picture(client: httpx.Client) -> None:
    answer = client.get("/v1/video/uploads/vid_0/frames/0.jpg")
    assert (answer.status_code, error_of(answer)["param"]) == (404, "video_id")
