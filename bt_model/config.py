"""Architecture configurations: frozen dataclasses, read from Hugging Face `config.json` dictionaries."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from bt_model.errors import InvalidValueError

Family = Literal["clip", "eva"]
Activation = Literal["quick_gelu", "gelu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
VISION_FAMILIES: dict[str, Family] = {
    "clip_vision_model": "clip",
    "eva_clip_vision_model": "eva",
    "blip_2_vision_model": "eva",
    "instructblip_vision_model": "eva",
    "instructblipvideo_vision_model": "eva",
}


def _require_one(name: str, found: object, allowed: Collection[str]) -> None:
    if found not in allowed:
        raise InvalidValueError(f"{name} is {found!r}; allowed: {', '.join(allowed)}", param=name)


def _require_same(name: str, found: object, allowed: object) -> None:
    if found != allowed:
        raise InvalidValueError(f"{name} is {found!r}; allowed: {allowed!r}", param=name)


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
        """Of the branch's spatial layers, which EVA's published branch does not share with its trunk."""
        return 1e-5 if self.family == "eva" else self.eps

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """From the `vision_config` of a Hugging Face configuration: CLIP, EVA-CLIP, BLIP-2 or InstructBLIP.

        Raises:
            InvalidValueError: an activation or a model type that this tower does not compute.
        """
        kind = config.get("model_type", "clip_vision_model")
        _require_one("model_type", kind, VISION_FAMILIES)
        family = VISION_FAMILIES[kind]
        is_eva = family == "eva"
        act = config.get("hidden_act", "gelu" if is_eva else "quick_gelu")
        _require_one("hidden_act", act, ACTIVATIONS)
        return cls(
            image_size=config["image_size"],
            patch_size=config["patch_size"],
            width=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            mlp_width=config["intermediate_size"],
            projection_dim=config.get("projection_dim", config["hidden_size"])
            if is_eva
            else config["projection_dim"],
            eps=config.get("layer_norm_eps", 1e-6 if is_eva else 1e-5),
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
            InvalidValueError: an activation that this tower does not compute.
        """
        act = config.get("hidden_act", "quick_gelu")
        _require_one("hidden_act", act, ACTIVATIONS)
        return cls(
            vocab_size=config["vocab_size"],
            context_length=config["max_position_embeddings"],
            width=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            mlp_width=config["intermediate_size"],
            projection_dim=config["projection_dim"],
            eps=config.get("layer_norm_eps", 1e-5),
            act=act,
        )


@dataclass(frozen=True, slots=True)
class BTAdapterConfig:
    """A BT-Adapter branch of K layers beside the last K trunk layers.

    `middle_scale` and `output_scale` multiply the gate vectors balance2 and balance1 inside the sigmoid;
    None means that the vector does not exist and plain sums are used (reference-behaviour 3.1).
    """

    num_layers: int = 4
    max_frames: int = 64
    middle_scale: float | None = 1e2
    output_scale: float | None = 1e4


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """A Llama decoder."""

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

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """From a Hugging Face Llama `config.json`.

        Raises:
            InvalidValueError: a variant of the architecture that our decoder does not compute.
        """
        rope: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
        head_dim = config["hidden_size"] // config["num_attention_heads"]
        for name, found, allowed in (
            ("hidden_act", config.get("hidden_act", "silu"), "silu"),
            ("attention_bias", config.get("attention_bias", False), False),
            ("mlp_bias", config.get("mlp_bias", False), False),
            ("head_dim", config.get("head_dim") or head_dim, head_dim),
            ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ):
            _require_same(name, found, allowed)
        return cls(
            vocab_size=config["vocab_size"],
            width=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            mlp_width=config["intermediate_size"],
            max_context=config["max_position_embeddings"],
            rope_theta=config.get("rope_theta", rope.get("rope_theta", 10000.0)),
            eps=config.get("rms_norm_eps", 1e-6),
            tie_embeddings=config.get("tie_word_embeddings", False),
        )


CLIP_L14 = ClipVisionConfig(
    image_size=224, patch_size=14, width=1024, num_layers=24, num_heads=16, mlp_width=4096, projection_dim=768
)
EVA_G14 = ClipVisionConfig(
    image_size=224, patch_size=14, width=1408, num_layers=40, num_heads=16, mlp_width=6144,
    projection_dim=1024, eps=1e-6, family="eva", act="gelu",
)  # fmt: skip
