"""Frozen vision towers from their checkpoints, shared by the models that use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from bt_model.assembly.placement import Placement
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.json_files import read_config, section
from bt_model.checkpoints.load import CHAT_MAY_MISS, load_vision, refuse_more_layers
from bt_model.checkpoints.weights import Checkpoint, open_checkpoint
from bt_model.config import Activation, ClipTextConfig, ClipVisionConfig, Family
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.vision.clip import ClipVisionTower

_TEXT_HEAD_DIM = 64  # of every published text tower


class TowerCache:
    """Frozen towers that loaded models share; a tower is released with the last model that uses it.

    Towers of equal sizes and weights are shared, whatever folders they come from. For one thread, that loads.
    """

    def __init__(self) -> None:
        self._towers: WeakValueDictionary[tuple[Path, Placement], ClipVisionTower] = WeakValueDictionary()
        self._digests: WeakKeyDictionary[ClipVisionTower, str] = WeakKeyDictionary()

    def tower(self, checkpoint: Checkpoint, place: Placement) -> ClipVisionTower:
        """The tower of a checkpoint on a device, read once.

        Raises:
            CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
        """
        key = (checkpoint.path.resolve(), Placement(place.device, place.dtype))
        tower = self._towers.get(key)
        if tower is None:
            read = load_tower(checkpoint).to(place.dtype).eval().requires_grad_(requires_grad=False)
            tower = self._equal(read, key[1]) or read.to(place.device)
            self._towers[key] = tower
        return tower

    def _equal(self, tower: ClipVisionTower, place: Placement) -> ClipVisionTower | None:
        alike = [
            other
            for (_, where), other in self._towers.items()
            if where == place and other.config == tower.config
        ]
        return next((other for other in alike if self.digest(other) == self.digest(tower)), None)

    def digest(self, tower: ClipVisionTower) -> str:
        """The fingerprint of a tower's weights, computed once."""
        if tower not in self._digests:
            self._digests[tower] = fingerprint(tower.state_dict())
        return self._digests[tower]


def load_tower(checkpoint: Checkpoint) -> ClipVisionTower:
    """The tower of a folder with a config.json, in the file's number format on the CPU.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    config = vision_config(checkpoint.path, checkpoint.required_config())
    refuse_more_layers(checkpoint, "vision", "layers.", config.num_layers)
    with torch.device("meta"):
        tower = ClipVisionTower(config)
    load_vision(tower, checkpoint, may_miss=CHAT_MAY_MISS)
    return tower


def vision_config(folder: Path, config: Mapping[str, Any]) -> ClipVisionConfig:
    """The tower of a folder, by its config.json.

    Raises:
        CheckpointError: it lacks a field, or says what no tower can be.
    """
    joint = {"projection_dim": config["projection_dim"]} if "projection_dim" in config else {}
    try:
        return ClipVisionConfig.from_hf({**joint, **section(folder, config, "vision_config")})
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: lacks the field {error}") from error
    except InvalidValueError as error:
        raise CheckpointError(f"{folder}/config.json: {error.message}") from error


@dataclass(frozen=True, slots=True)
class TowerConfigs:
    """Configurations of CLIP's two towers."""

    vision: ClipVisionConfig
    text: ClipTextConfig


def tower_configs(clip: Path, text: Path) -> TowerConfigs:
    """The configurations in a folder with both towers, or in two folders.

    Raises:
        CheckpointError: no configuration there, or one that is not of a CLIP.
    """
    vision = vision_config(clip, read_config(clip))
    try:
        return TowerConfigs(vision, _text_config(text, vision.family))
    except KeyError as error:
        raise CheckpointError(f"{text}/config.json: lacks the field {error}") from error
    except InvalidValueError as error:
        raise CheckpointError(f"{text}/config.json: {error.message}") from error


def _text_config(source: Path, family: Family) -> ClipTextConfig:
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
