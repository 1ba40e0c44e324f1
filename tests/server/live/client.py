"""A client of live sessions, as programs and pages are."""

import base64
import io
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from server.live import PATH
from tests.clips import picture

_SECONDS = 20.0


def picture_data(number: int, kind: str = "PNG", size: tuple[int, int] = (96, 64)) -> str:
    file = io.BytesIO()
    Image.fromarray(picture(number, *size)).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


class LiveClient:
    """Messages as objects."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def hear(self, seconds: float = _SECONDS) -> dict[str, Any]:
        return json.loads(self.socket.recv(timeout=seconds))

    def hear_of(self, *kinds: str, seconds: float = _SECONDS) -> dict[str, Any]:
        """The next message of these types; what comes before is passed over."""
        while (message := self.hear(seconds))["type"] not in kinds:
            pass
        return message

    def begin(self, **config: Any) -> dict[str, Any]:
        self.send("session.config", **config)
        return self.hear()

    def show(self, data: str, **fields: Any) -> str:
        """Send a frame and wait until it is seen, where the session tells; what became of it."""
        self.send("video.frame", data=data, **fields)
        return self.hear_of("video.frame.ack")["outcome"]

    def ask(self, text: str) -> dict[str, Any]:
        """The end of the answer, or the error."""
        self.send("video.query", text=text)
        return self.hear_of("response.text.done", "error")


@contextmanager
def live(
    url: str, *, headers: dict[str, str] | None = None, protocols: Sequence[str] | None = None
) -> Generator[LiveClient]:
    """A connection to the server at this http:// URL; raises as websockets does where it is refused."""
    address = url.replace("http", "ws", 1) + PATH
    offered = None if protocols is None else [Subprotocol(each) for each in protocols]
    with connect(address, additional_headers=headers, subprotocols=offered, proxy=None) as socket:
        yield LiveClient(socket)
