"""The plan of the embedded model: it names every size and length; nothing else decides them."""

from dataclasses import dataclass, replace
from functools import partial

from bt_model.config import BTAdapterConfig, ClipTextConfig, ClipVisionConfig, LlamaConfig
from bt_model.training.objectives.contrastive import LossWeights
from bt_model.training.pretrain.settings import MaskSettings
from bt_model.training.settings import Precision
from bt_model.training.trainer.optimiser import Schedule


@dataclass(frozen=True, slots=True)
class EmbeddedPlan:
    """Everything that decides the embedded model; its branch is trained as preset `captioned` says."""

    vision: ClipVisionConfig
    text: ClipTextConfig
    adapter: BTAdapterConfig
    llama: LlamaConfig
    num_clips: int
    num_test_clips: int
    num_frames: int
    clip: Schedule
    clip_batch: int
    pretrain: Schedule
    pretrain_batch: int
    mask: MaskSettings
    losses: LossWeights
    language: Schedule
    language_batch: int
    captioner: Schedule
    instruct: Schedule
    baseline: Schedule
    instruct_batch: int
    seed: int = 0


_WIDTH, _JOINT = 96, 96  # of the towers' layers, of the embeddings that they share
_VISION = ClipVisionConfig(
    image_size=64, patch_size=8, width=_WIDTH, num_layers=6, num_heads=4, mlp_width=384, projection_dim=_JOINT
)
_TEXT = ClipTextConfig(
    vocab_size=0, context_length=40, width=_WIDTH, num_layers=2, num_heads=4, mlp_width=384,
    projection_dim=_JOINT,
)  # fmt: skip
_LLAMA = LlamaConfig(
    vocab_size=0, width=128, num_layers=4, num_heads=4, num_kv_heads=4, mlp_width=344, max_context=512
)


def embedded_plan(vocab_size: int, text_vocab_size: int, precision: Precision) -> EmbeddedPlan:
    """The plan of `btchat train embedded`: 64 x 64 pictures, 64 patches, 6 trunk layers, a branch of 3."""
    stage = partial(Schedule, learning_rate=1e-3, precision=precision)
    return EmbeddedPlan(
        vision=_VISION,
        text=replace(_TEXT, vocab_size=text_vocab_size),
        adapter=BTAdapterConfig(num_layers=3, max_frames=64, middle_scale=1.0, output_scale=1.0),
        llama=replace(_LLAMA, vocab_size=vocab_size),
        num_clips=4800,
        num_test_clips=480,
        num_frames=8,
        clip=stage(4000),
        clip_batch=128,
        pretrain=Schedule(800, 3e-3, precision=precision),
        pretrain_batch=64,
        mask=MaskSettings(rate=0.5, unmasked=0.2),
        losses=LossWeights(caption=10.0, anchor=1.0),
        language=stage(2500),
        language_batch=48,
        captioner=Schedule(600, 5e-4, precision=precision),
        instruct=stage(1500),
        baseline=stage(400),
        instruct_batch=32,
    )
