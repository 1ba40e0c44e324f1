"""The losses of one batch of clips and captions, as a module that DDP and FSDP can wrap.

B clips, T frames, H height, W width, S stored states, P patches, D width, M visible patches, E joint width,
n token positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.assembly.catalog import way_to_fetch
from bt_model.assembly.towers import TowerConfigs, tower_configs
from bt_model.checkpoints.conversion.torch_file import TorchFile
from bt_model.checkpoints.load import load_adapter, load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import Checkpoint, Weights, open_checkpoint
from bt_model.errors import CheckpointError
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.data.sampling import Masks
from bt_model.training.objectives.captioner import Captioner, anchor_loss, chat_tokens, picture_loss
from bt_model.training.objectives.contrastive import (
    AlignmentHead,
    BatchFeatures,
    Gather,
    LossWeights,
    pretrain_losses,
)
from bt_model.training.pretrain.settings import PretrainModel, PretrainSettings
from bt_model.video.transform import normalise_retrieval
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower, states_of
from bt_model.vision.encoder import VideoEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.data.tokens import TokenBatch
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder

_TORCH_FILES = (".pth", ".pt", ".bin")


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Captions in the ids of CLIP's text tower (B, n); equal ones have equal numbers in `group` (B,).

    `answers` are the same captions in the captioner's tokens, as answers to its request.
    """

    ids: "Tensor"
    group: "Tensor"
    answers: "TokenBatch | None" = None

    @classmethod
    def of(
        cls, captions: Sequence[str], ids: "Tensor", answers: "TokenBatch | None" = None
    ) -> "CaptionBatch":
        """Captions with their ids."""
        return cls(ids, group_numbers(captions), answers)

    def to(self, device: torch.device) -> "CaptionBatch":
        """The same captions on a device."""
        answers = None if self.answers is None else self.answers.to(device)
        return CaptionBatch(self.ids.to(device), self.group.to(device), answers)


def group_numbers(captions: Sequence[str]) -> "Tensor":
    """Equal captions get equal numbers, in every process: (B,) int64."""
    return torch.tensor([_number(caption) for caption in captions])


def _number(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """Clips with captions and masks: frames (B, T, H, W, 3) uint8, or stored states (B, S, T, 1 + P, D)."""

    clips: "Tensor"
    captions: CaptionBatch
    masks: Masks
    num_skipped: int = 0

    def __len__(self) -> int:
        return len(self.clips)

    def to(self, device: torch.device) -> "PretrainBatch":
        """The same batch on a device."""
        clips = self.clips.pin_memory() if device.type == "cuda" else self.clips
        there = clips.to(device, non_blocking=True)
        return PretrainBatch(there, self.captions.to(device), self.masks.to(device), self.num_skipped)


class PretrainStep(nn.Module):
    """Frozen towers, a temporal model and the alignment head; the batch is its only input.

    `head` is None where the token alignment has no weight; `captioner` is set where the captions' loss has
    one. With `merged`, clips of equal captions match each other; as published, every other clip is a
    negative. `stored` are the numbers of the states that batches have in place of frames.
    """

    def __init__(
        self,
        encoder: "TemporalEncoder",
        text: ClipTextTower,
        head: AlignmentHead | None,
        weights: LossWeights,
        *,
        mode: Gather = "exact",
        merged: bool = False,
        stored: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.text = text.requires_grad_(requires_grad=False)
        self.head = head
        self.captioner: Captioner | None = None
        self.weights = weights
        self.mode: Gather = mode
        self.merged = merged
        self.stored = stored

    def forward(self, batch: PretrainBatch) -> "dict[str, Tensor]":
        """The weighted losses: `vtc`, `mbta`, `mbca`, and of `chat`, `caption`, `anchor` those with a weight.

        `mbta`, `caption` and `anchor` are over this rank's clips, the others over those of all ranks.
        """
        encoder, visible = self.encoder, batch.masks.visible
        with torch.no_grad():
            states = states_of(encoder.tower, batch.clips, encoder.reads, self.stored, normalise_retrieval)
            text = self.text(batch.captions.ids)
        beyond: dict[str, Tensor] = {}
        if self.weights.go_beyond:
            assert isinstance(encoder, VideoEncoder)
            chat, read = encoder.both_from_trunk(states, visible=visible)
            beyond = self._chat_losses(chat, batch, text)
        else:
            read = encoder.features_from_trunk(states, visible=visible)
        patches = read.trunk[:, :, 1:] if read.branch is None else read.branch.patches
        video = encoder.embed_video(read.trunk, read.branch)
        features = BatchFeatures(video, text, read.trunk, patches, batch.masks.pairs)
        group = batch.captions.group if self.merged else None
        losses = pretrain_losses(encoder.trunk, self.head, features, self.weights, group, self.mode)
        return {"vtc": losses.vtc, "mbta": losses.mbta, "mbca": losses.mbca, **beyond}

    def _chat_losses(self, chat: "ChatFeatures", batch: PretrainBatch, text: "Tensor") -> "dict[str, Tensor]":
        """Those losses of objectives/captioner.py that have a weight."""
        weights, visible = self.weights, batch.masks.visible
        losses: dict[str, Tensor] = {}
        if weights.anchor:
            losses["anchor"] = weights.anchor * anchor_loss(chat, visible)
        if weights.chat:
            group = batch.captions.group if self.merged else None
            loss = picture_loss(self.encoder, chat, visible, text, group, self.mode)
            losses["chat"] = weights.chat * loss
        if weights.caption:
            assert self.captioner is not None, "the caption's loss needs its captioner"
            assert batch.captions.answers is not None, "the captioner needs captions in its own tokens"
            loss = self.captioner.loss(chat_tokens(chat, visible), batch.captions.answers)
            losses["caption"] = weights.caption * loss
        return losses

    def learning(self) -> dict[str, nn.Module]:
        """The trained modules, by part of a checkpoint (checkpoints/layouts/key_map.py)."""
        head = {} if self.head is None else {"extra_proj": self.head}
        return {**self.encoder.trainable(), **head}


def towers_of(model: PretrainModel) -> TowerConfigs:
    """The configurations of the frozen towers.

    Raises:
        CheckpointError: a file or folder that is missing, or a configuration that is not of a CLIP.
    """
    for name in ("clip", "text", "tokenizer", "init"):
        path = str(getattr(model, name))
        if path and not Path(path).exists():
            raise CheckpointError(f"model.{name} is {path!r}, which is not there{way_to_fetch(path)}")
    return tower_configs(Path(model.clip), Path(model.text or model.clip))


def fresh_step(settings: PretrainSettings, towers: TowerConfigs, *, are_loaded: bool = True) -> PretrainStep:
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
