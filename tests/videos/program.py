"""The ffmpeg program: it writes files for the comparison, and reads them with filters of its own.

T frames, H height, W width. It is another FFmpeg than the one in PyAV, by release and by build.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from numpy.typing import NDArray

_SECONDS = 120
_SHOWN = re.compile(
    r"n: *\d+ pts: *\S+ pts_time:(?P<seconds>\S+) .* sar:(?P<across>\d+)/(?P<down>\d+) s:(?P<size>\d+x\d+)"
)
_RATE = re.compile(r" Video: .* (?P<fps>[\d.]+) fps,")


class ProgramError(Exception):
    """It ended with an error; the text is its last line."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a player shows a file, beyond what every file has done: what the twin's filters are told.

    `turned` is clockwise for display, `flipped` is left to right after that.
    `deinterlacer` is the filter that shows what the upper of two fields shows. `matrix` is named where a file
    has no tag of it, and the rule for its size is not ffmpeg's. `track` counts tracks of video.
    """

    turned: int = 0
    flipped: bool = False
    deinterlacer: str = ""
    hdr: bool = False
    wide_gamut: bool = False
    alpha: bool = False
    matrix: str = ""
    track: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """What the program says of the frames of a file: `times` on its clock, and the size as displayed."""

    times: list[float] = field(default_factory=list[float])
    width: int = 0
    height: int = 0
    demuxers: str = ""


@cache
def version() -> str:
    return _run("-version").stdout.decode().split()[2]


def write(path: Path, source: Sequence[str], options: Sequence[str]) -> Path:
    """Encode.

    Raises:
        ProgramError: no such encoder, or the container does not take the codec.
    """
    _run("-y", *source, *options, str(path))
    return path


def listed(path: Path, shown: Shown) -> Listing:
    """Every frame's time, and how large the picture is on a screen.

    Program streams with several frames in a packet have no time for some, and the program then gives two of
    them one; there all are counted at the rate that it names.

    Raises:
        ProgramError: the program cannot read the file.
    """
    said = _run(*_input(path), *_mapped(shown), "-vf", "showinfo", "-f", "null", "-", level="info")
    text = said.stderr.decode(errors="replace")
    frames = [match for match in map(_SHOWN.search, text.splitlines()) if match]
    if not frames:
        raise ProgramError("no frames")
    first = frames[0]
    width, height = map(int, first["size"].split("x"))
    if int(first["down"]) and int(first["across"]):
        width = int(width * int(first["across"]) / int(first["down"]) + 0.5)
    if shown.turned % 180:
        width, height = height, width
    demuxers = text.partition("Input #0, ")[2].partition(" from ")[0]
    times = [float(frame["seconds"]) for frame in frames]
    rate = _RATE.search(text)
    if rate and any(after <= before for before, after in pairwise(times)):
        times = [number / float(rate["fps"]) for number in range(len(times))]
    return Listing(times, width, height, demuxers)


def extracted(
    path: Path, shown: Shown, sizes: Sequence[tuple[str, int, int]], folder: Path
) -> list[NDArray[np.uint8]]:
    """Every frame in every size, (T, H, W, 3) each; a size is filters, and what they lead to."""
    names = [f"out{number}" for number in range(len(sizes))]
    graph = f"[0:v:{shown.track}]{_before(shown)}split={len(sizes)}" + "".join(f"[in{i}]" for i in names)
    graph += "".join(f";[in{name}]{size[0]}[{name}]" for name, size in zip(names, sizes, strict=True))
    files = [folder / f"{name}.rgb" for name in names]
    outputs: list[str] = []
    for name, file in zip(names, files, strict=True):
        outputs += ["-map", f"[{name}]", "-fps_mode", "passthrough", "-f", "rawvideo", str(file)]
    _run("-y", *_input(path), "-filter_complex", graph, *outputs)
    found: list[NDArray[np.uint8]] = []
    for file, (_, width, height) in zip(files, sizes, strict=True):
        found.append(np.fromfile(file, np.uint8).reshape(-1, height, width, 3))
        file.unlink()
    return found


def scaling(shown: Shown, width: int, height: int) -> str:
    """To so many pixels of RGB as displayed, with the program's defaults but for what `shown` says."""
    if shown.turned % 180:
        width, height = height, width
    turns = {90: ",transpose=clock", 180: ",hflip,vflip", 270: ",transpose=cclock"}
    turn = turns.get(shown.turned, "") + (",hflip" if shown.flipped else "")
    matrix = f":in_color_matrix={shown.matrix}" if shown.matrix else ""
    return f"scale={width}:{height}:flags=bicubic{matrix},setsar=1,format=rgb24{turn}"


def _before(shown: Shown) -> str:
    """What is done to frames as they are stored."""
    filters: list[str] = []
    if shown.deinterlacer:
        filters.append(shown.deinterlacer)
    if shown.hdr:
        linear = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0"
        filters.append(f"{linear},zscale=t=bt709:m=bt709:r=limited,format=yuv444p")
    if shown.wide_gamut:
        filters.append("format=gbrp16le,zscale=p=bt709,format=gbrp")
    if shown.alpha:
        white = "lutrgb=r=maxval:g=maxval:b=maxval:a=maxval"
        filters.append(
            f"format=gbrap,split[front][back];[back]{white}[white];[white][front]overlay=format=gbrp"
        )
    return "".join(f"{each}," for each in filters)


def _input(path: Path) -> list[str]:
    return ["-noautorotate", "-i", str(path)]


def _mapped(shown: Shown) -> list[str]:
    return ["-map", f"0:v:{shown.track}", "-fps_mode", "passthrough"]


def _run(*arguments: str, level: str = "error") -> subprocess.CompletedProcess[bytes]:
    command = [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", level, "-threads", "1", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ProgramError(lines[-1] if lines else f"exit status {done.returncode}")
    return done
