"""Data URLs of videos: what their label says, and their base64 as it comes in."""

import binascii
import json
import re
import string
from contextlib import suppress
from urllib.parse import unquote_to_bytes

DATA = "data:"
_LABEL = re.compile(r"data:(?P<type>[^;,]*)(?:;.{0,256}?)?;\s*base64,", re.IGNORECASE | re.DOTALL)
# how recorders and file pickers label a video, if at all; what it is its first bytes tell
_VIDEO_TYPE = r"video/.*|application/(mp4|x-matroska|octet-stream)|"
_OPEN_ESCAPE = re.compile(rb"%[0-9A-Fa-f]?\Z")
_SPACE = b" \t\r\n\v\f"
_CHARACTERS = (string.ascii_letters + string.digits + "+/=").encode()
_GROUP = 4


def begin_of_data(url: str) -> int | None:
    """Where the data begin if the label may be a video's; it may have commas (`codecs=vp8,opus`)."""
    label = _LABEL.match(url)
    return label.end() if label and re.fullmatch(_VIDEO_TYPE, label["type"], re.IGNORECASE) else None


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
            raise binascii.Error("Excess data after padding")
        decoded = binascii.a2b_base64(whole, strict_mode=True)
        group = data[len(whole) :]
        if group.translate(None, _CHARACTERS):
            raise binascii.Error("Only base64 data is allowed")
        self._group = group
        self._is_padded = self._is_padded or whole.endswith(b"=")
        return decoded
