"""The frame of a client's program: what the client does about each ability, a JSON object a line.

It runs in the client's environment, so that it takes nothing but the standard library.
"""

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

QUESTION = "does the circle appear or disappear?"
ANSWER = "It disappears."
SCHEMA = {
    "type": "object",
    "properties": {"shape": {"enum": ["circle", "square"]}, "moves": {"type": "boolean"}},
    "required": ["shape", "moves"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Place:
    """Where the server is, and what is there for its clients."""

    url: str
    key: str
    key_of_one: str  # a key that may have one request at once
    model: str
    video: str  # a file
    video_id: str  # the same, uploaded
    stale_id: str
    picture: str
    broken: str  # a video that cannot be decoded
    server: str  # the server itself, where `url` is a gateway's
    server_key: str
    folder: str  # the program's own

    def data_url(self, path: str, label: str) -> str:
        return f"data:{label};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"

    @property
    def video_url(self) -> str:
        return self.data_url(self.video, "video/mp4")

    @property
    def picture_url(self) -> str:
        return self.data_url(self.picture, "image/jpeg")

    @property
    def broken_url(self) -> str:
        return self.data_url(self.broken, "video/mp4")

    def fresh(self) -> Path:
        """The video under a name and with bytes that no upload has: what is deleted is nobody else's."""
        path = Path(self.folder, f"clip-{os.urandom(4).hex()}.mp4")
        path.write_bytes(Path(self.video).read_bytes() + os.urandom(8))
        return path


PLACE = Place(**json.loads(os.environ["CLIENT_PLACE"]))
_ABILITIES: dict[str, Callable[[], None]] = {}


class Cannot(Exception):  # noqa: N818 - no error: a finding
    """The client itself has no way to do this; why, in words for a footnote."""


def ability(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Marks the function that tries an ability: it returns, or raises what is wrong, or Cannot."""

    def mark(function: Callable[[], None]) -> Callable[[], None]:
        _ABILITIES[name] = function
        return function

    return mark


def refuses(why: str, call: Callable[[], object], *errors: type[BaseException]) -> NoReturn:
    """The client refuses a call by itself: it raises, and the server has had no request."""
    before = num_requests()
    try:
        call()
    except errors as error:
        sent = num_requests() - before
        assert sent == 0, f"{sent} requests were sent: {error}"  # noqa: PT017
        raise Cannot(why) from error
    raise AssertionError(f"the client can, by now: {why}")


def must_be_object(text: str) -> None:
    """JSON, or where its tokens end: the embedded model ends no string that no schema ends."""
    assert text.lstrip().startswith("{"), text
    if text.rstrip().endswith("}"):
        assert isinstance(json.loads(text), dict)


def lacks(why: str, thing: object, name: str) -> NoReturn:
    """The client has no such call or field."""
    assert not hasattr(thing, name), f"the client has {name}, by now: {why}"
    raise Cannot(why)


def loses(why: str, is_lost: bool, sent: str, what: str) -> NoReturn:
    """The client does not hand on what the server sent: `what` stands in `sent`."""
    assert what in sent, f"the server does not send {what}: {sent[-300:]}"
    assert is_lost, f"the client can, by now: {why}"
    raise Cannot(why)


def asked_server(**more: Any) -> str:
    """What the server itself answers to the question about the video."""
    parts = [
        {"type": "text", "text": QUESTION},
        {"type": "video_url", "video_url": {"url": PLACE.video_id}},
    ]
    body = {"model": "embedded", "messages": [{"role": "user", "content": parts}], **more}
    answer = server("/v1/chat/completions", body)
    return answer if isinstance(answer, str) else json.dumps(answer)


def retried(ask: Callable[[], object]) -> None:
    """The client asks with a key that has all that it may have, and comes again until it has an answer.

    That key's one request is an upload which stays until the server has refused another.
    """
    before = num_refused()
    address = urllib.parse.urlsplit(PLACE.server)
    with socket.create_connection((address.hostname or "", address.port or 0)) as upload:
        head = f"POST /v1/video/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PLACE.key_of_one}\r\n"
        upload.sendall(f"{head}Content-Length: 9999\r\n\r\nbegun".encode())
        until(lambda: metric("btchat_num_requests_in_flight") > 0, "an upload")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            until(lambda: num_refused() > before or asked.done(), "a refusal")
            upload.close()
            assert asked.result()
    assert num_refused() > before, "it was not refused"


def cancelled(read: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> None:
    """A task that reads a stream, and says when it has begun, is cancelled.

    So does a web server whose own client leaves; btchat then stops, too.
    """

    async def leave() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(read(begun.set))
        await asyncio.wait({task, asyncio.create_task(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    aborted(lambda: asyncio.run(leave()))


def aborted(leave: Callable[[], None]) -> None:
    """A client leaves in the middle of its answer, and the server counts that as aborted.

    It leaves again where the whole answer was already on its way, which a small model has in no time.
    """
    before = metric("btchat_requests_aborted_total")

    def is_counted() -> bool:
        return metric("btchat_requests_aborted_total") > before

    for _ in range(8):
        leave()
        with contextlib.suppress(AssertionError):
            return until(is_counted, "an aborted request", 2)
    raise AssertionError("of 8 answers that were left none is counted as aborted")


def server(path: str, body: object = None) -> Any:
    """What the server says without any client in between: JSON, or text."""
    headers = {"authorization": f"Bearer {PLACE.server_key}", "content-type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{PLACE.server}{path}", content, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def metric(name: str, without: str = "", **labels: str) -> float:
    """The sum of the samples of a metric that have these labels, but those that hold a text."""
    texts = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in server("/metrics").splitlines() if line.split("{")[0].split(" ")[0] == name]
    found = [each for each in lines if all(text in each for text in texts)]
    return sum(float(each.rpartition(" ")[2]) for each in found if not without or without not in each)


def num_requests() -> float:
    """How many the server has answered, but for looks at its metrics."""
    return metric("btchat_http_requests_total", without="/metrics")


def num_refused() -> float:
    return metric("btchat_requests_rejected_total", reason="rate_limited")


def until(is_so: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def main() -> None:
    """Try the abilities that are named, or all."""
    # faulty requests last: a gateway that stops after one shows it at its end
    for name, function in sorted(_ABILITIES.items(), key=lambda each: each[0] == "errors"):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            begin = time.monotonic()
            verdict, why = _tried(function)
            seconds = round(time.monotonic() - begin, 2)
            line = {"ability": name, "verdict": verdict, "why": why, "seconds": seconds}
            sys.stdout.write(f"CELL {json.dumps(line)}\n")
            sys.stdout.flush()


def _tried(function: Callable[[], None]) -> tuple[str, str]:
    try:
        function()
    except Cannot as finding:
        return "cannot", str(finding)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the cell's
        return "no", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "yes", ""
