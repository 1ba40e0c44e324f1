"""Questions that end while they are being handed to their model, over a worker in this process."""

import asyncio
import contextlib
import io
import json
import logging
import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from bt_model.backends.base import Backend
from bt_model.backends.echo import EchoBackend, EchoLM, EchoRunner
from bt_model.chat import VideoChat
from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import MODEL_FAILED
from bt_model.generation.request import Segment
from bt_model.types import Turn, VideoTokens
from server.engine import wire
from server.engine.channel import Channel
from server.engine.wire import Ask, Message
from server.log.lines import JsonLines
from server.worker import thread
from server.worker.requests import Worker
from server.worker.token_cache import TokenCache
from server.worker.token_store import TokenStore
from tests import fakes
from tests.leaks import no_leaks
from tests.server.worker.test_models import Size


class FailingRunner(EchoRunner):
    """Breaks at the first step."""

    def forward(self, embeds: torch.Tensor, chunks: Sequence[Chunk]) -> Iterator[torch.Tensor]:
        raise RuntimeError("no luck")


class FailingLM(EchoLM):
    def start(self, num_pages: int, *, keep_weights: bool = True) -> EchoRunner:
        return FailingRunner(num_pages)


@dataclass(frozen=True, slots=True)
class GatedEcho(EchoBackend):
    """Repeats the question, once its prompt may be built."""

    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    own: EchoLM = field(default_factory=EchoLM)

    @property
    def lm(self) -> EchoLM:
        return self.own

    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        self.begun.set()
        assert self.gate.wait(10)
        if turns[-1].text == "!no prompt":
            raise ZeroDivisionError
        return EchoBackend.segments(self, turns, videos)


class EchoLoader:
    """Two models, of which there is memory for one."""

    ids = ("a", "b")

    def __init__(self, lm: EchoLM | None = None) -> None:
        self.backend = GatedEcho(own=lm or EchoLM())

    def estimate(self, name: str) -> Size:
        return Size(100)

    def load(self, name: str, report: object) -> VideoChat:
        return VideoChat(cast(Any, None), cast("Backend", self.backend), replace(fakes.CARD, id=name))

    def base_of(self, name: str) -> None:
        return None

    def load_beside(self, name: str, base: VideoChat) -> VideoChat:
        raise NotImplementedError

    def free_bytes(self) -> int:
        return 1000

    def collect(self) -> None:
        pass


class Site:
    """A worker, and the web process's end of its socket."""

    def __init__(self, loader: EchoLoader, watchdog_seconds: float = math.inf) -> None:
        ours, theirs = socket.socketpair()
        self.backend = loader.backend
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.channel = Channel(ours, lambda message, _: self.received.put_nowait(message), lambda: None)
        self.worker = Worker(
            loader,
            theirs,
            tokens=TokenCache(1000, TokenStore(Path("none"), 0)),
            max_model_bytes=150,
            watchdog_seconds=watchdog_seconds,
        )
        self.work = asyncio.create_task(self.worker.run())

    async def next(self) -> Message:
        """The next message but those that say what is loaded."""
        while isinstance(message := await asyncio.wait_for(self.received.get(), 10), wire.Holding):
            pass
        return message

    def ask(self, text: str = "hello", model: str = "a") -> None:
        self.channel.send(Ask("q", model, "public", [], [["user", text]], {}, 10.0))

    async def is_free(self) -> bool:
        """Whether nobody uses the first model, so that the second may take its place."""
        self.channel.send(wire.Open("o", "b"))
        return isinstance(await self.next(), wire.Opened)


@pytest.fixture(params=[None])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    with no_leaks():
        site = Site(EchoLoader(request.param))
        assert isinstance(await site.next(), wire.Ready)
        yield site
        site.backend.gate.set()
        with contextlib.suppress(ConnectionError):  # it has ended already
            site.channel.send(wire.Shutdown(0.0))
        await asyncio.wait_for(site.work, 10)
        site.channel.close()


async def test_a_question_that_is_cancelled_while_its_prompt_is_built_gives_its_model_back(
    site: Site,
) -> None:
    site.ask()
    await asyncio.to_thread(site.backend.begun.wait, 10)
    site.channel.send(wire.Cancel("q"))
    done = await site.next()
    assert isinstance(done, wire.Done)
    assert (done.reason, done.usage["completion"], done.seconds["queue"]) == ("cancelled", 0, 0.0)
    assert await site.is_free()


async def test_one_that_is_cancelled_before_its_task_has_run_ends_as_well(site: Site) -> None:
    site.ask()
    site.channel.send(wire.Cancel("q"))
    done = await site.next()
    assert isinstance(done, wire.Done)
    assert await site.is_free()


async def test_while_a_long_prompt_is_built_other_requests_are_answered(site: Site) -> None:
    site.ask()
    await asyncio.to_thread(site.backend.begun.wait, 10)
    site.channel.send(wire.AskStats("s"))
    assert isinstance(await site.next(), wire.Stats)


async def test_a_small_question_waits_for_no_long_ones_but_the_one_in_work(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "_WEIGHT_A_SECOND", 1.0)
    for number, text in enumerate(("a" * 90, "b" * 80, "c" * 70, "small")):
        site.channel.send(Ask(f"{number}", "a", "public", [], [["user", text]], {"max_tokens": 1}, 10.0))
        await asyncio.to_thread(site.backend.begun.wait, 10)  # the first is in work before the others come
    site.channel.send(wire.AskStats("s"))
    assert isinstance(await site.next(), wire.Stats)  # so all have come
    site.backend.gate.set()
    replies = [await site.next() for _ in range(8)]
    ends = [reply.id for reply in replies if isinstance(reply, wire.Done)]
    assert ends == ["0", "3", "2", "1"]


async def test_a_model_in_use_is_not_free(site: Site) -> None:
    site.ask()
    await asyncio.to_thread(site.backend.begun.wait, 10)
    assert not await site.is_free()


async def test_a_question_without_a_prompt_gives_its_model_back(site: Site) -> None:
    site.backend.gate.set()
    site.ask("!no prompt")
    failed = await site.next()
    assert isinstance(failed, wire.Failed)
    assert failed.code == "engine_error"
    assert await site.is_free()


@pytest.mark.parametrize("site", [FailingLM()], indirect=True)
async def test_an_answer_that_the_model_breaks_gives_its_model_back(site: Site) -> None:
    site.backend.gate.set()
    site.ask()
    failed = await site.next()
    assert isinstance(failed, wire.Failed)
    assert (failed.message, "no luck" in failed.message) == (MODEL_FAILED, False)
    assert await site.is_free()


async def test_who_hears_of_the_end_may_count_on_the_model_being_free(site: Site) -> None:
    site.backend.gate.set()
    site.ask("hi")
    while not isinstance(message := await site.next(), wire.Done):
        assert isinstance(message, wire.Piece)
    assert await site.is_free()


async def test_questions_that_still_run_at_the_end_are_told_so(site: Site) -> None:
    site.ask()
    await asyncio.to_thread(site.backend.begun.wait, 10)
    site.channel.send(wire.Shutdown(0.0))
    site.backend.gate.set()
    while isinstance(message := await site.next(), wire.Piece):
        pass
    assert isinstance(message, wire.Done | wire.Failed)  # as it was before or after its submission


async def test_what_fails_is_logged_under_the_id_of_the_webs_request(site: Site) -> None:
    log = logging.StreamHandler(io.StringIO())
    log.setFormatter(JsonLines("engine"))
    logging.getLogger("server").addHandler(log)
    site.backend.gate.set()
    site.channel.send(Ask("mine.7", "a", "public", [], [["user", "!no prompt"]], {}, 10.0))
    assert isinstance(await site.next(), wire.Failed)
    logging.getLogger("server").removeHandler(log)
    (line,) = log.stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["request_id"], event["process"]) == ("mine", "engine")
    assert event["exception"].endswith("ZeroDivisionError")
