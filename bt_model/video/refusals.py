"""The fixed list of reasons to refuse a video, so that no path and no decoder text reaches a client."""

from dataclasses import dataclass

from bt_model.errors import (
    DecodeTimeoutError,
    PartlyDecodedError,
    UnsupportedMediaError,
    VideoError,
    VideoLimitError,
)
from bt_model.video.formats import CODECS, FORMATS

_CONTAINERS = [name for name in FORMATS if name != "pictures"]  # those come in a data URL
_CONVERSION = "convert it: ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on one file. The time and memory of the process around it are bounded from outside.

    `max_pixels` is for one frame (4096 x 4096), `max_decoded_bytes` for all returned frames, `max_packets`
    for the whole video stream.
    """

    max_pixels: int = 4096 * 4096
    min_side: int = 16
    max_seconds: float = 12 * 3600.0
    max_tracks: int = 256
    max_packets: int = 4_000_000
    max_decoded_bytes: int = 512 * 1024**2


def empty_file() -> VideoError:
    return VideoError("the file is empty (0 bytes)", code="empty_file")


def unsupported_container() -> VideoError:
    return UnsupportedMediaError(
        f"the file is not a video container that is read here; allowed: {', '.join(_CONTAINERS)}. "
        f"If it is another kind of video, {_CONVERSION}"
    )


def unsupported_codec(name: str) -> VideoError:
    return UnsupportedMediaError(
        f"the video codec is {name!r}; allowed: {', '.join(CODECS)}. For another, {_CONVERSION}"
    )


def cut_off() -> VideoError:
    return VideoError(
        "the file is cut off: it has no index, or no complete frame; send all of it", code="truncated_video"
    )


def no_video_stream() -> VideoError:
    return VideoError("the file has no video stream", code="no_video_stream")


def no_frames() -> VideoError:
    return VideoError("the video stream holds no frames", code="no_frames")


def undecodable() -> VideoError:
    return VideoError(
        "the video cannot be decoded: its data is damaged, encrypted or not what its header says"
    )


def too_slow(seconds: float) -> DecodeTimeoutError:
    return DecodeTimeoutError(f"the video was not decoded within {seconds:g} s")


def partly_decoded(indices: tuple[int, ...], num_frames: int, seconds: float) -> PartlyDecodedError:
    return PartlyDecodedError(
        f"{len(indices)} of {num_frames} frames were decoded within {seconds:g} s and are kept for a while: "
        "the same request goes on from there",
        indices,
    )


def picture_rate(fps: float, allowed: str) -> VideoError:
    return VideoError(f"the list has {fps:g} pictures a second; allowed: {allowed}")


def undecodable_picture(number: int) -> VideoError:
    return VideoError(f"frame {number} of the list cannot be decoded; allowed: JPEG, PNG, WebP")


def other_picture_size(number: int, size: tuple[int, int], first: tuple[int, int]) -> VideoError:
    width, height = size
    return VideoError(
        f"frame {number} of the list has {width} x {height} pixels; "
        f"allowed: those of frame 0, {first[0]} x {first[1]}"
    )


def too_many_tracks(count: int, most: int) -> VideoError:
    return UnsupportedMediaError(
        f"the file has {count} tracks; at most {most} are allowed, of which only one of video is read: "
        "ffmpeg -i INPUT -map 0:v:0 -c copy OUTPUT keeps just that"
    )


def too_small(width: int, height: int, least: int) -> VideoError:
    return VideoError(
        f"frames are {width} x {height} pixels; at least {least} on each side", code="video_too_small"
    )


def too_large(what: str, value: float, most: float) -> VideoError:
    return VideoLimitError(f"{what}: {value:g}; at most {most:g} allowed")
