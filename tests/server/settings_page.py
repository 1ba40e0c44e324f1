"""docs/settings.md and .env.example, written from the settings: `python -m tests.server.settings_page`."""

from pathlib import Path

from bt_model.settings.refusal import allowed_values, hint_of
from server.command.sources import CONFIG_NAME, PREFIX, SECRETS_DIR, SECRETS_VARIABLE
from server.settings import Group, Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
ENVIRONMENT = ROOT / ".env.example"

_ENVIRONMENT_HEAD = """\
# Copy to .env: docker compose reads it. Every setting of the server, as docs/settings.md describes
# them; `make fmt` writes this file. In a container compose sets the address, the port and the folders.

# Read by compose alone: the port on this machine, the memory of the container, and a file with API keys,
# one a line, for which BTCHAT_API_KEYS_FILE=/run/secrets/btchat_api_keys.
#PORT=8000
#MEMORY=32g
#API_KEYS_FILE=./api_keys.txt
"""

_HEAD = f"""# Settings of the server

This page is written by `make fmt`. A setting `some_name` may stand in five
places; the first of these that has it counts:

1. the flag `--some-name` of `btchat serve` and `python -m server`;
2. the environment variable `{PREFIX}SOME_NAME`;
3. the key `some_name` of `{CONFIG_NAME}` in the current folder, or of the file that `--config` names;
4. the file `btchat_some_name` in `{SECRETS_DIR}`, or in the folder that `{SECRETS_VARIABLE}` names;
5. its default.

An empty variable or file of a secret sets nothing.
A name that is not known, as a variable or a key, and a value that is not allowed end the start with one line.
Sizes are bytes, times seconds, as the names say. "-" is no value at all.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *map(_table, _groups())])


def environment() -> str:
    """The whole example: every variable, commented out, with its meaning and default."""
    return "\n".join([_ENVIRONMENT_HEAD, *map(_variables, _groups())])


def _groups() -> list[type[Group]]:
    groups = [kind for kind in reversed(Settings.__mro__) if issubclass(kind, Group)]
    return [kind for kind in groups if kind not in (Group, Settings)]


def _variables(kind: type[Group]) -> str:
    lines = [f"# {kind.__doc__}"]
    for name, field in kind.model_fields.items():
        lines += [f"# {field.description}; {allowed_values(hint_of(field))}"]
        lines += [f"#{PREFIX}{name.upper()}={_plain(field.default)}"]
    return "\n".join([*lines, ""])


def _plain(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, Path) and default.is_absolute():
        return str(default.relative_to(ROOT))
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _table(kind: type[Group]) -> str:
    rows = [
        f"## {kind.__name__}",
        "",
        str(kind.__doc__),
        "",
        "| setting | meaning | allowed | default |",
        "|---|---|---|---|",
    ]
    for name, field in kind.model_fields.items():
        words = allowed_values(hint_of(field))
        rows.append(f"| `{name}` | {field.description} | {words} | {_shown(field.default)} |")
    return "\n".join([*rows, ""])


def _shown(default: object) -> str:
    if default is None:
        return "-"
    if isinstance(default, Path) and default.is_absolute():
        return f"`{default.relative_to(PAGE.parents[1])}` of the installation"
    return f"`{','.join(map(str, default)) if isinstance(default, tuple) else default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    ENVIRONMENT.write_text(environment(), encoding="utf-8")
