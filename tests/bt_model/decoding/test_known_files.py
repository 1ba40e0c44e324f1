"""What a child found out about a file is handed to the next one, which need not scan it again."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgpack
import numpy as np
import pytest

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.queue import DecodeJob
from bt_model.types import Sampling, VideoFacts
from bt_model.video.decode import probe
from tests.bt_model.decoding.pools import FOUR, SIZE, pixels_of
from tests.bt_model.video.test_formats import animated
from tests.clips import ClipSpec, write_clip, write_damaged

EVERY = Sampling(fps=240)
WINDOW = Sampling(fps=240, start=0.9)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, seconds=5) as pool:
        yield pool


def decoded(pool: DecodePool, path: Path, index: bytes, sampling: Sampling = FOUR) -> Decoded:
    return pool.decode(path, sampling, [SIZE], 8, index=index).result()


@pytest.mark.parametrize(
    "spec",
    [
        ClipSpec(),
        ClipSpec(options={"crf": "10", "bf": "2", "g": "10"}),
        ClipSpec(stamps_ms=[40 * i + i % 3 for i in range(30)]),
    ],
)
def test_a_file_that_was_probed_is_not_scanned_again(
    pool: DecodePool, tmp_path: Path, spec: ClipSpec
) -> None:
    path = write_clip(tmp_path / "a.mp4", spec)
    probed = pool.probe(path).result()
    assert probed.demuxed == wire.Demuxed(scan=31)  # and the end
    with decoded(pool, path, b"") as first, decoded(pool, path, probed.index) as later:
        assert (first.demuxed.scan, later.demuxed.scan) == (31, 0)
        assert later.demuxed.read > 0
        assert (first.index, later.index) == (probed.index, b"")
        assert (later.facts, later.indices, later.timestamps) == (
            first.facts,
            first.indices,
            first.timestamps,
        )
        np.testing.assert_array_equal(pixels_of(first), pixels_of(later))
    shown = pool.thumbnails(path, FOUR, SIZE, 8, index=probed.index).result()
    assert (shown.demuxed.scan, shown.index, shown.facts) == (0, b"", probed.facts)


def test_an_animated_picture_is_known_too(pool: DecodePool, tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", [40] * 6)
    index = pool.probe(path).result().index
    with decoded(pool, path, b"") as first, decoded(pool, path, index) as later:
        assert (first.index, later.index, later.facts) == (index, b"", first.facts)
        np.testing.assert_array_equal(pixels_of(first), pixels_of(later))


@pytest.mark.parametrize("kind", ["another file's", "cut off", "rubbish", "another version's"])
def test_a_file_with_a_wrong_index_is_scanned_as_without_one(
    pool: DecodePool, tmp_path: Path, kind: str
) -> None:
    path = write_clip(tmp_path / "a.mp4")
    right = pool.probe(path).result().index
    wrong = {
        "another file's": pool.probe(write_clip(tmp_path / "b.mp4", ClipSpec(20))).result().index,
        "cut off": right[:-1],
        "rubbish": b"\xc1" * wire.MAX_INDEX_BYTES,
        "another version's": right.replace(b"\x96\x01", b"\x96\x02", 1),
    }[kind]
    assert wrong != right
    with decoded(pool, path, wrong) as frames:
        assert (frames.demuxed.scan, frames.index, frames.facts) == (31, right, probe(path))


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_what_decoding_finds_out_is_handed_back_once(pool: DecodePool, tmp_path: Path, suffix: str) -> None:
    path = write_damaged(tmp_path / f"a.{suffix}")
    probed = pool.probe(path).result()
    with decoded(pool, path, probed.index, EVERY) as found:
        assert (probed.facts.num_frames, found.facts.num_frames) == (30, 20)
        assert found.index not in (b"", probed.index)
        assert (probed.is_recounted, found.is_recounted) == (False, True)
    with decoded(pool, path, found.index, WINDOW) as later:
        assert not later.is_recounted
        assert (later.facts, later.index, later.demuxed.scan) == (found.facts, b"", 0)
        assert later.indices[-1] == 19


def test_frames_are_recounted_also_where_no_index_is_handed_over(pool: DecodePool, tmp_path: Path) -> None:
    path = write_damaged(tmp_path / "a.mkv")
    with pool.decode(path, EVERY, [SIZE], 8).result() as found:
        assert (found.facts.num_frames, found.is_recounted) == (20, True)
    request = wire.Request("frames", EVERY, (SIZE,))  # as where it is too long
    with pool._submit(DecodeJob(path, request, "")).result() as found:  # pyright: ignore[reportPrivateUsage]
        assert (found.index, found.is_recounted) == (b"", True)


def test_training_keeps_no_index(tmp_path: Path) -> None:
    assert wire.Request("frames").index is None
    assert wire.Request.unpack(wire.Request("frames").pack()[wire.HEADER.size :]).index is None


REPLY = wire.Reply(VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False))


def replied(change: dict[str, Any]) -> bytes:
    return replace(REPLY, **change).pack()[wire.HEADER.size :]


def test_a_reply_comes_back_with_its_index_and_its_counts() -> None:
    reply = replace(REPLY, index=bytes(wire.MAX_INDEX_BYTES), demuxed=wire.Demuxed(3, 4))
    assert wire.unpack_reply(reply.pack()[wire.HEADER.size :]) == reply


@pytest.mark.parametrize(
    "change",
    [
        {"index": bytes(wire.MAX_INDEX_BYTES + 1)},
        {"index": "text"},
        {"demuxed": wire.Demuxed(-1, 0)},
        {"demuxed": wire.Demuxed(0, -1)},
        {"is_recounted": 1},
    ],
)
def test_an_index_that_is_too_large_or_counts_that_cannot_be_are_no_reply(change: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack_reply(replied(change))


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["fps", "seconds"])
def test_facts_that_are_no_numbers_are_no_reply(name: str, number: float) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack_reply(replied({"facts": replace(REPLY.facts, **cast(Any, {name: number}))}))
    with pytest.raises(wire.WireError):
        wire.unpack_reply(replied({"timestamps": (0.0, number)}))


def test_counts_are_two_numbers() -> None:
    kind, *values, _, is_recounted = msgpack.unpackb(replied({}))
    for counts in ([1], [1, 2, 3], [1.0, 2], None):
        with pytest.raises(wire.WireError):
            wire.unpack_reply(cast(bytes, msgpack.packb([kind, *values, counts, is_recounted])))
