"""From a model file on disk to a loaded VideoChat.

A model file is a small JSON that names the parts: tower (a Hugging Face CLIP folder), adapter (a branch, or
none: CLIP averaged over frames), backend, its LLM folder and projector, pooling, prompt template, frames and
generation defaults. Paths are relative to the file.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch

from bt_model.backends.files import BackendFiles
from bt_model.backends.registry import factory
from bt_model.chat import VideoChat
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.load import CHAT_MAY_MISS, load_adapter, load_vision, read_adapter
from bt_model.checkpoints.raw_config import read_config
from bt_model.config import BTAdapterConfig, ClipVisionConfig
from bt_model.errors import BtchatError, CheckpointError, UnknownNameError
from bt_model.types import MAX_FRAMES, Fit, FrameSize, GenerateOptions, ModelCard
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder
from bt_model.vision.pool import pooling

POOLED_WITH_CLS = "patches_cls"
FEWEST_LAYERS = 2


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file's fields. `gates`: scales of the middle and output gates, None for plain sums."""

    id: str
    backend: str
    tower: str
    llm: str = ""
    projector: str = ""
    adapter: str | None = None
    gates: tuple[float, float] | tuple[None, None] = (1e2, 1e4)
    upstream_compat: bool = False
    pooling: str = POOLED_WITH_CLS
    template: str = "video-chatgpt_v1"
    default_frames: int = 8
    fit: Fit = "crop"
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    notice: str = ""


def find(name: str, weights_dir: Path) -> Path:
    """A model file by path, or by name anywhere one folder below `weights_dir`.

    Raises:
        UnknownNameError: nothing of that name; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return path
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
    return ModelFile(**entries)


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


def load(name: str, weights_dir: Path, *, device: str = "auto") -> VideoChat:
    """Load a model by name or path onto a device.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
        UnknownNameError: no such model, backend, pooling or template.
    """
    path = find(name, weights_dir)
    model = read(path)
    pooling(model.pooling)  # a name that is wrong is refused now, not at the first video
    place = pick_device(device)
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    encoder = load_encoder(path.parent, model).to(place, dtype).eval().requires_grad_(requires_grad=False)
    vision = encoder.tower.config
    files = BackendFiles(
        llm=path.parent / model.llm,
        projector=path.parent / model.projector,
        template=model.template,
        num_video_tokens=vision.num_patches + int(model.pooling == POOLED_WITH_CLS),
        video_dim=vision.width,
        defaults=GenerateOptions(**model.defaults),
        device=place,
        dtype=dtype,
    )
    backend = factory(model.backend)(files)
    return VideoChat(encoder, backend, _card(model, encoder, files, backend.lm.max_context))


def load_encoder(folder: Path, model: ModelFile) -> VideoEncoder:
    """Tower and branch of a model file, in float32 on the CPU.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    config = read_config(folder / model.tower)
    try:
        joint = {"projection_dim": config["projection_dim"]}
        vision = ClipVisionConfig.from_hf({**joint, **config["vision_config"]})
    except KeyError as error:
        raise CheckpointError(f"{folder / model.tower}/config.json: lacks the field {error}") from error
    with torch.device("meta"):
        tower = ClipVisionTower(vision)
    load_vision(tower, folder / model.tower, may_miss=CHAT_MAY_MISS)
    adapter = None if model.adapter is None else _load_adapter(folder / model.adapter, model, vision, tower)
    return VideoEncoder(tower, adapter, upstream_compat=model.upstream_compat)


def _load_adapter(
    path: Path, model: ModelFile, vision: ClipVisionConfig, tower: ClipVisionTower
) -> BTAdapter:
    middle, output = model.gates
    weights = read_adapter(path, gated=middle is not None)
    if weights.config.num_layers < FEWEST_LAYERS:
        raise CheckpointError(
            f"{path}: a branch of {weights.config.num_layers} layer; the chat output leaves the last one "
            f"out, so at least {FEWEST_LAYERS} are needed"
        )
    config = BTAdapterConfig(weights.config.num_layers, weights.config.max_frames, middle, output)
    adapter = BTAdapter(vision, config)
    load_adapter(adapter, weights, tower)
    return adapter


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        BtchatError: a device that this machine does not have.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        device = torch.device(chosen)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BtchatError(f"device is {name!r}; it cannot be used here: {reason}", param="device") from error
    return device


def _card(model: ModelFile, encoder: VideoEncoder, files: BackendFiles, max_context: int) -> ModelCard:
    adapter = encoder.adapter
    digest = fingerprint({**encoder.state_dict(), **_architecture(model, encoder)})
    return ModelCard(
        id=model.id,
        backend=model.backend,
        frame_size=FrameSize(encoder.tower.config.image_size, model.fit),
        default_frames=model.default_frames,
        max_frames=MAX_FRAMES if adapter is None else min(MAX_FRAMES, 2 * adapter.config.max_frames),
        max_context=max_context,
        num_video_tokens=files.num_video_tokens,
        video_dim=files.video_dim,
        fingerprint=digest,
        pooling=model.pooling,
        notice=model.notice,
        versions={"torch": torch.__version__, "device": str(files.device), "dtype": str(files.dtype)},
    )


def _architecture(model: ModelFile, encoder: VideoEncoder) -> dict[str, torch.Tensor]:
    """What decides the features beside the weights, as a tensor for the fingerprint."""
    adapter = None if encoder.adapter is None else asdict(encoder.adapter.config)
    text = json.dumps([asdict(encoder.tower.config), adapter, model.upstream_compat], sort_keys=True)
    return {"architecture": torch.tensor(list(text.encode()), dtype=torch.uint8)}
