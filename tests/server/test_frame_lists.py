"""Pictures in place of a video: one is a clip of one frame, a list of them one of as many."""

import base64
import io
import json
import math
import random
import tracemalloc
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bt_model.errors import InvalidValueError, VideoError, VideoLimitError
from bt_model.types import Frames, FrameSize, Sampling
from bt_model.video import picture_list
from bt_model.video.attempt import Attempt, OutOfTimeError
from bt_model.video.decode import Wanted, decode, decode_clip, probe, scan
from server.uploads import data_url
from server.uploads.data_url import begin_of_data, decoder_of
from tests.clips import numbers_in, picture
from tests.field import field_file
from tests.hostile import as_listed
from tests.server.conftest import error_of
from tests.server.test_inline import body_of, video_part

EVERY = Sampling(num_frames=128)
LABELS = [
    "data:video/webm;codecs=vp8,opus;base64,",
    'DATA:Video/WebM;codecs="vp8,opus";BASE64,',
    "data:;base64,",
]


def data_of(number: int, kind: str = "JPEG", size: tuple[int, int] = (96, 64), **options: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(picture(number, *size)).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def list_of(count: int, label: str = "data:video/jpeg;base64,") -> str:
    return label + ",".join(data_of(number) for number in range(count))


def frames_of(url: str, step: int = 1000) -> Frames:
    """What is in a data URL that comes in pieces."""
    begin = begin_of_data(url)
    assert begin is not None
    decoder = decoder_of(url[:begin])
    pieces = [decoder.feed(url[place : place + step]) for place in range(begin, len(url), step)]
    return decode(io.BytesIO(b"".join([*pieces, decoder.end()])), EVERY, FrameSize(64, "squash"), 8)


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_list_is_a_clip_of_its_pictures_one_a_second(count: int, step: int) -> None:
    frames = frames_of(list_of(count), step)
    assert numbers_in(frames.pixels) == list(frames.indices) == list(range(count))
    assert frames.timestamps == tuple(range(count))
    assert (frames.facts.seconds, frames.facts.container, frames.reader) == (count, "pictures", "pillow")


@pytest.mark.parametrize(("rate", "fps"), [("2", 2.0), ("0.5", 0.5), ("29.97", 29.97)])
def test_the_label_may_say_the_rate(rate: str, fps: float) -> None:
    frames = frames_of(list_of(4, f"data:video/jpeg;fps={rate};base64,"))
    assert frames.timestamps == pytest.approx([number / fps for number in range(4)])


@pytest.mark.parametrize("rate", ["0", "-1", "241", "nan", "inf", "", "x", "1e-310", "1e-30", "0.000277"])
def test_a_rate_that_none_can_have_is_refused(rate: str) -> None:
    with pytest.raises(
        InvalidValueError, match=r"fps in the label .* 1/3600 to 240 .* data:video/jpeg;fps=2"
    ):
        decoder_of(f"data:video/jpeg;fps={rate};base64,")


def test_a_list_may_have_pictures_of_every_kind() -> None:
    url = ",".join(
        chain(["data:video/jpeg;base64"], (data_of(n, ("JPEG", "PNG", "WEBP")[n % 3]) for n in range(6)))
    )
    assert numbers_in(frames_of(url).pixels) == list(range(6))


@pytest.mark.parametrize(("turned", "size"), [(6, (64, 96)), (8, (64, 96)), (3, (96, 64))])
def test_a_picture_is_turned_as_it_was_held(turned: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    url = "data:video/jpeg;base64," + ",".join([data_of(0), data_of(1, size=size, exif=exif)])
    assert frames_of(url).num_frames == 2


@pytest.mark.parametrize("place", [1, 2, 5])
def test_a_picture_of_another_size_is_refused_by_its_number(place: int) -> None:
    pictures = [data_of(number, size=(96, 66) if number == place else (96, 64)) for number in range(6)]
    with pytest.raises(VideoError, match=rf"frame {place} of the list has 96 x 66 .* 96 x 64"):
        frames_of("data:video/jpeg;base64," + ",".join(pictures))


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("broken", ["AAAA", data_of(0)[:400], data_of(0, "GIF")])
def test_a_picture_that_is_none_is_refused_by_its_number(place: int, broken: str) -> None:
    pictures = [broken if number == place else data_of(number) for number in range(4)]
    with pytest.raises(
        VideoError, match=f"frame {place} of the list cannot be decoded; allowed: JPEG, PNG, WebP"
    ):
        frames_of("data:video/jpeg;base64," + ",".join(pictures))


@pytest.mark.parametrize("fps", [1e-310, 1e-30, 1 / 3601, 0.0, -1.0, 241.0, math.inf, math.nan])
@pytest.mark.parametrize("count", [1, 3])
def test_a_file_of_a_list_has_no_other_rate(fps: float, count: int) -> None:
    data = picture_list.head(fps) + as_listed(base64.b64decode(data_of(0))) * count
    with pytest.raises(VideoError, match=f"{fps:g} pictures a second; allowed: 1/3600 to 240"):
        probe(io.BytesIO(data))


@pytest.mark.parametrize(("fps", "most"), [(1 / 3600, 12), (1 / 1800, 24), (1 / 900, 48)])
def test_a_list_ends_before_the_longest_video(fps: float, most: int) -> None:
    data = picture_list.head(fps) + as_listed(base64.b64decode(data_of(0))) * most
    assert probe(io.BytesIO(data)).seconds == pytest.approx(12 * 3600)
    with pytest.raises(VideoLimitError, match="seconds of video"):
        probe(io.BytesIO(data + as_listed(base64.b64decode(data_of(0)))))


@pytest.mark.parametrize("num_bytes", [1, 65534, 65535, 65536, 3 * 65535, 400_000])
@pytest.mark.parametrize("step", [997, 1_000_000])
def test_pictures_come_back_as_they_were_whatever_the_pieces(num_bytes: int, step: int) -> None:
    pictures = [random.Random(number).randbytes(num_bytes) for number in range(3)]
    text = ",".join(base64.b64encode(each).decode() for each in pictures)
    decoder = decoder_of("data:video/jpeg;base64,")
    data = b"".join(decoder.feed(text[at : at + step]) for at in range(0, len(text), step)) + decoder.end()
    assert data == picture_list.head(1.0) + b"".join(map(as_listed, pictures))
    file = io.BytesIO(data)
    assert picture_list.rate_of(file) == 1.0
    assert [each.read() for each in picture_list.pictures_of(file) if each.seek(0) == 0] == pictures


def test_a_large_picture_is_not_held() -> None:
    piece = base64.b64encode(bytes(48 * 1024)).decode()
    decoder = decoder_of("data:video/jpeg;base64,")
    tracemalloc.start()
    try:
        written = sum(len(decoder.feed(piece)) for _ in range(60 * 1024 // 48)) + len(decoder.end())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written > 60 * 1024**2
    assert peak < 1024**2


@pytest.mark.parametrize("text", ["", ",", "AAAA,", ",AAAA", "AAAA,,AAAA"])
def test_an_empty_picture_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"frame [01] is empty"):
        frames_of(f"data:video/jpeg;base64,{text}")


def test_a_picture_has_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_url, "_MOST_PICTURE_BYTES", 30)
    decoder = decoder_of("data:video/jpeg;base64,")
    decoder.feed("A" * 40 + "," + "A" * 39)
    with pytest.raises(ValueError, match="frame 1 has more than 30 bytes"):
        decoder.feed("AAAAA")


def test_a_list_over_is_kept_and_goes_on() -> None:
    """An attempt of no time gives a picture, and the next one begins behind it."""
    pictures = [base64.b64decode(data_of(number)) for number in range(4)]
    file = io.BytesIO(picture_list.head(1.0) + b"".join(map(as_listed, pictures)))
    clip = scan(file)
    wanted = Wanted(EVERY, (FrameSize(64, "squash"),), 8)
    done: Sequence[Mapping[int, Any]] = ()
    counts: list[tuple[int, int]] = []
    for count in range(1, 4):
        with pytest.raises(OutOfTimeError) as caught:
            decode_clip(
                file, clip, wanted, attempt=Attempt(lambda _: 0, done, lambda *each: counts.append(each))
            )
        done = caught.value.found
        assert sorted(done[0]) == list(range(count))
    _, (frames,) = decode_clip(file, clip, wanted, attempt=Attempt(lambda _: 0, done))
    assert numbers_in(frames.pixels) == list(range(4))
    assert counts == [(1, 4), (2, 4), (3, 4)]


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("PNG", {})])
def test_an_animation_that_is_slow_keeps_what_it_has(kind: str, options: dict[str, Any]) -> None:
    first, *others = [Image.fromarray(picture(number, 96, 64)) for number in range(5)]
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others, duration=100, **options)
    clip, wanted = scan(file), Wanted(EVERY, (FrameSize(64, "squash"),), 8)
    with pytest.raises(OutOfTimeError) as caught:
        decode_clip(file, clip, wanted, attempt=Attempt(lambda _: 0))
    assert sorted(caught.value.found[0]) == [0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_of_a_list_is_what_it_is_alone(kind: str) -> None:
    pictures = [base64.b64decode(data_of(number, kind)) for number in range(3)]
    size = FrameSize(64, "whole")
    file = io.BytesIO(picture_list.head(1.0) + b"".join(map(as_listed, pictures)))
    alone = [decode(io.BytesIO(each), EVERY, size, 8).pixels for each in pictures]
    assert np.array_equal(decode(file, EVERY, size, 8).pixels, np.concatenate(alone))


@pytest.mark.parametrize("end", [b"\0", b"\1\0 too short", b"\xff\xff" + bytes(65535)])
def test_a_list_ends_before_a_picture_that_is_cut(end: bytes) -> None:
    pictures = [base64.b64decode(data_of(number)) for number in range(3)]
    data = picture_list.head(1.0) + b"".join(map(as_listed, pictures)) + end
    assert decode(io.BytesIO(data), EVERY, FrameSize(64, "squash"), 8).num_frames == 3


@pytest.mark.parametrize("kind", ["video_url", "image_url"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_question_may_have_a_list(client: httpx.Client, kind: str, count: int) -> None:
    body = body_of(video_part(list_of(count), kind)) | {"sampling": {"num_frames": 8}}
    receipt = client.post("/v1/chat/completions", json=body).json()["receipt"]
    assert (receipt["frames"]["count"], receipt["frames"]["reader"]) == (min(count, 8), "pillow")


@pytest.mark.parametrize("kind", ["video_url", "image_url"])
@pytest.mark.parametrize("picture_kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_a_clip_of_one_frame(client: httpx.Client, kind: str, picture_kind: str) -> None:
    url = f"data:image/{picture_kind.lower()};base64,{data_of(3, picture_kind)}"
    receipt = client.post("/v1/chat/completions", json=body_of(video_part(url, kind))).json()["receipt"]
    assert receipt["frames"]["indices"] == [0]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_list_may_be_uploaded(client: httpx.Client, count: int) -> None:
    body = {"url": list_of(count, "data:video/jpeg;fps=2;base64,"), "filename": "steps"}
    video = client.post("/v1/video/uploads", json=body).json()
    facts = video["facts"]
    assert (video["filename"], facts["num_frames"], facts["fps"]) == ("steps", count, 2.0)
    shown = client.post("/v1/video/frames", json={"video": video["id"]}).json()
    assert shown["reader"] == "pillow"
    assert shown["num_frames"] == min(count, shown["num_frames"]) > 0


@pytest.mark.parametrize("label", [*LABELS, "data:image/gif;base64,"])
def test_a_data_url_may_be_uploaded_whatever_its_label(
    client: httpx.Client, unseen: bytes, label: str
) -> None:
    answer = client.post("/v1/video/uploads", json={"url": label + base64.b64encode(unseen).decode()})
    raw = client.post("/v1/video/uploads", content=unseen)
    assert answer.json()["sha256"] == raw.json()["sha256"]


@pytest.mark.parametrize("rate", ["1e-310", "1e-30", "0.0001"])
def test_a_rate_without_end_is_refused_over_http(client: httpx.Client, rate: str) -> None:
    url = f"data:video/jpeg;fps={rate};base64,{data_of(0)}"
    asked = client.post("/v1/chat/completions", json=body_of(video_part(url)))
    uploaded = client.post("/v1/video/uploads", json={"url": url})
    for answer in (asked, uploaded):
        assert answer.status_code == 400
        assert f"'{rate}'; allowed: 1/3600 to 240" in str(error_of(answer)["message"])
    raw = picture_list.head(float(rate)) + as_listed(base64.b64decode(data_of(0)))
    answer = client.post("/v1/video/uploads", content=raw)
    assert (answer.status_code, error_of(answer)["code"]) == (422, "undecodable_video")
    assert "pictures a second; allowed: 1/3600 to 240" in str(error_of(answer)["message"])


def test_a_list_with_a_wrong_picture_is_refused_over_http(client: httpx.Client) -> None:
    url = f"data:video/jpeg;base64,{data_of(0)},{data_of(1, size=(32, 32))}"
    answer = client.post("/v1/chat/completions", json=body_of(video_part(url)))
    assert answer.status_code == 400
    assert "frame 1 of the list has 32 x 32" in str(error_of(answer)["message"])


def test_what_a_media_recorder_sends_is_answered(client: httpx.Client) -> None:
    body = json.loads(field_file("mediarecorder_data_url.json").read_text(encoding="utf-8"))
    body.pop("model", None)
    answer = client.post("/v1/chat/completions", json=body | {"model": body_of(None)["model"]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("rest", [",QUFB", "=,QUFB", ",data:image/jpeg;base64,QUFB"])
def test_pictures_under_another_label_are_told_of_the_list(rest: str) -> None:
    text = decoder_of("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="data:video/jpeg;base64,…,…"):
        text.feed("QUE" + rest)
