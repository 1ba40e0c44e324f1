"""The end: what runs is finished, new work is told to go elsewhere, nothing is left."""

import signal
import threading
import time
from dataclasses import dataclass

import httpx

from tests import fakes, leaks
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, completion, is_there, served, until

_GRACE_SECONDS = 30
_END = "data: [DONE]"


@dataclass(frozen=True, slots=True)
class _Ended:
    """One drain, in seconds after the signal."""

    not_ready: float
    refusal: int
    exited: float
    code: int
    orphans: float
    num_cut: int  # streams without their end
    num_failed: int  # streams that end in an error


def _drains(is_full: bool) -> Figure:
    num_drains, num_streams, num_words = (25, 64, 250) if is_full else (1, 8, 150)
    whole = [_drained(num_streams, num_words, is_hurried=False) for _ in range(num_drains)]
    hurried = [_drained(num_streams, 4000, is_hurried=True) for _ in range(num_drains if is_full else 0)]
    every = [*whole, *hurried]
    not_ready, orphans = max(each.not_ready for each in every), max(each.orphans for each in every)
    exits = [max((each.exited for each in group), default=0) for group in (whole, hurried)]
    num_cut = sum(each.num_cut for each in every) + sum(each.num_failed for each in whole)
    codes = {each.code for each in every} | {each.refusal for each in every}
    text = (
        f"{len(every)} signals, {num_cut} streams cut, not ready after {1000 * not_ready:.0f} ms, "
        f"codes {codes}, exit {exits[0]:.1f} s after the signal, {exits[1]:.1f} s after a second, "
        f"orphans {orphans:.2f} s"
    )
    is_met = not num_cut and not_ready <= 0.5 and codes == {0, 503}
    return Figure(text, is_met and exits[0] <= _GRACE_SECONDS + 2 and exits[1] <= 2 and orphans <= 2)


def _drained(num_streams: int, num_words: int, *, is_hurried: bool) -> _Ended:
    """Signal a server in the midst of streams, and again at once if it is to hurry."""
    with served("--grace-seconds", str(_GRACE_SECONDS), is_fake=True) as program:
        streams = _Streams(program, num_streams, num_words)
        children = leaks.children(program.process.pid)
        with program.client() as client, program.client() as another:
            program.process.send_signal(signal.SIGTERM)
            not_ready = until(lambda: client.get("/health/ready").status_code == 503)
            refusal = another.post("/v1/chat/completions", json=completion("hello"))
        assert "retry-after" in refusal.headers
        if is_hurried:
            program.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        code = program.process.wait(_GRACE_SECONDS + 10)
        exited = time.monotonic() - begin
        orphans = until(lambda: not any(map(is_there, children)))
        num_cut, num_failed = streams.ends()
    return _Ended(not_ready, refusal.status_code, exited, code, orphans, num_cut, num_failed)


class _Streams:
    """Streams that are all in their midst once this is made."""

    def __init__(self, program: Program, count: int, num_words: int) -> None:
        self._lines: list[list[str]] = [[] for _ in range(count)]
        self._begun = threading.Barrier(count + 1)
        body = completion(" ".join(["word"] * num_words), model=fakes.MODEL, stream=True)
        self._threads = [
            threading.Thread(target=self._read, args=(program.url, body, lines)) for lines in self._lines
        ]
        for thread in self._threads:
            thread.start()
        self._begun.wait(60)

    def _read(self, url: str, body: object, into: list[str]) -> None:
        try:
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
                lines = answer.iter_lines()
                into.append(next(lines))
                self._begun.wait(60)
                into += [line for line in lines if line]
        except httpx.HTTPError as error:
            into.append(repr(error))

    def ends(self) -> tuple[int, int]:
        """How many were cut off, and how many ended in an error, as they should."""
        for thread in self._threads:
            thread.join()
        num_cut = sum(lines[-1] != _END for lines in self._lines)
        return num_cut, sum('"error"' in lines[-2] for lines in self._lines if lines[-1] == _END)


GOALS = (
    Goal(
        "G13",
        "50 SIGTERMs with 64 streams: 0 cut within the grace, readiness 503 <= 500 ms, new work 503, exit 0 "
        "<= grace + 2 s, after a second signal <= 2 s, 0 orphans <= 2 s",
        _drains,
    ),
)
