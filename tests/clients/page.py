"""docs/clients.md, written from what was tried."""

import datetime
from collections.abc import Mapping, Sequence

from tests.clients.abilities import ABILITIES
from tests.clients.columns import COLUMNS, Column
from tests.clients.environments import ROOT
from tests.clients.trial import Cell, Tried

PAGE = ROOT / "docs" / "clients.md"
_LANGUAGES = {".py": "python", ".mjs": "js", ".sh": "bash"}
_WORDS = """# Clients

Written by `make clients`, which installs these clients as they are published, apart from the server,
and has each of them try everything against a server on this machine.

* **yes**: it works, as that client's own program in `tests/clients/programs/` says.
* **no**: it does not, and the client is not to blame.
* **a number**: the client itself is in the way, as the note says and its program shows: it raises
  before anything is sent, has no such call, or loses what the server sent.

Of Open WebUI its code was read and its requests are sent: what it does not do is said, not
shown. So is what AIPerf does not read.

LiteLLM is tried with `drop_params` on and off, and has a `yes` where both are.
"""


_GENERATED = """## Made from the OpenAPI document

`make clients` has openapi-python-client make a client of `/openapi.json`, which uploads a video, asks about
it, and reads the receipt as types; it skips only the pieces of tus, whose content type it does not know.
"""
_RECIPES = """## Recipes

Each is run by `make clients`, beside a video `clip.mp4`. A server with API keys wants one for `none`.

Open WebUI needs a connection to `http://localhost:8000/v1` and, as it sends no videos itself, the
function [video.py](../deploy/open-webui/video.py): import it (Admin Panel, Functions), set its address and
key, and enable it for btchat's models. It uploads a chat's videos once, names them in every question, and
says which frames were seen.
"""


def text(table: Mapping[Column, Tried], absent: Mapping[str, str], behind: Sequence[str]) -> str:
    """The whole page."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    notes: list[str] = []
    rows = [_row(name, table, notes) for name in ABILITIES]
    head = "| |" + "".join(f" {column.name} {column.version}".rstrip() + " |" for column in table)
    parts = [
        _WORDS,
        f"{today}.\n",
        "\n".join([head, "|---" * (len(table) + 1) + "|", *rows, ""]),
        "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1)),
        *(f"Not tried: {name} ({why}).\n" for name, why in absent.items()),
        "## Behind a gateway\n",
        "Through LiteLLM's proxy, by both providers, with `drop_params` on and off:",
        *(f"{line}.\n" for line in behind),
        _GENERATED,
        recipes(),
    ]
    return "\n".join(parts)


def recipes() -> str:
    """One for each client: the least that asks about a video and reads the receipt."""
    parts = [_RECIPES]
    for column in COLUMNS:
        if file := column.recipe_file:
            code = file.read_text(encoding="utf-8")
            parts.append(f"### {column.name}\n\n```{_LANGUAGES[file.suffix]}\n{code}```\n")
    return "\n".join(parts)


def _row(name: str, table: Mapping[Column, Tried], notes: list[str]) -> str:
    return f"| {ABILITIES[name]} |" + "".join(f" {_shown(tried[name], notes)} |" for tried in table.values())


def _shown(cell: Cell, notes: list[str]) -> str:
    if cell.verdict != "cannot":
        return cell.verdict
    if cell.why not in notes:
        notes.append(cell.why)
    return str(notes.index(cell.why) + 1)
