"""`btchat key new`: an API key, and the line by which a server knows it."""

# ruff: noqa: B008 - groups of settings are frozen

import secrets
from typing import Annotated

from cyclopts import Group, Parameter

from server.keys.file import line_of
from server.settings import KeyLimits

_LIMITS = Parameter(
    name="*", group=Group.create_ordered("What this key may do, where it is not as the server says")
)


def new(name: str, /, *, limits: Annotated[KeyLimits, _LIMITS] = KeyLimits()) -> None:
    """Make an API key and print it, this once, with the line for the file of `api_keys_file`.

    The line holds the key's hash, from which nobody gets the key. To replace a key, add the line of a new one
    of the same name, and delete the old line when no client uses it any more; both see the same uploads.

    Args:
        name: whom it is for, as logs show it: letters, digits, ".", "_" and "-"
    """
    key = f"btchat-{secrets.token_urlsafe(32)}"
    given = {each: getattr(limits, each) for each in limits.model_fields_set}
    line = line_of(name, key, given)
    print(f"key, not shown again: {key}")
    print(f"line for the file:    {line}")
