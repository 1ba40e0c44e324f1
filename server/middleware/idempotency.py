"""`Idempotency-Key`: what was answered is answered again, and nothing is done twice. Pure ASGI.

Stands inside the door, which counts a repetition as any request, and outside everything that reads a body.
"""

import asyncio
import hashlib
import re
from collections import Counter, OrderedDict, defaultdict
from http import HTTPStatus
from time import monotonic
from weakref import WeakValueDictionary

from multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bt_model.errors import BtchatError
from server.log.request import FACTS
from server.problems import Problem, problem_of

HEADER = "idempotency-key"
REPLAYED = "idempotent-replayed"
KEPT_SECONDS = 3600.0
KEPT_BYTES = 64 * 1024 * 1024
KEPT_ANSWERS = 4096
"""Of all API keys together, each of which has its share."""
LARGEST_BYTES = 4 * 1024 * 1024
"""Of an answer that is kept; a longer one is made again."""

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_FORM = "multipart/"

_Name = tuple[str, str]  # path and key


class RecordedAnswer:
    """An answer as it is sent, and what it is an answer to; `request` is empty until that is read."""

    def __init__(self) -> None:
        self.request = ""
        self.start: Message | None = None
        self.chunks: list[bytes] = []
        self.num_bytes = 0
        self.is_complete = False
        self.since = monotonic()

    def add(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = {**message, "headers": list(message.get("headers", ()))}
            return
        self.num_bytes += len(message.get("body", b""))
        if self.num_bytes <= LARGEST_BYTES:
            self.chunks.append(message.get("body", b""))
        else:
            self.chunks.clear()
        self.is_complete = not message.get("more_body", False)

    @property
    def is_success(self) -> bool:
        return self.is_complete and self.start is not None and self.start["status"] < HTTPStatus.BAD_REQUEST

    async def replay(self, send: Send) -> None:
        assert self.start is not None
        headers = [*self.start["headers"], (REPLAYED.encode(), b"true")]
        await send({**self.start, "headers": headers})
        await send({"type": "http.response.body", "body": b"".join(self.chunks)})


class KeptAnswers:
    """The answers of one API key, the oldest first."""

    def __init__(self, num_tenants: int) -> None:
        self._most = max(KEPT_ANSWERS // num_tenants, 1)
        self._most_bytes = KEPT_BYTES // num_tenants
        self._answers: OrderedDict[_Name, RecordedAnswer] = OrderedDict()
        self._num_bytes = 0

    def find(self, name: _Name) -> RecordedAnswer | None:
        while self._answers and next(iter(self._answers.values())).since < monotonic() - KEPT_SECONDS:
            self._drop_oldest()
        return self._answers.get(name)

    def keep(self, name: _Name, answer: RecordedAnswer) -> None:
        if answer.num_bytes > min(LARGEST_BYTES, self._most_bytes):
            return
        answer.since = monotonic()
        self._answers[name] = answer
        self._num_bytes += answer.num_bytes
        while len(self._answers) > self._most or self._num_bytes > self._most_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, answer = self._answers.popitem(last=False)
        self._num_bytes -= answer.num_bytes


class Idempotency:
    """Repeats of a POST with the same key, path and tenant get the first one's answer, for which they wait.

    A failure is not kept: then whoever has waited longest is the first. After a deletion nothing of before is
    kept of its tenant, since what was deleted may stand in it.
    """

    def __init__(self, app: ASGIApp, num_tenants: int) -> None:
        self._app = app
        self._kept: defaultdict[str, KeptAnswers] = defaultdict(lambda: KeptAnswers(num_tenants))
        self._deletions: Counter[str] = Counter()
        self._turns: WeakValueDictionary[tuple[str, _Name], asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        if scope["type"] == "http" and scope["method"] == "DELETE":
            await self._delete(scope, receive, send)
            return
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            if not _KEY.fullmatch(key):
                text = f"Idempotency-Key has {len(key)} characters; allowed: 1 to 255 printable ones of ASCII"
                raise Problem(400, text, code="invalid_value", param="Idempotency-Key")
            await self._in_turn((scope["path"], key), scope, receive, send)
        except (
            BtchatError,
            HTTPException,
        ) as error:  # nothing was sent: what the application raises it answers
            await problem_of(error).response()(scope, receive, send)

    async def _delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What was answered before a deletion, or is being answered, is not kept."""
        tenant: str = scope["state"]["tenant"]
        answer = await self._recorded(scope, receive, send)
        if answer.is_success:
            self._deletions[tenant] += 1
            self._kept.pop(tenant, None)

    async def _in_turn(self, name: _Name, scope: Scope, receive: Receive, send: Send) -> None:
        tenant: str = scope["state"]["tenant"]
        turn = self._turns.setdefault((tenant, name), asyncio.Lock())
        async with turn:
            kept = self._kept[tenant].find(name)
            body = _WatchedRequest(scope, receive)
            if kept is not None:
                await body.read()
                if body.digest() != kept.request:
                    raise _reused(name)
                await kept.replay(send)
                return
            num_deletions = self._deletions[tenant]
            answer = await self._recorded(scope, body.receive, send)
            is_valid = answer.is_success and num_deletions == self._deletions[tenant]
            if is_valid and (request := body.digest()) and "code" not in scope["state"][FACTS]:
                answer.request = request
                self._kept[tenant].keep(name, answer)

    async def _recorded(self, scope: Scope, receive: Receive, send: Send) -> RecordedAnswer:
        """What the application sends: it goes to the client as well."""
        answer = RecordedAnswer()

        async def record(message: Message) -> None:
            answer.add(message)
            await send(message)

        await self._app(scope, receive, record)
        return answer


class _WatchedRequest:
    """What makes a request the same as another: its query and the bytes of its body.

    Of a form all but the boundary between its fields, of which each repetition has another one.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        kind, options = parse_options_header(headers.get("content-type", ""))
        self._boundary = options.get("boundary", "").encode() if kind.startswith(_FORM) else b""
        self._held = b""  # the last bytes, with which a boundary may begin
        self._query: bytes = scope["query_string"]
        self._hash = hashlib.sha256()
        self._is_complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._take(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        return message

    def _take(self, chunk: bytes) -> None:
        if not self._boundary:
            self._hash.update(chunk)
            return
        data = (self._held + chunk).replace(self._boundary, b"")
        end = max(len(data) - len(self._boundary) + 1, 0)
        self._hash.update(data[:end])
        self._held = data[end:]

    async def read(self) -> None:
        """All of it; nothing of it is held."""
        while not self._is_complete:
            if (await self.receive())["type"] == "http.disconnect":
                raise ClientDisconnect

    def digest(self) -> str:
        """Empty of a body that was not read to its end."""
        if not self._is_complete:
            return ""
        of_query = hashlib.sha256(self._query).hexdigest()
        whole = self._hash.copy()
        whole.update(self._held)
        return f"{of_query} {whole.hexdigest()}"


def _reused(name: _Name) -> Problem:
    text = (
        f"Idempotency-Key {name[1][:40]!r} belongs to another request to {name[0]}, with another body or "
        "query; allowed: a new key for each request, the same one only to repeat it"
    )
    return Problem(400, text, code="idempotency_key_reused", param="Idempotency-Key")
