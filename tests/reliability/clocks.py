"""Clocks that are set, from a second to ten years, forward and back: no upload ends early or late."""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from server.uploads.disk import Clock
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests import fakes
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import completion, quantile, served
from tests.reliability.stored import IN_MEMORY, stored
from tests.server.conftest import question

_DAY, _YEAR = 86_400.0, 365.25 * 86_400.0
_TTL = 7 * _DAY
_MINUTE = 60.0


def steps(is_full: bool) -> Figure:
    """The clock is set while uploads age, while a store is closed, and under a server that answers."""
    runs = 50 if is_full else 5
    early, late, others = 0, 0, 0
    for seed in range(runs):
        counts = asyncio.run(_run(random.Random(seed)))
        early, late, others = early + counts[0], late + counts[1], others + counts[2]
    text = (
        f"{runs} runs of 20 steps: {early} uploads ended early, {late} late, {others} were seen to their end"
    )
    served_text, is_good = _served_steps() if is_full else ("", True)
    return Figure(f"{text}{served_text}", not early and not late and others > 0 and is_good)


async def _run(draws: random.Random) -> tuple[int, int, int]:
    """Uploads that ended before their time, that did not end, and that ended when they should."""
    wall, steady = [1.8e9], [1000.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    early = late = right = 0
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        store = await VideoStore.open(Path(name), StoreLimits(_TTL), clock=clock)
        ends: dict[str, float] = {}  # in true seconds; the wall has another opinion
        true, slack = 0.0, 1.0
        for _ in range(20):
            ends[await stored(store, draws.randbytes(20))] = true + _TTL
            passed = draws.choice((1.0, 3600.0, _DAY, 3 * _DAY))
            is_restart = draws.random() < 0.3
            if is_restart:
                await store.close()
                passed = draws.uniform(0, 3600)  # a pause and a step at once
                steady[0] = draws.uniform(0, 1e6) - passed
                slack += passed + _MINUTE
            true, wall[0], steady[0] = true + passed, wall[0] + passed, steady[0] + passed
            wall[0] += _step(draws, while_closed=is_restart)
            if is_restart:
                store = await VideoStore.open(Path(name), StoreLimits(_TTL), clock=clock)
            await store.delete_expired()
            there = {each.id for each in await store.page("public", None, 100, "asc")}
            for video, end in list(ends.items()):
                if video in there:
                    late += end + slack < true
                else:
                    early += true + slack < end
                    right += true + slack >= end
                    del ends[video]
        await store.close()
    return early, late, right


def _step(draws: random.Random, *, while_closed: bool) -> float:
    """From a second to ten years; less than a day while nobody looks cannot be told from time."""
    smallest = 1.1 * _DAY if while_closed else 1.0
    size = draws.choice((smallest, smallest * 60, _YEAR, 10 * _YEAR, smallest * draws.uniform(1, 1000)))
    return draws.choice((-1, 1)) * size if draws.random() < 0.8 else draws.uniform(-_MINUTE, _MINUTE)


_STEPPED = """
import time
from server.uploads import disk
right = time.time
def stepped():
    return right() + float(open({file!r}).read() or 0)
time.time = stepped
disk.Clock.__init__.__defaults__ = (stepped, *disk.Clock.__init__.__defaults__[1:])
"""


def _served_steps() -> tuple[str, bool]:
    """A server whose clock is set 50 times while it answers."""
    draws, seconds, statuses = random.Random(29), list[float](), list[int]()
    with tempfile.TemporaryDirectory(prefix="btchat-clock-") as name:
        file = Path(name) / "offset"
        file.write_text("0")
        planted = _STEPPED.format(file=str(file))
        with served(
            "--upload-ttl-seconds", "3600", folder=Path(name), is_fake=True, planted=planted
        ) as program:
            ids = [program.upload()]
            with program.client() as client:
                for _ in range(50):
                    file.write_text(str(_step(draws, while_closed=False)))
                    begin = time.monotonic()
                    asked = client.post(
                        "/v1/chat/completions", json=completion("what time is it?", model=fakes.MODEL)
                    )
                    video = client.post("/v1/video/chat", json=question(ids[-1]))
                    seconds.append(time.monotonic() - begin)
                    statuses += [asked.status_code, video.status_code]
                    ids.append(program.upload())
                listed = program.videos()
            negative = program.metric("btchat_http_request_duration_seconds_sum") < 0
    lost = len(set(ids) - {each["id"] for each in listed})
    text = (
        f"; a server over 50 steps: {statuses.count(200)} of {len(statuses)} answered, two in "
        f"{quantile(seconds, 0.99):.2f} s at p99, {lost} of {len(ids)} uploads lost"
    )
    return text, statuses.count(200) == len(statuses) and not lost and not negative


GOALS = (Goal("G29", "steps of 1 s to 10 years, 50 runs: 0 uploads early, late or lost, 0 timeouts", steps),)
