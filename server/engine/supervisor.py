"""Supervises the engine process: starts it, restarts it when it dies, and gives up if it dies too often."""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bt_model.errors import CheckpointError
from server.engine.channel import Channel, OnMessage
from server.engine.replies import EngineInfo
from server.engine.wire import Loading, Message, Ready, Shutdown, StartFailed

Command = Callable[[int], Sequence[str]]
"""The engine's argument list, given the number of its inherited socket."""


class Process(Protocol):
    """A process that was started, as asyncio has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


Launch = Callable[[Command], Awaitable[tuple[socket.socket, Process]]]
"""Starts an engine: our end of its socket, and its process. May raise OSError."""

_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
"""Huge pages for weights and cache: a step reads all of the weights, and walks fewer tables for it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartRule:
    """When a dead engine is started again, and how long a living one may keep silent."""

    max_deaths: int = 3
    window_seconds: float = 600.0
    backoff_seconds: float = 0.5
    start_seconds: float = 600.0
    check_seconds: float = 10.0
    silence_seconds: float = 60.0
    stop_seconds: float = 0.5  # nothing that it does needs to be finished, and the server has to end soon


async def launch_process(command: Command) -> tuple[socket.socket, Process]:
    """A process on this machine, which inherits its end of a socket. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *command(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT | os.environ,  # whoever has set them knows better
                start_new_session=True,  # Ctrl-C must reach this process only, which finishes running answers
            )
        except BaseException:
            ours.close()
            raise
    return ours, process


class Supervisor:
    """The engine process, across restarts.

    `on_message` gets all messages but those of the start-up; `on_death` is called after every exit.
    """

    def __init__(
        self,
        command: Command,
        on_message: OnMessage,
        on_death: Callable[[], None],
        rule: RestartRule,
        launch: Launch,
    ) -> None:
        self._command = command
        self._launch = launch
        self._on_message = on_message
        self._on_death = on_death
        self._rule = rule
        self._process: Process | None = None
        self._channel: Channel | None = None
        self._info: EngineInfo | None = None
        self._closed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self.num_restarts = 0
        self.loading: Loading | None = None  # how far an engine that is starting has come
        self.gave_up = asyncio.Event()

    @property
    def info(self) -> EngineInfo | None:
        """None while no engine is ready."""
        return self._info

    @property
    def channel(self) -> Channel | None:
        """The way to the engine of this moment."""
        return self._channel

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Wait for the first engine, then start the watching task.

        Raises:
            CheckpointError: the engine's one-line reason for not starting.
        """
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self, drain_seconds: float) -> None:
        """Let running answers finish, then end the process, by a signal if needed."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if self._channel is not None and self._info is not None:
            with contextlib.suppress(ConnectionError):
                self._channel.send(Shutdown(drain_seconds))
        await self._end(drain_seconds + self._rule.stop_seconds)

    def kill(self) -> None:
        """Kill an engine that hangs; it is then restarted like one that died."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _spawn(self) -> None:
        self._closed.clear()
        self.loading = None
        started: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()

        def receive(message: Message, fds: list[int]) -> None:
            if started.done() or not isinstance(message, Loading | Ready | StartFailed):
                self._on_message(message, fds)  # work may reach an engine that is still starting again
            elif isinstance(message, Loading):
                self.loading = message
            elif isinstance(message, Ready):
                started.set_result(EngineInfo.of(message))
            else:
                started.set_exception(CheckpointError(message.message))

        def lose() -> None:
            self._closed.set()
            if not started.done():
                started.set_exception(CheckpointError("the engine process ended before it was ready"))

        ours, self._process = await self._launch(self._command)
        self._channel = Channel(ours, receive, lose)
        try:
            self._info = await asyncio.wait_for(started, self._rule.start_seconds)
        except TimeoutError:
            await self._end(0)
            raise CheckpointError(f"no engine after {self._rule.start_seconds:g} seconds") from None
        except BaseException:
            await self._end(0)
            raise

    async def _watch(self) -> None:
        deaths: deque[float] = deque(maxlen=self._rule.max_deaths)
        clock = asyncio.get_running_loop().time
        while True:
            await self._closed.wait()
            await self._end(0)
            self._on_death()
            deaths.append(clock())
            log.error("the engine process ended with code %s", self._process and self._process.returncode)
            if len(deaths) == self._rule.max_deaths and clock() - deaths[0] < self._rule.window_seconds:
                log.error("the engine died %s times; giving up", len(deaths))
                self.gave_up.set()
                return
            await asyncio.sleep(self._rule.backoff_seconds * 2 ** (len(deaths) - 1))
            self.num_restarts += 1
            try:
                await self._spawn()
            except (CheckpointError, OSError) as error:
                log.error("the engine did not start again: %s", error)  # noqa: TRY400 - one line, no trace
                self._closed.set()  # where there was not even a process, nobody else says so

    async def _end(self, seconds: float) -> None:
        self._info = None
        process = self._process
        if process is not None:
            with contextlib.suppress(TimeoutError):
                if seconds:
                    await asyncio.wait_for(process.wait(), seconds)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
