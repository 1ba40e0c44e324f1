"""The door, alone: what it lets in or refuses before a body is read, and which bytes it counts."""

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.admission import PUBLIC, Admission, HeldBytes
from server.keys.file import ApiKeys
from server.middleware.costs import RequestCost, RequestCosts
from server.middleware.door import HELD, Door
from server.problems import BusyError

UPLOADS = "/v1/video/uploads"
COSTS = RequestCosts(RequestCost(100), {UPLOADS: RequestCost(2**30, held_bytes=2**21)})


def scope_of(
    admission: Admission, path: str = "/v1/video/chat", method: str = "POST", **headers: str
) -> Scope:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"services": SimpleNamespace(admission=admission), "tenant": PUBLIC}
    return {"type": "http", "method": method, "path": path, "headers": lines, "state": state}


async def unread() -> Message:
    raise AssertionError("the body was read")


async def statuses(
    scope: Scope, receive: Receive = unread, *, reads: int = 0
) -> tuple[list[Message], list[int]]:
    """What the door itself sends; the bytes held after each of so many reads of the route behind it."""
    sent: list[Message] = []
    held: list[int] = []

    async def route(scope: Scope, receive: Receive, _send: Send) -> None:
        of_request = scope["state"].get(HELD)
        assert isinstance(of_request, HeldBytes) is (scope["method"] in {"POST", "PUT", "PATCH"})
        admission = scope["state"]["services"].admission
        held.append(admission.num_bytes)
        for _ in range(reads):
            await receive()
            held.append(admission.num_bytes)

    async def send(message: Message) -> None:
        sent.append(message)

    await Door(route, COSTS)(scope, receive, send)
    return sent, held


def pieces(sizes: Iterable[int]) -> Receive:
    left = iter(sizes)

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(next(left)), "more_body": True}

    return receive


@pytest.mark.parametrize("path", ["/v1/video/chat", "/v1/video/frames", UPLOADS, "/v1/what/comes/later"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_full_server_refuses_before_the_body_is_read(path: str, method: str) -> None:
    admission = Admission(1, 10, ApiKeys())
    with admission.enter(PUBLIC):
        sent, held = await statuses(scope_of(admission, path, method, content_length="5"))
    assert (sent[0]["status"], held) == (503, [])
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_what_costs_nothing_goes_through_a_full_server(method: str) -> None:
    admission = Admission(1, 10, ApiKeys())
    with admission.enter(PUBLIC):
        assert await statuses(scope_of(admission, method=method)) == ([], [0])


async def test_a_declared_body_counts_from_the_start_and_until_the_end() -> None:
    admission = Admission(5, 10, ApiKeys())
    assert (await statuses(scope_of(admission, content_length="7")))[1] == [7]
    assert admission.num_bytes == 0
    with admission.enter(PUBLIC) as other:
        other.add(4)
        sent, held = await statuses(scope_of(admission, content_length="7"))
    assert (sent[0]["status"], held, admission.num_running) == (503, [], 0)


async def test_a_body_of_unknown_length_counts_as_it_comes() -> None:
    admission = Admission(5, 10, ApiKeys())
    scope = scope_of(admission, transfer_encoding="chunked")
    assert (await statuses(scope, pieces([4, 6]), reads=2))[1] == [0, 4, 10]
    with pytest.raises(BusyError, match="10 bytes"):
        await statuses(scope, pieces([4, 7]), reads=2)
    assert (admission.num_bytes, admission.num_running) == (0, 0)


@pytest.mark.parametrize(
    ("headers", "count"), [({"transfer_encoding": "chunked"}, 2**21), ({"content_length": "9"}, 9)]
)
async def test_of_a_body_that_is_passed_on_little_is_held(headers: dict[str, str], count: int) -> None:
    admission = Admission(5, 2**22, ApiKeys())
    scope = scope_of(admission, UPLOADS, **headers)
    assert (await statuses(scope, pieces([100]), reads=1))[1] == [count, count]


async def test_so_many_look_something_up_at_once_and_a_page_that_is_open_is_not_counted() -> None:
    admission = Admission(1, 10, ApiKeys())
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(admission.look_up(PUBLIC))
        sent, held = await statuses(scope_of(admission, method="GET"))
        assert (sent[0]["status"], held) == (503, [])
        assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
        assert await statuses(scope_of(admission, "/docs", "GET")) == ([], [0])
        assert await statuses(scope_of(admission)) == ([], [0])
    assert await statuses(scope_of(admission, method="GET")) == ([], [0])


async def test_refusals_after_the_entry_say_nothing_about_how_long_requests_take() -> None:
    admission = Admission(5, 10, ApiKeys())
    with admission.enter(PUBLIC) as other:
        other.add(10)
        before = admission._seconds  # pyright: ignore[reportPrivateUsage]
        for _ in range(40):
            assert (await statuses(scope_of(admission, content_length="7")))[0][0]["status"] == 503
        assert admission._seconds == before  # pyright: ignore[reportPrivateUsage]


async def test_refusals_wait_for_no_crowd_of_those_let_in() -> None:
    """Of those let in one begins in each round of the event loop; the refusals are told in the first."""
    admission = Admission(8, 100, ApiKeys())
    rounds = [[0, 0]]

    async def route(_scope: Scope, _receive: Receive, _send: Send) -> None:
        rounds[-1][0] += 1

    async def send(message: Message) -> None:
        rounds[-1][1] += message["type"] == "http.response.start"

    async def tick() -> None:
        while True:
            rounds.append([0, 0])
            await asyncio.sleep(0)

    door = Door(route, COSTS)
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(door(scope_of(admission), unread, send) for _ in range(20)))
    ticking.cancel()
    assert [refused for _, refused in rounds if refused] == [12]
    assert [begun for begun, _ in rounds if begun] == [1] * 8


async def test_who_has_the_whole_answer_is_in_flight_no_more() -> None:
    admission = Admission(1, 10, ApiKeys())
    running: list[int] = []

    async def route(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(_message: Message) -> None:
        running.append(admission.num_running)

    await Door(route, COSTS)(scope_of(admission), unread, send)
    assert running == [1, 1, 0]
