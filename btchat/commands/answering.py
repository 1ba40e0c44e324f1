"""One answer on stdout: as text while it comes, or with its receipt for machines."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bt_model.types import GenerateOptions, Sampling
from btchat.client import ChatAnswer
from btchat.client.receipts import Receipt
from btchat.commands.frame_listing import warn
from btchat.commands.options import FormatOptions, ModelOptions
from btchat.commands.server_options import ServerOptions
from btchat.commands.server_videos import on_server
from btchat.commands.stage_line import StageLine


def local_answer(
    model: ModelOptions,
    formats: FormatOptions,
    video: Path,
    question: str,
    sampling: Sampling,
    options: GenerateOptions,
    *,
    as_json: bool,
) -> None:
    """Of a model that is loaded here.

    Raises:
        BtchatError: a model, a file or an option that cannot be used.
    """
    from btchat.commands.local_chat import LocalChat

    chat = LocalChat(model, formats)
    if chat.notice:
        sys.stderr.write(f"{chat.notice}\n")
    seen = chat.see(video, sampling)
    pieces: list[str] = []
    for piece in chat.ask(seen, question, options):
        pieces.append(piece)
        _show(piece, as_json=as_json)
    receipt = Receipt.model_validate(seen.receipt)
    _end(ChatAnswer("".join(pieces), receipt.model, receipt=receipt), as_json=as_json)


def remote_answer(
    server: ServerOptions,
    model: str | None,
    video: Path,
    question: str,
    sampling: Mapping[str, Any],
    options: GenerateOptions,
    *,
    as_json: bool,
) -> None:
    """Of a server. Raises BtchatError: it refuses, or cannot be reached."""
    with server.client() as client:
        stored, stage = on_server(client, video), StageLine()
        stream = client.chat(
            question,
            video=stored,
            model=model,
            stream=True,
            on_stage=stage.show,
            sampling=sampling or None,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
        )
        with stream, closing(stage):
            for piece in stream:
                stage.close()
                _show(piece, as_json=as_json)
            if stream.receipt is not None:
                warn(stream.receipt.warnings)
                if stream.receipt.notice:
                    sys.stderr.write(f"{stream.receipt.notice}\n")
            _end(stream.answer, as_json=as_json)


def answer_body(answer: ChatAnswer) -> dict[str, Any]:
    """What is known of an answer, as JSON values."""
    known = TypeAdapter(ChatAnswer).dump_python(answer, mode="json", exclude_unset=True)
    return {name: value for name, value in known.items() if value not in (None, [], "")}


def _show(piece: str, *, as_json: bool) -> None:
    if not as_json:
        print(piece, end="", flush=True)


def _end(answer: ChatAnswer, *, as_json: bool) -> None:
    print(json.dumps(answer_body(answer), indent=2, ensure_ascii=False) if as_json else "")
