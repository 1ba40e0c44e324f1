"""Names of tensors in published checkpoints: one key map per layout, both directions.

Our names are `<part>.<parameter>`. Parts: vision (ClipVisionTower), adapter (BTAdapter), text
(ClipTextTower), extra_proj (pre-training head), projector and lm (chat model). Layouts: reference-behaviour
section 10.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from bt_model.errors import CheckpointError

Pairs = tuple[tuple[str, str], ...]

PARTS = ("vision", "adapter", "text", "extra_proj", "projector", "lm")

# A name that ends in a dot stands for everything below it.
_VISION: Pairs = tuple(
    (name, f"vision.{name}")
    for name in (
        "class_embedding",
        "patch_embedding.",
        "position_embedding.",
        "pre_layrnorm.",
        "layers.",
        "post_layernorm.",
        "visual_projection.",
    )
)
_ADAPTER: Pairs = (
    ("btadapter_cls_token", "adapter.cls_token"),
    ("btadapter_time_embed.", "adapter.time_embed."),
    ("btadapter_S_layers.", "adapter.spatial."),
    ("btadapter_T_layers.", "adapter.temporal."),
    ("balance1", "adapter.balance1"),
    ("balance2", "adapter.balance2"),
)
_HF_VISION: Pairs = (
    ("embeddings.class_embedding", "vision.class_embedding"),
    ("embeddings.patch_embedding.", "vision.patch_embedding."),
    ("embeddings.position_embedding.", "vision.position_embedding."),
    ("pre_layrnorm.", "vision.pre_layrnorm."),
    ("encoder.layers.", "vision.layers."),
    ("post_layernorm.", "vision.post_layernorm."),
)
_HF_TEXT: Pairs = (
    ("text_model.embeddings.token_embedding.", "text.token_embedding."),
    ("text_model.embeddings.position_embedding.", "text.position_embedding."),
    ("text_model.encoder.layers.", "text.layers."),
    ("text_model.final_layer_norm.", "text.final_layer_norm."),
    ("text_projection.", "text.text_projection."),
)
_CHAT_MODEL: Pairs = (
    ("model.mm_projector.", "projector."),
    ("model.embed_tokens.", "lm.model.embed_tokens."),
    ("model.layers.", "lm.model.layers."),
    ("model.norm.", "lm.model.norm."),
    ("lm_head.", "lm.lm_head."),
)
_BUFFER = "a constant buffer"
_TOWER = "model.vision_tower."


@dataclass(frozen=True, slots=True)
class KeyMap:
    """One layout: published names beside ours, and the published names that are left out with the reason.

    `layer_offset` is the true number of the trunk layer that the file calls 0. `ends_early` says that the
    file holds every branch layer but the last, which the chat output does not need.
    """

    name: str
    pairs: Pairs
    dropped: Pairs = ()
    layer_offset: int = 0
    ends_early: bool = False

    def ours(self, key: str) -> str | None:
        """The published name as ours, or None where the layout has no such name or leaves it out."""
        if self.why_dropped(key) is not None:
            return None
        name = _rename(key, self.pairs)
        return None if name is None else _shift(name, self.layer_offset)

    def published(self, name: str) -> str | None:
        """Our name as the layout spells it, or None where it does not hold that tensor."""
        shifted = _shift(name, -self.layer_offset)
        return None if shifted is None else _rename(shifted, ((new, old) for old, new in self.pairs))

    def why_dropped(self, key: str) -> str | None:
        """The reason for leaving a published name out, or None."""
        return next((why for pattern, why in self.dropped if fnmatchcase(key, pattern)), None)


def _rename(key: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for old, new in pairs:
        if key == old or (old.endswith(".") and key.startswith(old)):
            return new + key.removeprefix(old)
    return None


def _shift(name: str, offset: int) -> str | None:
    match = re.fullmatch(r"vision\.layers\.(\d+)\.(.+)", name)
    if match is None or offset == 0:
        return name
    index = int(match[1]) + offset
    return f"vision.layers.{index}.{match[2]}" if index >= 0 else None


def _under(prefix: str, pairs: Pairs) -> Pairs:
    return tuple((prefix + old, new) for old, new in pairs)


def _spelt(pairs: Pairs, word: str) -> Pairs:
    return tuple((old.replace("btadapter", word), new) for old, new in pairs)


OWN = KeyMap("own", tuple((f"{part}.", f"{part}.") for part in PARTS))

HF_CLIP = KeyMap(
    "Hugging Face CLIP",
    (
        *_under("vision_model.", _HF_VISION),
        ("visual_projection.", "vision.visual_projection."),
        *_HF_TEXT,
    ),
    dropped=(
        ("*.embeddings.position_ids", _BUFFER),
        ("logit_scale", "the contrastive scale of CLIP's own training"),
    ),
)

HF_CLIP_VISION = KeyMap(
    "Hugging Face CLIP vision tower", _HF_VISION, dropped=(("embeddings.position_ids", _BUFFER),)
)

RETRIEVAL = KeyMap(
    "retrieval checkpoint",
    (
        *_under("backbone.", (*_VISION, *_ADAPTER)),
        *_under("text_backbone.", _HF_TEXT),
        ("extra_proj.", "extra_proj."),
    ),
    dropped=(("text_backbone.text_model.embeddings.position_ids", _BUFFER),),
)

LEGACY = KeyMap(
    "retrieval checkpoint, timesFPN spelling",
    _spelt(RETRIEVAL.pairs, "timesFPN"),
    dropped=(
        *RETRIEVAL.dropped,
        ("backbone.timesFPN_pos_embed.*", "a position table that the branch never read"),
    ),
)

CHAT = KeyMap("chat inference tower", (*_VISION, *_ADAPTER))

BRANCH = KeyMap("fine-tuned branch", _ADAPTER, ends_early=True)

CHAT_TRAINING = KeyMap("chat training tower", (*_VISION, *_ADAPTER), ends_early=True)

LLAVA = KeyMap(
    "LLaVA",
    (
        *_under("model.vision_tower.vision_tower.vision_model.", _HF_VISION),
        *_CHAT_MODEL,
    ),
    dropped=(("*.rotary_emb.inv_freq", _BUFFER), ("*.embeddings.position_ids", _BUFFER)),
)


def in_chat_model(keys: KeyMap) -> KeyMap:
    """A tower's layout as it is named inside a chat model's checkpoint."""
    return replace(
        keys,
        pairs=(*_under(_TOWER, keys.pairs), *_CHAT_MODEL),
        dropped=(*((_TOWER + pattern, why) for pattern, why in keys.dropped), *LLAVA.dropped),
    )


def detect(keys: Collection[str], where: str, num_layers: int | None = None) -> KeyMap:
    """The layout of a checkpoint with these tensor names.

    `num_layers` is that of the whole trunk; the chat training layout keeps and renumbers a slice of it.

    Raises:
        CheckpointError: a layout that is not known here; the message starts with `where`.
    """
    if any(re.search(r"btadapter_(S|T)\.|btadapter_(cls|position)$", key) for key in keys):
        raise CheckpointError(f"{where}: an EVA-CLIP branch; a branch for CLIP is needed")
    prefixes = {key.split(".")[0] for key in keys}
    if any("timesFPN" in key for key in keys):
        return LEGACY
    if prefixes & {"backbone", "text_backbone"}:
        return RETRIEVAL
    if any(key.startswith(f"{_TOWER}btadapter_") for key in keys):
        inside = [key.removeprefix(_TOWER) for key in keys if key.startswith(_TOWER)]
        return in_chat_model(_tower_layout(inside, num_layers))
    if prefixes & {"vision_model", "text_model"}:
        return HF_CLIP
    return _plain_layout(keys, prefixes, where, num_layers)


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
    # Layers L-K .. L-2 are kept: the slice and the last layer, which is left out, end the trunk.
    return replace(CHAT_TRAINING, layer_offset=num_layers - len(stored) - 1)
