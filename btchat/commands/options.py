"""Options that several commands have."""

import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from bt_model.assembly.catalog import WEIGHTS_DIR, require_weights_dir
from bt_model.errors import require
from bt_model.types import Dtype, Quantise, Sampling, Strategy

MAX_PORT = 65535
MAX_MODELS = 8  # of one question, as on a server
DEFAULT_MODEL = "embedded"


def a_folder(_kind: object, path: Path | None) -> None:
    """What an option for a folder takes: one that is there, or that will be.

    Raises:
        ValueError: a file.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; allowed: a folder")


def a_folder_to_write(kind: object, path: Path | None) -> None:
    """Raises ValueError: a file, or a place that takes no new folder."""
    a_folder(kind, path)
    if path is not None:
        _require_place(path)


def a_weights_dir(kind: object, path: Path) -> None:
    """Raises ValueError: a file, or a folder that does not exist, unless it is the default."""
    a_folder(kind, path)
    require_weights_dir(path)


def a_file(_kind: object, path: Path) -> None:
    """What an option for a file to write takes: a new one, or a regular one, as it is replaced by renaming.

    Raises:
        ValueError: a folder, what renaming would take away (a device, pipe, socket or link), or a place that
            takes no new file.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; allowed: a file")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} is a device, pipe, socket or link; allowed: a file")
    _require_place(path)


def _require_place(path: Path) -> None:
    """What is not there can be made; only trying tells so, as permissions do not bind every user."""
    if path.exists():
        return
    above = next(each for each in path.absolute().parents if each.is_dir())
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be made, as {above} takes no new files; choose another place"
        ) from error


def a_port(_kind: object, port: int) -> None:
    """Raises InvalidValueError: no number of a port; 0 is a free one."""
    require(0 <= port <= MAX_PORT, "port", port, f"a whole number, 0 to {MAX_PORT}")


_LOOKED_UP = Parameter(help="folder that names are looked up in", env_var="BTCHAT_WEIGHTS_DIR")
WeightsDir = Annotated[Path, _LOOKED_UP, Parameter(validator=a_weights_dir)]
NewWeightsDir = Annotated[Path, _LOOKED_UP, Parameter(validator=a_folder_to_write)]
Work = Annotated[Path, Parameter(validator=a_folder_to_write)]
OutputFile = Annotated[Path, Parameter(validator=a_file)]


@Parameter(name="*", group=Group.create_ordered("Model"))
@dataclass(frozen=True, slots=True)
class ModelOptions:
    """A model by name, and where it runs."""

    model: Annotated[
        tuple[str, ...],
        Parameter(
            help="name or model file, or NAME@ADAPTER; of several (a,b) ask prints each answer "
            "(default: embedded; of a server its first)",
            env_var="BTCHAT_MODEL",
            env_var_split=lambda _kind, value: [value],
        ),
    ] = ()
    weights_dir: WeightsDir = WEIGHTS_DIR
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 …")] = "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """All that were named, each once. Raises InvalidValueError: one twice, or too many."""
        named = [part.strip() for each in self.model for part in each.split(",")]
        names = tuple(name for name in named if name)
        ok = len(set(names)) == len(names) <= MAX_MODELS
        require(ok, "model", ",".join(names), f"up to {MAX_MODELS} different names")
        return names

    @property
    def asked(self) -> str | None:
        """The one that was named, if one was. Raises InvalidValueError: several."""
        require(len(self.names) <= 1, "model", ",".join(self.names), "one name; `btchat ask` takes several")
        return self.names[0] if self.names else None

    @property
    def name(self) -> str:
        """Of the model that is loaded in this process. Raises as `asked`."""
        return self.asked or DEFAULT_MODEL


@Parameter(name="*", group=Group.create_ordered("Number formats"))
@dataclass(frozen=True, slots=True)
class FormatOptions:
    """How the weights of a model are held."""

    dtype: Annotated[Dtype | None, Parameter(help="of weights (default: the device's own)")] = None
    quantise: Annotated[Quantise, Parameter(help="of the language model's matrices")] = "none"


@Parameter(name="*", group=Group.create_ordered("Frames"))
@dataclass(frozen=True, slots=True)
class FrameOptions:
    """Which frames of the video the model sees."""

    num_frames: Annotated[int | None, Parameter(help="how many (default: the model's number)")] = None
    fps: Annotated[float | None, Parameter(help="frames per second of video, instead of a number")] = None
    max_frames: Annotated[int | None, Parameter(help="at most so many, with fps")] = None
    start: Annotated[float | None, Parameter(help="where the window begins, in seconds")] = None
    end: Annotated[float | None, Parameter(help="where it ends, in seconds")] = None
    strategy: Annotated[Strategy, Parameter(help="how they are chosen")] = "uniform"
    seed: Annotated[int, Parameter(help="of strategy random")] = 0

    @property
    def sampling(self) -> Sampling:
        """Raises InvalidValueError: a value out of range."""
        return Sampling(**asdict(self))

    @property
    def body(self) -> dict[str, Any]:
        """What was chosen, as a server takes it. Raises as `sampling`."""
        chosen = asdict(self.sampling)
        return {
            field.name: chosen[field.name] for field in fields(self) if chosen[field.name] != field.default
        }


MODEL_OPTIONS, FORMAT_OPTIONS, FRAME_OPTIONS = ModelOptions(), FormatOptions(), FrameOptions()


def default_weights_dir() -> Path:
    """Where commands look that have no flag for it."""
    return Path(os.environ.get("BTCHAT_WEIGHTS_DIR") or WEIGHTS_DIR)
