"""Which layout a checkpoint has, by the names of its tensors."""

from collections.abc import Collection
from dataclasses import replace

from bt_model.checkpoints.layouts.clip import (
    BRANCH,
    CHAT,
    CHAT_TRAINING,
    HF_CLIP,
    HF_CLIP_VISION,
    LEGACY,
    OWN,
    RETRIEVAL,
)
from bt_model.checkpoints.layouts.eva import detect_eva
from bt_model.checkpoints.layouts.key_map import PARTS, KeyMap
from bt_model.checkpoints.layouts.llava import HF_LLAVA, HF_LLAVA_IN_MEMORY, LLAVA, TOWER, in_chat_model
from bt_model.checkpoints.layouts.qformer import HF_INSTRUCTBLIP, LAVIS
from bt_model.errors import CheckpointError


def detect(keys: Collection[str], where: str, num_layers: int | None = None) -> KeyMap:
    """The layout of a checkpoint with these tensor names.

    `num_layers` is that of the whole trunk; the chat training layout keeps and renumbers a slice of it.

    Raises:
        CheckpointError: a layout that is not known here; the message starts with `where`.
    """
    found = _chat_layout(keys) or detect_eva(keys, num_layers)
    if found is not None:
        return found
    prefixes = {key.split(".")[0] for key in keys}
    if any("timesFPN" in key for key in keys):
        return LEGACY
    if prefixes & {"backbone", "text_backbone"}:
        return RETRIEVAL
    if any(key.startswith(f"{TOWER}btadapter_") for key in keys):
        inside = [key.removeprefix(TOWER) for key in keys if key.startswith(TOWER)]
        return in_chat_model(_tower_layout(inside, num_layers))
    if prefixes & {"vision_model", "text_model"}:
        return HF_CLIP
    return _plain_layout(keys, prefixes, where, num_layers)


def _chat_layout(keys: Collection[str]) -> KeyMap | None:
    """The layout of a chat model or of one of its bridges, or None."""
    starts = {key.split(".")[0] for key in keys}
    if "multi_modal_projector" in starts:
        return HF_LLAVA
    if any(key.startswith("model.multi_modal_projector.") for key in keys):
        return HF_LLAVA_IN_MEMORY
    if "Qformer" in starts or starts & {"llama_proj", "llm_proj"}:
        return LAVIS
    if "qformer" in starts and any(key.startswith("qformer.encoder.") for key in keys):
        return HF_INSTRUCTBLIP
    if any(key.startswith("vision_model.encoder.layers.0.self_attn.qkv.") for key in keys):
        return HF_INSTRUCTBLIP
    return None


def _plain_layout(keys: Collection[str], prefixes: set[str], where: str, num_layers: int | None) -> KeyMap:
    if prefixes & {"btadapter_cls_token", "class_embedding"}:
        return _tower_layout(keys, num_layers)
    if prefixes <= {"model", "lm_head"} and "model" in prefixes:
        return LLAVA
    if "embeddings" in prefixes:
        return HF_CLIP_VISION
    if prefixes & set(PARTS):
        return OWN
    shown = ", ".join(sorted(keys)[:3]) or "no tensor at all"
    raise CheckpointError(f"{where}: not a known checkpoint layout (it holds {shown})")


def _tower_layout(keys: Collection[str], num_layers: int | None) -> KeyMap:
    """Chat side: the whole tower, a renumbered slice of it with the branch, or the branch alone."""
    if "class_embedding" in keys:
        return CHAT
    stored = {int(key.split(".")[1]) for key in keys if key.startswith("layers.")}
    if not stored:
        return BRANCH
    if num_layers is None:
        why = "a renumbered slice of the trunk; its place is known only beside the whole tower"
        return replace(CHAT_TRAINING, dropped=(("layers.*", why),))
    # The file has layers L-K .. L-2; with the last layer, which it leaves out, that is the end of the trunk.
    return replace(CHAT_TRAINING, layer_offset=num_layers - len(stored) - 1)
