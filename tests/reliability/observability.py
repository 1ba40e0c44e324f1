"""What the server tells of its clients: nothing secret, no series of their making, one line an event."""

import json
import random
import re
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import httpx

from server.log.lines import MAX_LINE_BYTES
from tests import tiny
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own, served

_KEY = "the-key-that-is-right"
_CANARIES = {
    "key": "canary-key-8f2a61",
    "prompt": "canary-prompt-77c0de",
    "password": "canary-password-1b9e",
    "name": "canary-name-55aa",
}
_INSIDE = re.compile(r"0x[0-9a-f]{6,}|/(?:usr|home|tmp|opt|root|var|proc|etc|work)/|\.py\b|Traceback")
_THREADS = 4
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW", "PROPFIND")
_PATHS = (
    "",
    "/docs",
    "/v1/models",
    "/v1/video/uploads",
    "/v1/video/chat",
    "/health/live",
    "/metrics",
    "/version",
)
_PIECES = (
    "\r\n{}", "\n", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\u2028\u2029", "\x85", "\x00", "\x7f",
    '"}\n{"level":"error', "\ud800", "\u202e", "%0d%0a", "\\n", "\U0001f600", "x" * 1024 * 1024,
)  # fmt: skip
_ESCAPES = (
    "../{}", "../../../../{}", "..\\..\\{}", "/tmp/{}", "%2e%2e%2f{}", "..%2f..%2f{}", "\\\\host\\share\\{}",
    "C:\\{}", "{}\x00.mp4", "....//{}", "..;/{}", "~/{}", "$HOME/{}", "{}/../../x", "CON", "NUL.mp4", ".",
    "..", "{}" + "a" * 4096, "file:///tmp/{}", "./{}", "\u2025/{}", "..\uff0f{}", "|touch {}", "$(touch {})",
    "-rf {}", "{}.mp4\n", "data/../{}",
)  # fmt: skip


def _completion(text: str, **more: Any) -> dict[str, Any]:
    return {"model": tiny.MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": text}], **more}


Ask = Callable[[httpx.Client], httpx.Response]


def secrets(is_full: bool) -> Figure:
    count = 10_000 if is_full else 60
    with _with_keys(is_full) as program:
        return _leaks(program, count)


def secrets_with_a_fault(is_full: bool) -> Figure:
    """The header with the key on every request's line."""
    del is_full
    code = (
        "from server.middleware import envelope as e\n"
        "right = e.begin\n"
        "def begin(given, *more):\n"
        "    facts = right(given, *more)\n"
        "    import sys\n"
        "    facts['headers'] = str(sys._getframe(1).f_locals['headers'])\n"
        "    return facts\n"
        "e.begin = begin\n"
    )
    with served(is_fake=True, planted=code) as program:
        return _leaks(program, 40)


def _leaks(program: Program, count: int) -> Figure:
    kinds = list(islice(cycle(_secret_requests()), count))
    answers = _asked(program, kinds)
    errors = "\n".join(answer.text for answer in answers if answer.status_code >= 400)
    places = {"log": program.log, "metrics": _metrics(program), "errors": errors}
    found = [f"{kind} in {where}" for where, text in places.items() for kind in _found(text)]
    inside = _INSIDE.findall(errors)
    text = (
        f"{len(answers)} requests: {len(found)} secrets {found[:4]}, {len(inside)} of the inside {inside[:3]}"
    )
    return Figure(text, is_met=not found and not inside)


def _found(text: str) -> Iterator[str]:
    """The kinds of canaries in a text, of a password also where it is cut."""
    for kind, canary in _CANARIES.items():
        if canary in text or canary[:-4] in text:
            yield kind


def _secret_requests() -> Iterator[Ask]:
    """All ways in which a client may send what is nobody else's business."""
    key, prompt, password, name = _CANARIES.values()
    wrong = {"authorization": f"Bearer {key}"}
    urls = [
        f"{scheme}me:{password}@example.com/a.mp4"
        for scheme in ("https://", "http://", "ftp://", "//", "https:\\\\", "HTTPS://x/../", "rtsp://")
    ]
    bad: list[dict[str, Any]] = [
        _completion(prompt, api_key=key),
        _completion(prompt, temperature=f"{prompt} {key}"),
        _completion(prompt, max_tokens=-1),
        _completion(prompt, stop=[1, prompt]),
        {"model": tiny.MODEL, "messages": f"say {prompt}"},
        {"model": tiny.MODEL, "messages": [f"say {prompt}"]},
        {"model": tiny.MODEL, "messages": [{"role": "user", "content": {"text": prompt}}]},
        {"model": tiny.MODEL, "messages": [{"role": "assistant", "content": f"say {prompt}"}]},
        {"model": tiny.MODEL, "messages": [{"role": "user", "content": f"{prompt} " * 30_000}]},
        *({**_completion(prompt), "model": url} for url in urls),
    ]
    yield lambda client: client.get("/v1/models", headers=wrong)
    yield lambda client: client.get(
        "/v1/models", headers={"cookie": key, "user-agent": key, "x-api-key": key}
    )
    yield lambda client: client.get("/v1/models", params={"api_key": key})
    yield lambda client: client.get("/nothing", params={"q": prompt}, headers={"x-request-id": f"{key} x"})
    yield lambda client: client.post("/v1/video/uploads", params={"filename": name}, content=b"no video")
    yield lambda client: client.post("/v1/video/uploads", files={"file": (name, prompt.encode() * 9)})
    yield lambda client: client.post("/v1/chat/completions", content=f'{{"messages": "{prompt}'.encode())
    yield lambda client: client.post("/v1/chat/completions", json=_completion(f"tell of {prompt}"))
    for body in bad:
        yield lambda client, body=body: client.post("/v1/chat/completions", json=body)
        yield lambda client, body=body: client.post("/v1/video/chat", json=body)
    for url in urls:
        part = {"type": "video_url", "video_url": {"url": url}}
        video = [{"type": "text", "text": prompt}, part]
        asked = _completion("") | {"messages": [{"role": "user", "content": video}]}
        yield lambda client, asked=asked: client.post("/v1/chat/completions", json=asked)
        yield lambda client, url=url: client.post("/v1/video/frames", json={"video": url})
        yield lambda client, url=url: client.get(f"/v1/models/{quote(url, safe='')}")
        yield lambda client, url=url: client.get(f"/v1/video/uploads/{quote(url, safe='')}")
        yield lambda client, url=url: client.get("/v1/video/uploads", params={"after": url})


def series(is_full: bool) -> Figure:
    count = 20_000 if is_full else 60
    rng = random.Random(23)

    def ask() -> Ask:
        method, path = rng.choice(_METHODS), f"{rng.choice(_PATHS)}/{rng.randbytes(6).hex()}"
        body = _completion("x") | {"model": rng.randbytes(8).hex()}
        headers = {
            "authorization": f"Bearer {rng.randbytes(9).hex()}",
            "x-request-id": rng.randbytes(4).hex(),
        }
        if rng.random() < 0.2:
            return lambda client: client.post("/v1/chat/completions", json=body, headers=headers)
        return lambda client: client.request(method, path, headers=headers)

    with one_of_its_own(is_full) as program:
        before = _series(_metrics(program))
        _asked(program, [ask() for _ in range(count)])
        seconds = _seconds(program)
        page = _metrics(program)
    more = _series(page) - before
    size = f"/metrics {1e3 * seconds:.0f} ms, {len(page) / 1024:.0f} KiB"
    text = f"{len(more)} new series by {count} requests; {size}"
    return Figure(text, is_met=len(more) <= 5 and seconds <= 0.1 and len(page) <= 256 * 1024)


def _seconds(program: Program) -> float:
    """How long the page takes, in the middle of five times."""
    with program.client() as client:
        return median(client.get("/metrics").elapsed.total_seconds() for _ in range(5))


def lines(is_full: bool) -> Figure:
    count = 1000 if is_full else 45
    with one_of_its_own(is_full, "--log-details") as program:
        begin = len(program.log.splitlines())
        with program.client() as client:
            for piece, number in zip(cycle(_PIECES), range(count), strict=False):
                _ask_nastily(program, client, piece, number // len(_PIECES) % 5)
        # as a reader of the file has them: whatever Python takes for the end of a line is none here
        written = (program.folder / "log").read_bytes().removesuffix(b"\n").split(b"\n")[begin:]
    bad = [line[:80] for line in written if not _is_event(line)]
    longest = max(map(len, written))
    text = f"{len(written)} lines: {len(bad)} that are no object {bad[:2]}, the longest {longest} bytes"
    return Figure(text, is_met=not bad and longest <= MAX_LINE_BYTES and len(written) >= count / 2)


def _ask_nastily(program: Program, client: httpx.Client, piece: str, place: int) -> None:
    """One request with a piece in its query, path, prompt, form or header."""
    text = f"a{piece}b"
    raw = text.encode("utf-8", "surrogatepass")
    match place:
        case 0:
            client.post(f"/v1/video/uploads?filename={quote(raw[:8000])}", content=program.clip)
        case 1:
            client.get(f"/v1/models/{quote(raw[:8000])}")
        case 2:
            body = json.dumps(_completion(text, model=text[:9000]))
            client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        case 3:
            form = (
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
                + raw[:9000]
                + b'"\r\n\r\nx\r\n--x--'
            )
            client.post(
                "/v1/video/uploads", content=form, headers={"content-type": "multipart/form-data; boundary=x"}
            )
        case _:
            with socket.create_connection(("127.0.0.1", program.port), 10) as sock:
                sock.sendall(
                    b"GET /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUser-Agent: "
                    + raw[:9000]
                    + b"\r\n\r\n"
                )
                while sock.recv(65536):
                    pass


def _is_event(line: bytes) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and line.decode().isprintable() and line.isascii()


def names(is_full: bool) -> Figure:
    count = 500 if is_full else 30
    with one_of_its_own(is_full) as program:
        before = _tree(program)
        statuses: list[int] = []
        with program.client() as client:
            for escape, number in zip(cycle(_ESCAPES), range(count), strict=False):
                statuses.append(_upload_as(program, client, escape.replace("{}", f"escaped{number}"), number))
        outside = sorted(_tree(program) - before)
    worst = max(statuses)
    text = f"{count} names: {len(outside)} files outside of the store {outside[:2]}; the worst status {worst}"
    return Figure(text, is_met=not outside and worst < 500 and 200 in statuses)


def _upload_as(program: Program, client: httpx.Client, name: str, number: int) -> int:
    match number % 4:
        case 0:
            path = f"/v1/video/uploads?filename={quote(name, safe='')}"
            return client.post(path, content=program.clip).status_code
        case 1:
            return client.post("/v1/video/uploads", files={"file": (name, program.clip)}).status_code
        case 2:
            return client.get(f"/v1/video/uploads/{quote(name, safe='')}").status_code
        case _:
            return client.delete(f"/v1/video/uploads/{quote(name[:2000], safe='/')}").status_code


_STORED = re.compile(
    r"videos/[0-9a-f]{64}|tokens/.*|incoming/.*|btchat\.sqlite3.*|\w*lock\w*|videos|tokens|incoming"
)


def _tree(program: Program) -> set[str]:
    """Files that are no part of the store: around it, in it under other names, and where a name may lead."""
    places = [
        program.folder.rglob("*"),
        Path().iterdir(),
        Path("/tmp").iterdir(),
        Path.home().iterdir(),
        Path("/").iterdir(),
    ]
    stored = {
        path for path in program.data.rglob("*") if _STORED.fullmatch(str(path.relative_to(program.data)))
    }
    found = {path for place in places for path in place} - stored
    return {str(path) for path in found if "escaped" in path.name or program.data in path.parents}


def _asked(program: Program, asks: list[Ask]) -> list[httpx.Response]:
    """The answers to all, a few at a time, each under the right key if it brings none."""
    with (
        program.client(headers={"authorization": f"Bearer {_KEY}"}) as client,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        return list(pool.map(lambda ask: ask(client), asks))


def _metrics(program: Program) -> str:
    with program.client(headers={"authorization": f"Bearer {_KEY}"}) as client:
        return client.get("/metrics").raise_for_status().text


def _series(page: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


@contextmanager
def _with_keys(is_full: bool) -> Generator[Program]:
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys")
        keys.write_text(f"{_KEY}\n", encoding="utf-8")
        with one_of_its_own(is_full, "--api-keys-file", str(keys)) as program:
            yield program


GOALS = (
    Goal(
        "G22",
        "10,000 requests with a key, a prompt, a URL's password and a file's name: 0 of them in log, metrics "
        "and errors; in these no address, path or traceback",
        secrets,
    ),
    Goal(
        "G22 control",
        "the same, with the headers on every request's line",
        secrets_with_a_fault,
        is_control=True,
    ),
    Goal(
        "G23",
        "20,000 requests of random paths, methods, models and keys: <= 5 new series; /metrics <= 100 ms, "
        "<= 256 KiB",
        series,
    ),
    Goal(
        "G24",
        "1,000 names, prompts and headers with CR, LF, ANSI, U+2028, 1 MB: each event one JSON object "
        "<= 8 KiB",
        lines,
    ),
    Goal("G25", "500 names that lead elsewhere: 0 files outside of the store, 0 x 5xx", names),
)
