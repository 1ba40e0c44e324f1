"""Uploads that share their bytes, deletions amid questions and decodes: files go with their last reader."""

import asyncio
import hashlib
import random
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from server.uploads.disk import Clock
from server.uploads.rows import StoredVideo
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.clips import ClipSpec, write_clip
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own, until
from tests.reliability.stored import IN_MEMORY, stored, unseen, video_of
from tests.server.conftest import question

_ENDS = {"video_deleted", "video_not_found"}
_CONTENTS = (b"one", b"two", b"three")
_TTL_SECONDS = 100.0


def deletions(is_full: bool) -> Figure:
    """A video is deleted while a question about it is answered, and while it is decoded."""
    count = 200 if is_full else 4
    with one_of_its_own(is_full, "--max-requests-per-key", "1000") as program:
        write_clip(program.folder / "long.mp4", ClipSpec(num_frames=150, width=320, height=240))
        ends = Counter[str]()
        with ThreadPoolExecutor(4) as pool:
            for work in (_amid_an_answer, _amid_a_decode):
                ends.update(pool.map(lambda seed, work=work: work(program, seed), range(count)))
        seconds = until(lambda: not _files(program), 5)
        is_alive = program.process.poll() is None
    bad = sum(number for end, number in ends.items() if end not in {"complete", *_ENDS})
    shown = ", ".join(f"{number} {end}" for end, number in sorted(ends.items()))
    text = f"{2 * count} deletions: {shown}; files gone {seconds:.2f} s after the last"
    return Figure(text, not bad and seconds <= 5 and is_alive)


def _amid_an_answer(program: Program, seed: int) -> str:
    body = question("", "what moves?", max_tokens=40, stream=True)
    content = unseen((program.folder / "clip.mp4").read_bytes(), seed)
    return _deleted_amid(program, content, "chat", body, 0.3 * random.Random(seed).random())


def _amid_a_decode(program: Program, seed: int) -> str:
    content = unseen((program.folder / "long.mp4").read_bytes(), seed)
    return _deleted_amid(program, content, "frames", {"video": ""}, 0.1 * random.Random(seed).random())


def _deleted_amid(program: Program, content: bytes, route: str, body: dict[str, Any], seconds: float) -> str:
    """How a request ended whose video was deleted so long after it began."""
    name = program.upload(content)

    def ask() -> str:
        with program.client() as client:
            answer = client.post(f"/v1/video/{route}", json=body | {"video": name})
        if answer.is_success and (route == "frames" or answer.text.rstrip().endswith("data: [DONE]")):
            return "video_deleted" if '"error"' in answer.text else "complete"
        return answer.json()["error"]["code"] if "error" in answer.text else f"status {answer.status_code}"

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        until(asked.done, seconds)
        deleted = httpx.delete(f"{program.url}/v1/video/uploads/{name}", timeout=60)
        return asked.result() if deleted.is_success else f"DELETE {deleted.status_code}"


def _files(program: Program) -> set[str]:
    """Files of videos that nobody has any more."""
    listed = {each["sha256"] for each in program.videos()}
    return {path.name for path in (program.data / "videos").iterdir()} - listed


def identical(is_full: bool) -> Figure:
    """The same bytes from many at once, deleted one by one; then uploads, readers, restarts in any order."""
    rounds, count = (20, 100) if is_full else (2, 30)
    wrong = sum(asyncio.run(_round(count, seed)) for seed in range(rounds))
    histories, length = (300, 40) if is_full else (15, 30)
    phases = (Phase.generate, Phase.shrink) if is_full else (Phase.generate,)
    run_state_machine_as_test(
        _Machine,
        settings=settings(
            max_examples=histories, stateful_step_count=length, deadline=None, database=None,
            derandomize=True, phases=phases, suppress_health_check=[HealthCheck.too_slow],
        ),
    )  # fmt: skip
    text = (
        f"{rounds} times {count} identical uploads, {wrong} wrong; {histories} histories of up to {length} "
        "uploads, deletions, readers, expiries and restarts as modelled"
    )
    return Figure(text, not wrong)


async def _round(count: int, seed: int) -> int:
    """How often a file was there that should not be, or the other way round."""
    draws, wrong = random.Random(seed), 0
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        store = await VideoStore.open(Path(name), StoreLimits())
        content = draws.randbytes(50_000)
        digest = hashlib.sha256(video_of(content)).hexdigest()
        ids = await asyncio.gather(*(stored(store, content, f"{number % 7}") for number in range(count)))
        videos = [await store.get(f"{number % 7}", each) for number, each in enumerate(ids)]
        wrong += len(set(ids)) != 7 or {video.sha256 for video in videos} != {digest}  # one for each tenant
        videos = list({video.id: video for video in videos}.values())
        draws.shuffle(videos)
        for left in reversed(range(len(videos))):
            await store.delete(videos[left])
            there = [path.name for path in (Path(name) / "videos").iterdir()]
            wrong += there != ([digest] if left else [])
        wrong += store.num_bytes != 0 or store.incoming_bytes != 0
        await store.close()
    return wrong


class _Machine(RuleBasedStateMachine):
    """A store, and what it should hold by a model of a few lines."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.now = 1e9
        self.videos: dict[str, tuple[StoredVideo, float]] = {}
        self.readers: list[tuple[StoredVideo, AsyncExitStack]] = []
        self.open()

    def open(self) -> None:
        clock = Clock(lambda: self.now, lambda: self.now)
        self.store = self.run(VideoStore.open(self.folder, StoreLimits(_TTL_SECONDS), clock=clock))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @rule(content=st.sampled_from(_CONTENTS), tenant=st.sampled_from("ab"))
    def upload(self, content: bytes, tenant: str) -> None:
        name = self.run(stored(self.store, content, tenant))
        self.videos[name] = (self.run(self.store.get(tenant, name)), self.now + _TTL_SECONDS)

    @rule(draws=st.randoms(use_true_random=False))
    def delete(self, draws: random.Random) -> None:
        if self.videos:
            video, _ = self.videos.pop(draws.choice(sorted(self.videos)))
            others = [each for each, _ in self.videos.values() if each.tenant == video.tenant]
            is_last = all(each.sha256 != video.sha256 for each in others)
            assert self.run(self.store.delete(video)).is_last == is_last

    @rule(draws=st.randoms(use_true_random=False))
    def begin_to_read(self, draws: random.Random) -> None:
        if self.videos:
            video, _ = self.videos[draws.choice(sorted(self.videos))]
            stack = AsyncExitStack()
            self.run(stack.enter_async_context(self.store.reading(video)))
            self.readers.append((video, stack))

    @rule(draws=st.randoms(use_true_random=False))
    def end_to_read(self, draws: random.Random) -> None:
        if self.readers:
            _, stack = self.readers.pop(draws.randrange(len(self.readers)))
            self.run(stack.aclose())

    @rule(seconds=st.integers(1, 150))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.run(self.store.delete_expired())
        self.videos = {name: each for name, each in self.videos.items() if each[1] > self.now}

    @rule()
    def restart(self) -> None:
        while self.readers:
            self.run(self.readers.pop()[1].aclose())
        self.run(self.store.close())
        self.open()

    @invariant()
    def holds_what_it_should(self) -> None:
        listed = [each for tenant in "ab" for each in self.run(self.store.page(tenant, None, 100, "asc"))]
        assert {each.id for each in listed} == self.videos.keys()
        kept = {each.sha256: each.num_bytes for each in listed}
        read = {video.sha256 for video, _ in self.readers}
        assert {path.name for path in (self.folder / "videos").iterdir()} == kept.keys() | read
        assert self.store.num_bytes == sum(kept.values())
        assert self.store.num_videos == len(listed)
        assert list((self.folder / "incoming").iterdir()) == []

    def teardown(self) -> None:
        for _, stack in self.readers:
            self.run(stack.aclose())
        self.run(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder)


GOALS = (
    Goal(
        "G27", "deletions amid answers and decodes: complete or video_deleted, files gone <= 5 s", deletions
    ),
    Goal(
        "G28",
        "identical uploads at once, deleted in any order: every file there exactly as long as needed",
        identical,
    ),
)
