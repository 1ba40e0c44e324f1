"""One answer on stdout: as text while it comes, or with its receipt for machines."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from textwrap import indent
from typing import Any

from pydantic import TypeAdapter

from bt_model.errors import BtchatError
from bt_model.types import GenerateOptions, Sampling
from btchat.client import ChatAnswer
from btchat.client.options import ChatOptions
from btchat.client.receipts import Receipt
from btchat.commands.frame_listing import warn
from btchat.commands.options import DEFAULT_MODEL, FormatOptions, ModelOptions
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
    """Of a model that is loaded here, or of several.

    Raises:
        BtchatError: a model, a file or an option that cannot be used.
    """
    from btchat.commands.local_chat import LocalChats

    names = model.names or (DEFAULT_MODEL,)
    everything = LocalChats(names, model, formats).see(video, sampling)
    receipts = [Receipt.model_validate(seen.receipt) for seen in everything]
    _tell_notices(receipt.notice for receipt in receipts)
    is_one = len(everything) == 1
    answers: list[ChatAnswer] = []
    for seen, receipt in zip(everything, receipts, strict=True):
        pieces: list[str] = []
        for piece in seen.ask(question, options):
            pieces.append(piece)
            _show(piece, as_json=as_json or not is_one)
        answers.append(ChatAnswer("".join(pieces), receipt.model, receipt=receipt))
    if is_one:
        _end(answers[0], as_json=as_json)
    else:
        _print_all(answers, as_json=as_json)


def remote_answer(
    server: ServerOptions,
    models: Sequence[str],
    video: Path,
    question: str,
    sampling: Mapping[str, Any],
    options: GenerateOptions,
    *,
    as_json: bool,
) -> None:
    """Of one model of a server or of several. Raises BtchatError: it refuses, or cannot be reached."""
    with server.client() as client:
        stored, stage = on_server(client, video), StageLine()
        chosen: ChatOptions = {
            "sampling": sampling or None,
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "on_stage": stage.show,
        }
        if len(models) > 1:
            answers = client.chat(question, video=stored, model=list(models), **chosen)
            receipts = [answer.receipt for answer in answers if answer.receipt is not None]
            warn(dict.fromkeys(warning for receipt in receipts for warning in receipt.warnings))
            _tell_notices(receipt.notice for receipt in receipts)
            _print_all(answers, as_json=as_json)
            return
        model = models[0] if models else None
        with (
            client.chat(question, video=stored, model=model, stream=True, **chosen) as stream,
            closing(stage),
        ):
            for piece in stream:
                stage.close()
                _show(piece, as_json=as_json)
            if stream.receipt is not None:
                warn(stream.receipt.warnings)
                _tell_notices([stream.receipt.notice])
            _end(stream.answer, as_json=as_json)


def answer_body(answer: ChatAnswer) -> dict[str, Any]:
    """What is known of an answer, as JSON values."""
    known = TypeAdapter(ChatAnswer).dump_python(answer, mode="json", exclude_unset=True)
    return {name: value for name, value in known.items() if value not in (None, [], "")}


def _show(piece: str, *, as_json: bool) -> None:
    if not as_json:
        print(piece, end="", flush=True)


def _tell_notices(notices: Iterable[str | None]) -> None:
    """What models' files say about their limits, each once."""
    for notice in dict.fromkeys(notices):
        if notice:
            sys.stderr.write(f"{notice}\n")


def _print_all(answers: Iterable[ChatAnswer], *, as_json: bool) -> None:
    """Several answers, one below the other. Raises BtchatError: some of the models failed."""
    if as_json:
        print(json.dumps({"answers": [answer_body(each) for each in answers]}, indent=2, ensure_ascii=False))
    else:
        for answer in answers:
            print(f"{answer.model}\n{indent(answer.text, '  ', lambda _line: True)}")
    failed = [f"{answer.model}: {answer.error.message}" for answer in answers if answer.error is not None]
    if failed:
        raise BtchatError("; ".join(failed))


def _end(answer: ChatAnswer, *, as_json: bool) -> None:
    print(json.dumps(answer_body(answer), indent=2, ensure_ascii=False) if as_json else "")
