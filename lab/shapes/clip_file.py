"""Clips on disk: mp4 files with their scenes in JSON beside them.

In the "exact" codec a frame decodes to the same bits wherever it stands in a clip, so twins hold exactly the
same frames. In the "default" one a clip is an ordinary video: see footage.py. F frames, H and W pixels,
S picture side in pixels.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import av

from bt_model.atomic_files import write_text
from bt_model.errors import InvalidValueError
from lab.shapes.events import Change
from lab.shapes.footage import film, footage_of
from lab.shapes.paint import SIDE, Pixels, paint_clip
from lab.shapes.scene import FPS, Scene, SceneItem

CODECS = ("exact", "default")

_CODEC = "libx264"
_PIXELS = "yuv420p"  # plays everywhere; costs 7 of 255 levels of colour inside a small clip's items
_OPTIONS = {
    "exact": {
        "preset": "veryfast",
        "qp": "18",  # constant: switches off adaptive quantisation and everything that looks at other frames
        "g": "1",
        "bf": "0",
        "threads": "1",
    },
    "default": {
        "preset": "veryfast",
        "x264-params": "mbtree=0",  # with it, pictures of unaligned widths do not code to the same bits twice
        "threads": "1",
    },
}
_CHUNK = 16  # clips handed to a worker at a time
_SAMPLE = Scene(
    (SceneItem("circle", "blue", diameter=20.0, x=24.0, y=26.0),), "white", Change("disappear", absent=16)
)
_SAMPLE_SIDE = 96
_SAMPLE_FRAMES = 64


def write_video(
    path: Path, frames: Pixels, *, codec: str = "exact", fps: int = FPS, rotation: int = 0
) -> None:
    """Encode (F,H,W,3) as an mp4 file, which appears complete or not at all.

    Args:
        path: where.
        frames: what is stored.
        codec: one of CODECS.
        fps: frames a second.
        rotation: degrees by which a player turns the stored frames counterclockwise.

    Raises:
        InvalidValueError: an odd picture side, which 4:2:0 colour cannot hold, or an unknown codec.
    """
    if codec not in CODECS:
        raise InvalidValueError(f"codec {codec!r}: one of {CODECS}", param="codec")
    height, width = frames.shape[1:3]
    if width % 2 or height % 2:
        raise InvalidValueError(f"side {width} x {height}: even numbers of pixels", param="side")
    unfinished = path.with_name(f".{path.name}.part")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream(_CODEC, rate=fps, options=_OPTIONS[codec])
        stream.width, stream.height = width, height
        stream.pix_fmt = _PIXELS
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    unfinished.replace(path)


def write_clip(path: Path, scene: Scene, side: int = SIDE, codec: str = "exact") -> None:
    """Paint and encode a scene's clip; the sidecar comes last, so where it lies the clip is complete.

    Raises:
        InvalidValueError: an odd side in the exact codec, or an unknown codec.
    """
    facts = {"scene": scene.to_values(), "side": side, "codec": codec, "fps": FPS}
    if codec == "default":
        footage = footage_of(scene, side)
        facts |= asdict(footage)
        frames = film(scene, footage)
        write_video(path, frames, codec=codec, fps=footage.fps, rotation=footage.rotation)
    else:
        write_video(path, paint_clip(scene, side), codec=codec)
    write_text(_sidecar(path), json.dumps(facts, indent=1))


def write_corpus(
    directory: Path,
    scenes: Sequence[Scene],
    *,
    workers: int = 1,
    side: int = SIDE,
    codec: str = "exact",
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write the clips that are not there yet and return all paths, one a scene, in the scenes' order.

    Args:
        directory: made if missing; used by one writer at a time.
        scenes: what to write; a file's name follows from its scene, so equal scenes share a file.
        workers: processes that paint and encode; 1 stays in this process.
        side: picture side in pixels, even; that of the painted square in the default codec.
        codec: one of CODECS.
        progress: told the number of clips that are there, out of the different ones.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / _name(scene, side, codec) for scene in scenes]
    wanted = dict(zip(paths, scenes, strict=True))
    missing = {path: scene for path, scene in wanted.items() if not is_complete(path)}
    for done, _ in enumerate(_write_all(missing, workers, side, codec), len(wanted) - len(missing) + 1):
        if progress is not None:
            progress(done)
    return paths


def is_complete(path: Path) -> bool:
    """Tell whether a clip and its sidecar are there."""
    return _sidecar(path).exists() and path.exists()


def sample_clip(path: Path) -> Scene:
    """Write the demonstration's clip, of a combination that training never sees, and return its scene."""
    write_video(path, paint_clip(_SAMPLE, _SAMPLE_SIDE, _SAMPLE_FRAMES))
    return _SAMPLE


def _write_all(clips: dict[Path, Scene], workers: int, side: int, codec: str) -> Iterator[None]:
    arguments = (clips.keys(), clips.values(), repeat(side), repeat(codec))
    if workers == 1:
        yield from map(write_clip, *arguments)
        return
    # spawned: a fork of a process that runs torch's threads can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_clip, *arguments, chunksize=_CHUNK)


def _name(scene: Scene, side: int, codec: str) -> str:
    digest = hashlib.sha256(f"{codec} {side} {scene.to_json()}".encode()).hexdigest()
    return f"{digest[:20]}.mp4"


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")
