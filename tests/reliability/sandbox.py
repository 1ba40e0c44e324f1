"""Nothing gets out of a decode child, and nothing known to be weak gets into an installation."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import httpx
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from bt_model.decoding import process
from bt_model.decoding.pool import DecodePool
from server.settings import Settings
from tests.clips import write_clip
from tests.escapes import attempts, target
from tests.faulty_child import COMMAND, with_fault
from tests.reliability.goal import Figure, Goal
from tests.server.conftest import QUICK, running
from tests.test_constraints import pins

FLOORS = {
    "starlette": "1.3.1",
    "python-multipart": "0.0.30",
    "h11": "0.16",
    "torch": "2.10.0",
    "transformers": "5.10.0",
    "pillow": "12.3.0",
}
_FFMPEG_FLOOR = Version(
    "8.1.3"
)  # below it the demuxer must be pinned, which G5 measures, and the sandbox full

# 2026-11-30: beyond the floors, what has a published hole; in all versions where none are named
DENIED = {
    "aiohttp": "<3.12.14",  # CVE-2025-53643
    "av": "<18.1.0",  # FFmpeg before 8.1.2: CVE-2026-8461
    "fschat": "",  # CVE-2024-10907, -10912, -10044
    "gradio": "<6.15.0",  # CVE-2026-48545
    "jinja2": "<3.1.6",  # CVE-2025-27516
    "opencv-python": "",  # an FFmpeg of its own: CVE-2026-22778
    "opencv-python-headless": "",
    "requests": "<2.32.4",  # CVE-2024-47081
    "urllib3": "<2.5.0",  # CVE-2025-50181
    "uvicorn": "<0.11.7",  # CVE-2020-7694
    "vllm": "<0.30.0",  # CVE-2026-105760
}


def _escapes(*missing: str) -> tuple[dict[str, object], int, list[str]]:
    """What a server says of its sandbox, how many attempts were made in a child of it, which succeeded."""
    with (
        tempfile.TemporaryDirectory() as name,
        patch.object(process, "_COMMAND", (*COMMAND, *missing)),
        target(Path(name)) as outside,
        running(Settings.model_validate(QUICK | {"data_dir": Path(name) / "data"})) as server,
    ):
        file = Path(name) / "escape.mp4"
        clip = write_clip(Path(name) / "clip.mp4").read_bytes()
        file.write_bytes(with_fault(clip, "escape", outside.words))
        free = server.services.decoder.probe(file).result(30).jpegs
        said = httpx.get(f"{server.url}/version", timeout=20).json()
        return said, len(attempts(outside)), [each.decode() for each in free]


def _sandbox(_is_full: bool) -> Figure:
    said, count, free = _escapes()
    text = f"{count} attempts, {len(free)} succeed{_named(free)}; /version says {said['sandbox']}"
    return Figure(text, said["sandbox"] == "full" and count >= 25 and not free)


def _without(*missing: str) -> Figure:
    """Met where none succeeds although parts are missing, which is then also said."""
    said, count, free = _escapes(*missing)
    assert said["sandbox"] == "reduced", said
    return Figure(f"{count} attempts, {len(free)} succeed{_named(free)}; {said['sandbox_reason']}", not free)


def _named(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _versions(_is_full: bool) -> Figure:
    rules = {name: f"<{floor}" for name, floor in FLOORS.items()}
    lists = {name: pins(name) for name in ("cpu", "cuda", "dev", "image")}
    bad = {
        f"{package} {found[package]} in {name}"
        for name, found in lists.items()
        for package, versions in [*rules.items(), *DENIED.items()]
        if package in found and SpecifierSet(versions).contains(found[package])
    }
    with DecodePool(1) as pool:
        ffmpeg, level = pool.report.ffmpeg["pyav"], pool.report.sandbox.level
    is_new = Version(ffmpeg) >= _FFMPEG_FLOOR
    text = (
        f"{sum(map(len, lists.values()))} entries: {len(bad)} below a floor or denied{_named(sorted(bad))}; "
    )
    text += f"FFmpeg {ffmpeg}{'' if is_new else f', below {_FFMPEG_FLOOR} and in a {level} sandbox'}"
    return Figure(text, not bad and (is_new or level == "full"))


GOALS = (
    Goal("G33", "every entry of the lists of versions above its floor, none of them denied", _versions),
    Goal("G34", "25 attempts to get out of a decode child: 0 succeed, and /version says `full`", _sandbox),
    Goal(
        "a child without its filter",
        "0 attempts succeed",
        lambda _: _without("namespaces", "seccomp"),
        is_control=True,
    ),
    Goal(
        "a child without a sandbox",
        "0 attempts succeed",
        lambda _: _without("namespaces", "seccomp", "landlock"),
        is_control=True,
    ),
)
