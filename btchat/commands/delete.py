"""`btchat delete`: uploads of a server, or their pixels alone."""

from typing import Annotated, Literal

from cyclopts import Parameter

from btchat.commands.server_options import SERVER_OPTIONS, ServerOptions


def delete(
    videos: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    /,
    *,
    keep: Annotated[
        Literal["tokens"] | None, Parameter(help="what stays: questions that need nothing else go on")
    ] = None,
    json: Annotated[bool, Parameter(help="an object a line, for machines")] = False,
    server: ServerOptions = SERVER_OPTIONS,
) -> None:
    """Delete uploads from a server, that of --url or else at http://localhost:8000.

    Args:
        videos: ids of uploads
    """
    with server.client() as client:
        for video in videos:
            done = client.delete(video, keep=keep)
            what, gone = ("deleted" if done.deleted else "tokens kept"), done.removed
            sizes = f"video {gone.file_bytes:,} bytes, index {gone.index_bytes:,} bytes"
            line = f"{done.id}  {what}: {sizes}, {gone.token_files} token files {gone.token_bytes:,} bytes"
            print(done.model_dump_json() if json else line, flush=True)
