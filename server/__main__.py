"""`python -m server`: settings from flags, environment and file, then uvicorn."""

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import uvicorn

from bt_model.errors import BtchatError, InvalidValueError
from server.engine.supervisor import Command
from server.main import create_app, engine_command, start_services
from server.settings import Settings, add_flags, load_settings

_BACKLOG = 2048
_HEADER_BYTES = 16 * 1024
_KEEP_ALIVE_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; 1 with one line on stderr where that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m server", description="Serve btchat.")
    add_flags(parser)
    flags = parser.parse_args(argv)
    try:
        return serve(flags)
    except BtchatError as error:
        sys.stderr.write(f"btchat: {' '.join(error.message.split())}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def serve(flags: argparse.Namespace) -> int:
    """Serve with settings from these flags, the environment and the settings file; the exit code.

    Raises:
        BtchatError: why this server cannot start.
    """
    settings = load_settings(flags, os.environ)
    return asyncio.run(_serve(settings, engine_command(settings)))


async def _serve(settings: Settings, command: Command) -> int:
    """Serve until a signal comes, or until the engine has died too often (then 1)."""
    with _listening(settings) as sock:
        async with start_services(settings, command) as services:
            app = create_app(settings, lambda: nullcontext(services))
            server = uvicorn.Server(uvicorn_config(app, settings))

            async def end_with_engine() -> None:
                await services.engine.wait_given_up()
                server.should_exit = True

            watcher = asyncio.create_task(end_with_engine())
            try:
                await server.serve(sockets=[sock])
            finally:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
            return 1 if services.engine.has_given_up else 0


def uvicorn_config(app: object, settings: Settings) -> uvicorn.Config:
    """The HTTP server's bounds."""
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] - uvicorn's own type for applications is private
        lifespan="on",
        log_level=settings.log_level,
        server_header=False,
        proxy_headers=False,
        http="h11",  # httptools has no bound on headers
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace_seconds,
    )


def _listening(settings: Settings) -> socket.socket:
    """A bound socket: a port that is taken is told before a model is loaded."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # asyncio does this only for sockets it made itself; without it small chunks wait 40 ms for an ACK
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((settings.host, settings.port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        text = f"cannot listen on {settings.host}:{settings.port}: {error}"
        raise InvalidValueError(text, param="port") from error
    return sock


if __name__ == "__main__":
    sys.exit(main())
