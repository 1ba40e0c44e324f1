"""What a stream says of its pixels: their shape, their colours, and whether two fields lie in a frame.

Names are ffprobe's. Code points are those of H.273, which containers and codecs share.
"""

from fractions import Fraction

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bt_model.video.facts import Picture

HDR_TRANSFERS = ("arib-std-b67", "smpte2084")  # HLG and PQ
WIDEST_ASPECT = 10  # of a pixel; real ones are within 1:2 and 3:1

_UNKNOWN = "unknown"
_RANGES = {1: "tv", 2: "pc"}
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_SPACES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}


def picture_of(stream: VideoStream, first: VideoFrame) -> Picture:
    """From a stream's first frame; what that does not say, from the stream."""
    context = stream.codec_context
    transfer = _name(_TRANSFERS, first.color_trc, context.color_trc)
    return Picture(
        pix_fmt=first.format.name,
        sample_aspect_ratio=_aspect(stream.sample_aspect_ratio or context.sample_aspect_ratio),
        color_range=_name(_RANGES, first.color_range, context.color_range),
        color_space=_name(_SPACES, first.colorspace, context.colorspace),
        color_transfer=transfer,
        color_primaries=_name(_PRIMARIES, first.color_primaries, context.color_primaries),
        tone_mapped=transfer in HDR_TRANSFERS,
        deinterlaced=first.interlaced_frame,
    )


def stretched(width: int, height: int, ratio: str) -> tuple[int, int]:
    """Stored width and height -> those of the same picture in square pixels: the width follows the ratio."""
    across, down = map(int, ratio.split(":"))
    return (2 * width * across + down) // (2 * down), height


def _name(names: dict[int, str], *codes: int) -> str:
    return next((names[code] for code in codes if code in names), _UNKNOWN)


def _aspect(found: Fraction | None) -> str:
    """The container's ratio goes before the codec's, as in players: that is where it is corrected."""
    if not found or not Fraction(1, WIDEST_ASPECT) <= found <= WIDEST_ASPECT:
        return "1:1"
    return f"{found.numerator}:{found.denominator}"
