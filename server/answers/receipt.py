"""What was done for an answer, or for tokens that nobody asked a question about."""

from typing import Any

from bt_model.types import ModelCard
from server.features.flights import Encoded


def as_receipt(card: ModelCard, encoded: Encoded, name: str) -> dict[str, Any]:
    """The receipt of tokens that nobody asked a question about."""
    return {
        "video": name,
        **encoded.facts,
        "seconds": {"decode": encoded.decode_seconds, "encode": encoded.encode_seconds},
        "cache": {"features": encoded.cache},
        "model": card.id,
        "fingerprint": card.fingerprint,
    }
