"""Opens video files with PyAV: pinned demuxers, no nested files, listed codecs only, one track of all."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bt_model.video import refusals
from bt_model.video.formats import CODECS, FORMATS, Container
from bt_model.video.refusals import DecodeLimits

# FFmpeg's probing decodes the start of every stream; this restricts it to the codecs that are read here.
# Streams of other codecs are still listed.
_PROBED_CODECS = ",".join(CODECS.values())
_BUFFER_BYTES = 256 * 1024
_BROADCASTS = ("mpegts", "mpeg")


class PacketCount:
    """Packets of video that were demuxed."""

    def __init__(self) -> None:
        self.total = 0


demuxed = PacketCount()
"""By this process."""


@contextmanager
def opened_video(
    file: BinaryIO, container: Container, limits: DecodeLimits, *, is_known: bool = False
) -> Generator[tuple[InputContainer, VideoStream]]:
    """The one video stream of a file, ready to decode; the others are discarded.

    One that was opened before is not probed again, which costs as much as a frame; its header may lack what
    only decoding tells.
    """
    file.seek(0)
    try:
        with av.open(
            file,
            mode="r",
            format=FORMATS[container].demuxer,
            container_options={"codec_whitelist": "none" if is_known else _PROBED_CODECS},
            io_open=_refuse_nested_file,
            buffer_size=_BUFFER_BYTES,
            metadata_errors="replace",  # a title in another encoding than UTF-8 is no damage
        ) as opened:
            stream = _chosen(opened, limits)
            for other in opened.streams:
                if other is not stream:
                    other.discard = Discard.all
            _check_codec(stream)
            if not is_known:
                check_size(stream.codec_context.width, stream.codec_context.height, limits)
            # a stream may change its size later: a decoder refuses it before it allocates (with padded rows)
            stream.codec_context.options = {"max_pixels": str(2 * limits.max_pixels)}
            stream.codec_context.thread_count = 1  # there is a process for every core
            yield opened, stream
    except FFmpegError:
        raise refusals.undecodable() from None


def starts_of_others(opened: InputContainer, stream: VideoStream) -> list[float]:
    """Seconds at which the other tracks of sound and picture begin, of those that say so."""
    others = (*opened.streams.audio, *opened.streams.video)
    return [
        float(other.start_time * other.time_base)
        for other in others
        if other is not stream and not _is_cover(other) and other.start_time is not None and other.time_base
    ]


def check_size(width: int, height: int, limits: DecodeLimits) -> None:
    """Raises VideoError: a frame has too many pixels, or too few on a side."""
    if width * height > limits.max_pixels:
        raise refusals.too_large("pixels in a frame", width * height, limits.max_pixels)
    if min(width, height) < limits.min_side:
        raise refusals.too_small(width, height, limits.min_side)


def packets_of(opened: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """The stream's complete packets as stored; ends where the container is damaged.

    In a broadcast a packet that lost some of its bytes is still worth decoding, as everything there may be.
    """
    keeps_damaged = opened.format.name in _BROADCASTS
    try:
        for packet in opened.demux(stream):
            demuxed.total += 1
            if packet.size and (keeps_damaged or not packet.is_corrupt):
                yield packet
    except (FFmpegError, IndexError):  # the latter at the end, of a track that began in mid-stream
        return


def decoded(stream: VideoStream, packet: "Packet[VideoStream] | None") -> list[VideoFrame] | None:
    """The decoder's output after this packet (None: flush); None for a damaged one."""
    try:
        return stream.decode(packet)
    except FFmpegError:
        return None


def _chosen(opened: InputContainer, limits: DecodeLimits) -> VideoStream:
    """The track that players show: the first that is marked as default, or the first; never a cover."""
    if len(opened.streams) > limits.max_tracks:
        raise refusals.too_many_tracks(len(opened.streams), limits.max_tracks)
    tracks = [track for track in opened.streams.video if not _is_cover(track)]
    if not tracks:
        raise refusals.no_video_stream()
    return next((track for track in tracks if track.disposition & Disposition.default), tracks[0])


def _is_cover(track: object) -> bool:
    return isinstance(track, VideoStream) and bool(track.disposition & Disposition.attached_pic)


def _refuse_nested_file(*_: object) -> NoReturn:
    raise PermissionError


def _check_codec(stream: VideoStream) -> None:
    """Check the codec that the header names, before anything is decoded."""
    context = stream.codec_context
    codec = context.codec.canonical_name if context else "unknown"  # none where FFmpeg has no decoder
    if codec not in CODECS:
        raise refusals.unsupported_codec(codec)
