"""weights/manifest.toml: published sets of weights, file by file."""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from bt_model.errors import CheckpointError, UnknownNameError

UNKNOWN_LICENCE = "unknown: see the model card"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or all files of a repository that match one of several patterns, and where it goes.

    `file` is a name, or patterns between commas, of which each must match; those of `optional` need not. `to`
    is a folder, or a file that ends in .safetensors, below weights/NAME. Pickles are converted on their way;
    `base` is another item's `to`, to which a delta is added; `blocks` is how many of an EVA tower are used.
    `num_bytes` is 0 and `sha256` empty where they are not known. Without a `repo`, no hub has the file: the
    user brings it, as `note` says.
    """

    repo: str
    file: str
    to: str
    num_bytes: int = 0
    sha256: str = ""
    licence: str = UNKNOWN_LICENCE
    base: str = ""
    blocks: int = 0
    optional: str = ""
    note: str = ""

    @property
    def patterns(self) -> tuple[str, ...]:
        return _split(self.file)

    @property
    def optional_patterns(self) -> tuple[str, ...]:
        return _split(self.optional)


@dataclass(frozen=True, slots=True)
class WeightSet:
    """What `btchat weights fetch NAME` brings, and the model file that it writes."""

    name: str
    about: str
    items: tuple[Item, ...]
    model: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def num_bytes(self) -> int:
        """What is known of the download."""
        return sum(item.num_bytes for item in self.items)


def read_manifest(path: Path) -> dict[str, WeightSet]:
    """All sets of a manifest by name.

    Raises:
        CheckpointError: not TOML, or with a field that is missing, unknown or of another type.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable manifest ({error})") from error
    return {name: _set(path, name, entry) for name, entry in told.items()}


def pick(sets: dict[str, WeightSet], name: str) -> WeightSet:
    """The set of that name.

    Raises:
        UnknownNameError: no such set; the message lists what there is.
    """
    if name not in sets:
        raise UnknownNameError(f"weights are {name!r}; allowed: {', '.join(sorted(sets))}", param="name")
    return sets[name]


def _set(path: Path, name: str, entry: Any) -> WeightSet:
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{path}: a set is called {name!r}; allowed: {_NAME.pattern}")
    if not isinstance(entry, dict) or not {"about", "items"} <= set(cast(dict[str, Any], entry)):
        raise CheckpointError(f"{path}: [{name}] needs about and items")
    values = cast(dict[str, Any], {"model": {}, **entry})
    unknown = set(values) - {"about", "items", "model"}
    if unknown:
        raise CheckpointError(f"{path}: [{name}] has the unknown fields {', '.join(sorted(unknown))}")
    for key, kind in (("about", str), ("items", list), ("model", dict)):
        if not isinstance(values[key], kind):
            raise CheckpointError(f"{path}: [{name}] has {key} = {values[key]!r}; allowed: a {kind.__name__}")
    items = tuple(_item(path, name, item) for item in values["items"])
    return WeightSet(name, values["about"], items, values["model"])


def _item(path: Path, name: str, entry: Any) -> Item:
    if not isinstance(entry, dict):
        raise CheckpointError(f"{path}: an item of [{name}] is {entry!r}; allowed: a table")
    known = {f.name: f.type for f in fields(Item)}
    values = cast(dict[str, Any], entry)
    unknown = set(values) - set(known)
    missing = {"repo", "file", "to"} - set(values)
    if unknown or missing:
        what = ", ".join(sorted(unknown)) or f"no {', '.join(sorted(missing))}"
        raise CheckpointError(f"{path}: an item of [{name}] has {what}; known are {', '.join(known)}")
    wrong = [key for key, value in values.items() if type(value) is not (int if known[key] is int else str)]
    if wrong:
        raise CheckpointError(f"{path}: an item of [{name}] has {wrong[0]} = {values[wrong[0]]!r}")
    _check_place(path, name, str(values["to"]))
    if values.get("base"):
        _check_place(path, name, values["base"])
    return Item(**values)


def _split(patterns: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in patterns.split(",") if pattern.strip())


def _check_place(path: Path, name: str, to: str) -> None:
    if not to or Path(to).is_absolute() or ".." in Path(to).parts:
        raise CheckpointError(
            f"{path}: an item of [{name}] names the place {to!r}; allowed: a path below weights/{name}"
        )
