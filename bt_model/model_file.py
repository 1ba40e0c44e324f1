"""A model file: a small JSON that names the parts of one model.

Tower (a folder with a vision config), adapter (a branch, or none: CLIP averaged over frames), backend, its
LLM folder, projector and, where the backend has one, Q-Former; pooling, prompt template, frames and
generation defaults. Paths are relative to the file. No torch here: listing models is quick.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from bt_model.errors import CheckpointError, UnknownNameError
from bt_model.types import Fit

POOLED_WITH_CLS = "patches_cls"
ENTRIES = ("clip", "frames", "all_frames", "joint")
ALL_FRAMES = "frames_cls"
SECOND_TO_LAST, LAST_LAYER = -2, -1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file's fields.

    `adapter`: a file with a temporal model of any kind; it says itself what it is. `gates`: scales of a
    branch's middle and output gates, None for plain sums; not given, they are what the adapter file says, or
    the published ones. `entry`: how video features enter a
    Q-Former (backends spec 1.4). `select_layer`: which hidden state of tower and branch the chat side reads.
    `lora`: a folder in PEFT's layout, added to the LLM. `accept`: fit checks that may fail.
    """

    id: str
    backend: str
    tower: str
    llm: str = ""
    projector: str = ""
    qformer: str | None = None
    adapter: str | None = None
    gates: tuple[float, float] | tuple[None, None] | None = None
    upstream_compat: bool = False
    select_layer: int = SECOND_TO_LAST
    pooling: str = POOLED_WITH_CLS
    entry: str = ENTRIES[0]
    template: str = "video-chatgpt_v1"
    default_frames: int = 8
    fit: Fit = "crop"
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    accept: tuple[str, ...] = ()
    lora: str | None = None
    notice: str = ""


def find(name: str, weights_dir: Path) -> Path:
    """A model file by path, by the folder that holds it alone, or by name one folder below `weights_dir`.

    Raises:
        UnknownNameError: nothing of that name; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return path
    inside = list(path.glob("*.model.json")) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    files = available(weights_dir)
    if name not in files:
        raise UnknownNameError(
            f"model is {name!r}; under {weights_dir} there are: {', '.join(sorted(files)) or '(none)'}",
            code="model_not_found",
            param="model",
        )
    return files[name]


def available(weights_dir: Path) -> dict[str, Path]:
    """Names of the model files one folder below `weights_dir`."""
    return {path.name.removesuffix(".model.json"): path for path in weights_dir.glob("*/*.model.json")}


def read(path: Path) -> ModelFile:
    """One model file.

    Raises:
        CheckpointError: not readable, or with fields that are missing or unknown.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({type(error).__name__})") from error
    known = {f.name for f in fields(ModelFile)}
    if not isinstance(values, dict) or not {"id", "backend", "tower"} <= set(values) <= known:
        given = ", ".join(values) if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(
            f"{path}: has the fields {given}; id, backend and tower are needed, "
            f"known are {', '.join(sorted(known))}"
        )
    entries = cast(dict[str, Any], values)
    if "gates" in entries:
        entries["gates"] = _gates(path, entries["gates"])
    entries["accept"] = tuple(entries.get("accept", ()))
    return _checked(path, ModelFile(**entries))


def _checked(path: Path, model: ModelFile) -> ModelFile:
    if model.select_layer not in (SECOND_TO_LAST, LAST_LAYER):
        allowed = f"{SECOND_TO_LAST}, or {LAST_LAYER} for a tower published without its last layer"
        raise CheckpointError(f"{path}: select_layer is {model.select_layer!r}; allowed: {allowed}")
    if model.entry not in ENTRIES:
        raise CheckpointError(f"{path}: entry is {model.entry!r}; allowed: {', '.join(ENTRIES)}")
    if model.entry != ENTRIES[0] and model.pooling != ALL_FRAMES:
        raise CheckpointError(
            f"{path}: entry is {model.entry!r} and pooling {model.pooling!r}; allowed with it: {ALL_FRAMES!r}"
        )
    return model


def _gates(path: Path, value: object) -> tuple[float, float] | tuple[None, None]:
    match value:
        case [int() | float() as middle, int() | float() as output]:
            return float(middle), float(output)
        case [None, None]:
            return None, None
        case _:
            raise CheckpointError(
                f"{path}: gates is {value!r}; allowed: two numbers, or [null, null] for sums"
            )
