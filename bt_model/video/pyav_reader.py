"""Reads video files with PyAV: one pass over all packets, then one over those that the sampled frames need.

H height, W width.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, BinaryIO

from av import time_base as MICROSECONDS
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bt_model.types import FrameSize
from bt_model.video import refusals
from bt_model.video.attempt import Attempt
from bt_model.video.frame import ready
from bt_model.video.needed import LostError, needed_frames
from bt_model.video.opening import check_size, decoded, opened_video, packets_of, starts_of_others
from bt_model.video.orientation import Orientation, orientation_of, turned_by
from bt_model.video.packets import Clip, PacketTable
from bt_model.video.picture import picture_of
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import Sniffed
from bt_model.video.square import Squarer
from bt_model.video.timeline import StreamHeader, timeline_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "pyav"
_SOUGHT_BY_PLACE = ("mpegts", "flv")
_TRIED_PACKETS = 48  # more than the frames that any decoder holds back
_FALLBACK_FPS = Fraction(25)  # if neither header nor timestamps give a rate, as for a single frame


def scan(file: BinaryIO, sniffed: Sniffed, limits: DecodeLimits) -> Clip:
    """Read every packet of the video stream, and decode the first frame.

    Raises:
        VideoError: codes `no_video_stream`, `no_frames`, `undecodable_video`, `unsupported_media`,
            `video_too_small`, `video_too_large`.
    """
    with opened_video(file, sniffed.container, limits) as (opened, stream):
        table, first, delay = _table(opened, stream, limits)
        header = _header(opened, stream, sniffed, delay)
        if delay and table.is_stamped_as_stored and not header.has_stored_order_only:
            header = replace(header, is_shuffled=_is_shuffled(file, sniffed, limits))
        timeline = timeline_of(table, header)
        clip = Clip(
            container=sniffed.container,
            codec=stream.codec_context.codec.canonical_name,
            width=first.width,
            height=first.height,
            orientation=_orientation(first),
            picture=picture_of(stream, first),
            has_audio=bool(opened.streams.audio),
            header_fps=_header_fps(stream),
            times=timeline.times,
            seconds=timeline.seconds,
            labels=timeline.labels,
            pts=table.pts,
            keys=table.keys,
            warnings=sniffed.warnings + _lost(opened, sniffed, timeline.seconds),
            places=_places(table, sniffed),
        )
    check_size(*clip.displayed, limits)
    if clip.times[-1] > limits.max_seconds:
        raise refusals.too_large("seconds of video", clip.times[-1], limits.max_seconds)
    return clip


def read(
    file: BinaryIO,
    clip: Clip,
    indices: Sequence[int],
    sizes: Sequence[FrameSize],
    limits: DecodeLimits,
    attempt: Attempt,
) -> "list[dict[int, NDArray[np.uint8]]]":
    """For every size the requested frames (H, W, 3) by source index, all decoded once.

    Frames that the decoder does not output are left out, and when the attempt is over all that are not there.
    """
    squarers = [Squarer(clip, size) for size in sizes]
    wanted: dict[int | None, int] = {clip.label(i): i for i in indices}
    found: dict[int, list[NDArray[np.uint8]]] = {}
    for is_known, frames_of in _SOURCES if clip.labels else _SOURCES[1:]:
        opening = opened_video(file, clip.container, limits, is_known=is_known)
        with opening as (opened, stream), suppress(LostError):
            for label, frame in frames_of(opened, stream, clip, indices):
                if (index := wanted.pop(label, None)) is not None:
                    check_size(frame.width, frame.height, limits)
                    shown = ready(frame, clip)
                    found[index] = [square(shown) for square in squarers]
                    attempt.found(len(found))
                if not wanted or attempt.is_over:
                    break
        if not wanted or attempt.is_over:
            break
    return [{i: squares[place] for i, squares in found.items()} for place in range(len(sizes))]


def recount(file: BinaryIO, clip: Clip, limits: DecodeLimits) -> Clip:
    """Decode everything, to find which frames the decoder really outputs.

    Raises:
        VideoError: it outputs none.
    """
    stamps: list[int | None] = []
    numbers: list[int] = []  # of the packets with which they are output
    num_before_flush = 0
    with opened_video(file, clip.container, limits) as (opened, stream):
        for number, packet in enumerate(chain(packets_of(opened, stream), (None,))):
            if packet is None:
                num_before_flush = len(stamps)
            for place, frame in enumerate(decoded(stream, packet) or ()):
                stamps.append(frame.pts)
                numbers.append(number + place)
        time_base = stream.time_base
    if not stamps:
        raise refusals.undecodable()
    labels = sorted(stamp for stamp in stamps if stamp is not None)
    if clip.labels is not None and time_base is not None and len(labels) == len(stamps):
        first = clip.times[0] - float(clip.labels[0] * time_base)
        times = [first + float(stamp * time_base) for stamp in labels]
        return clip.recounted(times, labels if len(set(labels)) == len(labels) else None)
    if len(stamps) == len(clip.times):
        return clip.recounted(clip.times)
    delay, last = len(stamps) - num_before_flush, len(clip.times) - 1
    return clip.recounted([clip.times[min(max(number - delay, 0), last)] for number in numbers])


def _table(
    opened: InputContainer, stream: VideoStream, limits: DecodeLimits
) -> tuple[PacketTable, VideoFrame, int]:
    """Every packet, the first frame, and how many packets without damage the decoder took before that."""
    table, delay = PacketTable(), 0
    first: VideoFrame | None = None
    for ordinal, packet in enumerate(packets_of(opened, stream)):
        if ordinal >= limits.max_packets:
            raise refusals.too_large("frames in the file", ordinal + 1, limits.max_packets)
        is_shown = not packet.is_discard
        table.add(
            packet.pts,
            packet.dts,
            packet.duration,
            is_key=packet.is_keyframe,
            is_shown=is_shown,
            place=packet.pos,
        )
        if first is None:
            found = decoded(stream, packet)
            first = found[0] if found else None
            delay += found is not None and first is None
    if not table.shown:
        raise refusals.no_frames()
    first = first or next(iter(decoded(stream, None) or ()), None)
    if first is None:
        raise refusals.undecodable()
    check_size(first.width, first.height, limits)
    return table, first, delay


def _is_shuffled(file: BinaryIO, sniffed: Sniffed, limits: DecodeLimits) -> bool:
    """Whether the first frames have timestamps that go back, as in an MP4 that was copied from an AVI."""
    with opened_video(file, sniffed.container, limits) as (opened, stream):
        packets = islice(packets_of(opened, stream), _TRIED_PACKETS)
        stamps = [frame.pts or 0 for packet in packets for frame in decoded(stream, packet) or ()]
    return any(after < before for before, after in pairwise(stamps))


def all_frames(
    opened: InputContainer, stream: VideoStream, clip: Clip, indices: Iterable[int]
) -> Iterator[tuple[int | None, VideoFrame]]:
    """(label, frame) of every frame decoded from the needed runs of packets.

    Frames without labels are counted; before it is known which are lost, only up to the first that is.
    """
    packets, position, count = packets_of(opened, stream), 0, 0
    for run in clip.runs(indices):
        deque(islice(packets, run.start - position), maxlen=0)
        position = run.stop
        for packet in chain(islice(packets, len(run)), (None,)):
            found = decoded(stream, packet)
            is_lost = found is None or (count > 0 and not found and packet is not None)
            if is_lost and clip.labels is None and not clip.is_counted:
                return
            for frame in found or ():
                yield (count if clip.labels is None else frame.pts), frame
                count += 1
        stream.codec_context.flush_buffers()


_SOURCES = ((True, needed_frames), (False, all_frames))


def _places(table: PacketTable, sniffed: Sniffed) -> Sequence[int]:
    """Of the key packets, where the container has no index, but can be read from there on."""
    places = [place for place in table.places if place is not None]
    return places if sniffed.container in _SOUGHT_BY_PLACE and len(places) == len(table.keys) else ()


def _header(opened: InputContainer, stream: VideoStream, sniffed: Sniffed, delay: int) -> StreamHeader:
    num_ticks = None if sniffed.is_cut else stream.duration
    others = starts_of_others(opened, stream)
    return StreamHeader(sniffed.container, stream.time_base, _header_fps(stream), num_ticks, others, delay)


def _lost(opened: InputContainer, sniffed: Sniffed, seconds: float) -> tuple[str, ...]:
    """How much of a file that was cut off is there, if its header knows."""
    whole = (opened.duration or 0) / MICROSECONDS
    if not sniffed.is_cut or whole <= seconds:
        return ()
    return (f"{seconds:.2f} of {whole:.2f} seconds are there",)


def _header_fps(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or _FALLBACK_FPS)


def _orientation(frame: VideoFrame) -> Orientation:
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside a kind that FFmpeg has and PyAV does not know, as what a camera notes
        return turned_by(-frame.rotation)
    return orientation_of(None if data is None else bytes(data))
