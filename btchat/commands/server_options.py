"""Which server a command talks to, and with which key."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from bt_model.errors import InvalidValueError, require
from btchat.commands.options import FormatOptions, ModelOptions

if TYPE_CHECKING:
    from btchat.client import Client

_VIDEO_ID = re.compile(r"vid_[0-9a-f]{32}")
_MOST_KEY_BYTES = 4096


@Parameter(name="*", group=Group.create_ordered("Server"))
@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A server and a key, which never stands on the command line, where every user of a machine sees it."""

    url: Annotated[
        str | None, Parameter(help="a running server, as http://localhost:8000", env_var="BTCHAT_URL")
    ] = None
    key_file: Annotated[
        Path | None,
        Parameter(
            help="file that holds the API key (default: the variable BTCHAT_API_KEY)",
            env_var="BTCHAT_KEY_FILE",
        ),
    ] = None

    def client(self, url: str | None = None, **options: int) -> "Client":
        """Of `url`, else of the server that was named, else of http://127.0.0.1:8000.

        Raises:
            InvalidValueError: no URL, or no file with a key.
            OSError: the file cannot be read.
        """
        from btchat.client import Client

        return Client(url or self.url, api_key=self._key(), max_retries=options.get("max_retries", 2))

    def _key(self) -> str | None:
        if self.key_file is None:
            return None
        with self.key_file.open("rb") as file:
            lines = file.read(_MOST_KEY_BYTES).decode(errors="replace").split()
        require(len(lines) == 1, "key_file", str(self.key_file), "a file that holds nothing but one key")
        return lines[0]


SERVER_OPTIONS = ServerOptions()


def is_stored(video: Path) -> bool:
    """Whether it is the id of an upload, and not a path."""
    return _VIDEO_ID.fullmatch(str(video)) is not None


def require_file(video: Path) -> None:
    """Raises InvalidValueError: the id of an upload, where no server is asked."""
    if is_stored(video) and not video.exists():
        text = f"video is {video}, which a server has; name it (--url, BTCHAT_URL), or give a file"
        raise InvalidValueError(text, param="video")


def require_nothing_local(model: ModelOptions, formats: FormatOptions | None = None) -> None:
    """Raises InvalidValueError: an option for a model in this process, where a server is asked."""
    where = "with --url: who runs the server chose it"
    require(model.device == "auto", "device", model.device, f"none {where}")
    if formats is not None:
        require(formats.dtype is None, "dtype", formats.dtype, f"none {where}")
        require(formats.quantise == "none", "quantise", formats.quantise, f"none {where}")
