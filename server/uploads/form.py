"""A video in a multipart form, as browsers and `curl -F file=@clip.mp4` send it."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
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
FORM_BYTES = 64 * 1024
"""More than what a form has beside its file."""

_EXTENDED_NAME = re.compile(r"filename\*=utf-8'[^']*'([^;\s]+)", re.IGNORECASE)
_MAX_NAME_CHARACTERS = 255
_MAX_TEXT_BYTES = 1024


class FormVideo:
    """The one file of a form, as it arrives; `filename` is the form's, known once bytes come.

    `texts` has the values of its other fields, which may come before or after it.
    """

    def __init__(self, boundary: str, field: str = FIELD, others: Sequence[str] = ()) -> None:
        """Raises InvalidValueError for a boundary that none can be."""
        self.filename = ""
        self.texts: dict[str, str] = {}
        self._field = field
        self._others = others
        try:
            # strict, it refuses a line break behind the last boundary that comes in a chunk of its own
            self._parser = PushMultipartParser(boundary, max_segment_count=1 + len(others))
        except MultipartError as error:
            raise self._bad_form(error) from error

    @classmethod
    def announced(cls, content_type: str, field: str = FIELD, others: Sequence[str] = ()) -> Self | None:
        """The form that a Content-Type announces; None where the body is the file itself."""
        kind, options = parse_options_header(content_type)
        return cls(options.get("boundary", ""), field, others) if kind == FORM else None

    async def content(self, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """The file's bytes out of the form's.

        Raises:
            InvalidValueError: not a form, one that is cut off, or one with other fields in it.
        """
        names: list[str] = []  # of the fields that have begun
        text = bytearray()
        try:
            with self._parser:
                async for chunk in body:
                    for event in self._parser.parse(chunk) if chunk else ():
                        if isinstance(event, MultipartSegment):
                            names.append(self._begun(event, names))
                            text.clear()
                        elif event and names[-1] == self._field:
                            yield bytes(event)
                        elif event:
                            text += event
                            self.texts[names[-1]] = self._text(text)
        except ParserLimitReached as error:
            reason = "the form has a second field" if names else "the form's headers are too long"
            raise self._refused(reason) from error
        except MultipartError as error:
            raise self._bad_form(error) from error
        if self._field not in names:
            raise self._refused(f"the form has no field {self._field!r}" if names else "the form is empty")

    def _begun(self, segment: MultipartSegment, before: Sequence[str]) -> str:
        """The name of a field. Raises InvalidValueError for one that is not taken, or was there before."""
        field = str(segment.name)
        if field not in (self._field, *self._others) or field in before:
            raise self._refused(f"the form has the field {field[:80]!r}{' twice' if field in before else ''}")
        if field != self._field:
            self.texts[field] = ""
            return field
        name = segment.filename or _extended_name(segment)
        if len(name) > _MAX_NAME_CHARACTERS or not name.isprintable():
            allowed = f"at most {_MAX_NAME_CHARACTERS} printable characters"
            text = f"the file's name is {name[:40]!r}; allowed: {allowed}"
            raise InvalidValueError(text, param=self._field)
        self.filename = name
        return field

    def _text(self, given: bytearray) -> str:
        if len(given) > _MAX_TEXT_BYTES:
            raise self._refused(f"a field beside the file has more than {_MAX_TEXT_BYTES} bytes")
        return given.decode(errors="replace")

    def _bad_form(self, error: MultipartError) -> InvalidValueError:
        return self._refused(f"the body is announced as {FORM} and cannot be read as such: {error.args[0]}")

    def _refused(self, reason: str) -> InvalidValueError:
        names = " and ".join(repr(each) for each in (self._field, *self._others))
        what = f"the fields {names}" if self._others else f"one field, {self._field!r}"
        allowed = f"{what}, with the file in {self._field!r} (curl -F {self._field}=@clip.mp4)"
        return InvalidValueError(f"{reason}; allowed: {allowed}", param=self._field)


def _extended_name(segment: MultipartSegment) -> str:
    """A name in the notation that other headers have for what is not ASCII."""
    found = _EXTENDED_NAME.search(str(segment.header("Content-Disposition")))
    return unquote(found[1]) if found else ""
