"""What was done for an answer or for tokens: every receipt is made here; times are in seconds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bt_model.decoding.decoded import Decoded
from bt_model.types import ModelCard, Sampling
from bt_model.video.facts import Picture
from bt_model.video.sample import rounding_warnings
from server.features.keys import shown


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """A video whose tokens are in the engine's cache under `key`; `facts` is the receipt stored with them."""

    key: bytes
    facts: dict[str, Any]
    cache: Literal["hit", "miss", "joined"] | None  # None without a video
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0


def frame_facts(frames: Decoded, sampling: Sampling) -> dict[str, Any]:
    """Which frames the model sees: the part of a receipt that is kept with the tokens."""
    return {
        "frames": {
            "count": frames.num_frames,
            "indices": list(frames.indices),
            "timestamps": [round(seconds, 6) for seconds in frames.timestamps],
            "reader": frames.reader,
        },
        "warnings": [*frames.facts.warnings, *rounding_warnings(frames.num_frames, frames.num_wanted)],
        "sampling": shown(sampling, frames.num_frames),
        "picture": asdict(Picture.of(frames.facts)),
        "audio_ignored": frames.facts.has_audio,
    }


def receipt_of(
    video: str | None,
    encoded: EncodedVideo,
    card: ModelCard,
    *,
    seconds: Mapping[str, float] | None = None,
    cache: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The receipt of tokens; with the answer's own `seconds` and `cache`, that of an answer."""
    return {
        "video": video,
        **encoded.facts,
        "seconds": {"decode": encoded.decode_seconds, "encode": encoded.encode_seconds, **(seconds or {})},
        "cache": {"features": encoded.cache, **(cache or {})},
        "model": card.id,
        "fingerprint": card.fingerprint,
        "notice": card.notice,
    }
