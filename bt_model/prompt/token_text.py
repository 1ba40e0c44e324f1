"""What single tokens stand for in a text: bytes, which need not be whole characters."""

import re
from collections.abc import Iterator
from itertools import chain, count

from bt_model.types import SPACE_MARK

_BYTE = re.compile("<0x([0-9A-F]{2})>")


def _byte_characters() -> Iterator[tuple[str, int]]:
    """How byte-level vocabularies spell bytes: printable ones as themselves, the others from U+0100 on."""
    others = count(256)
    printable = {*chain(range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))}
    for byte in range(256):
        yield chr(byte if byte in printable else next(others)), byte


_BYTES = dict(_byte_characters())


def bytes_of_piece(piece: str, *, is_byte_level: bool) -> bytes:
    """The bytes of a vocabulary's piece."""
    if is_byte_level and all(character in _BYTES for character in piece):
        return bytes(_BYTES[character] for character in piece)
    if found := _BYTE.fullmatch(piece):
        return bytes.fromhex(found[1])
    return piece.replace(SPACE_MARK, " ").encode()
