"""A model file: a small JSON that names the parts of one model.

Tower (a folder with a vision config), adapter (a branch, or none: CLIP averaged over frames), backend, its
LLM folder, projector and, where the backend has one, Q-Former; pooling, prompt template, frames and
generation defaults. Paths are relative to the file. Without torch, so that listing models is fast.
"""

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError, InvalidValueError, UnknownNameError, require
from bt_model.settings.refusal import validated
from bt_model.types import MAX_FRAMES, MAX_VIDEOS, Entry, GenerateOptions, ResizeMode

POOLED_WITH_CLS = "patches_cls"
ALL_FRAMES = "frames_cls"
PLAIN = "plain"
SECOND_TO_LAST, LAST_LAYER = -2, -1
PARTS = ("tower", "adapter", "llm", "projector", "qformer", "lora")  # the fields that name files

# Backends whose published models need other values than the defaults below.
_OF_BACKEND: dict[str, dict[str, Any]] = {
    "minigpt4": {"select_layer": LAST_LAYER, "template": "minigpt4_video"},
    "instructblip": {"select_layer": LAST_LAYER, "template": PLAIN},
    "video-chatgpt": {"pooling": "temporal_spatial"},
}
_MAX_SCALE = 1e6
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class SearchFiles:
    """What a model searches with beside its tower; "" stands for what the model has anyway.

    `text`: a text tower, or what is in the tower's folder. `tokenizer`: its tokenizer, or what lies beside
    it. `adapter`: a temporal model that was trained for retrieval, null for none, or the model's own. `bank`:
    texts, one a line, by which windows that fit everything are told from those that fit one.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    text: str = ""
    tokenizer: str = ""
    adapter: str | None = ""
    bank: str = ""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file's fields.

    `adapter`: a file with a temporal model of any kind, which its metadata names. `adapters`: others by name,
    null for none, that a request chooses as `id@name`; all else is shared. `gates`: scales of a branch's
    middle and output gates, None for plain sums; not given, they are those of the adapter file, or the
    published ones. `entry`: how video features enter a Q-Former (docs/published-models.md, "Q-Former").
    `select_layer`: which hidden state of tower and branch the chat side reads, -1 for a tower that was
    published without its last layer. `max_videos`: how many a dialogue may have, where the backend takes so
    many. `lora`: a folder in PEFT's layout, added to the LLM. `search`: what texts and windows are compared
    with. `accept`: fit checks that may fail. Some backends have other defaults.

    Raises:
        InvalidValueError: values that do not belong together.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    id: str
    backend: str
    tower: str
    llm: str = ""
    projector: str = ""
    qformer: str | None = None
    adapter: str | None = None
    adapters: dict[str, str | None] = field(default_factory=dict[str, str | None])
    gates: tuple[float | None, float | None] | None = None
    upstream_compat: bool = False
    select_layer: Annotated[int, Field(ge=SECOND_TO_LAST, le=LAST_LAYER)] = SECOND_TO_LAST
    pooling: str = POOLED_WITH_CLS
    entry: Entry = "clip"
    template: str = "video-chatgpt_v1"
    default_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] = 8
    max_videos: Annotated[int, Field(ge=1, le=MAX_VIDEOS)] = MAX_VIDEOS
    fit: ResizeMode = "crop"
    defaults: GenerateOptions = field(default_factory=GenerateOptions)
    accept: tuple[str, ...] = ()
    lora: str | None = None
    search: SearchFiles = field(default_factory=SearchFiles)
    notice: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "backend", "tower"):
            text = getattr(self, name)
            require(bool(text) and text.isprintable(), name, text, "text that can be printed, not empty")
        wrong = [name for name in self.adapters if not _ADAPTER_NAME.fullmatch(name)]
        require(not wrong, "adapters", wrong[:1], "names of 1 to 64 letters, digits, '.', '_' and '-'")
        allowed = f"two numbers, -{_MAX_SCALE:.0f} to {_MAX_SCALE:.0f}, or [null, null] for sums"
        scales = [each for each in self.gates or () if each is not None]
        ok = len(scales) != 1 and all(-_MAX_SCALE <= each <= _MAX_SCALE for each in scales)
        require(ok, "gates", self.gates, allowed)

    @property
    def parts(self) -> dict[str, str]:
        """What the file names, by field."""
        named = {name: getattr(self, name) for name in PARTS}
        others = {f"adapters.{name}": path for name, path in self.adapters.items()}
        search = {f"search.{name}": path for name, path in asdict(self.search).items()}
        return {name: path for name, path in {**named, **others, **search}.items() if path}

    def moved(self, place: Callable[[str], str]) -> "ModelFile":
        """The same with what `place` makes of each path that it names."""

        def placed(path: str | None) -> str | None:
            return place(path) if path else path

        own: dict[str, Any] = {name: placed(getattr(self, name)) for name in PARTS}
        adapters = {name: placed(path) for name, path in self.adapters.items()}
        search: dict[str, Any] = {name: placed(path) for name, path in asdict(self.search).items()}
        return replace(self, **own, adapters=adapters, search=replace(self.search, **search))

    def ids_beside(self) -> dict[str, str]:
        """The names of its adapters by the ids under which they are asked."""
        return {f"{self.id}@{name}": name for name in self.adapters}

    def with_adapter(self, name: str) -> "ModelFile":
        """The same model with one of its other adapters, as a model of its own.

        Raises:
            UnknownNameError: no such adapter; the message lists what there is.
        """
        if name not in self.adapters:
            there_are = ", ".join(self.ids_beside()) or "none"
            raise UnknownNameError(
                f"model is {f'{self.id}@{name}'!r}; with other adapters of {self.id} there are: {there_are}",
                code="model_not_found",
                param="model",
            )
        notice = f"With the adapter {name} in the place of the model's own. {self.notice}".strip()
        own = {"id": f"{self.id}@{name}", "adapter": self.adapters[name], "notice": notice}
        return replace(self, **own, adapters={})


def read_model_file(path: Path, weights_dir: Path | None = None) -> ModelFile:
    """One model file; one that lies below `weights_dir` may name nothing outside of it.

    Raises:
        CheckpointError: not readable, with fields that are missing or unknown, with a value of another kind
            or out of range, or with a part outside of the folder.
    """
    values = read_json(path)
    backend = values.get("backend")
    above = _OF_BACKEND.get(backend, {}) if isinstance(backend, str) else {}
    try:
        model = validated(ModelFile, {**above, **values}, nothing="null")
    except InvalidValueError as error:
        raise CheckpointError(f"{path}: {error.message}") from error
    if weights_dir is not None and _below(path, weights_dir) is not None:
        for name, part in model.parts.items():
            if not _stays(path.parent / part, weights_dir):
                text = f"{name} is {part!r}; allowed: a path that stays in {weights_dir}"
                raise CheckpointError(
                    f"{path}: {text}, also where links lead: those in {weights_dir} itself may"
                )
    return model


def _below(path: Path, folder: Path) -> Path | None:
    """A path from a folder, by name alone; None for one that is not below it."""
    whole, above = (Path(os.path.abspath(each)) for each in (path, folder))  # noqa: PTH100 - links stay
    return whole.relative_to(above) if whole.is_relative_to(above) else None


def _stays(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, by name and by where its links lead.

    Links in the folder itself are its owner's, and may lead to another disk; those of a model may not leave.
    """
    inside = _below(path, folder)
    if inside is None:
        return False
    own = (folder, folder / inside.parts[0]) if inside.parts else (folder,)
    return any(path.resolve().is_relative_to(each.resolve()) for each in own)
