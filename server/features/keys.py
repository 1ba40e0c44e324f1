"""The keys of a video's tokens, and the checks of a sampling: arithmetic only."""

import hashlib
import json
from dataclasses import astuple, replace
from functools import cache
from importlib.metadata import version

from bt_model.errors import InvalidValueError
from bt_model.types import ModelCard, ReaderName, Sampling
from bt_model.video.sample import SAMPLERS
from server.uploads.sources import VideoSource
from server.uploads.token_folders import source_key


def check_frames(num_frames: int, sampling: Sampling, card: ModelCard) -> None:
    """Raise InvalidValueError for more frames than the model accepts."""
    if num_frames > card.max_frames:
        name = count_name(sampling)
        text = f"{name} asks for {num_frames} frames; {card.id} takes 1 to {card.max_frames}"
        raise InvalidValueError(text, param=name)


def count_name(sampling: Sampling) -> str:
    return "sampling.num_frames" if sampling.fps is None else "sampling.fps"


def with_default_count(sampling: Sampling, card: ModelCard) -> Sampling:
    """The sampling with an explicit frame count: the model's default if it has neither count nor rate."""
    if sampling.num_frames is not None or sampling.fps is not None:
        return sampling
    return replace(sampling, num_frames=card.default_frames)


def canonical(sampling: Sampling) -> Sampling:
    """The one spelling of all samplings that take the same frames."""
    return replace(
        sampling,
        fps=_number(sampling.fps),
        start=_number(sampling.start or None),
        end=_number(sampling.end),
        seed=sampling.seed if SAMPLERS[sampling.strategy].uses_seed else 0,
    )


def feature_key(source: VideoSource, sampling: Sampling, card: ModelCard, reader: ReaderName) -> bytes:
    """The source's key and a digest of everything that is done to it; of a sampling with a count or a rate.

    Models with identical encoders share a key. Tokens outlive a server on disk: what another one may do in
    another way, its decoder and its version, is part of the key.
    """
    size, made_by = card.frame_size, (reader, _version())
    done = [*astuple(canonical(sampling)), card.fingerprint, card.pooling, size.side, size.fit, *made_by]
    digest = hashlib.sha256(json.dumps(done).encode()).digest()
    return source_key(source.tenant, source.sha256) + digest


@cache
def _version() -> str:
    """Ours; it is read from a file."""
    return version("btchat")


def _number(value: float | None) -> float | None:
    """An integer is written in other characters than the same float."""
    return None if value is None else float(value)
