"""weights/manifest.toml: published sets of weights, file by file."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict

from bt_model.errors import UnknownNameError, require
from bt_model.settings.refusal import validated
from bt_model.settings.toml_file import read_toml

UNKNOWN_LICENCE = "unknown: see the model card"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or all files of a repository that match one of several patterns, and where it goes.

    `file` is a name, or patterns between commas, of which each must match; those of `optional` need not. `to`
    is a folder, or a file that ends in .safetensors, below weights/NAME. Pickles are converted; `base` is
    another item's `to`, to which a delta is added; `blocks` is how many blocks of an EVA tower are used.
    `num_bytes` is 0 and `sha256` empty if unknown. Without a `repo`, no hub has the file, and the user must
    provide it as `note` says.
    """

    __pydantic_config__ = _STRICT

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

    def __post_init__(self) -> None:
        for name, path in (("to", self.to), ("base", self.base)):
            ok = not Path(path).is_absolute() and ".." not in Path(path).parts and (path or name == "base")
            require(bool(ok), name, path, "a path below the folder of the set")

    @property
    def source(self) -> str:
        """Where the file comes from, as text."""
        return f"{self.repo}/{self.file}" if self.repo else f"your own {self.file}"

    @property
    def patterns(self) -> tuple[str, ...]:
        return _split(self.file)

    @property
    def optional_patterns(self) -> tuple[str, ...]:
        return _split(self.optional)


@dataclass(frozen=True, slots=True)
class WeightSet:
    """The files that `btchat weights fetch NAME` downloads, and the model file that it writes."""

    __pydantic_config__ = _STRICT

    name: str
    about: str
    items: tuple[Item, ...]
    model: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        require(bool(_NAME.fullmatch(self.name)), "name", self.name, _NAME.pattern)

    @property
    def num_bytes(self) -> int:
        """Size of the download, as far as it is known."""
        return sum(item.num_bytes for item in self.items)


def read_manifest(path: Path) -> dict[str, WeightSet]:
    """All sets of a manifest by name.

    Raises:
        InvalidValueError: not TOML, or with a field that is missing, unknown or of another type.
    """
    tables = read_toml(path)
    named = {
        name: {"name": name, **cast(dict[str, Any], each)} if isinstance(each, dict) else each
        for name, each in tables.items()
    }
    return validated(dict[str, WeightSet], named)


def pick(sets: dict[str, WeightSet], name: str) -> WeightSet:
    """The set of that name.

    Raises:
        UnknownNameError: no such set; the message lists what there is.
    """
    if name not in sets:
        raise UnknownNameError(f"weights are {name!r}; allowed: {', '.join(sorted(sets))}", param="name")
    return sets[name]


def _split(patterns: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in patterns.split(",") if pattern.strip())
