"""What a URL asks of whom, by the one reading of it: after that nobody sees the text again.

A URL that two programs read in two ways passes the check of the one and is fetched by the other. So a single
expression says what is a URL here, and what it does not know is none: backslashes, users, other ports.
"""

import re
from dataclasses import dataclass
from typing import Self

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_LAST_LABEL = (
    r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"  # begins with a letter: an IP address is no name, in no spelling
)
_URL = re.compile(
    rf"https://(?P<host>(?:{_LABEL}\.)+{_LAST_LABEL})(?::443)?"
    r"(?P<path>/[!\"$->@-\[\]-~]*)?(?P<query>\?[!\"$-\[\]-~]*)?(?:#[!-\[\]-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)
_MAX_CHARACTERS = 4096
_MAX_HOST_CHARACTERS = 253
ALLOWED = (
    "https://NAME/… with a name in ASCII (xn--… for others), no IP address, port 443, no user, and at most "
    f"{_MAX_CHARACTERS} printable characters without spaces or backslashes"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of a host that is known by a name."""

    host: str
    path: str
    query: str

    @classmethod
    def read(cls, url: str) -> Self | None:
        """The target of a URL; None for what is no URL here."""
        found = _URL.fullmatch(url) if len(url) <= _MAX_CHARACTERS else None
        if found is None or len(found["host"]) > _MAX_HOST_CHARACTERS:
            return None
        return cls(found["host"].lower(), found["path"] or "/", found["query"] or "")

    def follow(self, location: str) -> Self | None:
        """The target of a redirect, whose URL may be relative to this one."""
        if _SCHEME.match(location):
            return self.read(location)
        if location.startswith("//"):
            return self.read(f"https:{location}")
        folder = "" if location.startswith("/") else self.path.rpartition("/")[0] + "/"
        return self.read(f"https://{self.host}{folder}{location}")
