"""The decode pool with real children: what it hands back, and what follows when they hang or die."""

import asyncio
import contextlib
import fcntl
import io
import mmap
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bt_model.errors import DecodeTimeoutError, EngineError, InvalidValueError, VideoError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from server.decoding.pool import DecodedFrames, DecodePool
from server.decoding.sandbox import ChildLimits
from tests.clips import ClipSpec, numbers_in, write_clip

SIZE = FrameSize(64, "squash")
FOUR = Sampling(num_frames=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    async with DecodePool(1, seconds=5) as pool:
        yield pool


def children() -> list[int]:
    """Process ids of this process's children, dead ones that nobody waited for as well."""
    return [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if "resource_tracker"
        not in Path(f"/proc/{pid}/cmdline").read_text()  # multiprocessing's, of other tests
    ]


def seen(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def pixels_of(frames: DecodedFrames, size: FrameSize = SIZE) -> NDArray[np.uint8]:
    shape = (frames.num_frames, size.side, size.side, 3)
    memory = frames.memories[size]
    data = os.pread(memory, os.fstat(memory).st_size, 0)
    return np.frombuffer(data, np.uint8).reshape(shape)


async def until(is_true: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110 - watches other processes, which send no event
            await asyncio.sleep(0.02)


async def test_frames_from_a_child_equal_frames_decoded_here(pool: DecodePool, clip: Path) -> None:
    here = decode(clip, FOUR, SIZE, 8)
    with await pool.decode(clip, FOUR, [SIZE], 8) as frames:
        np.testing.assert_array_equal(pixels_of(frames), here.pixels)
        assert (frames.indices, frames.timestamps, frames.facts) == (
            here.indices,
            here.timestamps,
            here.facts,
        )


async def test_one_decode_gives_every_size(pool: DecodePool, clip: Path) -> None:
    sizes = [SIZE, FrameSize(32, "crop"), FrameSize(32, "pad"), SIZE]
    with await pool.decode(clip, FOUR, sizes, 8) as frames:
        for size in sizes:
            np.testing.assert_array_equal(pixels_of(frames, size), decode(clip, FOUR, size, 8).pixels)
        assert len(frames.memories) == 3
    assert frames.memories == {}


async def test_frames_come_back_in_memory_that_nobody_can_change(pool: DecodePool, clip: Path) -> None:
    with await pool.decode(clip, FOUR, [SIZE], 8) as frames:
        assert fcntl.fcntl(frames.memories[SIZE], fcntl.F_GET_SEALS) == (
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        )
        with pytest.raises(PermissionError):
            mmap.mmap(frames.memories[SIZE], 0)


async def test_closing_frames_twice_closes_once(pool: DecodePool, clip: Path) -> None:
    before = open_files()
    frames = await pool.decode(clip, FOUR, [SIZE], 8)
    frames.close()
    frames.close()
    assert open_files() == before


async def test_probe_tells_the_facts(pool: DecodePool, clip: Path) -> None:
    assert await pool.probe(clip) == probe(clip)


async def test_thumbnails_show_the_frames_of_the_model(pool: DecodePool, clip: Path) -> None:
    found = await pool.thumbnails(clip, FOUR, SIZE, 8)
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in found.jpegs])
    assert pictures.shape == (4, 64, 64, 3)
    assert numbers_in(pictures) == list(found.indices)


async def test_thumbnails_have_the_side_that_was_asked_for(pool: DecodePool, clip: Path) -> None:
    found = await pool.thumbnails(clip, FOUR, SIZE, 8, side=32)
    assert {Image.open(io.BytesIO(data)).size for data in found.jpegs} == {(32, 32)}


async def test_a_refusal_of_the_child_is_raised_here(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    with pytest.raises(VideoError) as caught:
        await pool.probe(path)
    assert caught.value.code == "empty_file"


async def test_a_refused_file_leaves_no_memory_behind(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"text" * 99)
    before = open_files()
    with pytest.raises(VideoError):
        await pool.decode(path, FOUR, [SIZE], 8)
    await until(lambda: pool.num_idle == 1)
    assert open_files() == before


async def test_a_bad_window_is_raised_with_its_field(pool: DecodePool, clip: Path) -> None:
    with pytest.raises(InvalidValueError) as caught:
        await pool.decode(clip, Sampling(start=60), [SIZE], 8)
    assert caught.value.param == "sampling.start"


async def test_a_missing_file_costs_no_child(pool: DecodePool, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await pool.decode(tmp_path / "none.mp4", FOUR, [SIZE], 8)
    assert pool.num_idle == 1


async def test_a_child_that_hangs_is_killed_in_time(clip: Path) -> None:
    async with DecodePool(1, seconds=0.3) as pool:
        (hanging,) = children()
        os.kill(hanging, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(DecodeTimeoutError, match=r"0\.3 s"):
            await pool.decode(clip, FOUR, [SIZE], 8)
        assert time.monotonic() - begin < 1.3
        await until(lambda: hanging not in children())


@pytest.mark.parametrize("death", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
async def test_a_child_that_dies_is_a_bad_video(pool: DecodePool, clip: Path, death: signal.Signals) -> None:
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.1, os.kill, child, death)
    asyncio.get_running_loop().call_later(0.1, os.kill, child, signal.SIGCONT)
    with pytest.raises(VideoError) as caught:
        await pool.decode(clip, FOUR, [SIZE], 8)
    assert caught.value.code == "undecodable_video"


async def test_a_child_that_uses_up_its_processor_time_is_too_slow(pool: DecodePool, clip: Path) -> None:
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.1, os.kill, child, signal.SIGXCPU)
    asyncio.get_running_loop().call_later(0.1, os.kill, child, signal.SIGCONT)
    with pytest.raises(DecodeTimeoutError):
        await pool.probe(clip)


async def test_the_pool_is_full_again_after_a_death(pool: DecodePool, clip: Path) -> None:
    os.kill(children()[0], signal.SIGKILL)
    with contextlib.suppress(VideoError):  # unless the death is noticed before the file is handed over
        await pool.probe(clip)
    await until(lambda: pool.num_idle == 1, seconds=5)
    assert (await pool.probe(clip)).num_frames == 30


async def test_a_caller_that_gives_up_costs_only_its_own_child(pool: DecodePool, clip: Path) -> None:
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    given_up = asyncio.create_task(pool.decode(clip, FOUR, [SIZE], 8))
    await asyncio.sleep(0.1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await until(lambda: child not in children(), seconds=2)
    assert (await pool.probe(clip)).num_frames == 30


async def test_a_child_that_refused_a_file_is_replaced(pool: DecodePool, tmp_path: Path) -> None:
    (used,) = children()
    path = tmp_path / "a.mp4"
    path.write_bytes(b"text" * 99)
    with pytest.raises(VideoError):
        await pool.probe(path)
    await until(lambda: pool.num_idle == 1)
    assert used not in children()


async def test_a_child_is_replaced_after_its_last_file(clip: Path) -> None:
    async with DecodePool(1, child_limits=ChildLimits(files=2)) as pool:
        first = children()
        await pool.probe(clip)
        assert children() == first
        await pool.probe(clip)
        await until(lambda: pool.num_idle == 1)
        assert children() != first


async def test_fifty_decodes_leave_no_file_and_no_process_behind(clip: Path) -> None:
    before = open_files()
    async with DecodePool(2, child_limits=ChildLimits(files=20)) as pool:

        async def one() -> None:
            (await pool.decode(clip, FOUR, [SIZE], 8)).close()

        await asyncio.gather(*(one() for _ in range(50)))
        await until(lambda: pool.num_idle == 2)
        assert len(children()) == 2
    assert (children(), open_files()) == ([], before)


async def test_closing_ends_a_child_at_work(clip: Path) -> None:
    async with DecodePool(1) as pool:
        os.kill(children()[0], signal.SIGSTOP)
        task = asyncio.create_task(pool.probe(clip))
        await asyncio.sleep(0.05)
    with pytest.raises(VideoError):
        await task
    assert children() == []


async def test_a_closed_pool_says_so(clip: Path) -> None:
    async with DecodePool(1) as pool:
        pass
    for _ in range(2):
        with pytest.raises(EngineError, match="stopping"):
            await pool.probe(clip)


async def test_children_that_cannot_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="do not start"):
        await DecodePool(1).start()
    assert children() == []


async def test_a_child_lives_under_its_limits(pool: DecodePool) -> None:
    rows = {line[:26].strip(): line[26:].split()[:2] for line in seen(children()[0], "limits").splitlines()}
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max open files"] == ["64", "64"]
    assert rows["Max address space"] == [str(4 * 1024**3)] * 2


async def test_a_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTCHAT_TEST_KEY", "canary")
    async with DecodePool(1):
        assert "canary" not in seen(children()[0], "environ")


async def test_a_child_dies_with_its_parent() -> None:
    script = (
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from server.decoding.pool import DecodePool\n"
        "async def main():\n"
        "    await DecodePool(1).start()\n"
        "    child = int(Path('/proc/self/task', str(os.getpid()), 'children').read_text())\n"
        "    os.kill(child, 19)\n"  # stopped, so that it cannot notice the hang-up
        "    print(child, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await parent.communicate()
    orphan = Path("/proc", out.split()[0].decode())
    await until(lambda: not orphan.exists() or "\nState:\tZ" in (orphan / "status").read_text(), seconds=2)


async def test_a_file_of_long_groups_is_decoded_as_well(pool: DecodePool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.webm", ClipSpec(codec="libvpx-vp9", options={"b": "2M"}))
    with await pool.decode(path, FOUR, [SIZE], 8) as frames:
        assert numbers_in(pixels_of(frames)) == list(frames.indices)
