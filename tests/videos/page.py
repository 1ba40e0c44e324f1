"""docs/videos.md, written from what was measured."""

import datetime
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av

from bt_model.video.formats import FORMATS
from tests.videos import program
from tests.videos.comparison import MOST_GREYS, MOST_GREYS_HDR, Line
from tests.videos.film import NO_ENCODER, Missing

PAGE = Path(__file__).parents[2] / "docs" / "videos.md"
_COLUMNS = ("container", "codec", "file", "reader", "frames", "wrong", "time error", "grey levels", "verdict")
_WORDS = f"""# Videos beside ffmpeg

Written by `make videos`. Frames, times and colours as the product shows them are compared with what the
ffmpeg program, another build and release of FFmpeg than the product's, extracts with filters of its own:
`scale` with the pixels' aspect, `transpose`, `field` of interlaced video, `zscale` and `tonemap`, `overlay`
on white.

* **frames**: how many were compared; all of a file up to 120, else 64 spread over it.
* **wrong**: frames that show another number than was drawn on them, or that look more like another frame of
  ffmpeg's than like the one that they are named after, and frames that only one of the two has. The bar is 0.
* **time error**: the largest, in milliseconds, beside half a frame, which is the bar. In AVI and ASF, whose
  packets are stamped as stored, ffmpeg's clock begins some frames before the first one that is shown: there
  all are counted from the second one. Where ffmpeg gives two frames one time, as of program streams with
  several frames in a packet, its frames are counted at its rate.
* **grey levels**: the mean difference of all pixels and channels, at the video's own size (the first 60
  frames), cropped to 224 x 224 and padded to 336 x 336. The bars are {MOST_GREYS:g} and, for HDR,
  where no two tone curves are alike, {MOST_GREYS_HDR:g}.
* **reader**: the one that was asked for; with `decord`, files that it does not read as they are shown are
  read by PyAV.

A list of pictures in a data URL is no file that ffmpeg reads, and is not here: its frames are what JPEG, PNG
and WebP give alone, in tests of their own.

Untagged video of 1280 x 720 or more is converted with bt709's matrix, by this project's rule; ffmpeg is told
so there.
"""


def text(
    lines: Sequence[Line], missing: Sequence[Missing], absent: Sequence[tuple[str, str]], seconds: float
) -> str:
    """The whole page."""
    bad = sum(not line.is_good for line in lines)
    frames, wrong = sum(line.frames for line in lines), sum(line.wrong for line in lines)
    drawn = [line for line in lines if line.film.numbers is not None]
    real = [line for line in lines if line.film.numbers is None]
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    parts = [
        _WORDS,
        f"{today}, {_versions()}; {machine}, {seconds:.0f} s.\n\n"
        f"{len(lines)} lines, {frames} frames, {wrong} "
        f"wrong; {bad} lines not met.\n",
        "## Drawn, with numbers\n",
        _table(drawn),
        "## Filmed\n",
        *(f"Not here: {package} ({why}).\n" for package, why in absent),
        _table(real),
        "## Not compared\n",
        _gaps(missing),
    ]
    return "\n".join(parts)


def row(line: Line) -> str:
    """One line of the table."""
    film = line.film
    greys = " / ".join(f"{grey:.2f}" for grey in line.greys)
    time = f"{1000 * line.seconds_off:.1f} of {1000 * line.half_frame:.1f}"
    what = f"{film.name}, {film.what}" if film.what else film.name
    verdict = "met" if line.is_good else f"NOT MET {line.fault}".strip()
    cells = (FORMATS[film.container].name, film.codec, what, line.reader, str(line.frames), str(line.wrong))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, time, greys, verdict)) + " |"


def _table(lines: Sequence[Line]) -> str:
    head = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
    return head + "".join(f"{row(line)}\n" for line in lines)


def _gaps(missing: Sequence[Missing]) -> str:
    codecs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in missing:
        codecs[each.why, FORMATS[each.container].name].append(each.codec)
    without = sorted({each.codec for each in missing if each.why == NO_ENCODER})
    said = (
        f"No encoder for {', '.join(without)} is known; no file of them could be written.\n\n"
        if without
        else ""
    )
    refusing = [
        f"* {container}: {', '.join(found)}"
        for (why, container), found in codecs.items()
        if why != NO_ENCODER
    ]
    return (
        f"{said}Codecs that ffmpeg does not write into a container, or does not read out of it again:\n\n"
        + "".join(f"{each}\n" for each in refusing)
    )


def _versions() -> str:
    inside = ".".join(map(str, av.library_versions["libavcodec"]))
    ours = f"PyAV {av.__version__} (libavcodec {inside}) and decord {_decord()}"
    return f"ffmpeg {program.version()} beside {ours}"


def _decord() -> str:
    try:
        return version("decord")
    except PackageNotFoundError:
        return "that is not installed"
