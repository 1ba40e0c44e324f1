"""Messages to bytes and back."""

import struct
from dataclasses import fields
from typing import Any, cast

import msgpack

from server.engine.wire import MESSAGES, Message

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
HEADER = struct.Struct("<IB")  # payload bytes, number of descriptors
_BY_NAME = {kind.__name__: kind for kind in MESSAGES}


class MessageError(Exception):
    """Bytes that are not a valid message."""


def pack(message: Message) -> bytes:
    """Header and payload of one message; the caller sends `num_fds` descriptors with the first byte."""
    name = type(message).__name__
    values = [getattr(message, f.name) for f in fields(message)]
    payload = cast(bytes, msgpack.packb([name, *values], use_bin_type=True))
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{name} has {len(payload)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    return HEADER.pack(len(payload), message.num_fds) + payload


def unpack(payload: bytes) -> Message:
    """One message from its payload.

    Raises:
        MessageError: not msgpack, unknown name or wrong number of fields.
    """
    try:
        items = cast(object, msgpack.unpackb(payload, raw=False, strict_map_key=True))
    except ValueError as error:  # the base of all of msgpack's complaints
        raise MessageError(f"not msgpack: {error}") from error
    if not isinstance(items, list) or not items or not isinstance(items[0], str):
        raise MessageError(f"not a message of ours: {str(items)[:80]}")
    name, *values = cast(list[Any], items)
    kind = _BY_NAME.get(name)
    if kind is None or len(values) != len(fields(kind)):
        raise MessageError(f"not a message of ours: {name[:80]} with {len(values)} fields")
    return kind(*values)
