"""What no line of the log and no error may show: the names and passwords in URLs."""

import re

_AUTHORITY = re.compile(r"""([/\\]{2})([^\s/\\?#'"<>]+)""")


def redacted(text: str) -> str:
    """The text with `***` for whatever stands before the host of a URL, also of one that was cut off."""
    return _AUTHORITY.sub(_shown, text)


def _shown(authority: re.Match[str]) -> str:
    slashes, place = authority.groups()
    _, is_given, host = place.rpartition("@")
    if is_given:
        return f"{slashes}***@{host}"
    _, has_colon, port = place.rpartition(":")
    return f"{slashes}***" if has_colon and not port.isdecimal() else slashes + place
