"""A video in a multipart form, as browsers and `curl -F file=@clip.mp4` send it."""

import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Self
from urllib.parse import unquote

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from bt_model.errors import InvalidValueError

FORM = "multipart/form-data"
FIELD = "file"
_ALLOWED = f"one field, {FIELD!r}, with the video (curl -F {FIELD}=@clip.mp4)"
_EXTENDED_NAME = re.compile(r"filename\*=utf-8'[^']*'([^;\s]+)", re.IGNORECASE)
_MAX_NAME_CHARACTERS = 255


class FormVideo:
    """The one file of a form, as it arrives; `filename` is the form's, known once bytes come."""

    def __init__(self, boundary: str) -> None:
        """Raises InvalidValueError for a boundary that none can be."""
        self.filename = ""
        try:
            # strict, it refuses a line break behind the last boundary that comes in a chunk of its own
            self._parser = PushMultipartParser(boundary, max_segment_count=1)
        except MultipartError as error:
            raise _bad_form(error) from error

    @classmethod
    def announced(cls, content_type: str) -> Self | None:
        """The form that a Content-Type announces; None where the body is the video itself."""
        kind, options = parse_options_header(content_type)
        return cls(options.get("boundary", "")) if kind == FORM else None

    async def content(self, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """The file's bytes out of the form's.

        Raises:
            InvalidValueError: not a form, one that is cut off, or one with anything but the file in it.
        """
        is_found = False
        try:
            with self._parser:
                async for chunk in body:
                    for event in self._parser.parse(chunk) if chunk else ():
                        if isinstance(event, MultipartSegment):
                            is_found, self.filename = True, _filename(event)
                        elif event:
                            yield bytes(event)
        except ParserLimitReached as error:
            reason = "the form has a second field" if is_found else "the form's headers are too long"
            raise _refused(reason) from error
        except MultipartError as error:
            raise _bad_form(error) from error
        if not is_found:
            raise _refused("the form is empty")


def _filename(segment: MultipartSegment) -> str:
    if (field := str(segment.name)) != FIELD:
        raise _refused(f"the form has the field {field[:80]!r}")
    name = segment.filename or _extended_name(segment)
    if len(name) > _MAX_NAME_CHARACTERS or not name.isprintable():
        allowed = f"at most {_MAX_NAME_CHARACTERS} printable characters"
        raise InvalidValueError(f"the file's name is {name[:40]!r}; allowed: {allowed}", param=FIELD)
    return name


def _extended_name(segment: MultipartSegment) -> str:
    """A name in the notation that other headers have for what is not ASCII."""
    found = _EXTENDED_NAME.search(str(segment.header("Content-Disposition")))
    return unquote(found[1]) if found else ""


def _bad_form(error: MultipartError) -> InvalidValueError:
    return _refused(f"the body is announced as {FORM} and cannot be read as such: {error.args[0]}")


def _refused(reason: str) -> InvalidValueError:
    return InvalidValueError(f"{reason}; allowed: {_ALLOWED}", param=FIELD)
