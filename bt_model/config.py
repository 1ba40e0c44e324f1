"""Architecture configurations: frozen dataclasses, read from Hugging Face `config.json` dictionaries."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from bt_model.errors import require

Family = Literal["clip", "eva"]
Activation = Literal["quick_gelu", "gelu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Projection = Literal["zero", "random", "none"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
Combination = Literal["gate", "add", "concat"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)
TemporalKind = Literal["clip", "bt_adapter", "stan", "joint_st", "separate_st", "st_adapter"]
TEMPORAL_KINDS: tuple[TemporalKind, ...] = get_args(TemporalKind)
BRANCH_KINDS = ("bt_adapter", "stan")
VISION_FAMILIES: dict[str, Family] = {
    "clip_vision_model": "clip",
    "eva_clip_vision_model": "eva",
    "blip_2_vision_model": "eva",
    "instructblip_vision_model": "eva",
    "instructblipvideo_vision_model": "eva",
}


def _require_one(name: str, found: object, allowed: Collection[str]) -> None:
    require(isinstance(found, str) and found in allowed, name, found, ", ".join(allowed))


def read_count(config: Mapping[str, Any], name: str, most: int = 1 << 20) -> int:
    """A size from a config.json, bounded so that a wrong one is refused before memory is allocated.

    Raises:
        InvalidValueError: it is no whole number, or out of bounds.
    """
    require(type(config[name]) is int and 1 <= config[name] <= most, name, config[name], f"1 to {most}")
    return config[name]


def read_positive(config: Mapping[str, Any], name: str, default: float) -> float:
    """A number from a config.json, or its default.

    Raises:
        InvalidValueError: it is none, or not above 0.
    """
    value = config.get(name, default)
    ok = type(value) in (int, float) and 0 < value < math.inf
    require(ok, name, value, "a number above 0")
    return value


def read_heads(config: Mapping[str, Any], width: int) -> int:
    """A number of heads that divides the width.

    Raises:
        InvalidValueError: it does not.
    """
    heads = read_count(config, "num_attention_heads")
    require(width % heads == 0, "num_attention_heads", heads, f"what divides hidden_size, {width}")
    return heads


@dataclass(frozen=True, slots=True)
class ClipVisionConfig:
    """A CLIP or EVA-CLIP vision tower. Names follow the field: width D, P patches, L layers.

    EVA-CLIP has no norm before its first layer, and biases in patch embedding and projection.
    """

    image_size: int
    patch_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    projection_dim: int
    eps: float = 1e-5
    family: Family = "clip"
    act: Activation = "quick_gelu"

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def spatial_eps(self) -> float:
        """Epsilon of the branch's spatial layers; EVA's published branch has another one than its trunk."""
        return 1e-5 if self.family == "eva" else self.eps

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """From the `vision_config` of a Hugging Face configuration: CLIP, EVA-CLIP, BLIP-2 or InstructBLIP.

        Raises:
            InvalidValueError: an activation or a model type that this tower does not implement, or an invalid
                size.
        """
        kind = config.get("model_type", "clip_vision_model")
        _require_one("model_type", kind, VISION_FAMILIES)
        family = VISION_FAMILIES[kind]
        is_eva = family == "eva"
        act = config.get("hidden_act", "gelu" if is_eva else "quick_gelu")
        _require_one("hidden_act", act, ACTIVATIONS)
        width, side = read_count(config, "hidden_size"), read_count(config, "image_size", 1 << 13)
        return cls(
            image_size=side,
            patch_size=read_count(config, "patch_size", side),
            width=width,
            num_layers=read_count(config, "num_hidden_layers"),
            num_heads=read_heads(config, width),
            mlp_width=read_count(config, "intermediate_size"),
            projection_dim=read_count(
                {"projection_dim": width, **config} if is_eva else config, "projection_dim"
            ),
            eps=read_positive(config, "layer_norm_eps", 1e-6 if is_eva else 1e-5),
            family=family,
            act=act,
        )


@dataclass(frozen=True, slots=True)
class ClipTextConfig:
    """A CLIP or EVA-CLIP text tower; pooled at the end token."""

    vocab_size: int
    context_length: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    projection_dim: int
    eps: float = 1e-5
    act: Activation = "quick_gelu"

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """From the `text_config` part of a Hugging Face CLIP configuration.

        Raises:
            InvalidValueError: an activation that this tower does not implement, or an invalid size.
        """
        act = config.get("hidden_act", "quick_gelu")
        _require_one("hidden_act", act, ACTIVATIONS)
        return cls(
            vocab_size=read_count(config, "vocab_size"),
            context_length=read_count(config, "max_position_embeddings"),
            width=read_count(config, "hidden_size"),
            num_layers=read_count(config, "num_hidden_layers"),
            num_heads=read_heads(config, config["hidden_size"]),
            mlp_width=read_count(config, "intermediate_size"),
            projection_dim=read_count(config, "projection_dim"),
            eps=read_positive(config, "layer_norm_eps", 1e-5),
            act=act,
        )


@dataclass(frozen=True, slots=True)
class BTAdapterConfig:
    """A BT-Adapter branch of K layers beside the last K trunk layers.

    `middle_scale` and `output_scale` multiply the gate vectors balance2 and balance1 inside the sigmoid;
    None means that the vector does not exist and plain sums are used (docs/published-models.md, "Gates").
    The other switches are those of the paper's Tables 6 and 11: how trunk and branch are combined ("add" and
    "concat" have no gates, whatever the scales), what follows the temporal attention, and whether trunk
    outputs enter the branch at every layer or only at the first. `drop_path` is the stochastic depth rate of
    the last layer; the rates rise linearly from 0 (published: 0.1).

    Raises:
        InvalidValueError: a value out of range.
    """

    num_layers: int = 4
    max_frames: int = 64
    middle_scale: float | None = 1e2
    output_scale: float | None = 1e4
    combination: Combination = "gate"
    projection: Projection = "zero"
    interaction: bool = True
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        require(self.num_layers >= 1, "num_layers", self.num_layers, "1 or more")
        require(self.max_frames >= 1, "max_frames", self.max_frames, "1 or more")
        _require_one("combination", self.combination, COMBINATIONS)
        _require_one("projection", self.projection, PROJECTIONS)
        require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "0 or more, below 1")

    @property
    def middle_gate(self) -> float | None:
        """The scale of the gate between branch layers; None where there is no gate."""
        return self.middle_scale if self.combination == "gate" and self.interaction else None

    @property
    def output_gate(self) -> float | None:
        """The scale of the gate at the retrieval output; None where there is no gate."""
        return self.output_scale if self.combination == "gate" else None


@dataclass(frozen=True, slots=True)
class TemporalConfig:
    """One of the temporal models that the paper compares (vision/build.py builds it).

    `branch` belongs to the kinds with a branch, bt_adapter and stan. `num_layers` is how many of the last
    trunk layers the kinds inside the trunk change (None: all), `max_frames` the length of the time table of
    joint_st and separate_st, `bottleneck` the width inside an ST-Adapter.
    `is_open` trains CLIP's layers too, in a copy. `time_std` is the standard deviation of a fresh time table;
    the published one is 1.

    Raises:
        InvalidValueError: an unknown kind, or a value out of range.
    """

    kind: TemporalKind = "bt_adapter"
    branch: BTAdapterConfig = field(default_factory=BTAdapterConfig)
    num_layers: int | None = None
    max_frames: int = 64
    bottleneck: int = 384
    is_open: bool = False
    time_std: float = 1.0

    def __post_init__(self) -> None:
        _require_one("kind", self.kind, TEMPORAL_KINDS)
        require(self.num_layers is None or self.num_layers >= 1, "num_layers", self.num_layers, "1 or more")
        require(self.max_frames >= 1, "max_frames", self.max_frames, "1 or more")
        require(self.bottleneck >= 1, "bottleneck", self.bottleneck, "1 or more")
        require(self.time_std >= 0, "time_std", self.time_std, "0 or more")

    @property
    def name(self) -> str:
        """A name for tables and messages."""
        return f"{self.kind}, open" if self.is_open else self.kind

    @property
    def has_branch(self) -> bool:
        return self.kind in BRANCH_KINDS


@dataclass(frozen=True, slots=True)
class LinearRope:
    """Rotary frequencies that are all divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True)
class Llama3Rope:
    """Llama 3's rotary frequencies: the slow ones divided by `factor`, the fast ones as they are.

    Slow ones turn less than `low` times in `context` positions, fast ones more than `high` times.
    """

    factor: float
    low: float
    high: float
    context: int


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """A Llama decoder, or one of its kin with biases or heads of another width."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int
    max_context: int
    rope_theta: float = 10000.0
    eps: float = 1e-6
    tie_embeddings: bool = False
    head_width: int | None = None  # where it is not width / num_heads
    rope: LinearRope | Llama3Rope | None = None
    has_qkv_bias: bool = False
    has_out_bias: bool = False
    has_mlp_bias: bool = False

    @property
    def head_dim(self) -> int:
        return self.head_width or self.width // self.num_heads


CLIP_L14 = ClipVisionConfig(
    image_size=224, patch_size=14, width=1024, num_layers=24, num_heads=16, mlp_width=4096, projection_dim=768
)
EVA_G14 = ClipVisionConfig(
    image_size=224, patch_size=14, width=1408, num_layers=40, num_heads=16, mlp_width=6144,
    projection_dim=1024, eps=1e-6, family="eva", act="gelu",
)  # fmt: skip
VICUNA_7B = LlamaConfig(32003, 4096, 32, 32, 32, 11008, 2048)  # with three added tokens
