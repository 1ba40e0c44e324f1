"""Tiny random models in which every part matters, and a folder that serving reads one from.

B clips, T frames, P patches, D width, K branch layers.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bt_model.atomic_files import write_json
from bt_model.backends.llava import special_ids
from bt_model.config import (
    BRANCH_KINDS,
    BTAdapterConfig,
    ClipTextConfig,
    ClipVisionConfig,
    LlamaConfig,
    TemporalConfig,
    TemporalKind,
)
from bt_model.generation.llama import Llama
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.data.spelling import Speller
from bt_model.training.objectives.contrastive import AlignmentHead
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower, hidden_states
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder
from lab.chat_model import ChatModel, TextEncoder
from lab.clips import CachedClips
from lab.export import export
from lab.model import EmbeddedModel
from lab.plan import EmbeddedPlan, embedded_plan
from lab.shapes.events import Move
from lab.shapes.scene import Scene, SceneItem
from lab.tokenizers import CHAT_SPECIALS, CLIP_SPECIALS, train_tokenizer
from lab.trunk_cache import TrunkCache

M = TypeVar("M", bound=nn.Module)

P, D, K, SIDE = 9, 32, 3, 12
MAX_FRAMES = 8
CONTEXT = 2048
MODEL = "embedded"  # what training exports: the branch tuned on instructions
VISION = ClipVisionConfig(
    image_size=SIDE,
    patch_size=4,
    width=D,
    num_layers=5,
    num_heads=4,
    mlp_width=48,
    projection_dim=24,
)
ADAPTER = BTAdapterConfig(num_layers=K, max_frames=MAX_FRAMES, middle_scale=1.0, output_scale=1.0)
BOTTLENECK = 6


def temporal_config(
    kind: TemporalKind, *, num_layers: int | None = None, is_open: bool = False
) -> TemporalConfig:
    """A temporal model that fits the tiny tower."""
    if kind in BRANCH_KINDS or kind == "clip":
        return TemporalConfig(kind, ADAPTER if kind in BRANCH_KINDS else BTAdapterConfig(), is_open=is_open)
    return TemporalConfig(
        kind, num_layers=num_layers, max_frames=MAX_FRAMES, bottleneck=BOTTLENECK, is_open=is_open
    )


FROZEN = {
    "clip": temporal_config("clip"),
    "bt_adapter": temporal_config("bt_adapter"),
    "stan": temporal_config("stan"),
    "joint_st": temporal_config("joint_st"),
    "separate_st": temporal_config("separate_st"),
    "separate_st_2": temporal_config("separate_st", num_layers=2),
    "st_adapter": temporal_config("st_adapter"),
    "st_adapter_2": temporal_config("st_adapter", num_layers=2),
}
OPEN = {f"{name}_open": replace(config, is_open=True) for name, config in FROZEN.items()}
TEMPORAL = FROZEN | OPEN
TRAINED = {name: config for name, config in TEMPORAL.items() if name != "clip"}
TEXTS = (
    "USER: which way does the red circle move?\n ASSISTANT: left",
    "USER: what colour is the background?\n ASSISTANT: black",
    "USER: what happens first, it grows or it blinks?\n ASSISTANT: it grows",
)


def wake(module: M, seed: int = 0) -> M:
    """Weights as if trained: nothing is zero, no norm is the identity, every layer moves its input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            weight.copy_(centre + 0.2 * torch.randn(weight.shape, generator=generator))
    return module.eval().requires_grad_(requires_grad=False)


def tower() -> ClipVisionTower:
    return wake(ClipVisionTower(VISION))


def adapter(config: BTAdapterConfig = ADAPTER) -> BTAdapter:
    return wake(BTAdapter(VISION, config), seed=1)


def encoder(*, upstream_compat: bool = False) -> VideoEncoder:
    return VideoEncoder(tower(), adapter(), upstream_compat=upstream_compat)


def fresh(config: TemporalConfig, vision: ClipVisionTower | None = None, seed: int = 0) -> TemporalEncoder:
    """A temporal model as training starts it."""
    torch.manual_seed(seed)
    return build_encoder(config, vision or tower())


def trained(config: TemporalConfig, vision: ClipVisionTower | None = None) -> TemporalEncoder:
    """A temporal model as if trained: whatever training updates has moved, and nothing is zero."""
    model = fresh(config, vision).eval()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for weight in model.trainable_parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.requires_grad_(requires_grad=False)


def trunk_states(model: TemporalEncoder, pixels: Tensor) -> list[Tensor]:
    """The hidden states that retrieval starts from. (B, T, 3, H, W) -> each (B, T, 1 + P, D)."""
    return list(hidden_states(model.tower, pixels, model.reads).values())


def retrieve(model: TemporalEncoder, pixels: Tensor) -> Tensor:
    """Video embedding from frames, not normalised. (B, T, 3, H, W) -> (B, projection_dim)."""
    return model.retrieve_from_trunk(trunk_states(model, pixels))


def pixels(batch: int, num_frames: int, seed: int = 0) -> Tensor:
    """Normalised frames (B, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, num_frames, 3, SIDE, SIDE, generator=generator)


def clips(batch: int, num_frames: int, seed: int = 0) -> Tensor:
    """Frames as decoded, (B, T, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, num_frames, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


def plan(chat_vocabulary: int, text_vocabulary: int) -> EmbeddedPlan:
    """The embedded model's plan with tiny parts."""
    text = ClipTextConfig(
        vocab_size=text_vocabulary, context_length=77, width=D, num_layers=2, num_heads=4, mlp_width=48,
        projection_dim=VISION.projection_dim,
    )  # fmt: skip
    llama = LlamaConfig(
        vocab_size=chat_vocabulary, width=48, num_layers=2, num_heads=4, num_kv_heads=2, mlp_width=64,
        max_context=CONTEXT,
    )  # fmt: skip
    full = embedded_plan(chat_vocabulary, text_vocabulary, "float32")
    return replace(full, vision=VISION, text=text, adapter=ADAPTER, llama=llama)


def write_tokenizers(folder: Path) -> None:
    """chat.json and clip.json."""
    train_tokenizer(TEXTS, 300, CHAT_SPECIALS, folder / "chat.json", lower_case=False)
    train_tokenizer(TEXTS, 280, CLIP_SPECIALS, folder / "clip.json", lower_case=True)


def chat_model(llama: LlamaConfig, eos: int, seed: int) -> ChatModel:
    """A decoder and its projector."""
    lm = wake(Llama(llama), seed=seed)
    assert lm.lm_head is not None
    lm.lm_head.weight[eos] = 0.0  # never the most likely: answers end by length
    return ChatModel(lm, wake(nn.Linear(D, llama.width), seed=seed + 1))


def model(folder: Path) -> EmbeddedModel:
    """All parts of a model as training holds them, every one different; tokenizers stay in `folder`."""
    write_tokenizers(folder)
    chat_tokenizer = TextTokenizer(folder / "chat.json")
    clip_tokenizer = ClipTokenizer.from_file(folder / "clip.json")
    sizes = plan(chat_tokenizer.vocab_size, clip_tokenizer.vocab_size)
    ids = special_ids(chat_tokenizer, template("plain"))
    image, video, baseline = (chat_model(sizes.llama, ids.eos, seed=10 * i) for i in range(1, 4))
    return EmbeddedModel(
        plan=sizes,
        tower=tower(),
        text=wake(TextEncoder(ClipTextTower(sizes.text), clip_tokenizer), seed=5),
        head=wake(AlignmentHead(D, VISION.projection_dim), seed=6),
        pretrained=wake(BTAdapter(VISION, ADAPTER), seed=2),
        tuned=adapter(),
        image=image,
        video=video,
        baseline=baseline,
        speller=Speller(template("plain"), ids, chat_tokenizer.encode),
    )


def scene(number: int, direction: str = "left") -> Scene:
    """A red circle that moves; every number stands at another place."""
    item = SceneItem("circle", "red", diameter=18.0, x=20.0 + number, y=24.0)
    return Scene((item,), "black", Move(direction, path=20.0))


def cached_clips(folder: Path, num_scenes: int, num_frames: int) -> CachedClips:
    """Scenes beside the trunk states of random clips, as the branch and CLIP alone read them."""
    reads = encoder().reads
    states = hidden_states(tower(), pixels(num_scenes, num_frames), reads)
    stacked = torch.stack(list(states.values()), dim=1).half().numpy()
    cache = np.memmap(folder / "a.trunk", np.float16, "w+", shape=stacked.shape)
    cache[:] = stacked
    return CachedClips([scene(number) for number in range(num_scenes)], TrunkCache(cache, tuple(reads)))


def write_model_folder(weights_dir: Path, *, with_adapters: bool = False) -> EmbeddedModel:
    """Write `weights_dir`/tiny as `btchat train embedded` would; the parts that were written.

    Without its further adapters, unless they are asked for, so that each model has one id.
    """
    out = weights_dir / "tiny"
    out.mkdir(parents=True)
    parts = model(weights_dir)
    export(parts, out, weights_dir)
    if not with_adapters:
        path = out / f"{MODEL}.model.json"
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "adapters": {}})
    return parts
