"""File -> facts, and file -> the frames that a model takes.

T frames, H height, W width. Two readers have one interface: `read` returns frames of each size by source
index, perhaps not all; `recount` finds the real ones. Where decord is chosen it is asked first, and reads
what it is sure of. Without torch, so a decode process is small.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, get_args

import numpy as np

from bt_model.errors import VideoError, require
from bt_model.types import Frames, FrameSize, ReaderName, Sampling, VideoFacts
from bt_model.video import decord_reader, picture_reader, pyav_reader, refusals
from bt_model.video.attempt import Attempt, OutOfTimeError
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sample import FrameChoice, SingleFrame, choose_frames, chosen_frame
from bt_model.video.sniff import sniff
from bt_model.video.square import UNCROPPED, scaled_size

READER_NAMES: tuple[ReaderName, ...] = get_args(ReaderName)
DEFAULT_LIMITS = DecodeLimits()
_MAY_BE_CUT = ("no_frames", "undecodable_video")  # for want of the rest


@dataclass(frozen=True, slots=True)
class Wanted:
    """Frames that are asked for, in one or more sizes; as many as the default where `sampling` says none.

    A `single` is wanted in place of a sampling.
    """

    sampling: Sampling
    sizes: Sequence[FrameSize]
    default_frames: int
    single: SingleFrame | None = None


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """The frames of a clip that are wanted, and the pixels of all pictures that are decoded for them."""

    choice: FrameChoice
    num_pixels: int


def probe(source: Path | BinaryIO, limits: DecodeLimits = DEFAULT_LIMITS) -> VideoFacts:
    """Facts of a video file; every packet is counted and the first frame decoded.

    Raises:
        VideoError: the file cannot be used; `code` says why (bt_model/video/refusals.py).
    """
    with _opened(source) as file:
        return scan(file, limits).facts


def decode(
    source: Path | BinaryIO,
    sampling: Sampling,
    size: FrameSize,
    default_frames: int,
    reader: ReaderName = "pyav",
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> Frames:
    """The sampled frames of a file, scaled (bicubic) while decoding. -> `Frames.pixels` (T, side, side, 3).

    A size that is `whole` gives (T, H, W, 3), the shorter of the two being `side`.

    Raises:
        VideoError: the file cannot be used; `code` says why (bt_model/video/refusals.py).
        InvalidValueError: the sampling does not fit this video, or an unknown reader.
    """
    return decode_sizes(source, sampling, (size,), default_frames, reader, limits)[0]


def decode_sizes(
    source: Path | BinaryIO,
    sampling: Sampling,
    sizes: Sequence[FrameSize],
    default_frames: int,
    reader: ReaderName = "pyav",
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> list[Frames]:
    """The same frames in several sizes, in the order given; the file is decoded once. Raises as `decode`."""
    require(reader in READER_NAMES, "reader", reader, ", ".join(READER_NAMES))
    with _opened(source) as file:
        wanted = Wanted(sampling, sizes, default_frames)
        return decode_clip(file, scan(file, limits), wanted, reader, limits)[1]


def scan(file: BinaryIO, limits: DecodeLimits = DEFAULT_LIMITS) -> Clip:
    """What there is to decode, from one pass over all packets. Raises as `probe`."""
    sniffed = sniff(file)
    chosen = picture_reader if picture_reader.is_picture(sniffed.container) else pyav_reader
    try:
        return chosen.scan(file, sniffed, limits)
    except VideoError as error:
        if sniffed.is_cut and error.code in _MAY_BE_CUT:
            raise refusals.cut_off() from None
        raise


def decode_clip(
    file: BinaryIO,
    clip: Clip,
    wanted: Wanted,
    reader: ReaderName = "pyav",
    limits: DecodeLimits = DEFAULT_LIMITS,
    attempt: Attempt | None = None,
) -> tuple[Clip, list[Frames]]:
    """The frames of a file that was scanned, without another scan.

    Returns the same clip as well or, where the decoder outputs fewer frames than there are packets, the one
    that it was found to be.

    Raises:
        OutOfTimeError: this `attempt` is over.
        VideoError, InvalidValueError: as `decode`.
    """
    attempt, sizes = attempt or Attempt(), wanted.sizes
    chosen = picture_reader if picture_reader.is_picture(clip.container) else pyav_reader
    choice = _choice(clip, wanted)
    _check_budget(clip, len(choice.indices), sizes, limits)
    done = attempt.done or [{} for _ in sizes]
    rest = [i for i in choice.indices if i not in done[0]]
    attempt.begin(clip.num_needed(rest) * clip.width * clip.height, len(choice.indices))
    by_decord = reader == "decord" and decord_reader.read(file, clip, rest, sizes, limits, attempt)
    read = by_decord or chosen.read(file, clip, rest, sizes, limits, attempt)
    used = "decord" if by_decord else chosen.NAME
    found = [{**kept, **new} for kept, new in zip(done, read, strict=True)]
    if any(i not in found[0] for i in choice.indices):
        if attempt.is_over:
            raise OutOfTimeError(found, len(choice.indices))
        # the decoder outputs fewer frames than there are packets
        attempt.begin(len(clip.pts) * clip.width * clip.height, len(choice.indices))
        clip, used = chosen.recount(file, clip, limits), chosen.NAME
        choice = _choice(clip, wanted)
        found = chosen.read(file, clip, choice.indices, sizes, limits, Attempt())
        if clip.labels and any(i not in found[0] for i in choice.indices):
            clip = replace(clip, labels=None)  # some come only if everything before is decoded
            found = chosen.read(file, clip, choice.indices, sizes, limits, Attempt())
    indices = choice.indices
    if any(i not in found[0] for i in indices):
        raise refusals.undecodable()
    timestamps = tuple(clip.times[i] for i in indices)
    chosen_frames = indices, timestamps, clip.facts, choice.num_wanted, used
    return clip, [Frames(np.stack([by_index[i] for i in indices]), *chosen_frames) for by_index in found]


def plan(clip: Clip, wanted: Wanted, limits: DecodeLimits = DEFAULT_LIMITS) -> DecodePlan:
    """What `decode_clip` is about to do, as far as the packets tell. Raises as `decode_clip` does before."""
    choice = _choice(clip, wanted)
    _check_budget(clip, len(choice.indices), wanted.sizes, limits)
    return DecodePlan(choice, clip.num_needed(choice.indices) * clip.width * clip.height)


def _choice(clip: Clip, wanted: Wanted) -> FrameChoice:
    if wanted.single is not None:
        return chosen_frame(wanted.single, clip.times, clip.seconds)
    sampling, default = wanted.sampling, wanted.default_frames
    return choose_frames(len(clip.times), sampling, clip.fps, default, clip.times, clip.seconds)


def _check_budget(clip: Clip, num_frames: int, sizes: Sequence[FrameSize], limits: DecodeLimits) -> None:
    """Bound the bytes of all returned frames, and of the largest frame before cropping or after padding."""
    areas = [width * height for width, height in (scaled_size(*clip.displayed, size) for size in sizes)]
    widest = max(areas)
    given = zip(sizes, areas, strict=True)
    handed = num_frames * sum(area if size.fit in UNCROPPED else size.side**2 for size, area in given)
    most = 3 * max(handed, widest)
    if most > limits.max_decoded_bytes:
        raise refusals.too_large("decoded bytes", most, limits.max_decoded_bytes)


def _opened(source: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """A path is opened and closed here; an open file stays open."""
    return source.open("rb", buffering=0) if isinstance(source, Path) else nullcontext(source)
