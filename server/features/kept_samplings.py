"""What can be asked about a video of which only tokens are left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bt_model.errors import PixelsForgottenError
from bt_model.types import ModelCard, ReaderName, Sampling
from server.features.keys import SOURCE_BYTES, feature_key, for_models
from server.uploads.sources import VideoSource

_MAX_NAMED = 8
_DEFAULT = Sampling()


def with_samplings(
    error: PixelsForgottenError, source: VideoSource, cards: Sequence[ModelCard], reader: ReaderName
) -> PixelsForgottenError:
    """The error, which names the samplings that these models' tokens are there for, as one asks for them.

    What a sampling gave may be fewer frames than it asked for, and asking for so many finds other tokens.
    """
    there: list[str] = []
    for name, taken in error.kept.items():
        spellings = (_DEFAULT, Sampling(**taken))
        files = {_file(source, each, cards, card, reader): each for each in spellings[::-1] for card in cards}
        if name in files:
            there.append(_words(files[name]))
    named = ", ".join(list(dict.fromkeys(there))[:_MAX_NAMED]) or "none of this model"
    return PixelsForgottenError(f"{error.message}. Samplings that are there: {named}", error.kept)


def _file(
    source: VideoSource, asked: Sampling, cards: Sequence[ModelCard], card: ModelCard, reader: ReaderName
) -> str:
    return feature_key(source, for_models(asked, cards), card, reader)[SOURCE_BYTES:].hex()


def _words(sampling: Sampling) -> str:
    default: Mapping[str, Any] = asdict(_DEFAULT)
    return json.dumps({name: value for name, value in asdict(sampling).items() if value != default[name]})
