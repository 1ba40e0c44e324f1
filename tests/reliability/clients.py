"""Many clients of one server at once, each on a connection of its own; light enough to outnumber it."""

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from tests import fakes

_NUM_FILES = 4096
_REFUSALS = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and after how many seconds its first line did; status 0 where nothing did."""

    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """In the form in which all refusals of too much are."""
        if self.status not in _REFUSALS or not self.headers.get("retry-after", "").isdecimal():
            return False
        return json.loads(self.body)["error"]["code"] in {"overloaded", "rate_limited"}


def request(path: str, body: bytes, key: str = "", kind: str = "application/json") -> bytes:
    """The bytes of a POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def asking(text: str, key: str = "", model: str = fakes.MODEL, **more: Any) -> bytes:
    """A question without a video."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return request("/v1/chat/completions", json.dumps(body).encode(), key)


async def sent(port: int, content: bytes) -> Reply:
    """Connect, send, and read until the server closes; the seconds begin when the connection is there."""
    try:
        return await _exchange(*await asyncio.open_connection("127.0.0.1", port), content)
    except OSError:
        return Reply(0, float("inf"), {}, b"")


async def at_once(port: int, contents: Sequence[bytes]) -> list[Reply]:
    """All connect first; then all send at the same moment."""
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in contents]
    return await asyncio.gather(
        *(
            _exchange(reader, writer, content)
            for (reader, writer), content in zip(pairs, contents, strict=True)
        )
    )


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> Reply:
    begin = time.monotonic()
    try:
        writer.write(content)
        first = await reader.readline()
        seconds = time.monotonic() - begin
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    pairs = (line.decode("latin-1").partition(": ") for line in head.split(b"\r\n"))
    headers = {name.lower(): value for name, _, value in pairs}
    return Reply(int(first.split()[1]) if first else 0, seconds, headers, body)


async def at_rate(port: int, content: bytes, per_second: float, seconds: float) -> list[Reply]:
    """One client after the other at a rate that does not wait for answers."""
    begin = time.monotonic()
    tasks: list[asyncio.Task[Reply]] = []
    while (number := len(tasks)) < per_second * seconds:
        await asyncio.sleep(begin + number / per_second - time.monotonic())
        tasks.append(asyncio.create_task(sent(port, content)))
    return await asyncio.gather(*tasks)


async def without_end(port: int, content: bytes, count: int, seconds: float) -> list[Reply]:
    """So many clients, each of which comes again once it has its answer, or in the second that it is told."""
    end = time.monotonic() + seconds

    async def client() -> list[Reply]:
        replies: list[Reply] = []
        while time.monotonic() < end:
            replies.append(await sent(port, content))
            await asyncio.sleep(
                min(int(replies[-1].headers.get("retry-after", 0)), end - time.monotonic(), 1)
            )
        return replies

    return [reply for replies in await asyncio.gather(*(client() for _ in range(count))) for reply in replies]


def run(work: Awaitable[Any]) -> Any:
    """Run clients on an event loop, with room for their sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_NUM_FILES, hard)), hard))

    async def main() -> Any:
        return await work

    return asyncio.run(main())
