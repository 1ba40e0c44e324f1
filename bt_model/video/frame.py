"""A decoded frame made ready to be scaled: one field of two, nothing transparent, and the right matrix.

H height, W width.
"""

from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bt_model.video.orientation import turned_by
from bt_model.video.packets import Clip
from bt_model.video.tone import Tone

HD_WIDTH, HD_HEIGHT = 1280, 720

_MATRICES = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 5, "smpte240m": 7, "bt2020nc": 9, "bt2020c": 9}
_SD = _MATRICES["smpte170m"]
_FULL_RANGE = 2
_ANY_TIME = Fraction(1)  # a field needs none
_ROWS = 64  # are blended at a time, so that a large frame takes no more memory


def ready(frame: VideoFrame, clip: Clip) -> VideoFrame:
    """A decoded frame of this clip -> the same, or half its height, to be scaled to the displayed size."""
    if frame.interlaced_frame:
        frame = top_field(frame)
    if not frame.format.is_rgb:
        frame.colorspace = _matrix(clip)
        if clip.picture.color_range == "pc":
            frame.color_range = _FULL_RANGE
    return over_white(frame)


def is_plain(clip: Clip) -> bool:
    """Whether nothing is done to its frames but scaling and turning, as any reader does."""
    picture = clip.picture
    is_by_rule = picture.color_space not in _MATRICES and _matrix(clip) != _SD
    is_solid = not _has_alpha(VideoFormat(picture.pix_fmt))
    is_mirrored = clip.orientation != turned_by(clip.orientation.degrees)
    return (
        is_solid and not is_mirrored and not (is_by_rule or picture.deinterlaced or Tone(picture).is_needed)
    )


def _matrix(clip: Clip) -> int:
    """As tagged. Untagged: bt2020's for HDR and its primaries, else by size as players do it."""
    picture = clip.picture
    if picture.color_space in _MATRICES:
        return _MATRICES[picture.color_space]
    if picture.tone_mapped or picture.color_primaries == "bt2020":
        return _MATRICES["bt2020nc"]
    return _MATRICES["bt709"] if clip.width >= HD_WIDTH or clip.height >= HD_HEIGHT else _SD


def top_field(frame: VideoFrame) -> VideoFrame:
    """Every second line, which were taken at one moment. (H, W) -> (ceil(H / 2), W)."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME
    )
    graph.link_nodes(source, graph.add("field", "type=top"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _has_alpha(pixel_format: VideoFormat) -> bool:
    return pixel_format.has_palette or any(part.is_alpha for part in pixel_format.components)


def over_white(frame: VideoFrame) -> VideoFrame:
    """A frame with transparent pixels, over white; any other as it is."""
    if not _has_alpha(frame.format):
        return frame
    is_deep = frame.format.components[0].bits > 8  # noqa: PLR2004 - in a byte
    coloured = VideoReformatter().reformat(frame, format="rgba64le" if is_deep else "rgba", threads=1)
    pixels = cast("NDArray[np.unsignedinteger[Any]]", coloured.to_ndarray())
    white = np.iinfo(pixels.dtype).max
    if pixels[..., 3].min() == white:
        return frame
    solid = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS]
        lack = white - rows[..., :3].astype(np.float32)
        solid[top : top + _ROWS] = white - lack * (rows[..., 3:] / np.float32(white)) + 0.5
    return VideoFrame.from_ndarray(solid, format="rgb48le" if is_deep else "rgb24")
