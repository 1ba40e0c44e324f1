"""Backends by name: name -> module path. `names()` imports nothing; adding one is a file and a line."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from bt_model.errors import UnknownNameError

if TYPE_CHECKING:
    from bt_model.backends.base import Backend
    from bt_model.backends.files import BackendFiles

_MODULES = {
    "echo": "bt_model.backends.echo",  # no weights: tests, client development
    "llava": "bt_model.backends.llava",
    "minigpt4": "bt_model.backends.minigpt4",
    "instructblip": "bt_model.backends.instructblip",
    "video-chatgpt": "bt_model.backends.video_chatgpt",
}


def names() -> tuple[str, ...]:
    """All backends that can be asked for."""
    return tuple(_MODULES)


def factory(name: str) -> "Callable[[BackendFiles], Backend]":
    """Import the named backend, and only that one; its `create` builds it from files.

    Raises:
        UnknownNameError: no such backend.
    """
    if name not in _MODULES:
        raise UnknownNameError(f"backend is {name!r}; allowed: {', '.join(names())}", param="backend")
    return import_module(_MODULES[name]).create
