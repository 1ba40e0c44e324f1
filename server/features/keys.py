"""The keys of a video's tokens, and the checks of a sampling: arithmetic only."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from functools import cache
from importlib.metadata import version
from typing import Any

from bt_model.errors import InvalidValueError
from bt_model.types import MAX_FRAMES, ModelCard, ReaderName, Sampling
from bt_model.video.sample import SAMPLERS
from server.uploads.sources import VideoSource
from server.uploads.token_folders import source_key

SOURCE_BYTES = 32
"""Of a key, with which it begins."""


def check_frames(num_frames: int, sampling: Sampling, card: ModelCard) -> None:
    """Raise InvalidValueError for more frames than the model accepts."""
    if num_frames > card.max_frames:
        name = count_name(sampling)
        text = f"{name} asks for {num_frames} frames; {card.id} takes 1 to {card.max_frames}"
        raise InvalidValueError(text, param=name)


def count_name(sampling: Sampling) -> str:
    """The field that decides how many frames there are."""
    if sampling.fps is None:
        return "sampling.num_frames"
    return "sampling.fps" if sampling.max_frames is None else "sampling.max_frames"


def for_models(sampling: Sampling, cards: Sequence[ModelCard]) -> Sampling:
    """The sampling of as many frames as all the models take; the first's default where it names no number."""
    even_above = min(sampling.even_above, *(card.even_above for card in cards))
    is_open = sampling.num_frames is None and sampling.fps is None
    num_frames = cards[0].default_frames if is_open else sampling.num_frames
    return replace(sampling, num_frames=num_frames, even_above=even_above)


def canonical(sampling: Sampling) -> Sampling:
    """The one spelling of all samplings that take the same frames."""
    most = sampling.num_frames or sampling.max_frames or MAX_FRAMES
    by_time = sampling.fps is not None and sampling.strategy == "uniform_time"
    return replace(
        sampling,
        fps=_number(sampling.fps),
        start=_number(sampling.start or None),
        end=_number(sampling.end),
        strategy="uniform" if by_time else sampling.strategy,  # a rate is by time already
        seed=sampling.seed if SAMPLERS[sampling.strategy].uses_seed else 0,
        even_above=MAX_FRAMES if most <= sampling.even_above else sampling.even_above,
    )


def shown(sampling: Sampling, num_frames: int) -> dict[str, Any]:
    """What was sampled, as a client may send it again: `num_frames` of them, unless a rate gave them."""
    fields = asdict(canonical(sampling))
    del fields["even_above"]  # the model's
    return fields if sampling.fps is not None else fields | {"num_frames": num_frames}


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
