"""A decode child tells how far it is: now and then, and not without end."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgpack
import pytest

from bt_model.decoding import process, wire
from bt_model.decoding.pool import DecodePool
from bt_model.errors import VideoError
from bt_model.types import MAX_FRAMES, ReaderName, Sampling
from bt_model.video.attempt import Attempt
from bt_model.video.decode import READER_NAMES, Wanted, decode_clip, scan
from tests.bt_model.decoding.pools import SIZE
from tests.clips import ClipSpec, write_clip
from tests.faulty_child import COMMAND, SLOW_SECONDS, with_fault

EIGHT = Sampling(num_frames=8)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodePool]:
    monkeypatch.setattr(process, "_COMMAND", COMMAND)
    with DecodePool(1, seconds=20) as pool:
        yield pool


def faulty(folder: Path, fault: str) -> Path:
    path = write_clip(folder / "a.mp4")
    path.write_bytes(with_fault(path.read_bytes(), fault))
    return path


def test_frames_are_counted_a_few_times_a_second(pool: DecodePool, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    path = faulty(tmp_path, "slow")
    with pool.decode(path, EIGHT, [SIZE], 8, count=lambda *count: counts.append(count)).result() as frames:
        assert frames.num_frames == 8
    assert [wanted for _, wanted in counts] == [8] * len(counts)
    done = [num_frames for num_frames, _ in counts]
    assert done == sorted(set(done))
    assert 2 <= len(counts) <= 8 * SLOW_SECONDS / 0.25


@pytest.mark.parametrize("reader", READER_NAMES)
def test_every_reader_counts_from_what_an_earlier_try_had(tmp_path: Path, reader: ReaderName) -> None:
    if reader == "decord":
        pytest.importorskip("decord")
    path = write_clip(tmp_path / "a.mp4", ClipSpec(options={"bf": "0", "g": "5", "sc_threshold": "0"}))
    counts: list[tuple[int, int]] = []
    wanted = Wanted(EIGHT, (SIZE,), 8)
    with path.open("rb", buffering=0) as file:
        clip = scan(file)
        _, (frames,) = decode_clip(file, clip, wanted, reader)
        done = dict(zip(frames.indices[:3], frames.pixels, strict=False))
        attempt = Attempt(done=[done], tell=lambda *count: counts.append(count))
        decode_clip(file, clip, wanted, reader, attempt=attempt)
    assert frames.reader == reader
    assert counts[-1] == (8, 8)
    assert min(counts) > (3, 8)


def test_a_child_that_counts_without_end_is_ended(pool: DecodePool, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    path = faulty(tmp_path, "chatter")
    decoding = pool.decode(path, EIGHT, [SIZE], 8, count=lambda *count: counts.append(count))
    with pytest.raises(VideoError) as caught:
        decoding.result(timeout=15)
    assert caught.value.code == "undecodable_video"
    assert len(counts) <= 2 * (wire.MAX_COUNTS + 1)  # it has a second try


@pytest.mark.parametrize(
    "count", [(2, 1), (-1, 1), (1, MAX_FRAMES + 1), (1, "8"), (1,), (1, 2, 3), (True, 2)]
)
def test_a_count_that_is_none_is_no_message(count: tuple[object, ...]) -> None:
    told = wire.Count(3, 8)
    assert wire.unpack_reply(told.pack()[wire.HEADER.size :]) == told
    with pytest.raises(wire.WireError):
        wire.unpack_reply(cast(bytes, msgpack.packb(["count", *count])))
