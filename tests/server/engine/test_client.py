"""The engine's process and its client: starts, deaths, restarts, and messages on a real socket."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from bt_model.errors import CheckpointError, EngineDeadError, FeaturesMissingError
from bt_model.types import GenerateOptions, Turn
from server.engine.client import EngineClient
from server.engine.replies import Reply
from server.engine.supervisor import RestartRule
from server.engine.wire import Done, Piece
from tests import fakes
from tests.leaks import memory_file, no_leaks

RULE = RestartRule(backoff_seconds=0.01, start_seconds=20)
OPTIONS = GenerateOptions()


@asynccontextmanager
async def engine_client(rule: RestartRule = RULE, model: str = fakes.MODEL) -> AsyncGenerator[EngineClient]:
    client = EngineClient(fakes.command(model), rule)
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def kill(client: EngineClient) -> None:
    """End the engine's process and wait until that was noticed."""
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    await until(lambda: not client.is_ready)


async def text_of(client: EngineClient, text: str = "hello you") -> str:
    return "".join([reply.text for reply in await replies_of(client, text) if isinstance(reply, Piece)])


async def replies_of(client: EngineClient, text: str) -> list[Reply]:
    """Everything up to the last reply."""
    found = list[Reply]()
    with client.ask(fakes.MODEL, "public", [], [Turn("user", text)], OPTIONS, 10) as inbox:
        while not found or isinstance(found[-1], Piece):
            found.append(await inbox.get())
    return found


async def test_an_engine_answers_in_pieces_and_one_done() -> None:
    async with engine_client() as client:
        found = await replies_of(client, "hello you")
    assert [event.text for event in found if isinstance(event, Piece)] == ["hello ", "you "]
    assert [isinstance(event, Done) for event in found] == [False, False, True]


async def test_the_card_survives_the_wire() -> None:
    async with engine_client() as client:
        assert client.card == fakes.CARD


async def test_frames_are_looked_up_after_they_were_encoded() -> None:
    async with engine_client() as client:
        assert await client.lookup(b"key") is None
        with memory_file(bytes(2 * 4 * 4 * 3)) as fd:
            await client.encode({fakes.MODEL: b"key"}, fd, (2, 4, 4), {"frames": 2})
        assert await client.lookup(b"key") == {"frames": 2}
        client.forget(b"ke")
        assert await client.lookup(b"key") is None


async def test_a_refused_request_is_raised_as_its_own_class() -> None:
    async with engine_client() as client:
        with pytest.raises(FeaturesMissingError, match="scripted"):
            await text_of(client, "!always evicted")


async def test_an_engine_that_refuses_to_start_is_told_in_its_line() -> None:
    with pytest.raises(CheckpointError, match=r"proj\.weight is missing"):
        async with engine_client(model="broken"):
            pass


async def test_an_engine_that_says_nothing_is_given_up() -> None:
    with pytest.raises(CheckpointError, match=r"no engine after 0\.5 seconds"):
        async with engine_client(RestartRule(start_seconds=0.5), "silent"):
            pass


async def test_a_process_that_cannot_run_is_told() -> None:
    client = EngineClient(lambda fd: ["false"], RULE)
    with pytest.raises(CheckpointError, match="ended before it was ready"):
        await client.start()
    await client.stop()


async def test_a_death_fails_what_runs_and_the_process_is_replaced() -> None:
    async with engine_client() as client:
        first = client.pid
        with pytest.raises(EngineDeadError):
            await text_of(client, "!die later")
        await until(lambda: client.is_ready)
        assert client.pid != first
        assert client.num_restarts == 1
        assert await text_of(client) == "hello you "


async def test_an_engine_that_hangs_is_replaced() -> None:
    rule = RestartRule(backoff_seconds=0.01, start_seconds=20, check_seconds=0.05, silence_seconds=0.5)
    async with engine_client(rule) as client:
        assert client.pid is not None
        os.kill(client.pid, signal.SIGSTOP)
        with pytest.raises(EngineDeadError):
            await asyncio.wait_for(text_of(client), 10)
        await until(lambda: client.is_ready)
        assert await text_of(client) == "hello you "


async def test_an_interrupt_in_the_terminal_spares_the_engine() -> None:
    async with engine_client() as client:
        assert client.pid is not None
        assert os.getpgid(client.pid) != os.getpgid(0)


async def test_a_dead_engine_takes_nothing() -> None:
    async with engine_client(RestartRule(backoff_seconds=10, start_seconds=20)) as client:
        await kill(client)
        with pytest.raises(EngineDeadError):
            await client.lookup(b"key")
        with pytest.raises(EngineDeadError):
            _ = client.card


async def test_frames_that_no_engine_takes_are_given_back() -> None:
    async with engine_client(RestartRule(backoff_seconds=10, start_seconds=20)) as client:
        await kill(client)
        await asyncio.sleep(0.2)  # now it is not even known any more
        with no_leaks(), memory_file() as fd:
            for _ in range(5):
                with pytest.raises(EngineDeadError):
                    await client.encode({fakes.MODEL: b"key"}, fd, (1, 1, 1), {})


async def test_three_deaths_in_a_row_are_the_end() -> None:
    async with engine_client() as client:
        for _ in range(3):
            await until(lambda: client.is_ready)
            await kill(client)
        await asyncio.wait_for(client.wait_given_up(), 5)
        assert client.has_given_up
        assert client.num_restarts == 2


async def test_stopping_leaves_no_process() -> None:
    async with engine_client() as client:
        pid = client.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_engine_that_does_not_end_is_killed() -> None:
    with no_leaks():
        async with engine_client(RestartRule(start_seconds=20, stop_seconds=0.2)) as client:
            assert client.pid is not None
            os.kill(client.pid, signal.SIGSTOP)


async def test_an_engine_that_never_was_ready_is_killed() -> None:
    with no_leaks(), pytest.raises(CheckpointError):
        async with engine_client(RestartRule(start_seconds=0.5), "silent"):
            pass


async def test_the_socket_of_an_ended_engine_is_closed_even_if_another_holds_its_end() -> None:
    def command(fd: int) -> list[str]:
        holder = f"import subprocess; subprocess.Popen(['sleep', '20'], pass_fds=[{fd}])"
        return [sys.executable, "-c", holder]

    with no_leaks():
        client = EngineClient(command, RestartRule(start_seconds=2))
        with pytest.raises(CheckpointError, match="no engine after"):
            await client.start()
        await client.stop()


async def test_restarts_leave_nothing_open() -> None:
    async with engine_client(RestartRule(max_deaths=9, backoff_seconds=0.01, start_seconds=20)) as client:
        with no_leaks():
            for _ in range(3):
                await kill(client)
                await until(lambda: client.is_ready)


async def test_fetched_tokens_leave_nothing_open_whether_awaited_or_not() -> None:
    async with engine_client() as client:
        await client.fetch_tokens(b"key")
        with no_leaks():
            for _ in range(5):
                await client.fetch_tokens(b"key")
                leaving = asyncio.create_task(client.fetch_tokens(b"key"))
                await asyncio.sleep(0)
                leaving.cancel()
            await client.stats()  # what was sent before it has come


async def test_nothing_waits_after_a_caller_left() -> None:
    async with engine_client() as client:
        with client.ask(fakes.MODEL, "public", [], [Turn("user", "!slow")], OPTIONS, 10) as inbox:
            await inbox.get()
        assert client.num_waiting == 0
        while (await client.stats()).values["running"]:
            pass
        assert (await client.stats()).values["fake_cancelled_total"] == 1
