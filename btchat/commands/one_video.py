"""`btchat ask`, `frames` and `tokens`: one video, in this process or on a server."""

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
    a_file,
    a_folder_to_write,
)
from btchat.commands.server_options import (
    SERVER_OPTIONS,
    ServerOptions,
    require_file,
    require_nothing_local,
)

AsJson = Annotated[bool, Parameter(help="for machines")]


def ask(
    video: Path,
    question: str,
    /,
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
    json: AsJson = False,
    server: ServerOptions = SERVER_OPTIONS,
    model: ModelOptions = MODEL_OPTIONS,
    formats: FormatOptions = FORMAT_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Ask one question about a video.

    The model is loaded here, or, with --url, a server answers, to which the file is uploaded once. Several
    models, or adapters of one, look at the same frames, and their answers stand one below the other.

    Args:
        video: video file, or the id of an upload
        question: what to ask
        temperature: 0 is greedy (default: the model's)
        max_tokens: longest answer (default: what the context leaves)
    """
    from bt_model.types import GenerateOptions
    from btchat.commands.answering import local_answer, remote_answer

    options = GenerateOptions(max_tokens=max_tokens, temperature=temperature)
    if server.url is not None:
        require_nothing_local(model, formats)
        remote_answer(server, model.names, video, question, frames.body, options, as_json=json)
        return
    _require_video(video)
    local_answer(model, formats, video, question, frames.sampling, options, as_json=json)


def frames(
    video: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", validator=a_folder_to_write)] = None,
    json: AsJson = False,
    server: ServerOptions = SERVER_OPTIONS,
    model: ModelOptions = MODEL_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Show which frames the model would see.

    Args:
        video: video file, or the id of an upload
        output: folder for the frames as JPEG files
    """
    from json import dumps

    if server.url is not None:
        from btchat.commands.server_videos import list_frames as list_theirs

        require_nothing_local(model)
        listing = list_theirs(server, model.asked, video, frames.body)
    else:
        from btchat.commands.local_chat import list_frames

        require_file(video)
        listing = list_frames(model, video, frames.sampling)
    listing.warn()
    for line in [dumps(listing.as_json(output), indent=2)] if json else listing.lines(output):
        print(line)


def tokens(
    video: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", validator=a_file)],
    server: ServerOptions = SERVER_OPTIONS,
    model: ModelOptions = MODEL_OPTIONS,
    formats: FormatOptions = FORMAT_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Write a video's pooled tokens as safetensors.

    Args:
        video: video file, or the id of an upload
        output: file to write
    """
    if server.url is not None:
        from btchat.commands.server_videos import write_tokens

        require_nothing_local(model, formats)
        print(write_tokens(server, model.asked, video, frames.body, output))
        return
    from btchat.commands.local_chat import LocalChats

    sampling, name = frames.sampling, model.name
    _require_video(video)
    output.parent.stat()
    (seen,) = LocalChats([name], model, formats).see(video, sampling)
    print(seen.write(output))


def _require_video(path: Path) -> None:
    """A wrong path, or a file that is no video, is told before gigabytes are loaded."""
    from bt_model.video.sniff import sniff

    require_file(path)
    with path.open("rb") as file:
        sniff(file)
