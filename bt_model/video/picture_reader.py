"""Reads still and animated pictures with Pillow, which knows animated WebP and how a camera was held.

H height, W width. A still picture is a clip of one frame, a list of them one of as many.
"""

import io
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import accumulate, islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from bt_model.types import FrameSize
from bt_model.video import refusals
from bt_model.video.attempt import Attempt
from bt_model.video.facts import Picture
from bt_model.video.formats import Container
from bt_model.video.frame import over_white
from bt_model.video.opening import check_size
from bt_model.video.orientation import Orientation
from bt_model.video.packets import Clip
from bt_model.video.picture_list import pictures_of, rate_of
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import Sniffed
from bt_model.video.square import Squarer

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "pillow"
_PLUGINS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_MODULES = ("JpegImagePlugin", "MpoImagePlugin", "PngImagePlugin", "WebPImagePlugin")
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
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
    return container == "pictures" or container in _PLUGINS


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
        return _scan_list(file, limits)
    with _opened(file, sniffed.container, limits) as image:
        orientation = _ORIENTATIONS.get(image.getexif().get(_ORIENTATION, 1), Orientation())
        lasting = [_seconds(frame) for frame in _frames(image, limits)]
        if not lasting:
            raise refusals.undecodable()
        is_still = len(lasting) == 1
        times = [*accumulate(lasting[:-1], initial=0.0)]
        clip = Clip(
            container=sniffed.container,
            codec=sniffed.container,
            width=image.width,
            height=image.height,
            orientation=orientation,
            picture=_picture(image),
            has_audio=False,
            header_fps=_STILL_FPS if is_still else 1 / lasting[0],
            times=times,
            seconds=1 / _STILL_FPS if is_still else times[-1] + lasting[-1],
            labels=None,
            pts=[None] * len(times),
            keys=[0],
            warnings=() if is_still else sniffed.warnings + _lost(image, len(lasting)),
        )
    if clip.seconds > limits.max_seconds:
        raise refusals.too_large("seconds of video", clip.seconds, limits.max_seconds)
    return clip


def read(
    file: BinaryIO,
    clip: Clip,
    indices: Sequence[int],
    sizes: Sequence[FrameSize],
    limits: DecodeLimits,
    _attempt: Attempt,
) -> "list[dict[int, NDArray[np.uint8]]]":
    """For every size the requested frames (H, W, 3) by source index."""
    squarers = [Squarer(clip, size) for size in sizes]
    found: list[dict[int, NDArray[np.uint8]]] = [{} for _ in sizes]
    wanted = set(indices)
    with _opened_frames(file, clip.container, limits) as frames:
        for index, frame in enumerate(frames):
            if index in wanted:
                pixels = over_white(_video_frame(frame))
                for by_index, square in zip(found, squarers, strict=True):
                    by_index[index] = square(pixels)
            if index >= max(wanted):
                break
    return found


def recount(_file: BinaryIO, clip: Clip, _limits: DecodeLimits) -> Clip:
    """The same clip: `scan` has counted what can be decoded."""
    return clip


def _scan_list(file: BinaryIO, limits: DecodeLimits) -> Clip:
    sizes = [(frame.size, _picture(frame)) for frame in _listed(file, limits)]
    fps = rate_of(file)
    if not sizes or fps <= 0:
        raise refusals.undecodable()
    first, picture = sizes[0]
    for number, (size, _) in enumerate(sizes):
        if size != first:
            raise refusals.other_picture_size(number, size, first)
    times = [number / fps for number in range(len(sizes))]
    if times[-1] > limits.max_seconds:
        raise refusals.too_large("seconds of video", times[-1], limits.max_seconds)
    return Clip(
        container="pictures",
        codec="pictures",
        width=first[0],
        height=first[1],
        orientation=Orientation(),
        picture=picture,
        has_audio=False,
        header_fps=fps,
        times=times,
        seconds=len(times) / fps,
        labels=None,
        pts=[None] * len(times),
        keys=[0],
    )


def _listed(file: BinaryIO, limits: DecodeLimits) -> Iterator[Image.Image]:
    """The pictures of a list, upright."""
    rate_of(file)
    for number, data in enumerate(islice(pictures_of(file), limits.max_packets)):
        try:
            with Image.open(io.BytesIO(data), formats=[*_PLUGINS.values()]) as image:
                check_size(*image.size, limits)
                upright = ImageOps.exif_transpose(image)
                upright.load()
        except _BROKEN:
            raise refusals.undecodable_picture(number) from None
        yield upright


@contextmanager
def _opened_frames(
    file: BinaryIO, container: Container, limits: DecodeLimits
) -> Generator[Iterator[Image.Image]]:
    if container == "pictures":
        yield _listed(file, limits)
        return
    with _opened(file, container, limits) as image:
        yield _frames(image, limits)


@contextmanager
def _opened(file: BinaryIO, container: Container, limits: DecodeLimits) -> Generator[Image.Image]:
    file.seek(0)
    try:
        if container == "webp":
            file = _whole_chunks(file)
        with Image.open(file, formats=(_PLUGINS[container],)) as image:
            check_size(*image.size, limits)
            yield image
    except _BROKEN:
        raise refusals.undecodable() from None


def _frames(image: Image.Image, limits: DecodeLimits) -> Iterator[Image.Image]:
    """The animation's frames, up to the first that is damaged; of a JPEG its own picture alone."""
    numbers = _numbers(image)
    for number in numbers[: limits.max_packets]:
        try:
            image.seek(number)
            image.load()
        except _BROKEN:
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


def _picture(image: Image.Image) -> Picture:
    return Picture(
        pix_fmt=_pixel_format(image),
        sample_aspect_ratio="1:1",
        color_range="pc",
        color_space="gbr",
        color_transfer="iec61966-2-1",
        color_primaries="bt709",
        tone_mapped=False,
        deinterlaced=False,
    )


def _pixel_format(image: Image.Image) -> str:
    if image.mode.startswith("I"):  # grey of 16 bits
        return "gray"
    return "rgba" if image.has_transparency_data else "rgb24"


def _video_frame(image: Image.Image) -> VideoFrame:
    """Pixels as they are stored, with their transparency."""
    pixel_format = _pixel_format(image)
    if pixel_format == "gray":
        pixels = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
    else:
        pixels = np.asarray(image.convert("RGBA" if pixel_format == "rgba" else "RGB"))
    return VideoFrame.from_ndarray(pixels, format=pixel_format)
