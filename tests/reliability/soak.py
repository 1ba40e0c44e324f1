"""Mixed load with faults for a long time: what the server holds stays what it was."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

import httpx

from tests.leaks import Holdings
from tests.reliability.disconnects import inline_body, leave_a_stream
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, rss_bytes, served, until

_SECONDS, _CONTROL_SECONDS, _WARM_SHARE = 1200.0, 300.0, 0.25
_FAULT_SHARE, _NUM_USERS = 0.05, 4
_NUM_CHEAP_SAMPLES, _CHEAP_A_SAMPLE = 20, 100
_MOST_BYTES = 300
"""That the memory of the web process may grow by for each request; the control's grows by more than 1,024."""
_EXPECTED = {200, 400, 404, 413, 415, 422, 429}
_LEAK = """
from server.middleware import envelope
kept, right = [], envelope.Envelope.__call__
async def leaking(self, scope, receive, send):
    kept.append(bytearray(1024))
    await right(self, scope, receive, send)
envelope.Envelope.__call__ = leaking
"""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the server holds after so many requests; bytes, descriptors, threads."""

    requests: int
    web: int
    engine: int
    files: int
    threads: int
    children: int


def mixed(is_full: bool) -> Figure:
    """Uploads, questions, frames and deletions by a few users; one in twenty is a fault."""
    return _soak(_SECONDS if is_full else None, "")


def leaking(is_full: bool) -> Figure:
    """The same on a server that keeps a kilobyte for every request."""
    return _soak(_CONTROL_SECONDS if is_full else None, _LEAK)


def _soak(seconds: float | None, planted: str) -> Figure:
    """With seconds as a real load; without, as many cheap requests as show a kilobyte each."""
    with served("--max-requests-per-key", "1000", is_fake=seconds is None, planted=planted) as program:
        load = _Load(program)
        samples = load.run(seconds) if seconds else load.run_cheap()
        until(lambda: program.metric("btchat_num_requests_in_flight") == 0)
        held = _sample(program, samples[-1].requests)
    warm = samples[int(len(samples) * _WARM_SHARE) :]
    slope, _ = linear_regression([each.requests for each in warm], [each.web for each in warm])
    kinds = ("files", "threads", "children")
    is_flat = all(getattr(held, kind) <= max(getattr(each, kind) for each in warm) for kind in kinds)
    text = (
        f"{held.requests} requests, {load.num_faults} faults: web {warm[0].web / 1e6:.0f} to "
        f"{warm[-1].web / 1e6:.0f} MB ({slope:.0f} B a request), engine {warm[0].engine / 1e6:.0f} to "
        f"{warm[-1].engine / 1e6:.0f} MB, {held.files} descriptors, {held.threads} threads, "
        f"{held.children} children; unexpected statuses {dict(load.unexpected)}"
    )
    return Figure(text, is_met=slope <= _MOST_BYTES and is_flat and not load.unexpected)


class _Load:
    """Users, what they did, and the answers that should not have been."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._clips = [program.upload()]
        self.num_requests = self.num_faults = 0
        self.unexpected: Counter[int] = Counter()

    def run(self, seconds: float) -> list[_Sample]:
        """Samples every second, while the users do one thing after the other."""
        end, samples = time.monotonic() + seconds, list[_Sample]()
        with ThreadPoolExecutor(_NUM_USERS) as pool:
            users = [pool.submit(self._use, random.Random(seed), end) for seed in range(_NUM_USERS)]
            while time.monotonic() < end:
                time.sleep(1)
                samples.append(_sample(self._program, self.num_requests))
            for each in users:
                each.result()
        return samples

    def run_cheap(self) -> list[_Sample]:
        """Samples while nothing is computed, after a little of everything."""
        draw = random.Random(0)
        with self._program.client() as client:
            for work in self._work():
                work(client, draw)
            samples = list[_Sample]()
            for _ in range(_NUM_CHEAP_SAMPLES):
                for _ in range(_CHEAP_A_SAMPLE):
                    self._count(client.get("/v1/models"))
                samples.append(_sample(self._program, self.num_requests))
        return samples

    def _use(self, draw: random.Random, end: float) -> None:
        with self._program.client() as client:
            while time.monotonic() < end:
                faulty = draw.random() < _FAULT_SHARE
                self.num_faults += faulty
                draw.choice(self._faults() if faulty else self._work())(client, draw)

    def _work(self) -> list[Callable[[httpx.Client, random.Random], None]]:
        return [self._upload, self._ask, self._ask, self._ask_inline, self._frames, self._list]

    def _faults(self) -> list[Callable[[httpx.Client, random.Random], None]]:
        return [self._bad_upload, self._bad_body, self._leave, self._kill_a_decoder]

    def _count(self, answer: httpx.Response) -> None:
        self.num_requests += 1
        if answer.status_code not in _EXPECTED:
            self.unexpected[answer.status_code] += 1

    def _upload(self, client: httpx.Client, draw: random.Random) -> None:
        content = self._program.clip + b"\0\0\0\x10free" + draw.randbytes(8)
        answer = client.post("/v1/video/uploads", content=content)
        self._count(answer)
        if answer.is_success:
            self._count(client.delete(f"/v1/video/uploads/{answer.json()['id']}"))

    def _ask(self, client: httpx.Client, draw: random.Random) -> None:
        said = [{"role": "user", "content": f"what moves, {draw.randrange(9)}?"}]
        body = {"video": self._clips[0], "messages": said, "max_tokens": 16, "stream": draw.random() < 0.5}
        self._count(client.post("/v1/video/chat", json=body))

    def _ask_inline(self, client: httpx.Client, draw: random.Random) -> None:
        content = inline_body(self._program, "clip.mp4", draw.randrange(2**60))
        headers = {"content-type": "application/json"}
        self._count(client.post("/v1/chat/completions", content=content, headers=headers))

    def _frames(self, client: httpx.Client, draw: random.Random) -> None:
        body = {"video": self._clips[0], "sampling": {"num_frames": draw.randrange(1, 5)}}
        self._count(client.post("/v1/video/frames", json=body))

    def _list(self, client: httpx.Client, draw: random.Random) -> None:
        del draw
        self._count(client.get("/v1/video/uploads"))

    def _bad_upload(self, client: httpx.Client, draw: random.Random) -> None:
        content = bytearray(self._program.clip)
        for _ in range(20):
            content[draw.randrange(len(content))] = draw.randrange(256)
        self._count(client.post("/v1/video/uploads", content=bytes(content)))

    def _bad_body(self, client: httpx.Client, draw: random.Random) -> None:
        self._count(client.post("/v1/video/chat", content=draw.randbytes(100)))

    def _leave(self, client: httpx.Client, draw: random.Random) -> None:
        del client
        said = [{"role": "user", "content": "what moves?"}]
        body = {"video": self._clips[0], "messages": said, "max_tokens": 500, "stream": True}
        leave_a_stream(self._program, body, 3, draw)
        self.num_requests += 1

    def _kill_a_decoder(self, client: httpx.Client, draw: random.Random) -> None:
        del client
        with suppress(ProcessLookupError, IndexError):
            os.kill(draw.choice(self._program.decoders), signal.SIGKILL)


def _sample(program: Program, num_requests: int) -> _Sample:
    web, engine = program.process.pid, program.engine
    held = Holdings.of(web)
    threads = len(list(Path(f"/proc/{web}/task").iterdir()))
    return _Sample(
        num_requests, rss_bytes(web), rss_bytes(engine), held.files.total(), threads, held.children.total()
    )


GOALS = (
    Goal(
        "G30",
        "20 minutes of mixed load with 5 % faults: the web process grows by at most 300 B a request, "
        "descriptors, threads and children do not; no unexpected answer",
        mixed,
    ),
    Goal("G30 control", "the same with 1 KB kept of every request", leaking, is_control=True),
)
