"""Clips on disk: mp4 files with their scenes in JSON beside them.

In the "exact" codec a frame decodes to the same bits wherever it stands in a clip, so twins hold exactly the
same frames. In the "default" one a clip is footage as a phone or a download would have it: more frames, an
unusual size, noise, sometimes turned. F frames, H and W pixels.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from random import Random

import av
import numpy as np

from bt_model.atomic_files import write_text
from bt_model.errors import require
from lab.shapes.events import NUM_FRAMES, Change
from lab.shapes.paint import SIDE, Pixels, paint_clip
from lab.shapes.scene import FPS, Scene, SceneItem

CODECS = ("exact", "default")

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
    "film": {  # an hour of rest and events; a key frame every 8 s, so that pieces can be decoded apart
        "preset": "veryfast",
        "qp": "18",
        "g": "64",
        "threads": "1",
    },
}
_RATE = 30  # of footage, in frames a second
_SCALES = (0.75, 1.5)  # of footage's shorter side, as shares of the side asked for
_WIDEST = 1.8  # times the shorter side: a little more than 16 : 9
_ROTATIONS = (0, 0, 0, 90, 180, 270)
_NOISE = 5.0  # levels of 255, one standard deviation
_CHUNK = 16  # clips handed to a worker at a time
_SAMPLE = Scene(
    (SceneItem("circle", "blue", diameter=20.0, x=24.0, y=26.0),), "white", Change("disappear", absent=16)
)


@dataclass(frozen=True, slots=True)
class Footage:
    """How a scene is filmed, sizes as shown; `seed` decides the noise."""

    painted_side: int
    width: int
    height: int
    rotation: int
    num_frames: int
    fps: int
    seed: int


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
    require(codec in CODECS, "codec", codec, f"one of {', '.join(CODECS)}")
    height, width = frames.shape[1:3]
    write_frames(path, frames, (width, height), codec=codec, fps=fps, rotation=rotation)


def write_frames(
    path: Path,
    frames: Iterable[Pixels],
    size: tuple[int, int],
    *,
    codec: str,
    fps: int = FPS,
    rotation: int = 0,
) -> None:
    """Encode frames as they come, each (H,W,3); `size` is their width and height. Else as `write_video`."""
    width, height = size
    require(width % 2 == height % 2 == 0, "side", size, "even numbers of pixels")
    unfinished = path.with_name(f".{path.name}.part")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=_OPTIONS[codec])
        stream.width, stream.height = width, height
        # yuv420p plays everywhere; it costs 7 of 255 levels of colour inside a small clip's items
        stream.pix_fmt = "yuv420p"
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


def footage_of(scene: Scene, side: int) -> Footage:
    """Draw a size, a turn and noise that twins share. `side` is what the painted square's side is near to."""
    seed = int.from_bytes(hashlib.sha256(f"footage {scene.key}".encode()).digest()[:6])
    rng = Random(seed)
    shorter = round(side * rng.uniform(*_SCALES))
    longer = round(shorter * rng.uniform(1.0, _WIDEST))
    width, height = rng.choice(((shorter, longer), (longer, shorter)))
    return Footage(shorter, width, height, rng.choice(_ROTATIONS), NUM_FRAMES * _RATE // FPS, _RATE, seed)


def film(scene: Scene, footage: Footage) -> Pixels:
    """Paint the scene in the middle of its frames, with noise, as stored before a player turns them.

    Returns:
        (F,H,W,3), with one more row or column where 4:2:0 colour needs an even number.
    """
    square = paint_clip(scene, footage.painted_side, footage.num_frames)
    across, down = (size - footage.painted_side for size in (footage.width, footage.height))
    sides = ((down // 2, down - down // 2), (across // 2, across - across // 2))
    # items stand away from the border, so what is repeated is background
    shown = np.pad(square, ((0, 0), *sides, (0, 0)), mode="edge")
    stored = np.rot90(shown, -footage.rotation // 90, axes=(1, 2))
    odd = ((0, size % 2) for size in stored.shape[1:3])
    stored = np.pad(stored, ((0, 0), *odd, (0, 0)), mode="edge")
    noise = np.random.default_rng(footage.seed).normal(0, _NOISE, stored.shape)
    return np.clip(np.rint(stored + noise), 0, 255).astype(np.uint8)


def write_corpus(
    directory: Path,
    scenes: Sequence[Scene],
    *,
    workers: int = 1,
    side: int = SIDE,
    codec: str = "exact",
    progress: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Write the clips that are not there yet and return all paths, one a scene, in the scenes' order.

    Args:
        directory: made if missing; used by one writer at a time.
        scenes: what to write; a file's name follows from its scene, so equal scenes share a file.
        workers: processes that paint and encode; 1 stays in this process.
        side: picture side in pixels, even; that of the painted square in the default codec.
        codec: one of CODECS.
        progress: called with the number of clips that are there, out of the different ones.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / _name(scene, side, codec) for scene in scenes]
    wanted = dict(zip(paths, scenes, strict=True))
    missing = {path: scene for path, scene in wanted.items() if not is_complete(path)}
    for done, _ in enumerate(_write_all(missing, workers, side, codec), len(wanted) - len(missing) + 1):
        progress(done)
    return paths


def is_complete(path: Path) -> bool:
    """Tell whether a clip and its sidecar are there."""
    return _sidecar(path).exists() and path.exists()


def sample_clip(path: Path) -> Scene:
    """Write the demonstration's clip, of a combination that training never sees, and return its scene."""
    write_video(path, paint_clip(_SAMPLE, side=96, num_frames=64))
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
