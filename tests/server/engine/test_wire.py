"""Messages survive the wire; what is not a message is refused."""

from typing import cast

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine import wire
from server.engine.packing import HEADER, MAX_MESSAGE_BYTES, MessageError, pack, unpack
from server.engine.wire import MESSAGES, Message

KEY = b"\x00\xff"
SAMPLES: tuple[Message, ...] = (
    wire.Open("a", "m/é"),
    wire.Compile("a", "m", "public", '{"type":"é"}'),
    wire.Lookup("é 🎬", KEY),
    wire.Encode(
        "a", [["m", KEY], ["n", b""]], 8, 224, 200, {"indices": [1, 2], "facts": {"fps": 25.0, "codec": None}}
    ),
    wire.Fetch("a", KEY),
    wire.Ask("a", "m", "public", [], [["user", "q 🎬"]], {"stop": ["#"], "seed": -(2**63)}, 1.5),
    wire.Measure("a", "m", [[0, 3]], [["user", "q"]]),
    wire.Cancel("a"),
    wire.Forget(KEY),
    wire.AskStats("a"),
    wire.Shutdown(0.0),
    wire.LiveOpen("a", "s", "m", 50),
    wire.LiveFrame("a", "s", 7, 224, 224),
    wire.LiveEncode("a", "s", [3, 7], KEY, {"live": {"kept": 8}}),
    wire.LiveClose("s"),
    wire.Loading("m", 1, 3),
    wire.Ready({"id": "m", "versions": {}}, ["m", "n"]),
    wire.StartFailed("no file"),
    wire.Holding(["m"]),
    wire.Opened("a", {"id": "n"}),
    wire.Compiled("a"),
    wire.Features("a", True, {}),
    wire.Encoded("a", {"m": ["EngineError", "why", "engine_error", None]}, 0.25),
    wire.TokenData("a", 2**40, [257, 1024], "bfloat16"),
    wire.Measured("a", 12, 8),
    wire.Piece("a", "\n é", [["é", b"\xc3\xa9", -0.25, [["</s>", None, -3.5]]]]),
    wire.Done("a", "stop", {"prompt": 2**31}, {"queue": 0.0}),
    wire.Failed("a", "EngineError", "why", "engine_error", None),
    wire.Stats("a", {"entries": 1.0}, {"m": {"running": 1.0}}),
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_every_message_survives_a_round_trip(message: Message) -> None:
    data = pack(message)
    num_bytes, num_fds = HEADER.unpack_from(data)
    assert len(data) == HEADER.size + num_bytes
    assert num_fds == message.num_fds
    assert unpack(data[HEADER.size :]) == message


def test_every_message_class_can_be_sent() -> None:
    assert {kind.__name__ for kind in Message.__subclasses__()} == {kind.__name__ for kind in MESSAGES}
    assert tuple(map(type, SAMPLES)) == MESSAGES


@given(st.binary(max_size=200))
def test_random_bytes_are_a_wire_error_and_nothing_else(payload: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(payload)


@pytest.mark.parametrize(
    "items",
    [
        [],
        ["Nobody"],
        ["Cancel"],
        ["Cancel", "a", "b"],
        {"Cancel": "a"},
        7,
        None,
        "Cancel",
        [["Cancel"], "a"],
        [{}, 1],
        ["Message"],
    ],
)
def test_well_formed_strangers_are_refused(items: object) -> None:
    with pytest.raises(MessageError, match="not a message of ours"):
        unpack(cast(bytes, msgpack.packb(items)))


def test_a_map_with_a_key_that_is_no_name_is_refused() -> None:
    with pytest.raises(MessageError, match="not msgpack"):
        unpack(cast(bytes, msgpack.packb(["Stats", "a", {1: 2.0}])))


def test_a_message_cut_short_is_refused() -> None:
    payload = pack(wire.Cancel("abcdef"))[HEADER.size :]
    for length in range(len(payload)):
        with pytest.raises(MessageError):
            unpack(payload[:length])


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(MessageError, match=f"Cancel has .* at most {MAX_MESSAGE_BYTES}"):
        pack(wire.Cancel("a" * MAX_MESSAGE_BYTES))
