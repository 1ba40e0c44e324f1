"""What frames of a video cost, beside decord and torchcodec: CPU seconds, each in a process of its own.

python -m benchmarks.video [--torchcodec FOLDER]. One thread each, scaled to a shorter side of 336 by each
one's own scaler: ours and decord's while they decode, torchcodec's by its transform. Ours is given what an
upload has told of the file; `unknown` is with what it costs to find that out. Rounds take turns; medians.

torchcodec's package has no FFmpeg: it gets PyAV's, by links with the names that it looks for.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import av

from benchmarks.record import record
from benchmarks.video_files import FILES, FOLDER
from bt_model.decoding.pool import DecodePool
from bt_model.types import FrameSize
from bt_model.video.attempt import Attempt
from bt_model.video.decode import DEFAULT_LIMITS
from bt_model.video.pyav_reader import read, scan
from bt_model.video.sniff import sniff

SIDE = 336
COUNTS = (8, 32, 100)
FEW = (1, 2, 8)
PEERS = ("decord", "torchcodec")
WANTED = {
    "of the best other": 1.05,
    "few frames of 2 h, of a pure seek": 2.0,
    "facts of 2 h, CPU seconds": 1.0,
}
_LIBRARY = re.compile(r"-[0-9a-f]{8}(\.so\.\d+).*")  # as wheels rename theirs


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torchcodec", type=Path, help="a folder into which its wheel is unpacked")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        who, path, count = args.one
        print(json.dumps(_READERS[who](Path(path), int(count))))
        return
    for file in FILES:
        file.make()
    figures = {**_beside_others(args.torchcodec, args.rounds), **_long_file(args.rounds)}
    print(record("video", figures))
    for name, most in WANTED.items():
        value = figures[name]
        print(f"{name}: {value:.2f}, wanted {most:.2f}: {'met' if value <= most else 'MISSED'}")


def _beside_others(torchcodec: Path | None, rounds: int) -> dict[str, Any]:
    readers = ["ours", *(who for who in PEERS if _works(who, torchcodec))]
    cells: dict[str, dict[str, float]] = {}
    for file in FILES:
        for count in COUNTS:
            taken: dict[str, list[float]] = {}
            for _ in range(rounds):
                for who in readers:
                    for name, seconds in _alone(who, file.path, count, torchcodec).items():
                        taken.setdefault(name, []).append(seconds)
            cell = {name: median(each) for name, each in taken.items()}
            others = [cell[who] for who in readers[1:]]
            cell["of the best other"] = cell["ours"] / min(others) if others else 0.0
            cells[f"{file.name}, {count} frames"] = cell
            print(f"{file.name:12}{count:4}", {name: round(value, 3) for name, value in cell.items()})
    return {"cells": cells, "of the best other": max(cell["of the best other"] for cell in cells.values())}


def _long_file(rounds: int) -> dict[str, Any]:
    path = next(file.path for file in FILES if file.seconds > 3600)
    pure = median(_alone("pure seek", path, 1)["pure seek"] for _ in range(rounds))
    few = {count: median(_alone("ours", path, count)["ours"] for _ in range(rounds)) for count in FEW}
    demux = median(_alone("demux", path, 1)["demux"] for _ in range(rounds))
    facts = median(_facts_seconds(path) for _ in range(rounds))
    print(f"2 h: pure seek {pure:.3f}, frames {few}, demux {demux:.3f}, facts through the pool {facts:.3f}")
    return {
        "pure seek": pure,
        "frames of 2 h": few,
        "demux of 2 h": demux,
        "few frames of 2 h, of a pure seek": few[FEW[0]] / pure,
        "facts of 2 h, CPU seconds": facts,
    }


def _facts_seconds(path: Path) -> float:
    """Of the decode child, with all it does for a file after its start."""
    with DecodePool(1) as pool:
        (pid,) = pool.pids
        before = _process_seconds(pid)
        pool.probe(path).result().close()
        return _process_seconds(pid) - before


def _process_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _works(who: str, torchcodec: Path | None) -> bool:
    try:
        _alone(who, FILES[0].path, 1, torchcodec)
    except subprocess.CalledProcessError as error:
        print(f"without {who}: {error.stderr.strip().splitlines()[-1]}")
        return False
    return True


def _alone(who: str, path: Path, count: int, torchcodec: Path | None = None) -> dict[str, float]:
    environment = dict(os.environ)
    if who == "torchcodec":
        environment["LD_LIBRARY_PATH"] = str(_linked_libraries().resolve())
        if torchcodec:
            environment["PYTHONPATH"] = os.pathsep.join([str(torchcodec), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.video", "--one", who, str(path), str(count)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _linked_libraries() -> Path:
    """PyAV's libraries, also by their usual names."""
    folder = FOLDER / "libraries"
    folder.mkdir(exist_ok=True)
    for library in Path(av.__file__).parent.with_name("av.libs").iterdir():
        for name in {library.name, _LIBRARY.sub(r"\1", library.name)}:
            if not (folder / name).exists():
                (folder / name).symlink_to(library)
    return folder


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _indices(total: int, count: int) -> list[int]:
    return [total * (2 * i + 1) // (2 * count) for i in range(count)]


def _scaled(path: Path) -> tuple[int, int]:
    file = next(file for file in FILES if file.path == path)
    shorter = min(file.width, file.height)
    return file.width * SIDE // shorter, file.height * SIDE // shorter


def _ours(path: Path, count: int) -> dict[str, float]:
    with path.open("rb", buffering=0) as file:
        begin = time.process_time()
        clip = scan(file, sniff(file), DEFAULT_LIMITS)
        facts = time.process_time() - begin
        chosen = _indices(len(clip.times), count)
        known = _cpu(lambda: read(file, clip, chosen, (FrameSize(SIDE),), DEFAULT_LIMITS, Attempt()))
    return {"ours": known, "unknown": known + facts}


def _decord(path: Path, count: int) -> dict[str, float]:
    decord = import_module("decord")
    width, height = _scaled(path)

    def work() -> None:
        reader = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
        reader.get_batch(_indices(len(reader), count)).asnumpy()

    return {"decord": _cpu(work)}


def _torchcodec(path: Path, count: int) -> dict[str, float]:
    import_module("torch").set_num_threads(1)
    decoders, transforms = import_module("torchcodec.decoders"), import_module("torchcodec.transforms")
    width, height = _scaled(path)

    def work() -> None:
        decoder = decoders.VideoDecoder(
            str(path),
            num_ffmpeg_threads=1,
            dimension_order="NHWC",
            seek_mode="approximate",
            transforms=[transforms.Resize((height, width))],
        )
        decoder.get_frames_at(_indices(len(decoder), count))

    return {"torchcodec": _cpu(work)}


def _pure_seek(path: Path, _count: int) -> dict[str, float]:
    """What no reader can do without: open, seek, decode a frame."""

    def work() -> None:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            stream.codec_context.thread_count = 1
            file.seek((stream.duration or 0) // 2, stream=stream)
            next(file.decode(stream))

    return {"pure seek": _cpu(work)}


def _demux(path: Path, _count: int) -> dict[str, float]:
    def work() -> None:
        with av.open(str(path)) as file:
            for _ in file.demux(video=0):
                pass

    return {"demux": _cpu(work)}


_READERS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "ours": _ours,
    "decord": _decord,
    "torchcodec": _torchcodec,
    "pure seek": _pure_seek,
    "demux": _demux,
}


if __name__ == "__main__":
    main()
