"""Files made to do harm: the parent lives, and each gets frames or a clear refusal."""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.errors import UnsupportedMediaError, VideoError
from bt_model.types import FrameSize, ReaderName, Sampling
from bt_model.video.decode import READER_NAMES
from tests.clips import HOSTILE, ClipSpec, write_clip

SIZE = FrameSize(64)
CODES = {
    "undecodable_video",
    "truncated_video",
    "no_frames",
    "video_too_large",
    "decode_timeout",
    "unsupported_media",
}


@pytest.fixture(params=READER_NAMES)
def pool(request: pytest.FixtureRequest) -> Iterator[DecodePool]:
    reader: ReaderName = request.param
    with DecodePool(2, reader=reader, seconds=10) as pool:
        yield pool


def asked(pool: DecodePool, path: Path) -> Future[Decoded]:
    return pool.decode(path, Sampling(num_frames=16), [SIZE], 8)


def outcome(future: Future[Decoded]) -> str:
    """`frames`, or the code of the refusal."""
    try:
        future.result().close()
    except VideoError as error:
        return error.code
    return "frames"


def test_clips_that_abort_a_decoder_cost_at_most_a_child(pool: DecodePool, tmp_path: Path) -> None:
    outcomes = [outcome(asked(pool, clip)) for clip in HOSTILE]
    assert len(outcomes) == 3
    assert set(outcomes) <= {*CODES, "frames"}
    assert outcome(asked(pool, write_clip(tmp_path / "good.mp4"))) == "frames"


def test_mutated_clips_never_hurt_the_parent(pool: DecodePool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = write_clip(tmp_path / "good.mp4", ClipSpec(num_frames=12)).read_bytes()
    paths: list[Path] = []
    for i in range(12):
        data = bytearray(good)
        for at in rng.integers(40, len(data), 12):
            data[at] = int(rng.integers(256))
        paths.append(tmp_path / f"{i}.mp4")
        paths[-1].write_bytes(data)
    outcomes = [outcome(future) for future in [asked(pool, path) for path in paths]]
    assert set(outcomes) <= {*CODES, "frames", "no_video_stream", "video_too_small"}


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\n{0}\n", "ffconcat version 1.0\nfile {0}\n"])
def test_a_playlist_that_names_another_upload_is_refused(pool: DecodePool, tmp_path: Path, text: str) -> None:
    other = write_clip(tmp_path / "other.mp4")
    path = tmp_path / "list.mp4"
    path.write_text(text.format(other.name))
    with pytest.raises(UnsupportedMediaError):
        pool.decode(path, Sampling(), [SIZE], 4).result()


def test_a_playlist_behind_a_video_s_magic_is_refused(pool: DecodePool, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4")
    path = tmp_path / "list.mp4"
    path.write_bytes(b"#EXTftyp\n#EXTM3U\n#EXTINF:1,\n" + os.fsencode(other))
    assert outcome(asked(pool, path)) in CODES
