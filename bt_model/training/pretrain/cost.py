"""What one clip costs: FLOPs and kept memory, counted on the meta device.

B clips, T frames, P patches, M visible patches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.assembly.towers import TowerConfigs
from bt_model.backends.parts.llm import read_llama_config
from bt_model.config import VICUNA_7B
from bt_model.generation.llama import Llama
from bt_model.training.data.sampling import Masks
from bt_model.training.objectives.captioner import Captioner
from bt_model.training.pretrain.captioner import captioner_file, is_captioner_there
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep, fresh_step
from bt_model.training.settings import plain, settings_from
from bt_model.training.trainer.cost import count_flops, kept_bytes
from bt_model.training.trainer.optimiser import recompute
from bt_model.training.trainer.parallel import UNITS
from bt_model.vision.pool import patches_cls, pooling

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import ClipVisionConfig

_REQUEST_TOKENS = 40  # of a usual template with its request


def meta_batch(settings: PretrainSettings, towers: TowerConfigs, batch: int = 1) -> PretrainBatch:
    """A batch on the meta device."""
    frames, side, patches = settings.data.frames, towers.vision.image_size, towers.vision.num_patches
    num_visible = patches - int(settings.mask.rate * patches)
    tokens = torch.empty(batch, frames, num_visible, dtype=torch.int64, device="meta")
    tube = settings.mask.layout == "tube"
    visible = None if not settings.mask.rate else tokens[:, 0] if tube else tokens
    pixels = torch.empty(batch, frames, side, side, 3, dtype=torch.uint8, device="meta")
    ids = torch.empty(batch, settings.data.tokens, dtype=torch.int64, device="meta")
    group = torch.empty(batch, dtype=torch.int64, device="meta")
    return PretrainBatch(pixels, CaptionBatch(ids, group), Masks(visible, tokens))


def meta_pretrain_step(settings: PretrainSettings, towers: TowerConfigs) -> PretrainStep:
    """The step without weights, and without its captioner (`MetaCaptioner`)."""
    without = {"model": {"init": "", "captioner": ""}, "loss": {"caption": 0.0}}
    settings = settings_from(PretrainSettings, plain(settings), without)
    with torch.device("meta"):
        return fresh_step(settings, towers, are_loaded=False).train()


def flops_per_clip(settings: PretrainSettings, towers: TowerConfigs) -> float:
    """FLOPs of one clip's forward and backward pass, averaged over all steps.

    Recomputation does not count.
    """
    share = settings.mask.unmasked
    masked = 0.0 if share == 1 else _flops(settings, towers)
    whole = 0.0 if share == 0 else _flops(_unmasked(settings), towers)
    captioner = MetaCaptioner.of(settings, towers.vision)
    captions = 0.0 if captioner is None else count_flops(lambda: captioner.loss().backward())
    return (1 - share) * masked + share * whole + captions


def _flops(settings: PretrainSettings, towers: TowerConfigs) -> float:
    step, batch = meta_pretrain_step(settings, towers), meta_batch(settings, towers)
    return count_flops(lambda: torch.stack(list(step(batch).values())).sum().backward())


def _unmasked(settings: PretrainSettings) -> PretrainSettings:
    return settings_from(PretrainSettings, plain(settings), {"mask": {"rate": 0.0}})


def kept_bytes_per_clip(settings: PretrainSettings, towers: TowerConfigs) -> int:
    """Bytes of float32 activations kept for the backward pass; with `run.recompute` the layers' inputs.

    If the last steps have no mask, those of such a step.
    """
    settings = _unmasked(settings) if settings.mask.unmasked else settings
    step, batch = meta_pretrain_step(settings, towers), meta_batch(settings, towers)
    captioner = MetaCaptioner.of(settings, towers.vision)
    if settings.run.recompute:
        recompute(step.encoder, UNITS)
        if captioner is not None:
            recompute(captioner.model, UNITS)
    captions = 0 if captioner is None else kept_bytes(captioner.loss, captioner.model.parameters())
    return kept_bytes(lambda: step(batch), step.parameters()) + captions


@dataclass(frozen=True, slots=True)
class MetaCaptioner:
    """The captioner on the meta device, to count FLOPs: one clip and a caption of `num_tokens` tokens."""

    model: Captioner
    width: int
    num_video: int
    num_tokens: int

    @classmethod
    def of(cls, settings: PretrainSettings, vision: "ClipVisionConfig") -> "MetaCaptioner | None":
        """None where no loss needs a captioner; a missing one is assumed to have 7B parameters.

        A projector of two layers is counted as one.
        """
        if not settings.model.captioner:
            return None
        base = captioner_file(settings) if is_captioner_there(settings) else None
        config = VICUNA_7B if base is None else read_llama_config(base.at(base.file.llm))
        with torch.device("meta"):
            model = Captioner(Llama(config), nn.Linear(vision.width, config.width))
        num_video = pooling(patches_cls.__name__).num_tokens(vision.num_patches)
        return cls(model, vision.width, num_video, settings.data.tokens)

    def loss(self) -> "Tensor":
        """A forward pass, with gradients to the video tokens alone."""
        video = torch.empty(self.num_video, self.width, device="meta", requires_grad=True)
        soft = self.model.projector(video)
        text = soft.new_empty(_REQUEST_TOKENS + self.num_tokens, soft.shape[1])
        states = self.model.lm.states(torch.cat([soft, text])[None])
        return self.model.lm.logits(states[:, -self.num_tokens :]).sum()
