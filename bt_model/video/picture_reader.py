"""Reads still and animated pictures with Pillow, which knows animated WebP and how a camera was held.

H height, W width. A still picture is a clip of one frame, a list of them one of as many.
"""

import io
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from bt_model.types import FrameSize
from bt_model.video import listed_pictures, refusals
from bt_model.video.attempt import Attempt
from bt_model.video.formats import Container
from bt_model.video.frame import over_white
from bt_model.video.opening import check_size
from bt_model.video.orientation import Orientation
from bt_model.video.packets import Clip
from bt_model.video.pillow import BROKEN, PLUGINS, clip_of, picture_of, video_frame
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import Sniffed
from bt_model.video.square import Squarer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "pillow"
_MODULES = ("JpegImagePlugin", "MpoImagePlugin", "PngImagePlugin", "WebPImagePlugin")
_STILL_FPS = 25.0
_LEAST_MS, _USUAL_MS = 10, 100  # what asks for less is shown for a tenth of a second by every browser
_CHUNK_HEADER, _RIFF_HEADER = 8, 12
_ORIENTATION = 0x0112
_ORIENTATIONS = {  # of EXIF: where the first row and column of what is stored are shown
    2: Orientation(mirror_x=True),
    3: Orientation(mirror_x=True, mirror_y=True),
    4: Orientation(mirror_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, mirror_x=True),
    7: Orientation(transpose=True, mirror_x=True, mirror_y=True),
    8: Orientation(transpose=True, mirror_y=True),
}


def is_picture(container: Container) -> bool:
    """Whether these files are read here."""
    return container == "pictures" or container in PLUGINS


def prepare() -> None:
    """Import what Pillow otherwise imports when the first such picture comes."""
    for name in _MODULES:
        import_module(f"PIL.{name}")


def scan(file: BinaryIO, sniffed: Sniffed, limits: DecodeLimits) -> Clip:
    """Decode every frame, as only then it is known that it is whole.

    Raises:
        VideoError: codes `undecodable_video`, `truncated_video`, `video_too_small`, `video_too_large`.
    """
    if sniffed.container == "pictures":
        return listed_pictures.scan(file, limits)
    with _opened(file, sniffed.container, limits) as image:
        orientation = _ORIENTATIONS.get(image.getexif().get(_ORIENTATION, 1), Orientation())
        lasting = [_seconds(frame) for frame in _frames(image, limits)]
        if not lasting:
            raise refusals.undecodable()
        is_still = len(lasting) == 1
        clock = [0.0, 1 / _STILL_FPS] if is_still else [*accumulate(lasting, initial=0.0)]
        picture = picture_of(image)
        clip = clip_of(sniffed.container, image.size, picture, clock, 1 / clock[1], limits)
        warnings = () if is_still else sniffed.warnings + _lost(image, len(lasting))
        return replace(clip, orientation=orientation, warnings=warnings)


def read(
    file: BinaryIO,
    clip: Clip,
    indices: Sequence[int],
    sizes: Sequence[FrameSize],
    limits: DecodeLimits,
    attempt: Attempt,
) -> "list[dict[int, NDArray[np.uint8]]]":
    """For every size the requested frames (H, W, 3) by source index, so far as the attempt goes."""
    squarers = [Squarer(clip, size) for size in sizes]
    found: list[dict[int, NDArray[np.uint8]]] = [{} for _ in sizes]
    wanted = set(indices)
    with _numbered_frames(file, clip.container, wanted, limits) as frames:
        for index, frame in frames:
            if index in wanted:
                wanted.remove(index)
                pixels = over_white(video_frame(frame))
                for by_index, square in zip(found, squarers, strict=True):
                    by_index[index] = square(pixels)
                attempt.found(len(indices) - len(wanted))
            if not wanted or attempt.is_over:
                break
    return found


def recount(_file: BinaryIO, clip: Clip, _limits: DecodeLimits) -> Clip:
    """The same clip: `scan` has counted what can be decoded."""
    return clip


@contextmanager
def _numbered_frames(
    file: BinaryIO, container: Container, wanted: set[int], limits: DecodeLimits
) -> Generator[Iterator[tuple[int, Image.Image]]]:
    """Those of a list that are wanted, and of an animation all, as each is drawn upon the one before it."""
    if container == "pictures":
        yield listed_pictures.numbered(file, limits, wanted)
        return
    with _opened(file, container, limits) as image:
        yield enumerate(_frames(image, limits))


@contextmanager
def _opened(file: BinaryIO, container: Container, limits: DecodeLimits) -> Generator[Image.Image]:
    file.seek(0)
    try:
        if container == "webp":
            file = _whole_chunks(file)
        with Image.open(file, formats=(PLUGINS[container],)) as image:
            check_size(*image.size, limits)
            yield image
    except BROKEN:
        raise refusals.undecodable() from None


def _frames(image: Image.Image, limits: DecodeLimits) -> Iterator[Image.Image]:
    """The animation's frames, up to the first that is damaged; of a JPEG its own picture alone."""
    numbers = _numbers(image)
    for number in numbers[: limits.max_packets]:
        try:
            image.seek(number)
            image.load()
        except BROKEN:
            return
        yield image


def _numbers(image: Image.Image) -> range:
    """Of the frames by its header."""
    total = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    return range(int(getattr(image, "default_image", False)), total)  # that one is for where nothing moves


def _lost(image: Image.Image, count: int) -> tuple[str, ...]:
    total = len(_numbers(image))
    return () if count == total else (f"{count} of {total} frames are there",)


def _whole_chunks(file: BinaryIO) -> BinaryIO:
    """A WebP without the chunk in which it is cut off, if it is, as its decoder takes whole files only."""
    data = file.read()
    end = _RIFF_HEADER
    while end + _CHUNK_HEADER <= len(data):
        size = int.from_bytes(data[end + 4 : end + _CHUNK_HEADER], "little")
        if end + _CHUNK_HEADER + size > len(data):
            break
        end += _CHUNK_HEADER + size + size % 2
    riff = b"RIFF" + (end - _CHUNK_HEADER).to_bytes(4, "little")
    return io.BytesIO(riff + data[_CHUNK_HEADER:end])


def _seconds(frame: Image.Image) -> float:
    lasting = frame.info.get("duration") or 0
    return (lasting if lasting > _LEAST_MS else _USUAL_MS) / 1000
