"""Real models in this process: towers are shared, and an unloaded model leaves nothing behind."""

import asyncio
import math
import os
import socket
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import torch

from bt_model.assembly.load import OnFile
from bt_model.chat import VideoChat
from bt_model.generation.chunk import PAGE
from server.engine import wire
from server.worker.loader import CacheSettings, DiskLoader
from server.worker.requests import Worker
from server.worker.token_cache import TokenCache
from server.worker.token_store import TokenStore
from tests import tiny
from tests.server.worker.processes import Peer, write_models

FIRST, SAME_TOWER, OTHER_TOWER = "embedded", "embedded-zeroshot", "second"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_models(folder)
    return folder


class Watched(DiskLoader):
    """Remembers what it loaded, without keeping it."""

    def __init__(self, *names: str, weights: Path) -> None:
        super().__init__(names, weights, device="cpu", cache=CacheSettings(max_batch=1))
        self.decoders = dict[str, weakref.ref[object]]()
        self.towers = dict[str, weakref.ref[object]]()

    def load(self, name: str, report: OnFile | None = None) -> VideoChat:
        chat = super().load(name, report)
        self.decoders[name] = weakref.ref(chat.backend.lm)
        self.towers[name] = weakref.ref(chat.encoder.tower)
        return chat


@contextmanager
def serving(loader: DiskLoader, limit: int) -> Generator[Peer]:
    """A worker on a thread; our end of its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)

    async def run() -> None:
        tokens = TokenCache(1 << 20, TokenStore(Path("none"), 0))
        await Worker(loader, theirs, tokens=tokens, max_model_bytes=limit).run()

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()
    connection = Peer(ours)
    try:
        yield connection
    finally:
        connection.send(wire.Shutdown(0.0))
        thread.join(20)
        connection.close()


def until_last(connection: Peer, request_id: str) -> wire.Message:
    """The terminal message of one request."""
    while True:
        message, _ = connection.receive()
        if getattr(message, "id", None) == request_id and not isinstance(message, wire.Piece):
            return message


def use(connection: Peer, model: str) -> None:
    """Encode a clip with a model and ask about it."""
    clip = tiny.clips(1, 4)[0].numpy()
    fd = os.memfd_create("frames")
    os.write(fd, clip.tobytes())
    key = model.encode()
    num_frames, height, width, _ = clip.shape
    connection.send(wire.Encode("e", [[model, key]], num_frames, height, width, {}), (fd,))
    os.close(fd)
    encoded = until_last(connection, "e")
    assert isinstance(encoded, wire.Encoded)
    assert encoded.failures == {}
    connection.send(
        wire.Ask("a", model, "public", [[key, 0, 0]], [["user", "hello"]], {"max_tokens": 3}, 20.0)
    )
    assert isinstance(until_last(connection, "a"), wire.Done)


def test_an_unloaded_model_leaves_nothing_but_a_tower_that_another_uses(weights: Path) -> None:
    loader = Watched(FIRST, SAME_TOWER, OTHER_TOWER, weights=weights)
    limit = sum(loader.estimate(name).total for name in loader.ids) - 1
    with serving(loader, limit) as connection:
        for name in (FIRST, SAME_TOWER, OTHER_TOWER):
            use(connection, name)
        assert loader.decoders[FIRST]() is None
        assert loader.decoders[SAME_TOWER]() is not None
        assert loader.towers[FIRST]() is loader.towers[SAME_TOWER]() is not None
        use(connection, FIRST)  # for it the other one on its tower must go
        assert loader.decoders[SAME_TOWER]() is None
        assert loader.towers[FIRST]() is not None
        assert loader.towers[FIRST]() is not loader.towers[OTHER_TOWER]()


def test_the_estimate_counts_the_cache_that_the_decoder_reserves(weights: Path) -> None:
    loader = DiskLoader([FIRST], weights, device="cpu", cache=CacheSettings(max_batch=3))
    lm = loader.load(FIRST).backend.lm
    need = loader.estimate(FIRST)
    assert (need.max_batch, need.max_context) == (3, lm.max_context)
    assert need.num_pages == 3 * math.ceil(lm.max_context / PAGE)
    assert need.page_bytes == lm.page_bytes
    assert need.total == need.weights.total + need.encode_bytes + need.num_pages * lm.page_bytes
    assert "answers at once" in str(need)
    assert "\n" not in str(need)


def test_a_number_format_is_passed_on(weights: Path) -> None:
    loader = DiskLoader([FIRST], weights, device="cpu", dtype="bfloat16")
    chat = loader.load(FIRST)
    assert chat.encoder.tower.class_embedding.dtype == torch.bfloat16
    assert chat.card.versions["dtype"] == "torch.bfloat16"
