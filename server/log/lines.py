"""One event, one line: JSON for machines, text for a person at a terminal."""

import json
import logging.config
import sys
import threading
from datetime import UTC, datetime
from math import isfinite
from types import TracebackType
from typing import Literal

from server.log.request import current_id
from server.log.secrets import redacted

LogFormat = Literal["auto", "json", "text"]

MAX_LINE_BYTES = 4095  # and the line break: a pipe, which the engine writes to as well, takes so much at once

_OURS = ("server", "bt_model", "btchat", "uvicorn")
_DELETE = "\x7f"  # the one control character that JSON leaves as it is

log = logging.getLogger(__name__)


def configure_log(level: str, shape: LogFormat, process: str = "web") -> None:
    """Let all lines of this process go to the standard error: ours from a level on, of others what is wrong.

    `auto` is text on a terminal and JSON elsewhere.
    """
    is_text = shape == "text" or (shape == "auto" and sys.stderr.isatty())
    formatter = {"()": TextLines if is_text else JsonLines, "process": process}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {name: {"level": level.upper()} for name in _OURS},
        }
    )
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt):
        log.critical("an error that nobody expected", exc_info=(kind, error, trace))


class _Lines(logging.Formatter):
    """Collects what is known of an event: of the record, and what was given as `extra={"facts": …}`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def facts(self, record: logging.LogRecord) -> dict[str, object]:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_id(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)[
                -MAX_LINE_BYTES:
            ]  # says most at its end
        return {name: _plain(value) for name, value in facts.items() if value is not None}


class JsonLines(_Lines):
    """An object of less than 4 KiB of ASCII, in which nothing from outside can begin another line."""

    def format(self, record: logging.LogRecord) -> str:
        facts = self.facts(record)
        while len(line := json.dumps(facts)) > MAX_LINE_BYTES:
            longest = max(facts, key=lambda name: len(str(facts[name])))
            facts[longest] = _half(str(facts[longest]), keep_end=longest == "exception")
        return line.replace(_DELETE, r"\u007f")


class TextLines(_Lines):
    """Time, level and logger, the message, and the facts behind it; a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        facts = self.facts(record)
        head = [str(facts.pop(name)) for name in ("time", "level", "logger")]
        message, trace = str(facts.pop("message")), str(facts.pop("exception", ""))
        rest = [f"{name}={value}" for name, value in facts.items()]
        lines = [f"{' '.join(head)}: {' '.join([message, *rest])}", *trace.splitlines()]
        return "\n".join("".join(map(_visible, line)) for line in lines)


def _plain(value: object) -> object:
    """A number, or text that is bounded; half a character, which UTF-8 cannot carry, is spelled out."""
    if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return round(value, 6)
    return redacted(str(value)[:MAX_LINE_BYTES]).encode("utf-8", "backslashreplace").decode()


def _half(text: str, *, keep_end: bool) -> str:
    half = len(text) // 2
    return f"…{text[half + 1 :]}" if keep_end else f"{text[: half - 1]}…"


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
