"""What was done for an answer or for tokens: every receipt is made here; times are in seconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bt_model.decoding.decoded import Decoded
from bt_model.types import Frames, ModelCard, Sampling
from bt_model.video.facts import Picture
from bt_model.video.sample import rounding_warnings
from server.features.keys import shown

Cached = Literal["hit", "joined", "miss"] | None  # None without a video
_CACHES: tuple[Cached, ...] = (None, "hit", "joined", "miss")


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """A video whose tokens are in the engine's cache under `key`; `facts` is the receipt stored with them."""

    key: bytes
    facts: dict[str, Any]
    cache: Cached
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0


_NO_VIDEO = EncodedVideo(b"", {}, None)


def frame_facts(frames: Decoded | Frames, sampling: Sampling) -> dict[str, Any]:
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
    videos: Sequence[tuple[str, EncodedVideo]],
    card: ModelCard,
    *,
    seconds: Mapping[str, float] | None = None,
    cache: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The receipt of tokens, by the names of their videos; with `seconds` and `cache`, that of an answer.

    It tells of the first video as if that were alone; of several, `videos` tells of each.
    """
    parts = [_part(name, encoded) for name, encoded in videos] or [_part(None, _NO_VIDEO)]
    spent = {name: sum(part["seconds"][name] for part in parts) for name in ("decode", "encode")}
    several = {
        "warnings": [text for part in parts for text in part["warnings"]],
        "videos": parts,
    } if len(parts) > 1 else {}  # fmt: skip
    return {
        **parts[0],
        **several,
        "seconds": {**spent, **(seconds or {})},
        "cache": {"features": _worst(part["cache"]["features"] for part in parts), **(cache or {})},
        "model": card.id,
        "fingerprint": card.model_fingerprint,
        "notice": card.notice,
    }


def _part(name: str | None, encoded: EncodedVideo) -> dict[str, Any]:
    return {
        "video": name,
        **encoded.facts,
        "seconds": {"decode": encoded.decode_seconds, "encode": encoded.encode_seconds},
        "cache": {"features": encoded.cache},
    }


def _worst(caches: Iterable[Cached]) -> Cached:
    return max(caches, key=_CACHES.index)
