"""Which frames a decode would give, and what it would take, without one."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgpack
import pytest

from bt_model.decoding import wire
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import InvalidValueError, VideoLimitError
from bt_model.types import FrameSize, Sampling, VideoFacts
from bt_model.video.refusals import DecodeLimits
from tests.bt_model.decoding.pools import SIZE, open_files
from tests.clips import ClipSpec, write_clip

FEW = Sampling(num_frames=3, end=1.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, seconds=20, child_limits=ChildLimits(most_seconds=100)) as pool:
        yield pool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", ClipSpec(options={"g": "5", "bf": "0", "sc_threshold": "0"}))


def asked(sampling: Sampling, index: bytes = b"", size: FrameSize = SIZE) -> wire.Request:
    return wire.Request("plan", sampling, (size,), 8, index)


def test_a_plan_is_what_the_decode_does(pool: DecodePool, path: Path) -> None:
    before = open_files()
    planned = pool.plan(path, asked(FEW)).result()
    assert open_files() == before
    again = pool.plan(path, asked(FEW, planned.index)).result()
    with pool.decode(path, FEW, [SIZE], 8, index=planned.index).result() as decoded:
        for plan in (planned, again):
            assert (plan.indices, plan.timestamps) == (decoded.indices, decoded.timestamps)
            assert (plan.facts, plan.num_wanted) == (decoded.facts, decoded.num_wanted)
        assert again.index == b""
        assert (planned.demuxed.read, again.demuxed) == (0, wire.Demuxed())
        assert decoded.demuxed.read >= planned.num_pixels / (96 * 64)


def test_pixels_are_those_of_the_groups_that_are_needed(pool: DecodePool, path: Path) -> None:
    one = pool.plan(path, asked(Sampling(num_frames=1, start=0.28, end=0.3))).result()
    assert one.indices == (7,)
    assert one.num_pixels == 3 * 96 * 64
    whole = pool.plan(path, asked(Sampling(num_frames=30))).result()
    assert whole.num_pixels == 30 * 96 * 64
    assert whole.allowed_seconds == 20.0


def test_a_plan_is_refused_as_the_decode_is(path: Path) -> None:
    limits = DecodeLimits(max_decoded_bytes=3 * 64 * 64 * 2)
    with DecodePool(1, limits=limits) as pool:
        for sampling, kind in ((Sampling(start=9.0), InvalidValueError), (FEW, VideoLimitError)):
            with pytest.raises(kind) as of_plan:
                pool.plan(path, asked(sampling)).result()
            with pytest.raises(kind) as of_decode:
                pool.decode(path, sampling, [SIZE], 8).result()
            assert of_plan.value.message == of_decode.value.message


@pytest.mark.parametrize("cost", [[1.0, 1.0], [1, 1], [1, float("inf")], [1], [1, 1.0, 1]])
def test_a_cost_that_is_none_is_no_reply(cost: list[object]) -> None:
    reply = wire.Reply(VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False))
    values = msgpack.unpackb(reply.pack()[wire.HEADER.size :])
    assert wire.unpack_reply(reply.pack()[wire.HEADER.size :]) == reply
    with pytest.raises(wire.WireError):
        wire.unpack_reply(cast(bytes, msgpack.packb([*values[:-2], *cost])))
