"""`btchat ask`, `frames` and `tokens`: one video in this process, without a server."""

import sys
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


def ask(
    video: Path,
    question: str,
    /,
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
    model: ModelOptions = MODEL_OPTIONS,
    formats: FormatOptions = FORMAT_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Ask one question about a video file.

    Args:
        video: video file
        question: what to ask
        temperature: 0 is greedy (default: the model's)
        max_tokens: longest answer (default: what the context leaves)
    """
    from bt_model.types import GenerateOptions
    from btchat.commands.local_chat import LocalChat

    options = GenerateOptions(max_tokens=max_tokens, temperature=temperature)
    sampling = frames.sampling
    _require_video(video)
    chat = LocalChat(model, formats)
    if chat.notice:
        sys.stderr.write(f"{chat.notice}\n")
    for piece in chat.ask(video, question, sampling, options):
        print(piece, end="", flush=True)
    print()


def frames(
    video: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", validator=a_folder_to_write)] = None,
    model: ModelOptions = MODEL_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Show which frames the model would see.

    Args:
        video: video file
        output: folder for the frames as JPEG files
    """
    from btchat.commands.local_chat import show_frames

    for line in show_frames(model, video, frames.sampling, output):
        print(line)


def tokens(
    video: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", validator=a_file)],
    model: ModelOptions = MODEL_OPTIONS,
    formats: FormatOptions = FORMAT_OPTIONS,
    frames: FrameOptions = FRAME_OPTIONS,
) -> None:
    """Write a video's pooled tokens as safetensors.

    Args:
        video: video file
        output: file to write
    """
    from btchat.commands.local_chat import LocalChat

    sampling = frames.sampling
    _require_video(video)
    output.parent.stat()
    print(LocalChat(model, formats).write_tokens(video, sampling, output))


def _require_video(path: Path) -> None:
    """A wrong path, or a file that is no video, is told before gigabytes are loaded."""
    from bt_model.video.sniff import sniff

    with path.open("rb") as file:
        sniff(file)
