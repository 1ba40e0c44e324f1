"""Backends by name: the built-in ones, and those that installed packages register.

A package registers one by an entry point of the group `btchat.backends`: `name = "package.module"`, a
module with a function `create(files: BackendFiles) -> Backend`, or `"package.module:function"`. A backend is
imported when it is first used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from bt_model.errors import BtchatError, UnknownNameError

if TYPE_CHECKING:
    from bt_model.backends.base import Backend, BackendFiles

GROUP = "btchat.backends"
OURS = "btchat"
_MODULES = {
    "echo": "bt_model.backends.echo",  # no weights: tests, client development
    "llava": "bt_model.backends.llava",
    "minigpt4": "bt_model.backends.minigpt4",
    "instructblip": "bt_model.backends.instructblip",
    "video-chatgpt": "bt_model.backends.llava",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backend comes from: the distribution and the module (or `module:function`)."""

    name: str
    distribution: str
    target: str


def origins() -> tuple[Origin, ...]:
    """Every backend; a name that is registered twice, or that a built-in has too, is listed twice."""
    announced = [Origin(e.name, _distribution(e), e.value) for e in entry_points(group=GROUP)]
    return (*(Origin(name, OURS, module) for name, module in _MODULES.items()), *announced)


def names() -> tuple[str, ...]:
    """The names of all backends."""
    return tuple(dict.fromkeys(origin.name for origin in origins()))


def factory(name: str) -> "Callable[[BackendFiles], Backend]":
    """Import the named backend, and only that one; its `create` builds it from files.

    Raises:
        UnknownNameError: no such backend.
        BtchatError: two distributions register that name, or the module cannot be imported.
    """
    known = [origin for origin in origins() if origin.name == name]
    if not known:
        raise UnknownNameError(f"backend is {name!r}; allowed: {', '.join(names())}", param="backend")
    if len(known) > 1:
        who = " and ".join(f"{origin.distribution} ({origin.target})" for origin in known)
        raise BtchatError(f"backend {name!r} is announced by {who}; uninstall or rename one", param="backend")
    return _imported(known[0])


def _imported(origin: Origin) -> "Callable[[BackendFiles], Backend]":
    module, _, function = origin.target.partition(":")
    try:
        create = getattr(import_module(module), function or "create")
    except Exception as error:  # importing third-party code may raise anything
        why = f"{type(error).__name__}: {error}"
        raise BtchatError(
            f"backend {origin.name!r} of {origin.distribution} ({origin.target}) cannot be imported: {why}",
            param="backend",
        ) from error
    return create


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"
