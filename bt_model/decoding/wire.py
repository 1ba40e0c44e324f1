"""What a pool and a decode child say to each other: length-prefixed msgpack over a socket pair.

Files are passed as descriptors with a request: the video, opened for reading, and for frames an empty memory
file for each size, which the child fills, truncates and seals, and the full ones of an earlier attempt. A
child's replies are validated like untrusted input, since a hostile video may control the child.
"""

import math
import struct
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, cast

import msgpack

from bt_model.decoding.sandbox import ChildLimits, Sandbox
from bt_model.errors import (
    BtchatError,
    DecodeTimeoutError,
    InvalidValueError,
    PartlyDecodedError,
    UnsupportedMediaError,
    VideoError,
    VideoLimitError,
)
from bt_model.types import MAX_FRAMES, FrameSize, ReaderName, Sampling, VideoFacts
from bt_model.video.crop import Crop, Cutout
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sample import SingleFrame

HEADER = struct.Struct("<I")  # payload bytes
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_INDEX_BYTES = 1024 * 1024
MAX_WORKLOADS = 2  # the frames that are wanted, and all where some are lost
MAX_COUNTS = 2 * MAX_FRAMES  # each frame as it comes, and once more where another reader begins anew
MAX_SIZES = 8
MAX_FDS = 1 + 2 * MAX_SIZES

_MAX_TEXT = 500
_MAX_WARNINGS = 8
_ERRORS: dict[str, type[BtchatError]] = {
    kind.__name__: kind
    for kind in (InvalidValueError, VideoError, UnsupportedMediaError, VideoLimitError, DecodeTimeoutError)
}

_T = TypeVar("_T")
Job = Literal["probe", "plan", "frames", "thumbnails"]


class WireError(Exception):
    """Bytes that are not a valid message."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Sent once to a new child, which answers that it is ready."""

    parent: int
    reader: ReaderName
    limits: DecodeLimits
    child_limits: ChildLimits

    def pack(self) -> bytes:
        return _framed([self.parent, self.reader, astuple(self.limits), astuple(self.child_limits)])

    @classmethod
    def unpack(cls, payload: bytes) -> "Setup":
        parent, reader, limits, child_limits = msgpack.unpackb(payload)
        return cls(parent, reader, DecodeLimits(*limits), ChildLimits(*child_limits))


@dataclass(frozen=True, slots=True)
class ChildReport:
    """What a child says of itself before it gets a file: what holds it, and FFmpeg's version by library."""

    sandbox: Sandbox
    ffmpeg: dict[str, str]

    def pack(self) -> bytes:
        return _framed([*astuple(self.sandbox), self.ffmpeg])

    @classmethod
    def unpack(cls, payload: bytes) -> "ChildReport":
        parts, missing, ffmpeg = msgpack.unpackb(payload)
        return cls(Sandbox(tuple(parts), tuple(missing)), ffmpeg)


@dataclass(frozen=True, slots=True)
class Request:
    """One file, or `length` bytes of it from `start` on, decoded once for all `sizes`.

    `cutout` is the part of the frames that is handed over, `index` what earlier work found out; b"": none
    did, None: nobody keeps it. `single` is the one frame that is wanted in place of a sampling. `done` are
    frames that are handed over with it, of an earlier try. A second try is PyAV's, whatever the child was set
    up for.
    """

    job: Job
    sampling: Sampling = field(default_factory=Sampling)
    sizes: tuple[FrameSize, ...] = ()
    default_frames: int = 1
    index: bytes | None = None
    start: int = 0
    length: int = 0
    done: tuple[int, ...] = ()
    cutout: Cutout | None = None
    is_second_try: bool = False
    single: SingleFrame | None = None

    def side(self, size: FrameSize) -> int:
        """Height and width of the frames that are handed over."""
        return self.cutout.side if self.cutout else size.side

    def max_bytes(self, size: FrameSize) -> int:
        """Bytes of the most frames of one size that this request can return."""
        asked = self.sampling
        count = (asked.max_frames or MAX_FRAMES) if asked.fps is not None else asked.num_frames
        return 3 * self.side(size) ** 2 * (self.default_frames if count is None else count)

    def pack(self) -> bytes:
        return _framed([*astuple(self)])

    @classmethod
    def unpack(cls, payload: bytes) -> "Request":
        job, sampling, sizes, *others, done, cutout, again, single = msgpack.unpackb(payload)
        all_sizes = tuple(FrameSize(*each) for each in sizes)
        if cutout is not None:
            side, seed, crop = cutout
            cutout = Cutout(side, seed, Crop(*crop))
        begin = cls(job, Sampling(*sampling), all_sizes, *others)
        single = None if single is None else SingleFrame(*single)
        return replace(begin, done=tuple(done), cutout=cutout, is_second_try=again, single=single)


@dataclass(frozen=True, slots=True)
class Demuxed:
    """Packets of video that were demuxed: to find out what there is, and for the frames."""

    scan: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A child's result. `jpegs` only for thumbnails; `indices` and those after them not for a probe.

    Of a plan `reader` is empty; `num_pixels` and `allowed_seconds` are what its decode takes and is given.

    `index` is what to hand over with the next request about this file; empty where that is what came with
    this one, or where it is too long. Only a child can read it. `is_recounted`: see `Decoded`.
    """

    facts: VideoFacts
    indices: tuple[int, ...] = ()
    timestamps: tuple[float, ...] = ()
    num_wanted: int = 0
    reader: str = ""
    jpegs: tuple[bytes, ...] = ()
    index: bytes = b""
    demuxed: Demuxed = field(default_factory=Demuxed)
    is_recounted: bool = False
    num_pixels: int = 0
    allowed_seconds: float = 0.0

    def pack(self) -> bytes:
        return _framed(["ok", *astuple(self)])


@dataclass(frozen=True, slots=True)
class Workload:
    """What a child is about to decode, so that it is given the time for it: pixels of all pictures."""

    num_pixels: int

    def pack(self) -> bytes:
        return _framed(["work", self.num_pixels])


@dataclass(frozen=True, slots=True)
class Count:
    """How many frames of those that are wanted a child has decoded, which it tells now and then."""

    num_frames: int
    num_wanted: int

    def pack(self) -> bytes:
        return _framed(["count", self.num_frames, self.num_wanted])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a child has no result; `is_clean` where its decoder did nothing that it should not do."""

    error: BtchatError
    is_clean: bool = True

    def pack(self) -> bytes:
        error = self.error
        if isinstance(error, PartlyDecodedError):
            return _framed(["partly", error.message, error.indices])
        values = type(error).__name__, error.message, error.code, error.param, self.is_clean
        return _framed(["error", *values])


def unpack_reply(payload: bytes) -> Reply | Refusal | Workload | Count:
    """One reply of a child, or what it says before.

    Raises:
        WireError: not a reply at all.
    """
    try:
        kind, *values = cast(list[Any], msgpack.unpackb(payload))
        if kind == "ok":
            facts, indices, timestamps, num_wanted, reader, jpegs, index, demuxed, recounted, *cost = values
            (num_wanted,), (reader,) = _all([num_wanted], int), _all([reader], str)
            (recounted,) = _all([recounted], bool)
            num_pixels, seconds = cost
            (num_pixels,), (seconds,) = _all([num_pixels], int), _all([seconds], float)
            chosen = _all(indices, int), _all(timestamps, float), num_wanted, reader[:_MAX_TEXT]
            found = _all(jpegs, bytes), _index(index), _demuxed(demuxed), recounted
            return Reply(_facts(facts), *chosen, *found, num_pixels, seconds)
        if kind == "work":
            return Workload(*_all(values, int))
        if kind == "count":
            return _count(*_all(values, int))
        if kind == "partly":
            message, indices = values
            return Refusal(PartlyDecodedError(str(message)[:_MAX_TEXT], _all(indices, int)))
        name, message, code, param, is_clean = values
        error = _ERRORS[name](
            str(message)[:_MAX_TEXT], code=str(code)[:_MAX_TEXT], param=param and str(param)
        )
        return Refusal(error, is_clean is True)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as broken:
        raise WireError(f"not a reply: {type(broken).__name__}") from None


def _facts(values: list[Any]) -> VideoFacts:
    kinds = [int, int, int, float, float, int, str, str, bool, *[str] * 6, bool, bool, list]
    if len(values) != len(fields(VideoFacts)) or any(
        not _is(v, k) for v, k in zip(values, kinds, strict=True)
    ):
        raise TypeError
    *others, warnings = values
    texts = _all(warnings, str, _MAX_WARNINGS)
    return VideoFacts(*others, warnings=tuple(text[:_MAX_TEXT] for text in texts))


def _count(num_frames: int, num_wanted: int) -> Count:
    if not 0 <= num_frames <= num_wanted <= MAX_FRAMES:
        raise ValueError
    return Count(num_frames, num_wanted)


def _index(value: Any) -> bytes:
    (index,) = _all([value], bytes)
    if len(index) > MAX_INDEX_BYTES:
        raise ValueError
    return index


def _demuxed(values: list[Any]) -> Demuxed:
    scan, read = _all(values, int)
    if min(scan, read) < 0:
        raise ValueError
    return Demuxed(scan, read)


def _all(values: list[Any], kind: type[_T], most: int = MAX_FRAMES) -> tuple[_T, ...]:
    if len(values) > most or not all(_is(v, kind) for v in values):
        raise TypeError
    return tuple(values)


def _is(value: Any, kind: type) -> bool:
    """What is no number, or is infinite, cannot be told in JSON, and would spoil every sum."""
    return type(value) is kind and (kind is not float or math.isfinite(value))


def _framed(value: list[Any]) -> bytes:
    payload = cast(bytes, msgpack.packb(value))
    return HEADER.pack(len(payload)) + payload
