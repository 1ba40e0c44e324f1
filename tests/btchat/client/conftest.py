"""Both clients before a real server: the one of event loops is driven by a loop in another thread."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from btchat import AsyncClient, Client
from btchat.client import AsyncChatStream
from tests.server.conftest import RunningServer

Connect = Callable[..., Any]
"""Makes a client of one kind or the other, with the arguments of either."""


class InLoop:
    """What an asynchronous client or stream offers, to be called like its sibling."""

    def __init__(self, portal: BlockingPortal, inner: Any) -> None:
        self._portal, self._inner = portal, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._called(found) if callable(found) else found

    def _called(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = self._portal.call(lambda: method(*arguments, **options))
            return InLoop(self._portal, result) if isinstance(result, AsyncChatStream) else result

        return call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._portal.call(self._inner.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path: Path) -> Iterator[Connect]:
    made: list[Any] = []

    def connect(url: str, **options: Any) -> Any:
        given: dict[str, Any] = {"state_dir": tmp_path / "states", "timeout": 20.0, **options}
        client = Client(url, **given) if request.param == "Client" else AsyncClient(url, **given)
        made.append(client if isinstance(client, Client) else InLoop(portal, client))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Connect, server: RunningServer) -> Any:
    return connect(server.url)


def padded(clip: Path, path: Path, num_bytes: int) -> str:
    """Write the clip with so many bytes behind it that readers skip, never the same; its SHA-256."""
    content = (
        clip.read_bytes() + (num_bytes + 8).to_bytes(4, "big") + b"free" + secrets.token_bytes(num_bytes)
    )
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
