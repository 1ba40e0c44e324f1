"""docs/settings.md, written from the settings themselves: `python -m tests.server.settings_page`."""

from pathlib import Path

from bt_model.settings.refusal import allowed_values, hint_of
from server.settings import CONFIG_NAME, PREFIX, SECRETS_DIR, SECRETS_VARIABLE, Group, Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

_HEAD = f"""# Settings of the server

This page is written by `make fmt`. A setting `some_name` may stand in five
places; the first of these that has it counts:

1. the flag `--some-name` of `btchat serve` and `python -m server`;
2. the environment variable `{PREFIX}SOME_NAME`;
3. the key `some_name` of `{CONFIG_NAME}` in the current folder, or of the file that `--config` names;
4. the file `btchat_some_name` in `{SECRETS_DIR}`, or in the folder that `{SECRETS_VARIABLE}` names;
5. its default.

A name that is not known, as a variable or a key, and a value that is not allowed end the start with one line.
Sizes are bytes, times seconds, as the names say. "-" is no value at all.
"""


def page() -> str:
    """The whole page."""
    groups = [kind for kind in reversed(Settings.__mro__) if issubclass(kind, Group) and kind is not Group]
    return "\n".join([_HEAD, *(_table(kind) for kind in groups if kind is not Settings)])


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
