"""A JSON body out of which the videos are taken while it comes in, so that it is never held whole.

What is searched for is a field of a video, or an element of a list, whose string begins with `data:`. In
JSON a quote after `{`, `,` or white space begins a string, as one inside of a string follows a backslash, and
behind one that ends a string no letter stands: nothing else can be taken for it.
"""

import json
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

from pydantic_core import from_json

from bt_model.errors import InvalidValueError, VideoError
from server.problems import Problem
from server.uploads.data_url import begin_of_data, decoder_of
from server.uploads.sources import refusal

FIELDS = ("url", "file_data", "video_url", "video", "input_video", "image_url")
MAX_DATA_URLS = 64


def _spelled(word: str) -> str:
    """Each letter as it is, or as an escape."""
    return "".join(f"(?:{letter}|\\\\u00(?i:{ord(letter):02x}))" for letter in word)


_SPACE = r"[ \t\r\n]*"
_DATA = "".join(f"(?:{_spelled(each)}|{_spelled(each.upper())})" for each in "data") + "(?::|\\\\u003[aA])"
_NAMED = f'"(?<=[{{, \\t\\r\\n]")(?:{"|".join(map(_spelled, FIELDS))})"{_SPACE}:'
_FIELD = f'(?:{_NAMED}|[\\[,]){_SPACE}"(?P<data>{_DATA})'
_DATA_FIELD = re.compile(_FIELD.encode())
_NUM_QUOTES = 3  # of the pattern
_UNITS = re.compile(rb'[^"\\]*+(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*+)*+')
_LONGEST_UNIT = 6  # \u002f
_OPEN_CHARACTER = re.compile(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z")
_HEAD_BYTES = 4096
_HEAD_CHARACTERS = 512  # that stay in the JSON: the label, and more than any error message shows
# a field that is asked about is refused at once, unless what came before it takes long to read
_EARLY_BYTES = 64 * 1024
_MEDIA = r"(?P<kind>video_url|video|input_video|image_url|file)(?:(?<!file)(?:\.url)?|(?<=file)\.file_data)"
_OWN = r"\.video(?:\[\d+\])?|\.messages\[\d+\]\.videos\[\d+\]\.video"
_ASKED = re.compile(rf"\.messages\[\d+\]\.content\[\d+\]\.{_MEDIA}|(?P<own>{_OWN})(?:\.url)?")
_PART = 4  # its depth


class TakenOut(Protocol):
    """A video that was taken out."""

    @property
    def sha256(self) -> str: ...


V = TypeVar("V", bound=TakenOut)
Keep = Callable[[AsyncGenerator[bytes]], Awaitable[V]]
"""Stores a video as it comes; raises VideoError as soon as it is none."""


class InlineJson(Generic[V]):
    """One body. In place of a video its URL's beginning remains, with an end that no client can know.

    `videos` is what became of them, by the strings that now stand in the JSON.
    """

    def __init__(self, chunks: AsyncGenerator[bytes], keep: Keep[V], max_bytes: int) -> None:
        self.videos: dict[str, V | ValueError | VideoError] = {}
        self._chunks = chunks
        self._keep = keep
        self._max_bytes = max_bytes
        self._secret = secrets.token_hex(16)
        self._num_urls = 0
        self._is_complete = False
        self._json = bytearray()  # what remains
        self._string = b""  # the rest of what has come, while it is in a data URL

    async def read(self) -> bytes:
        """The JSON without its videos.

        Raises:
            Problem: it is larger than allowed.
            JSONDecodeError: a data URL is no JSON string.
            BtchatError: what stands for a video is none.
        """
        begin = due = 0
        while not self._is_complete:
            self._json += await self._more()
            if len(self._json) < due and not self._is_complete:
                continue  # looking at the same text for each of many small pieces would take for ever
            while found := _DATA_FIELD.search(self._json, begin):
                place = found.start("data")
                del found  # it locks what it was found in
                begin = await self._take(place)
            if len(self._json) > self._max_bytes:
                raise self._too_large()
            begin = self._begin_of_rest(begin)
            due = len(self._json) + (len(self._json) - begin) // 4
        return bytes(self._json)

    async def _more(self) -> bytes:
        chunk = await anext(self._chunks, b"")
        self._is_complete = not chunk
        return chunk

    def _begin_of_rest(self, begin: int) -> int:
        """Before where nothing can be found any more, whatever comes."""
        place = len(self._json)
        for _ in range(_NUM_QUOTES):
            place = self._json.rfind(b'"', begin, place)
            if place < 0:
                return begin
        return place

    async def _take(self, place: int) -> int:
        """Take the data out of the string that begins at `place`; returns the place of its new end."""
        self._num_urls += 1
        if self._num_urls > MAX_DATA_URLS:
            text = f"the body has more than {MAX_DATA_URLS} data: URLs; upload the videos, and send their ids"
            raise InvalidValueError(text, code="too_many_videos", param="messages")
        self._string = bytes(self._json[place:])
        del self._json[place:]
        async with aclosing(self._units()) as units:
            text = await self._replaced(units)
        self._json += json.dumps(text)[1:-1].encode()
        end = len(self._json)
        self._json += self._string
        self._string = b""
        return end

    async def _replaced(self, units: AsyncGenerator[bytes]) -> str:
        head = b""
        async for unit in units:
            head += unit
            if len(head) >= _HEAD_BYTES:
                break
        text: str = json.loads(f'"{head.decode("utf-8", "surrogatepass")}"')
        shown = text[:_HEAD_CHARACTERS]
        begin = begin_of_data(shown)
        if begin is None:  # its label is enough to refuse it
            await _skip(units)
            return shown
        video = await self._video(text[:begin], text[begin:], units)
        if shown != text:
            mark = str(len(self.videos)) if isinstance(video, Exception) else video.sha256
            shown += f"{self._secret}{mark}"
        self.videos[shown] = video
        return shown

    async def _video(
        self, label: str, begun: str, units: AsyncGenerator[bytes]
    ) -> V | ValueError | VideoError:
        async def decoded() -> AsyncGenerator[bytes]:
            text = decoder_of(label)
            yield text.feed(begun)
            async for unit in units:
                yield text.feed_json(unit)
            yield text.end()

        try:
            async with aclosing(decoded()) as content:
                return await self._keep(content)
        except json.JSONDecodeError:
            raise
        except (ValueError, VideoError) as error:
            if (param := self._param()) is not None:
                raise refusal(error, param) from error
            await _skip(units)
            return error

    async def _units(self) -> AsyncGenerator[bytes]:
        """The rest of a string up to its closing quote, in pieces of whole characters and escapes."""
        while True:
            string = self._string
            quote = string.find(b'"')
            end = len(string) if quote < 0 else quote
            near = string.rfind(b"\\", max(end - _LONGEST_UNIT, 0), end)  # an escape that may go on there
            if near >= 0 and (units := _UNITS.match(string)):
                end = units.end()
            if end == len(string) and (begun := _OPEN_CHARACTER.search(string, max(end - 3, 0))):
                end = begun.start()
            self._string = string[end:]
            if end:
                yield string[:end]
            if self._string.startswith(b'"'):
                return
            if len(self._string) >= _LONGEST_UNIT:  # no escape is so long: it is a wrong one
                json.loads(f'"{self._string[:_LONGEST_UNIT].decode("latin-1")}"')
            if not (more := await self._more()):
                return
            self._string += more

    def _param(self) -> str | None:
        """The field whose string comes next, as errors name it, if a question may be about it."""
        if len(self._json) > _EARLY_BYTES:
            return None
        try:
            node = from_json(bytes(self._json) + b'"', allow_partial=True)
        except ValueError:
            return None
        path, parents = "", list[Any]()
        while isinstance(node, dict | list) and node:
            parents.append(node)
            key = len(node) - 1 if isinstance(node, list) else next(reversed(node))
            path += f"[{key}]" if isinstance(node, list) else f".{key}"
            node = node[key]
        asked = _ASKED.fullmatch(path) if node == "" else None
        if asked is not None and asked["own"]:
            return asked["own"][1:]
        if asked is None or parents[_PART].get("type", asked["kind"]) != asked["kind"]:
            return None
        return path[1:] if path.endswith((".url", ".file_data")) else f"{path[1:]}.url"

    def _too_large(self) -> Problem:
        text = f"the body is too large without its videos; at most {self._max_bytes} bytes are allowed"
        return Problem(413, text, code="body_too_large", param="body")


async def _skip(units: AsyncGenerator[bytes]) -> None:
    async for _ in units:
        pass
