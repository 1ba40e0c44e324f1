"""A model file: a small JSON that names the parts of one model.

Tower (a folder with a vision config), adapter (a branch, or none: CLIP averaged over frames), backend, its
LLM folder, projector and, where the backend has one, Q-Former; pooling, prompt template, frames and
generation defaults. Paths are relative to the file. Without torch, so that listing models is fast.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError, InvalidValueError, UnknownNameError
from bt_model.types import ENTRIES, MAX_FRAMES, Entry, Fit, GenerateOptions

WEIGHTS_DIR = Path(__file__).parents[2] / "weights"  # where names are looked up, unless somebody says else
POOLED_WITH_CLS = "patches_cls"
ALL_FRAMES = "frames_cls"
SECOND_TO_LAST, LAST_LAYER = -2, -1

# Backends whose published models need other values than the defaults below.
_OF_BACKEND: dict[str, dict[str, Any]] = {
    "minigpt4": {"select_layer": LAST_LAYER, "template": "minigpt4_video"},
    "instructblip": {"select_layer": LAST_LAYER},
    "video-chatgpt": {"pooling": "temporal_spatial"},
}
_TEXT, _NAME_OR_NONE, _NUMBER = (str,), (str, NoneType), (int, float, NoneType)
_KINDS: dict[str, tuple[type, ...]] = {
    "id": _TEXT, "backend": _TEXT, "tower": _TEXT, "llm": _TEXT, "projector": _TEXT,
    "qformer": _NAME_OR_NONE, "adapter": _NAME_OR_NONE, "gates": (list,), "upstream_compat": (bool,),
    "select_layer": (int,), "pooling": _TEXT, "entry": _TEXT, "template": _TEXT, "default_frames": (int,),
    "fit": _TEXT, "defaults": (dict,), "accept": (list,), "lora": _NAME_OR_NONE,
    "notice": _TEXT,
}  # fmt: skip
_OPTIONS: dict[str, tuple[type, ...]] = {
    "max_tokens": (int, NoneType), "temperature": _NUMBER, "top_p": _NUMBER, "top_k": (int, NoneType),
    "repetition_penalty": _NUMBER, "seed": (int, NoneType), "stop": (list,),
}  # fmt: skip
_CALLED: dict[type, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
    dict: "an object", NoneType: "null",
}  # fmt: skip
_MAX_SCALE = 1e6


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file's fields.

    `adapter`: a file with a temporal model of any kind, which its metadata names. `gates`: scales of a
    branch's middle and output gates, None for plain sums; not given, they are those of the adapter file, or
    the published ones. `entry`: how video features enter a Q-Former (docs/published-models.md, "Q-Former").
    `select_layer`: which hidden state of tower and branch the chat side reads. `lora`: a folder in PEFT's
    layout, added to the LLM. `accept`: fit checks that may fail. Some backends have other defaults.
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
    entry: Entry = "clip"
    template: str = "video-chatgpt_v1"
    default_frames: int = 8
    fit: Fit = "crop"
    defaults: GenerateOptions = field(default_factory=GenerateOptions)
    accept: tuple[str, ...] = ()
    lora: str | None = None
    notice: str = ""


def find(name: str, weights_dir: Path) -> Path:
    """A model file by path, by a folder that holds exactly one, or by name one folder below `weights_dir`.

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
        CheckpointError: not readable, with fields that are missing or unknown, or with a value of another
            kind or out of range.
    """
    values = read_json(path)
    known = {f.name for f in fields(ModelFile)}
    if not {"id", "backend", "tower"} <= set(values) <= known:
        raise CheckpointError(
            f"{path}: has the fields {', '.join(values)}; id, backend and tower are needed, "
            f"known are {', '.join(sorted(known))}"
        )
    _require_kinds(path, values, _KINDS)
    entries = {**_OF_BACKEND.get(values["backend"], {}), **values}
    entries["accept"] = _texts(path, "accept", entries.get("accept", []))
    entries["defaults"] = _options(path, entries.get("defaults", {}))
    if "gates" in entries:
        entries["gates"] = _gates(path, entries["gates"])
    return _checked(path, ModelFile(**entries))


def _require(path: Path, ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise CheckpointError(f"{path}: {name} is {value!r}; allowed: {allowed}")


def _require_kinds(path: Path, values: dict[str, Any], kinds: dict[str, tuple[type, ...]]) -> None:
    for name, value in values.items():
        allowed = " or ".join(_CALLED[kind] for kind in kinds[name])
        _require(path, type(value) in kinds[name], name, value, allowed)


def _checked(path: Path, model: ModelFile) -> ModelFile:
    named = {"id": model.id, "backend": model.backend, "tower": model.tower}
    for name, text in named.items():
        _require(path, bool(text) and text.isprintable(), name, text, "text that can be printed, not empty")
    layers = f"{SECOND_TO_LAST}, or {LAST_LAYER} for a tower published without its last layer"
    for name, value, ok, allowed in (
        ("select_layer", model.select_layer, model.select_layer in (SECOND_TO_LAST, LAST_LAYER), layers),
        ("entry", model.entry, model.entry in ENTRIES, ", ".join(ENTRIES)),
        ("fit", model.fit, model.fit in get_args(Fit), ", ".join(get_args(Fit))),
        (
            "default_frames",
            model.default_frames,
            1 <= model.default_frames <= MAX_FRAMES,
            f"1 to {MAX_FRAMES}",
        ),
    ):
        _require(path, ok, name, value, allowed)
    is_apart = model.pooling.startswith("frames")
    if model.entry != ENTRIES[0] and model.pooling != ALL_FRAMES:
        raise _unpooled(path, model, repr(ALL_FRAMES))
    if model.entry == ENTRIES[0] and model.qformer is not None and is_apart:
        raise _unpooled(path, model, f"{POOLED_WITH_CLS!r}, or another that pools over time")
    return model


def _unpooled(path: Path, model: ModelFile, allowed: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: entry is {model.entry!r} and pooling {model.pooling!r}; allowed with it: {allowed}"
    )


def _texts(path: Path, name: str, values: list[Any]) -> tuple[str, ...]:
    _require(path, all(isinstance(value, str) for value in values), name, values, "a list of texts")
    return tuple(values)


def _options(path: Path, values: dict[str, Any]) -> GenerateOptions:
    unknown = [name for name in values if name not in _OPTIONS]
    _require(path, not unknown, "defaults", values, f"an object of {', '.join(_OPTIONS)}")
    try:
        _require_kinds(path, values, _OPTIONS)
        given: dict[str, Any] = {**values, "stop": _texts(path, "stop", values.get("stop", []))}
        return GenerateOptions(**given)
    except (CheckpointError, InvalidValueError) as error:
        said = error.message.removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: in defaults, {said}") from error


def _gates(path: Path, value: list[Any]) -> tuple[float, float] | tuple[None, None]:
    if value == [None, None]:
        return None, None
    numbers = [type(each) in (int, float) and -_MAX_SCALE <= each <= _MAX_SCALE for each in value]
    allowed = f"two numbers, -{_MAX_SCALE:.0f} to {_MAX_SCALE:.0f}, or [null, null] for sums"
    _require(path, numbers == [True, True], "gates", value, allowed)
    return float(value[0]), float(value[1])
