"""Files with numbered frames: every codec in every container that takes it, and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bt_model.video.formats import CODECS, FORMATS, Container
from tests.clips import picture
from tests.videos.film import COUNT, HEIGHT, NO_ENCODER, WIDTH, Film, Missing
from tests.videos.program import ProgramError, Shown, listed

_FINE = ("-q:v", "1", "-qmin", "1")
_GROUPS = ("-g", "10", "-bf", "2")
ENCODERS: Mapping[str, Sequence[str]] = {
    "h264": ("libx264", "-crf", "10", "-preset", "veryfast", *_GROUPS),
    "hevc": ("libx265", "-crf", "8", "-preset", "veryfast", "-x265-params", "log-level=none:keyint=10"),
    "vp8": ("libvpx", "-b:v", "4M", "-qmin", "1", "-deadline", "realtime", "-cpu-used", "4"),
    "vp9": ("libvpx-vp9", "-crf", "10", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8"),
    "av1": ("libsvtav1", "-crf", "12", "-preset", "10", "-svtav1-params", "keyint=10"),
    "mpeg4": ("mpeg4", *_FINE, *_GROUPS),
    "mpeg2video": ("mpeg2video", *_FINE, *_GROUPS),
    "mpeg1video": ("mpeg1video", *_FINE, *_GROUPS),
    "mjpeg": ("mjpeg", *_FINE),
    "prores": ("prores_ks", "-pix_fmt", "yuv422p10le"),
    "dnxhd": ("dnxhd", "-profile:v", "dnxhr_hq", "-pix_fmt", "yuv422p", "-s", "256x192"),
    "h263": ("h263", *_FINE),
    "flv1": ("flv", *_FINE),
    "theora": ("libtheora", "-q:v", "10"),
    "wmv1": ("wmv1", *_FINE),
    "wmv2": ("wmv2", *_FINE),
    "msmpeg4v2": ("msmpeg4v2", *_FINE),
    "msmpeg4v3": ("msmpeg4", *_FINE),
    "ffv1": ("ffv1",),
    "gif": ("gif", "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"),
}
"""How the program writes each codec, of those that it can write."""

SUFFIXES: Mapping[Container, Sequence[str]] = {
    "mp4": ("mp4", "mov", "3gp"), "matroska": ("mkv",), "webm": ("webm",), "avi": ("avi",), "mpegts": ("ts",),
    "mpeg": ("mpg", "vob"), "ogg": ("ogv",), "asf": ("wmv",), "flv": ("flv",), "gif": ("gif",),
}  # fmt: skip
"""Ends of file names by which the program knows the container; the first one that takes a codec is used."""

_PICTURES: Mapping[Container, Sequence[str]] = {
    "jpeg": ("mjpeg", "-q:v", "1", "-frames:v", "1"), "png": ("png", "-frames:v", "1"),
    "webp": ("libwebp", "-lossless", "1", "-frames:v", "1"),
}  # fmt: skip


def pairs(source: Sequence[str], folder: Path) -> Iterator[Film | Missing]:
    """Every codec in every container, tried in the folder."""
    for container in SUFFIXES:
        for codec in CODECS:
            yield _pair(container, codec, source, folder)


def stills(source: Sequence[str]) -> Iterator[Film]:
    """A picture of every kind."""
    for container, options in _PICTURES.items():
        name = f"still.{container}"
        yield Film(name, container, container, "drawn, still", source, ("-c:v", *options), numbers=[0])


def numbered(folder: Path) -> Sequence[str]:
    """Raw frames with numbers, as an input of the program."""
    path = folder / "numbered.rgb"
    if not path.exists():
        path.write_bytes(b"".join(picture(number, WIDTH, HEIGHT).tobytes() for number in range(COUNT)))
    return raw(path, "rgb24")


def _pair(container: Container, codec: str, source: Sequence[str], folder: Path) -> Film | Missing:
    if codec not in ENCODERS:
        return Missing(container, codec, NO_ENCODER)
    trial = folder / "trial"
    trial.mkdir(exist_ok=True)
    for suffix in SUFFIXES[container]:
        options = ("-c:v", *ENCODERS[codec])
        name = f"drawn-{codec}.{suffix}"
        film = Film(name, container, codec, "drawn", source, options, numbers=range(COUNT))
        try:
            listing = listed(film.written(trial), Shown())
        except ProgramError:
            continue
        if FORMATS[container].demuxer in listing.demuxers and len(listing.times) > 1:
            return film
    return Missing(container, codec, "the container does not take it")


def raw(path: Path, pixel_format: str) -> Sequence[str]:
    """Raw frames as an input of the program."""
    size = f"{WIDTH}x{HEIGHT}"
    return ("-f", "rawvideo", "-pix_fmt", pixel_format, "-s", size, "-i", str(path))
