"""What names a video's tokens, and what is kept with them: arithmetic and words only."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from bt_model.errors import InvalidValueError
from bt_model.types import ModelCard, Sampling
from server.decoding.pool import DecodedFrames
from server.uploads.sources import VideoSource


def check_frames(num_frames: int, sampling: Sampling, card: ModelCard) -> None:
    """Raise InvalidValueError for more frames than the model takes."""
    if num_frames > card.max_frames:
        name = count_name(sampling)
        text = f"{name} asks for {num_frames} frames; {card.id} takes 1 to {card.max_frames}"
        raise InvalidValueError(text, param=name)


def count_name(sampling: Sampling) -> str:
    return "sampling.num_frames" if sampling.fps is None else "sampling.fps"


def settled(sampling: Sampling, card: ModelCard) -> Sampling:
    """A sampling that says by itself how many frames there are: the model's default where it does not."""
    if sampling.num_frames is not None or sampling.fps is not None:
        return sampling
    return replace(sampling, num_frames=card.default_frames)


def feature_key(source: VideoSource, sampling: Sampling, card: ModelCard) -> bytes:
    """A digest of the content, of who owns it, and of everything that is done to it; of a settled sampling.

    Models whose encoders do the same share a key.
    """
    canonical = replace(
        sampling,
        start=sampling.start or None,
        seed=sampling.seed if sampling.strategy == "random" else 0,
    )
    numbers = [
        None if value is None else float(value) for value in (canonical.fps, canonical.start, canonical.end)
    ]
    parts = [
        source.tenant,
        source.sha256,
        [canonical.num_frames, *numbers, canonical.strategy, canonical.seed],
        card.fingerprint,
        card.pooling,
        [card.frame_size.side, card.frame_size.fit],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def describe(frames: DecodedFrames, sampling: Sampling) -> dict[str, Any]:
    """Which frames the model sees, for the receipt; times in seconds."""
    return {
        "frames": {
            "count": frames.num_frames,
            "indices": list(frames.indices),
            "timestamps": [round(seconds, 6) for seconds in frames.timestamps],
        },
        "sampling": asdict(sampling) | {"num_frames": frames.num_frames},
        "audio_ignored": frames.facts.has_audio,
    }
