"""What no line of the log and no error may show: the names and passwords in URLs."""

import re

_WORD = re.compile(r"""([/\\]{2})?([^\s/\\?#'"<>]+)""")
_SIGNS = ("@", "//", "\\\\")


def redacted(text: str) -> str:
    """The text with `***` for what stands before the host of a URL, also of one that is cut off there."""
    return _WORD.sub(_shown, text) if any(sign in text for sign in _SIGNS) else text


def _shown(word: re.Match[str]) -> str:
    slashes, place = word[1] or "", word[2]
    secret, is_before_host, host = place.rpartition("@")
    if is_before_host and (slashes or ":" in secret):
        return f"{slashes}***@{host}"
    _, has_colon, port = place.rpartition(":")
    return f"{slashes}***" if slashes and has_colon and not port.isdecimal() else slashes + place
