"""Attempts to get out of a decode child, in one that is held as well as can be, and in lesser ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_model.decoding import process
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import Sandbox
from bt_model.types import FrameSize, ReaderName
from bt_model.video.decode import READER_NAMES
from bt_model.video.formats import FORMATS
from tests.bt_model.decoding.pools import FOUR, SIZE
from tests.cells import CellSpec, write_cells
from tests.clips import ClipSpec, write_clip
from tests.escapes import Target, attempts, target
from tests.faulty_child import COMMAND, with_fault
from tests.hostile import good_clips

# what is left where the kernel lacks a part, whoever runs it; a later kernel's Landlock leaves less
WITHOUT_SECCOMP = {
    "see that a file exists",
    "fork",
    "map code that it wrote",
    "leave its namespaces",
    "signal the parent",
    "have the kernel signal the parent",
    "change another's limits",
    "connect to the server",
    "connect to a socket in a folder",
    "send a datagram",
    "listen",
}
WITHOUT_BOTH = WITHOUT_SECCOMP | {
    "read /etc/passwd",
    "read the keys",
    "read another video",
    "read the catalogue",
    "read the parent's environment",
    "open the parent's memory to read",
    "open the parent's memory to write",
    "list a folder",
    "run a program",
    "create a file",
    "rename a file",
    "delete a file",
    "truncate a file",
    "trace a process",
}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Target]:
    with target(tmp_path) as outside:
        yield outside


def successes(monkeypatch: pytest.MonkeyPatch, outside: Target, *missing: str) -> tuple[Sandbox, set[str]]:
    """What holds a child without some parts, and which attempts succeed in it."""
    monkeypatch.setattr(process, "_COMMAND", (*COMMAND, *missing))
    video = outside.folder / "escape.mp4"
    video.write_bytes(with_fault(b"\0\0\0\x08ftyp", "escape", outside.words))
    with DecodePool(1, reader="pyav") as pool:
        return pool.report.sandbox, {name.decode() for name in pool.probe(video).result().jpegs}


def test_nothing_succeeds_in_a_full_sandbox(monkeypatch: pytest.MonkeyPatch, outside: Target) -> None:
    sandbox, free = successes(monkeypatch, outside)
    if sandbox.level == "reduced":
        pytest.skip(f"this kernel has less: {sandbox.reason}")
    assert len(attempts(outside)) >= 25
    assert (sandbox.level, sandbox.reason, free) == ("full", None, set())


def test_a_container_that_forbids_namespaces_leaves_it_full(
    monkeypatch: pytest.MonkeyPatch, outside: Target
) -> None:
    sandbox, free = successes(monkeypatch, outside, "namespaces")
    assert (sandbox.level, sandbox.reason, free) == ("full", None, set())
    assert "namespaces" not in sandbox.parts


@pytest.mark.parametrize(
    ("missing", "most"),
    [
        (["landlock"], set[str]()),
        (["namespaces", "seccomp"], WITHOUT_SECCOMP),
        (["namespaces", "landlock", "seccomp"], WITHOUT_BOTH),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_a_reduced_sandbox_says_so_and_leaves_no_more_than_is_known(
    monkeypatch: pytest.MonkeyPatch, outside: Target, missing: list[str], most: set[str]
) -> None:
    sandbox, free = successes(monkeypatch, outside, *missing)
    assert sandbox.level == "reduced"
    assert sandbox.reason == "; ".join(f"{n}: Function not implemented" for n in missing if n != "namespaces")
    assert free <= most
    assert bool(free) == bool(most)


@pytest.mark.parametrize("reader", READER_NAMES)
def test_every_container_is_read_inside(reader: ReaderName, tmp_path: Path) -> None:
    clips = good_clips(tmp_path)
    containers = set[str]()
    with DecodePool(1, reader=reader) as pool:
        assert pool.report.ffmpeg.keys() == {"pyav", reader}
        for name, data in clips.items():
            path = tmp_path / name
            path.write_bytes(data)
            with pool.decode(path, FOUR, [SIZE, FrameSize(32, "pad")], 8).result() as frames:
                assert frames.num_frames == min(4, frames.facts.num_frames)
                containers.add(frames.facts.container)
            shown = pool.thumbnails(path, FOUR, SIZE, 8).result()
            assert len(shown.jpegs) == frames.num_frames
    assert containers == FORMATS.keys()


def test_hdr_and_fields_are_read_inside(tmp_path: Path) -> None:
    hdr = write_cells(tmp_path / "a.mp4", CellSpec("bt2020nc", "tv", "bt2020", "smpte2084", "yuv420p10le"))
    fields = write_clip(
        tmp_path / "b.mp4", ClipSpec(options={"flags": "+ildct+ilme", "x264-params": "tff=1"})
    )
    with DecodePool(1) as pool:
        with pool.decode(hdr, FOUR, [SIZE, FrameSize(32, "pad")], 8).result() as frames:
            assert frames.facts.tone_mapped
        with pool.decode(fields, FOUR, [SIZE, FrameSize(32, "pad")], 8).result() as frames:
            assert frames.facts.deinterlaced
