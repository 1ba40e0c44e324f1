"""Videos on a server, for commands: sent with a bar on a terminal, looked at, and as tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from btchat.client import Client, VideoUpload
from btchat.commands.frame_listing import FrameListing, warn
from btchat.commands.server_options import ServerOptions, is_stored


def on_server(client: Client, video: Path) -> VideoUpload:
    """An upload by its id, or a file, which is sent unless the server has it.

    Raises:
        BtchatError: the server refuses, or cannot be reached.
        OSError: the file cannot be read.
    """
    if is_stored(video) and not video.exists():
        return client.get(str(video))
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(), console=(console := Console(stderr=True)), transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(video.name, total=None)
        return client.upload(
            video, on_progress=lambda sent, total: bar.update(task, completed=sent, total=total)
        )


def list_frames(
    server: ServerOptions, model: str | None, video: Path, sampling: Mapping[str, Any]
) -> FrameListing:
    """The input frames of a server's model. Raises as `on_server`."""
    with server.client() as client:
        stored = on_server(client, video)
        seen = client.frames(stored, sampling=sampling or None, model=model)
    return FrameListing(
        str(video),
        seen.facts.model_dump(mode="json"),
        seen.sampling,
        seen.warnings,
        seen.reader,
        [frame.index for frame in seen.frames],
        [frame.timestamp for frame in seen.frames],
        lambda number, target: seen[number].save(target),
    )


def write_tokens(
    server: ServerOptions, model: str | None, video: Path, sampling: Mapping[str, Any], output: Path
) -> str:
    """Write what a server computed; a line of text about the file. Raises as `on_server`."""
    with server.client() as client:
        found = client.tokens(on_server(client, video), sampling=sampling or None, model=model)
    warn(found.warnings)
    part = output.with_name(f".{output.name}.part")
    found.save(part)
    part.replace(output)
    shape = " x ".join(map(str, found.shape))
    return f"{output}: tokens {shape} {found.dtype}, weights {found.fingerprint[:12]}"
