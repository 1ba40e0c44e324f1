"""The engine process as its supervisor starts it."""

import asyncio
import socket
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bt_model.errors import CheckpointError
from server.engine import wire
from server.engine.packing import pack
from server.engine.supervisor import Command, RestartRule, Supervisor, launch_process
from tests.fakes import CARD

SHOW = "import os, sys; open(sys.argv[1], 'w').write(os.environ['GLIBC_TUNABLES'])"


class EndedProcess:
    """Of an engine that is only a socket."""

    pid, returncode = 1, 0

    def kill(self) -> None: ...

    async def wait(self) -> int:
        return 0


@pytest.mark.parametrize("own", ["", "glibc.malloc.perturb=0"])
async def test_it_has_huge_pages_unless_its_environment_says_otherwise(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    told = tmp_path / "told"
    command = [sys.executable, "-c", SHOW, str(told)]
    supervisor = Supervisor(lambda _: command, lambda *_: None, lambda: None, RestartRule(), launch_process)
    with pytest.raises(CheckpointError, match="ended before it was ready"):
        await asyncio.wait_for(supervisor.start(), 30)
    assert told.read_text() == (own or "glibc.malloc.hugetlb=1")


async def test_what_an_engine_answers_before_it_is_ready_is_passed_on() -> None:
    ours, theirs = socket.socketpair()
    reply = wire.Features("a", False, {})

    async def launch(_: Command) -> tuple[socket.socket, EndedProcess]:
        return ours, EndedProcess()

    heard: list[wire.Message] = []
    supervisor = Supervisor(
        lambda _: [], lambda message, _: heard.append(message), lambda: None, RestartRule(), launch
    )
    with theirs:
        for message in (reply, wire.Ready(asdict(CARD), [CARD.id])):
            theirs.send(pack(message))
        await supervisor.start()
        assert heard == [reply]
        await supervisor.stop(0)


async def test_an_engine_that_could_not_be_launched_is_tried_again() -> None:
    sockets = [socket.socketpair() for _ in range(2)]
    launches = iter([sockets[0][0], BlockingIOError("no more processes"), sockets[1][0]])
    again = asyncio.Event()

    async def launch(_: Command) -> tuple[socket.socket, EndedProcess]:
        if isinstance(outcome := next(launches), OSError):
            raise outcome
        return outcome, EndedProcess()

    rule = RestartRule(backoff_seconds=0)
    supervisor = Supervisor(lambda _: [], lambda *_: again.set(), lambda: None, rule, launch)
    with sockets[0][1] as first, sockets[1][1] as second:
        ready = pack(wire.Ready(asdict(CARD), [CARD.id]))
        first.send(ready)
        second.send(ready + pack(wire.Features("a", False, {})))
        await supervisor.start()
        first.close()
        await asyncio.wait_for(again.wait(), 10)
        assert supervisor.num_restarts == 2
        await supervisor.stop(0)
