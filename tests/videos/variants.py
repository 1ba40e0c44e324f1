"""What else files with numbered frames can be: their structure, shape, clock, fields and colours."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bt_model.video.formats import Container
from tests.cells import stored
from tests.clips import picture
from tests.videos.drawn import ENCODERS, raw
from tests.videos.film import COUNT, HEIGHT, WIDTH, Film
from tests.videos.program import Shown

TOP_FIELD = Shown(deinterlacer="field=type=top")

_CONTAINERS: Mapping[str, Container] = {
    "mp4": "mp4", "mov": "mp4", "mkv": "matroska", "webm": "webm", "avi": "avi", "ts": "mpegts",
    "m2ts": "mpegts", "mpg": "mpeg", "gif": "gif", "png": "png", "webp": "webp",
}  # fmt: skip
_COPIED = ("-c", "copy")
_FIELDS = ("-flags", "+ilme+ildct")
_TEN_BITS = ("-pix_fmt", "yuv420p10le")
_PLAIN_MPEG4 = ("-c:v", "mpeg4", "-q:v", "1", "-qmin", "1", "-g", "10")

_Options = Sequence[str]


def variants(source: _Options, folder: Path) -> Iterator[Film]:
    """All of them, of numbered frames; others are drawn in the folder."""
    parts = (_structures(source), _shapes(source), _clocks(source), _fields(source), _formats(source))
    yield from chain(*parts, _hdr(folder), _transparent(folder))


def _film(name: str, what: str, source: _Options, *options: str, codec: str = "h264", **more: Any) -> Film:
    coded = () if "-c:v" in options else ("-c:v", *ENCODERS[codec])
    given: dict[str, Any] = {"numbers": range(COUNT), **more}
    return Film(name, _CONTAINERS[name.rpartition(".")[2]], codec, what, source, (*coded, *options), **given)


def _structures(source: _Options) -> Iterator[Film]:
    x264 = "-x264-params"
    yield _film("open.mp4", "open groups", source, x264, "open-gop=1")
    x265 = ("-x265-params", "log-level=none:keyint=10:open-gop=1")
    yield _film("open-hevc.mkv", "open groups", source, *x265, codec="hevc")
    yield _film("refreshed.mp4", "no key frame but the first", source, x264, "intra-refresh=1")
    pyramid = ("-bf", "8", x264, "b-pyramid=normal:ref=4:b-adapt=0")
    yield _film("pyramid.mp4", "eight B-frames in a pyramid", source, *pyramid)
    yield _film("fragments.mp4", "fragmented", source, "-movflags", "frag_keyframe+empty_moov")
    yield _film("first.mp4", "index first", source, "-movflags", "faststart")
    for suffix in ("mp4", "mov"):
        cut = (("-ss", "0.48"), _COPIED)
        yield _film(f"cut.{suffix}", "edit list", source, then=cut, numbers=range(12, COUNT))
    yield _film("camera.m2ts", "packets of 192 bytes", source, "-f", "mpegts", "-mpegts_m2ts_mode", "1")


def _shapes(source: _Options) -> Iterator[Film]:
    for degrees in (90, 180, 270):
        turn, shown = (("-display_rotation", str(-degrees)), _COPIED), Shown(turned=degrees)
        for suffix in ("mp4", "mov"):
            yield _film(f"turned{degrees}.{suffix}", f"turned {degrees}°", source, then=turn, shown=shown)
    mirror = (("-display_hflip",), _COPIED)
    yield _film("mirrored.mp4", "mirrored", source, then=mirror, shown=Shown(flipped=True))
    for name, ratio in (("wide.mp4", "16/9"), ("dvd.mkv", "64/45"), ("narrow.mov", "8/9")):
        yield _film(name, f"pixels {ratio.replace('/', ':')}", source, "-vf", f"setsar={ratio}")
    turn = (("-display_rotation", "-90"), _COPIED)
    squeezed = ("-vf", "setsar=2")
    shown = Shown(turned=90)
    yield _film("wide-turned.mp4", "pixels 2:1, turned 90°", source, *squeezed, then=turn, shown=shown)


def _clocks(source: _Options) -> Iterator[Film]:
    uneven = ("-vf", "setpts=(N+N*N/20)/25/TB", "-fps_mode", "passthrough", "-enc_time_base", "1:1000")
    for suffix in ("mp4", "mkv", "mov"):
        yield _film(f"vfr.{suffix}", "variable rate", source, *uneven)
    yield _film("fast.mp4", "120 frames a second", ("-r", "120", *source))
    kept = [number for number in range(COUNT) if number % 7 < 3 or number >= 21]
    slots = ("-vf", "select=lt(mod(n\\,7)\\,3)+gte(n\\,21)", "-fps_mode", "passthrough", *_PLAIN_MPEG4)
    yield _film("slots.avi", "dropped slots", source, *slots, codec="mpeg4", numbers=kept)
    reordered = (*slots, "-bf", "2")
    yield _film("slots-b.avi", "dropped slots, B-frames", source, *reordered, codec="mpeg4", numbers=kept)
    sounding = (*source, "-f", "lavfi", "-i", "sine=duration=1.2")
    tracks = ("-map", "0:v", "-map", "1:a")
    yield _film("sound.mp4", "with sound", sounding, *tracks)
    late = ((), (*_COPIED, "-bsf:v", "setts=pts=PTS+1.5/TB:dts=DTS+1.5/TB"))
    yield _film("late.mkv", "sound 1.5 s before the picture", sounding, *tracks, then=late)


def _fields(source: _Options) -> Iterator[Film]:
    """Frames whose lines were taken at two moments, and such as only say so."""
    source = ("-r", "50", *source)
    for order, first in (("top", 0), ("bottom", 1)):
        what, more = (
            f"interlaced, {order} field first",
            {"numbers": range(first, COUNT, 2), "shown": TOP_FIELD},
        )
        woven = ("-vf", f"tinterlace=interleave_{order},setfield={order[0]}ff", *_FIELDS)
        for suffix, codec in (("mpg", "mpeg2video"), ("ts", "h264"), ("mov", "prores")):
            params = ("-x264-params", f"{order[0]}ff=1") if codec == "h264" else ()
            yield _film(f"{order}.{suffix}", what, source, *woven, *params, codec=codec, **more)
    said = ("-vf", "setfield=tff", *_FIELDS, "-x264-params", "tff=1")
    yield _film("fields.mp4", "progressive, coded as interlaced", source, *said, shown=TOP_FIELD)


def _formats(source: _Options) -> Iterator[Film]:
    for pix_fmt in ("yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuvj420p", "gray"):
        yield _film(f"{pix_fmt}.mp4", pix_fmt, source, "-pix_fmt", pix_fmt)
    yield _film("ten.mkv", "yuv420p10le", source, *_TEN_BITS, codec="hevc")
    yield _film("ten.webm", "yuv420p10le", source, *_TEN_BITS, codec="vp9")
    tagged = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709")
    yield _film("709.mp4", "tagged bt709", source, *tagged)
    large = ("-vf", "scale=1280:720:out_color_matrix=bt709", "-g", "30")
    yield _film("hd.mp4", "1280 x 720 without tags", source, *large, shown=Shown(matrix="bt709"))


def _hdr(folder: Path) -> Iterator[Film]:
    """One scene in HLG and in PQ, and SDR of a wider gamut."""
    turn = (("-display_rotation", "-90"), _COPIED)
    for transfer, name in (("arib-std-b67", "HLG"), ("smpte2084", "PQ")):
        source, options = _of_bt2020(folder, transfer), (*_TEN_BITS, *_tags(transfer))
        for suffix in ("mp4", "mkv", "ts"):
            what, shown = f"HDR, {name}", Shown(hdr=True)
            yield _film(f"{name}.{suffix}", what, source, *options, codec="hevc", shown=shown)
        yield _film(f"{name}.mov", f"HDR, {name}", source, *options, shown=Shown(hdr=True))
        yield _film(f"{name}.webm", f"HDR, {name}", source, *options, codec="vp9", shown=Shown(hdr=True))
        more: dict[str, Any] = {"codec": "hevc", "then": turn, "shown": Shown(hdr=True, turned=90)}
        yield _film(f"{name}-turned.mp4", f"HDR, {name}, turned 90°", source, *options, **more)
    source, options = _of_bt2020(folder, "bt709"), (*_TEN_BITS, *_tags("bt709"))
    shown = Shown(wide_gamut=True)
    yield _film("gamut.mp4", "SDR of bt2020's gamut", source, *options, codec="hevc", shown=shown)


def _transparent(folder: Path) -> Iterator[Film]:
    """A quarter of each frame is half transparent, and a quarter is wholly."""
    path = folder / "numbered.rgba"
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[: HEIGHT // 2, : WIDTH // 2], alpha[: HEIGHT // 2, WIDTH // 2 :] = 128, 0
    frames = (np.dstack([picture(number, WIDTH, HEIGHT), alpha]) for number in range(COUNT))
    path.write_bytes(b"".join(frame.tobytes() for frame in frames))
    coders: dict[str, tuple[str, _Options]] = {
        "alpha.mov": ("prores", ("-profile:v", "4444", "-pix_fmt", "yuva444p10le")),
        "alpha.mkv": ("ffv1", ("-pix_fmt", "yuva420p")),
        "alpha-rgb.mkv": ("ffv1", ("-pix_fmt", "bgra")),
        "alpha.gif": ("gif", ()),
        "moving.png": ("png", ("-c:v", "apng", "-f", "apng", "-plays", "0")),
        "moving.webp": ("webp", ("-c:v", "libwebp_anim", "-lossless", "1", "-loop", "0")),
    }
    source = raw(path, "rgba")
    for name, (codec, options) in coders.items():
        coded = options if "-c:v" in options else ("-c:v", *_encoder(codec), *options)
        yield _film(name, "transparent, over white", source, *coded, codec=codec, shown=Shown(alpha=True))


def _encoder(codec: str) -> _Options:
    """Without the pixel format that solid frames have."""
    return ("prores_ks",) if codec == "prores" else ENCODERS[codec]


def _of_bt2020(folder: Path, transfer: str) -> _Options:
    path = folder / f"{transfer}.rgb48"
    frames = (stored(picture(number, WIDTH, HEIGHT) / 255, "bt2020", transfer) for number in range(COUNT))
    path.write_bytes(b"".join((frame * 65535).round().astype("<u2").tobytes() for frame in frames))
    return raw(path, "rgb48le")


def _tags(transfer: str) -> _Options:
    matrix = "scale=out_color_matrix=bt2020nc:out_range=tv"
    filters = f"{matrix},setparams=color_primaries=bt2020:color_trc={transfer}"
    named = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    return ("-vf", filters, *named)
