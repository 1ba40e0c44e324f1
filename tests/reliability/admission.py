"""Too much at once: what is refused, how soon, and what the others notice of it."""

import atexit
import json
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from server.keys.file import line_of
from tests import fakes, tiny
from tests.reliability.clients import Reply, asking, at_once, at_rate, request, run, sent, without_end
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, quantile, rss_bytes, served, until

GATEWAY, GREEDY, MODEST = "key-of-a-gateway", "key-of-the-greedy", "key-of-the-modest"
_LATE = "!late"  # the fake engine takes 0.6 seconds to answer it
_SLOTS = 16
_REFUSED_SECONDS, _RECOVERY_SECONDS = 0.1, 2.0
_GROWN_BYTES = 200_000_000
_UNIT = b"\0\0\0\x10ftypisom\0\0\2\0"  # 16 bytes of a video


def overload(is_full: bool) -> Figure:
    """Four times as many requests as can be answered, whose clients do not wait to be told."""
    seconds = 120.0 if is_full else 1.5
    program = shared("--max-requests", str(_SLOTS))
    rss, port, content = rss_bytes(program.process.pid), program.port, asking(_LATE, GATEWAY)
    peak_seconds = 15.0 if is_full else 1.3
    peak = _rate(run(without_end(port, content, _SLOTS, peak_seconds)), peak_seconds)
    begin = time.monotonic()
    replies: list[Reply] = run(at_rate(port, content, 4 * peak, seconds))
    goodput = _rate(replies, time.monotonic() - begin)
    recovery = until(lambda: run(sent(port, content)).status == 200)
    grown = rss_bytes(program.process.pid) - rss
    refused = [reply for reply in replies if reply.is_refusal]
    others = [reply.status for reply in replies if not reply.is_refusal and reply.status != 200]
    p99 = quantile([reply.seconds for reply in refused], 0.99)
    text = (
        f"{len(refused)} of {len(replies)} refused, p99 {1000 * p99:.0f} ms, {len(others)} neither; "
        f"goodput {100 * goodput / peak:.0f} % of {peak:.1f}/s; {grown / 1e6:+.0f} MB; "
        f"good again after {recovery:.1f} s"
    )
    # the quick size ends in the middle of a round of answers
    is_met = not others and p99 <= _REFUSED_SECONDS and goodput >= (0.9 if is_full else 0.5) * peak
    return Figure(text, is_met and grown <= _GROWN_BYTES and recovery <= _RECOVERY_SECONDS)


def gateway(is_full: bool) -> Figure:
    """All requests that one key has, on default settings."""
    program = shared()
    replies: list[Reply] = run(at_once(program.port, [asking(_LATE, GATEWAY)] * 40))
    good = sum(reply.status == 200 for reply in replies)
    return Figure(f"{good} of 40 answered", is_met=good == 40)


def crowd(is_full: bool) -> Figure:
    """Six hundred clients that send in the same moment, on default settings: 256 are let in."""
    program = shared()
    rounds: list[list[Reply]] = []
    for _ in range(5 if is_full else 1):
        rounds.append(run(at_once(program.port, [asking(_LATE, GATEWAY)] * 600)))
    replies = [reply for each in rounds for reply in each]
    refused = [reply.seconds for reply in replies if reply.is_refusal]
    good = sum(reply.status == 200 for reply in replies)
    p50, p99 = quantile(refused, 0.5), quantile(refused, 0.99)
    text = f"{good} answered, {len(refused)} refused at p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms"
    are_all = good + len(refused) == len(replies) == 600 * len(rounds)
    return Figure(text, is_met=are_all and p50 <= (_REFUSED_SECONDS if is_full else 1.0))


def tiny_uploads(is_full: bool) -> Figure:
    """A hundred and fifty uploads that are no videos, and frames of a good one meanwhile."""
    program = shared()
    headers = {"authorization": f"Bearer {GATEWAY}"}
    with program.client(headers=headers) as client:
        clip = (program.folder / "clip.mp4").read_bytes()
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
    uploads = [request("/v1/video/uploads", _UNIT, GATEWAY, "video/mp4")] * 150
    frames = request("/v1/video/frames", json.dumps({"video": video}).encode(), GATEWAY)
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(lambda: run(at_once(program.port, uploads)))
        shown: list[float] = []
        while not flood.done() or len(shown) < 3:
            begin = time.monotonic()
            assert run(sent(program.port, frames)).status == 200
            shown.append(time.monotonic() - begin)
    refused = sum(reply.status in {415, 422, 503} for reply in flood.result())
    text = f"{refused} of 150 refused; frames {1000 * max(shown):.0f} ms at most of {len(shown)}"
    return Figure(text, is_met=refused == 150 and quantile(shown, 0.99) <= 1.0)


def turns(is_full: bool) -> Figure:
    """One key has a thousand clients, of which as many as may are let in; another has one."""
    return _beside_the_greedy(is_full)


def no_share(is_full: bool) -> Figure:
    """The same where nothing is kept for a key, and the engine serves who came first."""
    return _beside_the_greedy(is_full, planted="import server.admission as a; a._MOST_GUARANTEED = 0")


def late_refusals(is_full: bool) -> Figure:
    """Refusals that come after a look-up of 0.2 seconds."""
    planted = """
import asyncio
from server.middleware.door import Door
right = Door.__call__
async def late(self, scope, receive, send):
    await asyncio.sleep(0.2)
    await right(self, scope, receive, send)
Door.__call__ = late
"""
    with _keyed("--max-requests", str(_SLOTS), planted=planted) as program:
        replies: list[Reply] = run(at_rate(program.port, asking(_LATE, GATEWAY), 100, 1.5))
    refused = [reply.seconds for reply in replies if reply.is_refusal]
    p99 = quantile(refused, 0.99)
    return Figure(f"{len(refused)} refused, p99 {1000 * p99:.0f} ms", is_met=p99 <= _REFUSED_SECONDS)


def _beside_the_greedy(is_full: bool, planted: str = "") -> Figure:
    """In full with a real engine that takes two at once, of which there are many more at the door."""
    seconds, count = (60.0, 1000) if is_full else (1.5, 60)
    model, more = (tiny.MODEL, {"max_tokens": 30, "ignore_eos": True}) if is_full else (fakes.MODEL, {})
    content, single = (asking(_LATE, key, model, **more) for key in (GREEDY, MODEST))
    flags = ("--max-batch", "2") if is_full else ("--max-requests", str(_SLOTS))
    with (
        _keyed(*flags, keys=(GREEDY, MODEST), planted=planted, is_fake=not is_full) as program,
        ThreadPoolExecutor(1) as pool,
    ):
        flood = pool.submit(lambda: run(without_end(program.port, content, count, seconds)))
        time.sleep(seconds / 6)
        waits, refused = list[float](), 0
        while not flood.done():
            begin = time.monotonic()
            refused += run(sent(program.port, single)).status != 200
            waits.append(time.monotonic() - begin)
    theirs = quantile([reply.seconds for reply in flood.result() if reply.status == 200], 0.5)
    p99 = quantile(waits, 0.99)
    text = (
        f"{refused} of {len(waits)} refused; {p99:.2f} s at p99, beside {theirs:.2f} s at p50 of the others"
    )
    # the fake engine takes all at once: there nobody waits
    return Figure(text, is_met=not refused and (p99 <= theirs / 4 or not is_full))


def _rate(replies: Sequence[Reply], seconds: float) -> float:
    return sum(reply.status == 200 for reply in replies) / seconds


@contextmanager
def _keyed(
    *flags: str, keys: Sequence[str] = (GATEWAY,), planted: str = "", is_fake: bool = True
) -> Generator[Program]:
    with tempfile.TemporaryDirectory(prefix="btchat-keys-") as name:
        file = Path(name) / "keys"
        file.write_text("\n".join(line_of(key, key, {}) for key in keys), encoding="ascii")
        with served("--api-keys-file", str(file), *flags, is_fake=is_fake, planted=planted) as program:
            yield program


@cache
def shared(*flags: str) -> Program:
    """A server with the gateway's key that several goals share; it ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(_keyed(*flags))


GOALS = (
    Goal(
        "G9",
        "4x capacity for 120 s: refusals with Retry-After within 100 ms at p99, none unanswered; goodput "
        ">= 90 % of peak; memory + <= 200 MB; good again <= 2 s later",
        overload,
    ),
    Goal("one key, 40 at once", "40 of 40 answered on default settings", gateway),
    Goal(
        "600 clients at once", "refused <= 100 ms at p50 (in the quick size 1 s), all others answered", crowd
    ),
    Goal("150 tiny uploads", "all refused; frames of a good video meanwhile <= 1 s at p99", tiny_uploads),
    Goal(
        "turns by key",
        "one client beside 1,000 of another key: never refused; waits (p99) a quarter of what they do (p50)",
        turns,
    ),
    Goal("turns by key, without", "is caught: nothing is kept for a key", no_share, is_control=True),
    Goal("G9, late", "is caught: a look-up of 0.2 s before a refusal", late_refusals, is_control=True),
)
