"""Reads the pictures of a list, each by itself, upright."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import BinaryIO

from PIL import Image, ImageOps

from bt_model.video import refusals
from bt_model.video.opening import check_size
from bt_model.video.packets import Clip
from bt_model.video.picture_list import ALLOWED_FPS, is_rate, pictures_of, rate_of
from bt_model.video.pillow import BROKEN, PLUGINS, clip_of, picture_of
from bt_model.video.refusals import DecodeLimits


def scan(file: BinaryIO, limits: DecodeLimits) -> Clip:
    """Decode every picture. Raises as `picture_reader.scan`."""
    fps = rate_of(file)
    if not is_rate(fps):
        raise refusals.picture_rate(fps, ALLOWED_FPS)
    pictures = [(image.size, picture_of(image)) for _, image in numbered(file, limits)]
    if not pictures:
        raise refusals.undecodable()
    first, picture = pictures[0]
    for number, (size, _) in enumerate(pictures):
        if size != first:
            raise refusals.other_picture_size(number, size, first)
    clock = [number / fps for number in range(len(pictures) + 1)]
    return clip_of("pictures", first, picture, clock, fps, limits)


def numbered(
    file: BinaryIO, limits: DecodeLimits, wanted: Collection[int] | None = None
) -> Iterator[tuple[int, Image.Image]]:
    """Those that are wanted, or all, with their numbers."""
    rate_of(file)
    for number, data in enumerate(islice(pictures_of(file), limits.max_packets)):
        if wanted is not None and number not in wanted:
            continue
        try:
            with Image.open(data, formats=[*PLUGINS.values()]) as image:
                check_size(*image.size, limits)
                upright = ImageOps.exif_transpose(image)
                upright.load()
        except BROKEN:
            raise refusals.undecodable_picture(number) from None
        yield number, upright
