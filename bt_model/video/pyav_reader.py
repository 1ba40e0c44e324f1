"""Reads video files with PyAV: one pass over all packets, then one over those that the sampled frames need.

H height, W width. The demuxer is pinned, nested files are refused, and only a short list of codecs is opened.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bt_model.types import FrameSize
from bt_model.video import refusals
from bt_model.video.frame import ready
from bt_model.video.orientation import orientation_of
from bt_model.video.packets import Clip
from bt_model.video.picture import picture_of
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import DEMUXERS, Container
from bt_model.video.square import Squarer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# FFmpeg's probing decodes the start of every stream; this restricts it to the codecs that are read here.
# Streams of other codecs are still listed.
_PROBED_CODECS = "h264,hevc,vp8,vp9,libdav1d,av1,mpeg4"
_BUFFER_BYTES = 256 * 1024
_FALLBACK_FPS = Fraction(25)  # if neither header nor timestamps give a rate, as for a single frame


def scan(file: BinaryIO, container: Container, limits: DecodeLimits) -> Clip:
    """Read every packet of the video stream, and decode the first frame.

    Raises:
        VideoError: codes `no_video_stream`, `no_frames`, `undecodable_video`, `unsupported_media`,
            `video_too_small`, `video_too_large`.
    """
    with _opened(file, container, limits) as (opened, stream):
        pts: list[int | None] = []
        keys: list[int] = []
        shown: list[int | None] = []
        first: VideoFrame | None = None
        for ordinal, packet in enumerate(_packets(opened, stream)):
            if ordinal >= limits.max_packets:
                raise refusals.too_large("frames in the file", ordinal + 1, limits.max_packets)
            pts.append(packet.pts)
            if packet.is_keyframe:
                keys.append(ordinal)
            if not packet.is_discard:
                shown.append(packet.pts)
            first = first or next(_decoded(stream, packet), None)
        if not shown:
            raise refusals.no_frames()
        first = first or next(_decoded(stream, None), None)
        if first is None:
            raise refusals.undecodable()
        _check_size(first.width, first.height, limits)
        rate = stream.average_rate or stream.guessed_rate or _FALLBACK_FPS
        # AVI has no presentation timestamps, only the order in which packets are stored
        labels = None if container == "avi" or None in shown else sorted(p for p in shown if p is not None)
        clip = Clip(
            container=container,
            codec=stream.codec_context.codec.canonical_name,
            width=first.width,
            height=first.height,
            orientation=orientation_of(_display_matrix(first)),
            picture=picture_of(stream, first),
            has_audio=bool(opened.streams.audio),
            header_fps=float(rate),
            times=_seconds(labels, len(shown), rate, stream.time_base),
            labels=labels,
            pts=pts,
            keys=keys,
        )
    return _checked(clip, limits)


def read(
    file: BinaryIO, clip: Clip, indices: Sequence[int], sizes: Sequence[FrameSize], limits: DecodeLimits
) -> "list[dict[int, NDArray[np.uint8]]]":
    """For every size the requested frames (H, W, 3) by source index, all from one pass over the packets.

    Frames that the decoder does not output are left out.
    """
    squarers = [Squarer(clip, size) for size in sizes]
    wanted = {clip.label(i) for i in indices}
    found: dict[int, list[NDArray[np.uint8]]] = {}
    with _opened(file, clip.container, limits) as (opened, stream):
        for label, frame in _frames(opened, stream, clip, indices):
            if label in wanted and label not in found:
                _check_size(frame.width, frame.height, limits)
                shown = ready(frame, clip)
                found[label] = [square(shown) for square in squarers]
                if len(found) == len(wanted):
                    break
    known = [i for i in indices if clip.label(i) in found]
    return [{i: found[clip.label(i)][place] for i in known} for place in range(len(sizes))]


def recount(file: BinaryIO, clip: Clip, limits: DecodeLimits) -> Clip:
    """Decode everything, to find which frames the decoder really outputs.

    Raises:
        VideoError: it outputs none.
    """
    every = clip.recounted(clip.times)
    with _opened(file, clip.container, limits) as (opened, stream):
        stamps = [frame.pts for _, frame in _frames(opened, stream, every, ())]
        time_base = stream.time_base
    if not stamps:
        raise refusals.undecodable()
    rising = clip.labels is not None and None not in stamps
    labels = sorted(p for p in stamps if p is not None) if rising else None
    return clip.recounted(_seconds(labels, len(stamps), Fraction(clip.fps), time_base))


@contextmanager
def _opened(
    file: BinaryIO, container: Container, limits: DecodeLimits
) -> Generator[tuple[InputContainer, VideoStream]]:
    """The one video stream of a file, ready to decode."""
    file.seek(0)
    try:
        with av.open(
            file,
            mode="r",
            format=DEMUXERS[container],
            container_options={"codec_whitelist": _PROBED_CODECS},
            io_open=_refuse_nested_file,
            buffer_size=_BUFFER_BYTES,
            metadata_errors="replace",  # a title in another encoding than UTF-8 is no damage
        ) as opened:
            if len(opened.streams) > limits.max_streams:
                raise refusals.too_large("streams in the file", len(opened.streams), limits.max_streams)
            pictures = [s for s in opened.streams.video if not s.disposition & Disposition.attached_pic]
            if not pictures:
                raise refusals.no_video_stream()
            stream = pictures[0]
            _check_stream(stream, limits)
            for other in opened.streams:
                if other is not stream:
                    other.discard = Discard.all
            yield opened, stream
    except FFmpegError:
        raise refusals.undecodable() from None


def _refuse_nested_file(*_: object) -> NoReturn:
    raise PermissionError


def _check_stream(stream: VideoStream, limits: DecodeLimits) -> None:
    """Check codec and frame size in the header, before anything is decoded."""
    context = stream.codec_context
    codec = context.codec.canonical_name if context else "unknown"  # none where FFmpeg has no decoder
    if codec not in refusals.CODECS:
        raise refusals.unsupported_codec(codec)
    _check_size(context.width, context.height, limits)
    # a stream may change its size later: this makes the decoder refuse before it allocates (with padded rows)
    context.options = {"max_pixels": str(2 * limits.max_pixels)}
    context.thread_count = 1  # there is a process for every core


def _checked(clip: Clip, limits: DecodeLimits) -> Clip:
    if clip.times[-1] > limits.max_seconds:
        raise refusals.too_large("seconds of video", clip.times[-1], limits.max_seconds)
    _check_size(*clip.displayed, limits)
    return clip


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise refusals.too_large("pixels in a frame", width * height, limits.max_pixels)
    if min(width, height) < limits.min_side:
        raise refusals.too_small(width, height, limits.min_side)


def _packets(opened: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """The stream's packets as stored; ends where the container is damaged."""
    try:
        for packet in opened.demux(stream):
            if packet.size:
                yield packet
    except FFmpegError:
        return


def _decoded(stream: VideoStream, packet: "Packet[VideoStream] | None") -> Iterator[VideoFrame]:
    """The decoder's output after this packet (None: flush); empty for a damaged packet."""
    try:
        yield from stream.decode(packet)
    except FFmpegError:
        return


def _frames(
    opened: InputContainer, stream: VideoStream, clip: Clip, indices: Iterable[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """(label, frame) of every frame decoded from the needed runs of packets."""
    packets, position, count = _packets(opened, stream), 0, 0
    for run in clip.runs(indices):
        deque(islice(packets, run.start - position), maxlen=0)
        position = run.stop
        for packet in chain(islice(packets, len(run)), (None,)):
            for frame in _decoded(stream, packet):
                stamp = count if clip.labels is None else frame.pts
                count += 1
                if stamp is not None:
                    yield stamp, frame
        stream.codec_context.flush_buffers()


def _seconds(
    labels: Sequence[int] | None, total: int, rate: Fraction, time_base: Fraction | None
) -> list[float]:
    """Display time of each frame, from 0: from its timestamp, or from the rate if there are none."""
    if labels is None or time_base is None:
        return [i / float(rate) for i in range(total)]
    up, down, origin = time_base.numerator, time_base.denominator, labels[0]
    return [(stamp - origin) * up / down for stamp in labels]


def _display_matrix(frame: VideoFrame) -> bytes | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else bytes(data)
