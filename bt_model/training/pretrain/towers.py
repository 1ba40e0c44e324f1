"""Published towers with a new temporal model, or with the one in a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.assembly.towers import vision_config
from bt_model.checkpoints.conversion.torch_file import TorchFile
from bt_model.checkpoints.json_files import read_config
from bt_model.checkpoints.load import load_adapter, load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import Checkpoint, Weights, open_checkpoint
from bt_model.config import CLIP_L14, EVA_G14, ClipTextConfig, ClipVisionConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.objectives.contrastive import AlignmentHead
from bt_model.training.pretrain.config import PretrainModel, PretrainSettings
from bt_model.training.pretrain.step import PretrainStep
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder

if TYPE_CHECKING:
    from bt_model.config import Activation, Family
    from bt_model.vision.encoder import TemporalEncoder

_TORCH_FILES = (".pth", ".pt", ".bin")
_TEXT_HEAD_DIM = 64  # of every published text tower


@dataclass(frozen=True, slots=True)
class Towers:
    """Configurations of the frozen towers."""

    vision: ClipVisionConfig
    text: ClipTextConfig


_TEXT_L14 = ClipTextConfig(49408, 77, 768, 12, 12, 3072, CLIP_L14.projection_dim)
_TEXT_EVA = replace(_TEXT_L14, projection_dim=EVA_G14.projection_dim, act="gelu")
PUBLISHED: "dict[Family, Towers]" = {"clip": Towers(CLIP_L14, _TEXT_L14), "eva": Towers(EVA_G14, _TEXT_EVA)}


def towers_of(model: PretrainModel) -> Towers:
    """The tower configurations in the folders of a model section.

    Raises:
        CheckpointError: no configuration there, or one that is not of a CLIP.
    """
    folder = Path(model.clip)
    vision = vision_config(folder, read_config(folder))
    text = Path(model.text) if model.text else folder
    try:
        return Towers(vision, _text_config(text, vision.family))
    except KeyError as error:
        raise CheckpointError(f"{text}/config.json: lacks the field {error}") from error
    except InvalidValueError as error:
        raise CheckpointError(f"{text}/config.json: {error.message}") from error


def _text_config(source: Path, family: "Family") -> ClipTextConfig:
    """From config.json; from the tensors' shapes for published EVA text towers, which have none."""
    config: Mapping[str, Any] = read_config(source) if (source / "config.json").is_file() else {}
    if "text_config" in config:
        joint = {"projection_dim": config["projection_dim"]} if "projection_dim" in config else {}
        return ClipTextConfig.from_hf({**joint, **config["text_config"]})
    act: Activation = "gelu" if family == "eva" else "quick_gelu"
    checkpoint = open_checkpoint(source)
    shapes = checkpoint.shapes("text")
    vocab_size, width = shapes["token_embedding.weight"]
    return ClipTextConfig(
        vocab_size=vocab_size, context_length=shapes["position_embedding.weight"][0], width=width,
        num_layers=checkpoint.count_layers("text", "layers."), num_heads=width // _TEXT_HEAD_DIM,
        mlp_width=shapes["layers.0.mlp.fc1.weight"][0], projection_dim=shapes["text_projection.weight"][0],
        act=act,
    )  # fmt: skip


def tokenizer_of(model: PretrainModel) -> ClipTokenizer:
    """Raises CheckpointError: no tokenizer there."""
    return ClipTokenizer.from_file(Path(model.tokenizer or model.text or model.clip))


def fresh_step(settings: PretrainSettings, towers: Towers, *, are_loaded: bool = True) -> PretrainStep:
    """The step before training; new parts are initialised from torch's global generator.

    Without `are_loaded` the towers stay random, for example on the meta device.

    Raises:
        CheckpointError: weights that are missing or do not fit.
    """
    model = settings.model
    tower, text = ClipVisionTower(towers.vision), ClipTextTower(towers.text)
    if are_loaded:
        checkpoint = open_checkpoint(Path(model.clip))
        load_vision(tower, checkpoint)
        load_part(text, open_checkpoint(Path(model.text)) if model.text else checkpoint, "text")
    encoder = build_encoder(model.temporal, tower)
    head = AlignmentHead(towers.vision.width, towers.vision.projection_dim) if settings.loss.mbta else None
    step = PretrainStep(
        encoder, text, head, settings.loss.weights, mode=settings.loss.gather, merged=settings.loss.merged
    )
    if are_loaded and model.init:
        start_from(step, _opened(Path(model.init)))
    return step


def _opened(path: Path) -> Checkpoint:
    """A checkpoint's source; torch files are read without executing their pickles."""
    if path.suffix not in _TORCH_FILES:
        return open_checkpoint(path)
    file = TorchFile(path)
    shapes = {name: tuple(each.shape) for name, each in file.locations.items()}
    return open_checkpoint(Weights(str(path), shapes, file.__getitem__))


def start_from(step: PretrainStep, checkpoint: Checkpoint) -> None:
    """Fill the trained parts from a checkpoint of any known layout; its towers, if any, are not read.

    If this model has gates and the checkpoint has no gate vectors, gates start at one half.

    Raises:
        CheckpointError: another temporal model, or tensors that do not fit.
    """
    _fill_encoder(step.encoder, checkpoint)
    if step.head is not None and "extra_proj" in checkpoint.parts:
        load_part(step.head, checkpoint, "extra_proj")


def _fill_encoder(encoder: "TemporalEncoder", checkpoint: Checkpoint) -> None:
    parts = encoder.trainable()
    adapter = parts.get("adapter")
    if not (isinstance(encoder, VideoEncoder) and isinstance(adapter, BTAdapter)):
        for part, module in parts.items():
            load_part(module, checkpoint.beside(encoder.tower.config.num_layers), part)
        return
    is_gated = adapter.output_gate is not None or adapter.middle_gate is not None
    weights = read_adapter(checkpoint, side="retrieval", gated=is_gated)
    if weights.config.num_layers != adapter.config.num_layers:
        raise CheckpointError(
            f"{weights.where}: its branch has {weights.config.num_layers} layers; model.layers is "
            f"{adapter.config.num_layers}"
        )
    load_adapter(adapter, weights, encoder.tower)
