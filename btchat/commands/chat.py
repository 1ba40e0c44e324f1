"""`btchat chat`: a dialogue about a video on a terminal, with a server that runs or with one of its own."""

import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from btchat.commands.options import (
    FORMAT_OPTIONS,
    FRAME_OPTIONS,
    MODEL_OPTIONS,
    FormatOptions,
    FrameOptions,
    ModelOptions,
)
from btchat.commands.server_options import (
    SERVER_OPTIONS,
    ServerOptions,
    require_file,
    require_nothing_local,
)


def chat(
    video: Annotated[Path | None, Parameter(help="video file, or the id of an upload")] = None,
    /,
    *,
    temperature: Annotated[float | None, Parameter(help="0 is greedy (default: the model's)")] = None,
    max_tokens: Annotated[int | None, Parameter(help="longest answer")] = None,
    server: ServerOptions = SERVER_OPTIONS,
    model: ModelOptions = MODEL_OPTIONS,
    formats: FormatOptions = FORMAT_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> int:
    """Talk about a video; /help lists what can be typed beside questions.

    With --url that server answers. Without it a server is started for as long as the dialogue lasts, which
    forgets its uploads at the end. Ctrl-C stops an answer, Ctrl-D ends the dialogue.
    """
    from btchat.commands.chat_session import ChatSession

    if sys.stdin.isatty():
        _stop_on_interrupt()
    options = {"temperature": temperature, "max_tokens": max_tokens}
    with _server(server, model, formats, video) as (url, name), server.client(url) as client:
        session = ChatSession(client, name, frames.body, options)
        if video is not None:
            session.show(video)
        return session.run()


@contextmanager
def _server(
    server: ServerOptions, model: ModelOptions, formats: FormatOptions, video: Path | None
) -> Generator[tuple[str | None, str | None]]:
    """A server that runs, or one of our own: its URL, where it is ours, and the model to ask."""
    if server.url is not None:
        require_nothing_local(model, formats)
        yield None, model.asked
        return
    from btchat.commands.chosen_model import choose
    from btchat.commands.running_server import running_server

    if video is not None:
        require_file(video)
        video.stat()  # before a model is loaded
    chosen = {
        "weights_dir": str(model.weights_dir),
        "device": model.device,
        "quantise": formats.quantise,
        **({"dtype": formats.dtype} if formats.dtype else {}),
    }
    asked = choose(model.name, model.weights_dir)
    sys.stderr.write(f"starting a server with the model {asked.id}\n")
    _end_on_hangup()
    with (
        tempfile.TemporaryDirectory(prefix="btchat-chat-") as folder,
        running_server(
            Path(folder),
            model=str(asked.path),
            settings={"log_level": "error", **chosen},
            is_foreground=False,
        ) as own,
    ):
        yield own.url, asked.id


def _end_on_hangup() -> None:
    """The server of our own ends with us, also when the terminal is closed."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(1)

    for each in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(each, leave)


def _stop_on_interrupt() -> None:
    """Ctrl-C raises KeyboardInterrupt also where a script has started us behind an `&`, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
