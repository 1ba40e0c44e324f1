"""A folder of the frozen tower's hidden states of videos: one file a video, named by its content's digest.

features.json identifies the tower and the settings; videos-RANK.jsonl map videos to files. S states, T
frames, P patches, D width; a file holds `states` (S, T, 1 + P, D) float16.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from bt_model.atomic_files import write_json
from bt_model.decoding.wire import Request
from bt_model.errors import InvalidValueError

MANIFEST = "features.json"
STATES = "states"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a folder: the tower's fingerprint, how frames were read, and the states' numbers."""

    tower: str
    framing: dict[str, Any]
    numbers: tuple[int, ...]

    def write(self, folder: Path) -> None:
        """Write it, or check that an existing one is equal.

        Raises:
            InvalidValueError: the folder's manifest differs.
        """
        if (folder / MANIFEST).exists():
            found = read_manifest(folder)
            self.require(found, folder)
            _require_same(folder, "states", found.numbers, self.numbers)
        values = {"tower": self.tower, "framing": self.framing, "numbers": list(self.numbers)}
        write_json(folder / MANIFEST, values)

    def require(self, found: "Manifest", folder: Path) -> None:
        """Raises InvalidValueError: other states than these, or fewer than the first of them."""
        _require_same(folder, "tower", found.tower, self.tower)
        _require_same(folder, "framing", found.framing, self.framing)
        _require_same(folder, "first state", found.numbers[:1], self.numbers[:1])


def _require_same(folder: Path, name: str, found: object, allowed: object) -> None:
    if found != allowed:
        raise InvalidValueError(
            f"data.features is {str(folder)!r}, whose {name} is {found}; allowed: {allowed}",
            param="data.features",
        )


def read_manifest(folder: Path) -> Manifest:
    """Raises InvalidValueError: no features there."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(values["tower"], values["framing"], tuple(values["numbers"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f"data.features is {str(folder)!r}; allowed: a folder of `btchat train features` ({error!r})",
            param="data.features",
        ) from error


def stored_videos(folder: Path) -> dict[str, Path]:
    """The file of each video, from the lists of all ranks."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("videos-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # a crash may have cut the last one
                video, name = json.loads(line)
                found[video] = folder / name
    return found


def read_states(path: Path) -> NDArray[np.float16]:
    """Raises OSError, KeyError or safetensors' own error: a file that is missing or damaged."""
    return load_file(path)[STATES]


class FeatureReader(ThreadPoolExecutor):
    """Reads feature files in threads, with the interface of a decode pool."""

    def read(self, path: Path, request: Request) -> Future[NDArray[np.float16]]:
        """A file's states; how frames would be read is settled already."""
        del request
        return self.submit(read_states, path)
