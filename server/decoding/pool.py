"""The decode pool that the settings ask for."""

import math
import os
from importlib.util import find_spec

from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import InvalidValueError
from server.settings import Settings


def decode_pool(settings: Settings) -> DecodePool:
    """Not started yet.

    Raises:
        InvalidValueError: decord is to decode, and is not installed.
    """
    if settings.decoder == "decord" and find_spec("decord") is None:
        text = "decoder is 'decord', which is not installed: pip install 'btchat[decord]'; or use pyav"
        raise InvalidValueError(text, param="decoder")
    return DecodePool(
        settings.decode_workers or os.cpu_count() or 1,
        reader=settings.decoder,
        seconds=settings.decode_seconds,
        child_limits=ChildLimits(most_seconds=settings.decode_most_seconds),
        most_waiting=settings.decode_queue,
        # without keys there is one owner, who has nobody to leave room for
        most_waiting_per_owner=settings.decode_queue_per_key if settings.api_keys_file else math.inf,
    )
