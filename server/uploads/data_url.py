"""Data URLs of videos: what their label says, and their base64 as it comes in.

What is in it its first bytes tell, whatever the label says; only `video/jpeg` means a list of pictures.
"""

import binascii
import json
import re
import string
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from bt_model.errors import require
from bt_model.video import picture_list

DATA = "data:"
_LABEL = re.compile(r"data:(?P<type>[^;,]*)(?:;.{0,256}?)?;\s*base64,", re.IGNORECASE | re.DOTALL)
_LIST_TYPE = "video/jpeg"
_RATE = re.compile(r";\s*fps=(?P<fps>[^;,]*)", re.IGNORECASE)
_USUAL_FPS = 1.0
_MOST_PICTURE_BYTES = 64 * 1024 * 1024
_OPEN_ESCAPE = re.compile(rb"%[0-9A-Fa-f]?\Z")
_SPACE = b" \t\r\n\v\f"
_CHARACTERS = (string.ascii_letters + string.digits + "+/=").encode()
_GROUP = 4


def begin_of_data(url: str) -> int | None:
    """Where the base64 begins; the label before it may have commas (`codecs=vp8,opus`). None without any."""
    label = _LABEL.match(url)
    return label.end() if label else None


def decoder_of(label: str) -> "Base64Text | Base64Pictures":
    """What decodes the data behind a label, as files that are read here.

    Raises:
        InvalidValueError: a rate that none can have.
    """
    found = _LABEL.match(label)
    if found is None or found["type"].strip().lower() != _LIST_TYPE:
        return Base64Text()
    asked = _RATE.search(label)
    try:
        fps = float(asked["fps"]) if asked else _USUAL_FPS
    except ValueError:
        fps = 0.0
    allowed = f"{picture_list.ALLOWED_FPS} pictures a second, as in data:video/jpeg;fps=2;base64,…"
    require(picture_list.is_rate(fps), "fps in the label", asked and asked["fps"], allowed)
    return Base64Pictures(fps)


class Base64Text:
    """Decodes base64 in pieces of any length, also in lines, percent-encoded or without padding.

    Every method raises ValueError for what is not base64.
    """

    def __init__(self) -> None:
        self._escape = b""  # the beginning of a percent escape
        self._group = b""  # less than a group of characters
        self._is_padded = False

    def feed_json(self, piece: bytes) -> bytes:
        """What a piece of a JSON string stands for, between its quotes; no escape is cut in two.

        Raises:
            JSONDecodeError: it is no JSON.
        """
        if not self._escape:
            with suppress(binascii.Error):  # nearly all data are plain
                return self._decode(piece)
            with suppress(
                binascii.Error
            ):  # or have escaped slashes or lines; of all else a backslash is left
                plain = piece.replace(b"\\/", b"/").replace(b"\\n", b"").replace(b"\\r", b"")
                return self._decode(plain)
        return self.feed(json.loads(f'"{piece.decode("utf-8", "surrogatepass")}"'))

    def feed(self, text: str) -> bytes:
        data = self._escape + text.encode("utf-8", "surrogatepass")
        begun = _OPEN_ESCAPE.search(data, max(len(data) - 2, 0))
        end = begun.start() if begun else len(data)
        self._escape = data[end:]
        return self._decode(unquote_to_bytes(data[:end]).translate(None, _SPACE))

    def end(self) -> bytes:
        """The last bytes."""
        rest = self._group + self._escape
        if len(rest) == 1:
            raise binascii.Error("the number of its characters is 1 more than a multiple of 4")
        self._group = b""
        return self._decode(rest + b"=" * (-len(rest) % _GROUP))

    def _decode(self, data: bytes) -> bytes:
        """Changes nothing if it raises."""
        data = self._group + data
        whole = data[: len(data) - len(data) % _GROUP]
        if (self._is_padded and data) or whole.endswith(b"==="):
            raise _refusal(data, "Excess data after padding")
        try:
            decoded = binascii.a2b_base64(whole, strict_mode=True)
        except binascii.Error as error:
            raise _refusal(data, str(error)) from None
        group = data[len(whole) :]
        if group.translate(None, _CHARACTERS):
            raise _refusal(data, "Only base64 data is allowed")
        self._group = group
        self._is_padded = self._is_padded or whole.endswith(b"=")
        return decoded


def _refusal(data: bytes, reason: str) -> binascii.Error:
    is_list = b"," in data
    return binascii.Error("several pictures are data:video/jpeg;base64,…,…" if is_list else reason)


class Base64Pictures:
    """Decodes pictures with commas between them, as one file of a list. Raises as `Base64Text`."""

    def __init__(self, fps: float) -> None:
        self._text, self._picture = Base64Text(), picture_list.PictureWriter()
        self._num_pictures = 0
        self._head = picture_list.head(fps)

    def feed_json(self, piece: bytes) -> bytes:
        """A piece of a JSON string, as `Base64Text.feed_json`."""
        return self.feed(json.loads(f'"{piece.decode("utf-8", "surrogatepass")}"'))

    def feed(self, text: str) -> bytes:
        done, self._head = [self._head], b""
        *complete, begun = text.split(",")
        for each in complete:
            done += [self._written(self._text.feed(each)), self.end()]
        done.append(self._written(self._text.feed(begun)))
        return b"".join(done)

    def end(self) -> bytes:
        """The last of a picture."""
        last = self._written(self._text.end())
        if not self._picture.num_bytes:
            raise ValueError(f"frame {self._num_pictures} is empty")
        last += self._picture.end()
        self._text, self._picture = Base64Text(), picture_list.PictureWriter()
        self._num_pictures += 1
        return last

    def _written(self, data: bytes) -> bytes:
        blocks = self._picture.feed(data)
        if self._picture.num_bytes > _MOST_PICTURE_BYTES:
            raise ValueError(f"frame {self._num_pictures} has more than {_MOST_PICTURE_BYTES} bytes")
        return blocks
