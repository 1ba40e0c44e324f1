"""A file's frames as the product shows them beside the same frames of the ffmpeg program.

T frames, N frames of the file, H height, W width.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import VideoError
from bt_model.types import MAX_FRAMES, Frames, FrameSize, ReaderName, Sampling
from bt_model.video.decode import READER_NAMES, decode_sizes
from bt_model.video.square import PAD_COLOUR
from tests.clips import MAX_NUMBERED, numbers_in
from tests.videos.film import Film
from tests.videos.program import Listing, ProgramError, extracted, listed, scaling

MOST_GREYS, MOST_GREYS_HDR = 2.0, 30.0
_CROP, _PAD = 224, 336
_FULL_FRAMES = 60  # the others are compared as squares only
_ANY_SIZE = 16384
_SAME = 0.05  # of a squared grey level: frames that differ by less show the same

_TICK = 0.0005  # clocks of thousandths of a second round so far
# ffmpeg's clock begins with the first packet there, some frames before the first one that is shown, which in
# some of their files has that packet's time
_LATE = ("avi", "asf")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Line:
    """A file and a reader: `greys` are mean differences at its own size, as a crop and as a padded square."""

    film: Film
    reader: ReaderName
    frames: int = 0
    wrong: int = 0
    seconds_off: float = 0.0
    half_frame: float = 0.0
    greys: tuple[float, ...] = ()
    fault: str = ""

    @property
    def is_good(self) -> bool:
        most = MOST_GREYS_HDR if self.film.shown.hdr else MOST_GREYS
        is_close = bool(self.greys) and max(self.greys) <= most
        return not self.fault and not self.wrong and is_close and self.seconds_off <= self.half_frame + _TICK


def compared(film: Film) -> list[Line]:
    """With every reader."""
    with tempfile.TemporaryDirectory(prefix="btchat-videos-") as name:
        try:
            path = film.written(Path(name))
            listing = listed(path, film.shown)
            theirs = _theirs(path, film, listing, Path(name))
        except ProgramError as error:
            return [Line(film, reader, fault=f"ffmpeg: {error}") for reader in READER_NAMES]
        return [_line(path, film, reader, listing, theirs) for reader in READER_NAMES]


def _line(path: Path, film: Film, reader: ReaderName, listing: Listing, theirs: list[Pixels]) -> Line:
    try:
        ours = _ours(path, listing, reader)
    except VideoError as error:
        return Line(film, reader, fault=f"refused: {error}")
    whole, squares, padded = ours
    facts, indices = whole.facts, whole.indices
    if (facts.container, facts.codec) != (film.container, film.codec):
        return Line(film, reader, fault=f"taken for {facts.codec} in {facts.container}")
    if (facts.width, facts.height) != (listing.width, listing.height):
        return Line(
            film, reader, fault=f"{facts.width} x {facts.height}, not {listing.width} x {listing.height}"
        )
    lacking = abs(facts.num_frames - len(listing.times))
    there = [place for place, index in enumerate(indices) if index < len(listing.times)]
    offs = [whole.timestamps[place] - listing.times[indices[place]] for place in there]
    if film.container in _LATE:
        offs = [off - offs[1] for off in offs[1:]]
    first = [place for place in there if indices[place] < len(theirs[0])]
    pairs = [(whole, first), (squares, there), (padded, first)]
    greys = [
        _grey_levels(frames.pixels[places], their[[indices[place] for place in places]])
        for (frames, places), their in zip(pairs, theirs, strict=True)
    ]
    named = [indices[place] for place in there]
    wrong = set[int]() if film.shown.hdr else _misnamed(squares.pixels[there], named, theirs[1])
    wrong |= {place for place in there if not _shows_number(film, whole, place)}
    half = 0.5 / facts.fps
    return Line(film, reader, len(indices), len(wrong) + lacking, max(map(abs, offs)), half, tuple(greys))


def _ours(path: Path, listing: Listing, reader: ReaderName) -> list[Frames]:
    many = len(listing.times) > MAX_FRAMES - 8
    sampling = Sampling(num_frames=64) if many else Sampling(fps=240)
    sizes = [
        FrameSize(min(listing.width, listing.height), "whole"),
        FrameSize(_CROP, "crop"),
        FrameSize(_PAD, "pad"),
    ]
    return decode_sizes(path, sampling, sizes, 8, reader)


def _theirs(path: Path, film: Film, listing: Listing, folder: Path) -> list[Pixels]:
    """The program's frames in the same sizes; the last pixels of an odd margin lie right and below."""
    width, height = listing.width, listing.height
    shorter, longer = min(width, height), max(width, height)
    wide, high = (max(_CROP, side * _CROP // shorter) for side in (width, height))
    left, top = (wide - _CROP) // 2, (high - _CROP) // 2
    few = f"trim=end_frame={_FULL_FRAMES},"
    colour = "0x" + "".join(f"{level:02x}" for level in PAD_COLOUR)
    bars = f"pad={longer}:{longer}:{(longer - width) // 2}:{(longer - height) // 2}:color={colour}"
    whole = scaling(film.shown, width, height)
    sizes = [
        (few + whole, width, height),
        (f"{scaling(film.shown, wide, high)},crop={_CROP}:{_CROP}:{left}:{top}", _CROP, _CROP),
        (f"{few}{whole},{bars},scale={_PAD}:{_PAD}:flags=bicubic", _PAD, _PAD),
    ]
    return extracted(path, film.shown, sizes, folder)


def _grey_levels(ours: Pixels, theirs: Pixels) -> float:
    """Mean difference of (T, H, W, 3), frame by frame for the sake of memory."""
    each = [np.abs(a.astype(np.int16) - b).mean() for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(each)) if each else math.inf


def _misnamed(ours: Pixels, indices: list[int], theirs: Pixels) -> set[int]:
    """Places of frames (T, H, W, 3) that look more like another one of the file's (N, H, W, 3)."""
    a, b = (pixels.reshape(len(pixels), -1).astype(np.float32) - 128 for pixels in (ours, theirs))
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T  # (T, N)
    squares /= a.shape[1]
    named = squares[np.arange(len(a)), indices]
    return {place for place in range(len(a)) if named[place] > squares[place].min() + _SAME}


def _shows_number(film: Film, whole: Frames, place: int) -> bool:
    if film.numbers is None:
        return True
    index = whole.indices[place]
    if index >= len(film.numbers):
        return False
    frame = whole.pixels[place : place + 1]
    if film.shown.flipped:
        frame = frame[:, :, ::-1]
    stored = np.rot90(frame, film.shown.turned // 90, axes=(1, 2))
    return numbers_in(stored) == [film.numbers[index] % MAX_NUMBERED]
