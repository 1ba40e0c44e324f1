"""Dialogues that no context holds, all at once, and what a small question beside them waits.

python -m benchmarks.long_dialogues [--kind words|letters|spaces]: a server on the embedded model gets 256
dialogues of 786 kB, which is as many requests as it lets in; a small question is asked every quarter of a
second. Fails unless every dialogue is refused with its code, the engine process stays the same, and 99 of 100
small questions are answered within two seconds.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx

from benchmarks.process_tree import peak_bytes
from benchmarks.record import record
from btchat.commands.running_server import running_server

NUM_DIALOGUES = 256
NUM_CHARACTERS = 262_000  # of a message; there are three
PERIOD, AFTER = 0.25, 2.0  # seconds between small questions, and how long these go on afterwards
MAX_P99 = 2.0
KINDS = {"words": "what moves to the left ", "letters": "a", "spaces": " "}
REFUSED = (400, "context_length_exceeded")


def main() -> int:
    """Measure, print and record; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="words")
    kind = parser.parse_args().kind
    with (
        tempfile.TemporaryDirectory(prefix="btchat-bench-") as folder,
        running_server(Path(folder), settings={"log_level": "warning"}) as server,
    ):
        engines = _engines(server.process.pid)
        figures = asyncio.run(_measure(server.url, kind))
        is_same = _engines(server.process.pid) == engines
    figures |= {"kind": kind, "is_same_engine": is_same}
    print(json.dumps(figures, indent=2))
    print(record(f"long-dialogues-{kind}", figures))
    is_refused = figures["answers"] == {str(REFUSED): NUM_DIALOGUES}
    return 0 if is_same and is_refused and figures["small_p99_seconds"] <= MAX_P99 else 1


def _engines(pid: int) -> set[str]:
    """The engine processes below the server."""
    return {name for name in peak_bytes(pid) if name.startswith("server.worker")}


async def _measure(url: str, kind: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        quiet = [await _small(client) for _ in range(8)]
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            flood = loop.run_in_executor(pool, flood_with, url, kind)
            small = [asyncio.create_task(_small(client))]
            until: float | None = None
            while until is None or time.monotonic() < until:
                await asyncio.sleep(PERIOD)
                small.append(asyncio.create_task(_small(client)))
                if flood.done() and until is None:
                    until = time.monotonic() + AFTER
            seconds = sorted(await asyncio.gather(*small))
            answers, flood_seconds = await flood
    return {
        "answers": {str(answer): count for answer, count in answers.items()},
        "flood_seconds": flood_seconds,
        "quiet_median_seconds": sorted(quiet)[len(quiet) // 2],
        "num_small": len(seconds),
        "small_median_seconds": seconds[len(seconds) // 2],
        "small_p99_seconds": seconds[int(0.99 * (len(seconds) - 1))],
        "small_max_seconds": seconds[-1],
    }


async def _small(client: httpx.AsyncClient) -> float:
    """Seconds that a small question takes."""
    begin = time.monotonic()
    body = {"model": "embedded", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    (await client.post("/v1/chat/completions", json=body)).raise_for_status()
    return time.monotonic() - begin


def flood_with(url: str, kind: str) -> tuple[Counter[tuple[int, str]], float]:
    """In a process of its own: statuses and codes of all dialogues, and the seconds that they took."""
    return asyncio.run(_flood(url, kind))


async def _flood(url: str, kind: str) -> tuple[Counter[tuple[int, str]], float]:
    text = f"hello {KINDS[kind] * NUM_CHARACTERS}"[:NUM_CHARACTERS]
    messages = [{"role": role, "content": text} for role in ("user", "assistant", "user")]
    body = json.dumps({"model": "embedded", "messages": messages}).encode()
    begin = time.monotonic()
    limits = httpx.Limits(max_connections=NUM_DIALOGUES)
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, limits=limits) as client:
        headers = {"content-type": "application/json"}
        url = "/v1/chat/completions"
        posts = [client.post(url, content=body, headers=headers) for _ in range(NUM_DIALOGUES)]
        answers = await asyncio.gather(*posts)
    codes = [(each.status_code, each.json().get("error", {}).get("code", "")) for each in answers]
    return Counter(codes), time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main())
