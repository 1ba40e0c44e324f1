"""Decodes what the wanted frames of a known clip need, and nothing else; says so where it cannot.

The slow twin is in pyav_reader.py: it reads every packet up to the last one that is needed.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bt_model.video.h264 import FrameNumbers
from bt_model.video.opening import packets_of
from bt_model.video.packets import Clip

_SEEKABLE = ("mp4", "matroska", "webm")  # to a key packet's time; others where its place is in the table
_WORTH_A_SEEK = 16  # packets that are read instead
_DROPPABLE = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
_HEVC_LAYERS = b"\x40\x01\x0c"  # how the parameter set begins that tells the number of temporal layers


class LostError(Exception):
    """Frames are to be read by the slow twin: the file is damaged, or not as its table says."""


def needed_frames(
    opened: InputContainer, stream: VideoStream, clip: Clip, indices: Iterable[int]
) -> Iterator[tuple[int | None, VideoFrame]]:
    """(label, frame) of the wanted frames of a clip with labels, among others.

    Frames to which no other refers are not decoded unless they are wanted.

    Raises:
        LostError: at the first sign that a frame may not be what a full decode gives.
    """
    wanted = {clip.label(i) for i in indices}
    context, source = stream.codec_context, _Source(opened, stream, clip)
    if context.codec.canonical_name != clip.codec:
        raise LostError
    try:
        for run in clip.runs(indices):
            dropping = _Dropping(clip, context.extradata)
            for number, packet in source.read(run):
                is_wanted = clip.pts[number] in wanted
                context.skip_frame = "NONREF" if dropping.can_drop(packet) and not is_wanted else "DEFAULT"
                yield from dropping.checked(stream.decode(packet))
            yield from dropping.checked(stream.decode(None))
            context.flush_buffers()
    except (FFmpegError, ValueError):
        raise LostError from None


class _Dropping:
    """Whether, in one run, what a decoder takes for a frame without references really has none."""

    def __init__(self, clip: Clip, parameters: bytes | None) -> None:
        self._codec = "" if clip.picture.deinterlaced else clip.codec
        self._parameters = parameters
        self._numbers = FrameNumbers(parameters) if self._codec == "h264" else None
        self._can_drop: bool | None = None

    def can_drop(self, packet: "Packet[VideoStream]") -> bool:
        """Raises LostError: a reference is missing before this packet; a decoder takes another for it."""
        if self._can_drop is None:
            self._can_drop = self._codec in _DROPPABLE and (
                self._codec != "hevc" or _is_of_one_layer(self._parameters or bytes(packet))
            )
        if self._numbers and not self._numbers.follows(bytes(packet)):
            raise LostError
        return self._can_drop

    def checked(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[int | None, VideoFrame]]:
        """By label. Of two fields, the second may be a packet that was dropped."""
        for frame in frames:
            if frame.is_corrupt or (self._can_drop and frame.interlaced_frame):
                raise LostError
            yield frame.pts, frame


def _is_of_one_layer(parameters: bytes) -> bool:
    """In HEVC, frames of a higher temporal layer may refer to any below."""
    _, found, layers = parameters.partition(_HEVC_LAYERS)
    return bool(found and layers) and not layers[0] & 0b1110


class _Source:
    """The packets of the clip's stream, each known by its number in the table."""

    def __init__(self, opened: InputContainer, stream: VideoStream, clip: Clip) -> None:
        self._opened, self._stream, self._clip = opened, stream, clip
        self._packets = packets_of(opened, stream)
        self._next = 0
        by_pts = {clip.pts[key]: key for key in clip.keys}
        can_seek = len(by_pts) == len(clip.keys) and (clip.places or clip.container in _SEEKABLE)
        self._keys = by_pts if can_seek else {}

    def read(self, run: range) -> Iterator[tuple[int, "Packet[VideoStream]"]]:
        """The packets of a run with their numbers. Raises LostError."""
        if self._keys and run.start - self._next > _WORTH_A_SEEK:
            self._seek(run.start)
        deque(islice(self._packets, run.start - self._next), maxlen=0)
        for number in run:
            packet = next(self._packets, None)
            if packet is None or packet.pts != self._clip.pts[number]:
                raise LostError
            yield number, packet
        self._next = run.stop

    def _seek(self, key: int) -> None:
        """To this key packet, or to one before it."""
        stamp, places = self._clip.pts[key], self._clip.places
        if places:
            place = places[self._clip.keys.index(key)]
            self._opened.seek(place, stream=self._stream, unsupported_byte_offset=True)
        elif stamp is not None:
            self._opened.seek(stamp, stream=self._stream)
        self._packets = packets_of(self._opened, self._stream)
        first = next(self._packets, None)
        landed = self._keys.get(first.pts) if first is not None and first.is_keyframe else None
        if first is None or landed is None or landed > key:
            raise LostError
        if landed <= self._next:
            self._keys = {}  # has no index worth the name
        self._packets, self._next = chain((first,), self._packets), landed
