"""`btchat upload`: videos to a server, going on where an earlier attempt ended."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from btchat.commands.server_options import SERVER_OPTIONS, ServerOptions


def upload(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    json: Annotated[bool, Parameter(help="an object a line, for machines")] = False,
    server: ServerOptions = SERVER_OPTIONS,
) -> int:
    """Upload videos; the ids come back, by which they can be asked about.

    The server is that of --url, or else at http://localhost:8000. What it has already is not sent again.
    After a broken connection an upload goes on where it was, and so does the same command later.

    Args:
        files: video files
    """
    import sys

    from bt_model.errors import BtchatError, explain
    from btchat.client import BtchatConnectionError
    from btchat.commands.server_videos import on_server

    code = 0
    with server.client() as client:
        for file in files:
            try:
                video = on_server(client, file)
            except BtchatConnectionError:  # the others would fail as well
                raise
            except (BtchatError, OSError) as error:
                said = explain(error)
                sys.stderr.write(f"btchat: {said if str(file) in said else f'{file}: {said}'}\n")
                code = 1
                continue
            facts = video.facts
            line = f"{video.id}  {file}  {facts.width}x{facts.height} {facts.codec}, {facts.seconds:.2f} s"
            print(video.model_dump_json() if json else line, flush=True)
    return code
