"""Either end of the socket between web and engine, over a real socket pair."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from server.engine import wire
from server.engine.channel import Channel
from server.engine.packing import HEADER, MAX_MESSAGE_BYTES, MessageError, pack
from server.engine.wire import Forget, Lookup, Message, TokenData
from tests.leaks import memory_file, no_leaks


class Ends:
    """A channel on one end of a socket pair, and the other end."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.received: list[tuple[Message, list[int]]] = []
        self.closed = asyncio.Event()
        self.channel = Channel(ours, lambda *given: self.received.append(given), self.closed.set)

    async def until(self, is_true: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not is_true():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.002)

    async def all_received(self, count: int) -> list[Message]:
        await self.until(lambda: len(self.received) == count)
        return [message for message, _ in self.received]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    with no_leaks():
        ends = Ends()
        yield ends
        ends.channel.close()
        ends.theirs.close()
        for _, fds in ends.received:
            for fd in fds:
                os.close(fd)


async def test_messages_that_arrive_together_are_told_apart(ends: Ends) -> None:
    ends.theirs.sendall(pack(wire.Cancel("a")) + pack(wire.Cancel("b")))
    assert await ends.all_received(2) == [wire.Cancel("a"), wire.Cancel("b")]


async def test_a_message_that_arrives_byte_by_byte_is_whole(ends: Ends) -> None:
    for byte in pack(wire.Cancel("abc")):
        ends.theirs.sendall(bytes([byte]))
        await asyncio.sleep(0)
    assert await ends.all_received(1) == [wire.Cancel("abc")]


async def test_many_large_messages_pass_a_full_socket_in_order(ends: Ends) -> None:
    messages = [Forget(bytes([number]) * 200_000) for number in range(20)]
    writer = Channel(ends.theirs, lambda message, fds: None, lambda: None)
    for message in messages:
        writer.send(message)
    await writer.flush()
    assert await ends.all_received(20) == messages
    writer.close()


async def test_flushing_what_nobody_reads_ends_with_the_channel(ends: Ends) -> None:
    ends.channel.send(Forget(bytes(5_000_000)))
    flush = asyncio.create_task(ends.channel.flush())
    await asyncio.sleep(0.05)
    assert not flush.done()
    ends.theirs.close()
    await asyncio.wait_for(flush, 5)
    assert ends.channel.is_closed


async def test_a_descriptor_arrives_with_its_message_and_ours_is_closed(ends: Ends) -> None:
    writer = Channel(ends.theirs, lambda message, fds: None, lambda: None)
    read, write = os.pipe()
    writer.send(Lookup("before", b""))
    writer.send(TokenData("with", 1, [1], "uint8"), [write])
    assert [type(message) for message in await ends.all_received(2)] == [Lookup, TokenData]
    assert [len(fds) for _, fds in ends.received] == [0, 1]
    arrived = ends.received.pop()[1][0]
    os.write(arrived, b"x")
    os.close(arrived)
    assert os.read(read, 2) == b"x"
    assert os.read(read, 2) == b""  # no other end is open
    os.close(read)
    writer.close()


async def test_descriptors_come_with_their_own_message(ends: Ends) -> None:
    for name in ("a", "b"):
        with memory_file(name.encode()) as fd:
            socket.send_fds(ends.theirs, [pack(wire.Encode(name, [], 1, 1, 1, {}))], [fd])
    await ends.all_received(2)
    contents = [(getattr(message, "id", None), os.pread(fds[0], 9, 0)) for message, fds in ends.received]
    assert contents == [("a", b"a"), ("b", b"b")]


def without_descriptor() -> bytes:
    data = bytearray(pack(wire.Encode("a", [], 1, 1, 1, {})))
    data[HEADER.size - 1] = 0
    return bytes(data)


@pytest.mark.parametrize(
    ("garbage", "complaint"),
    [
        (b"\xff" * 5, "a message of"),
        (HEADER.pack(MAX_MESSAGE_BYTES + 1, 0), f"a message of {MAX_MESSAGE_BYTES + 1} bytes"),
        (b"\x01\x00\x00\x00\x00\xc1", "not msgpack"),
        (b"\x00\x00\x00\x00\x03", "not msgpack"),
        (pack(wire.Encode("a", [], 1, 1, 1, {})), "Encode came with 0 of 1 descriptors"),
        (without_descriptor(), "Encode came with 0 of 1 descriptors"),
    ],
)
async def test_bytes_that_are_no_message_close_the_channel_and_are_named(
    ends: Ends, garbage: bytes, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    ends.theirs.sendall(garbage)
    await asyncio.wait_for(ends.closed.wait(), 5)
    assert ends.received == []
    assert complaint in caplog.text


@pytest.mark.parametrize("leave", ["unread", "midway", "clean"])
async def test_a_peer_that_leaves_closes_the_channel(ends: Ends, leave: str) -> None:
    if leave == "unread":
        ends.channel.send(wire.Cancel("a"))
    if leave == "midway":
        ends.theirs.sendall(pack(wire.Cancel("a"))[:-1])
    ends.theirs.close()
    await asyncio.wait_for(ends.closed.wait(), 5)
    assert ends.received == []


async def test_a_closed_channel_takes_nothing(ends: Ends) -> None:
    ends.channel.close()
    with memory_file() as fd, no_leaks(), pytest.raises(ConnectionError):
        ends.channel.send(TokenData("late", 1, [1], "uint8"), [os.dup(fd)])


async def test_a_message_that_is_too_long_leaves_no_descriptor_open(ends: Ends) -> None:
    with memory_file() as fd, no_leaks(), pytest.raises(MessageError):
        ends.channel.send(Forget(bytes(MAX_MESSAGE_BYTES)), [os.dup(fd)])


async def test_closing_closes_what_was_not_sent_and_what_no_message_claimed(ends: Ends) -> None:
    read, write = os.pipe()
    ends.channel.send(Forget(bytes(5_000_000)))
    ends.channel.send(TokenData("behind it", 1, [1], "uint8"), [os.dup(write)])
    socket.send_fds(ends.theirs, [pack(wire.Cancel("a"))], [write])
    os.close(write)
    await ends.all_received(1)
    ends.channel.close()
    ends.theirs.close()
    assert os.read(read, 1) == b""  # nobody can write any more
    os.close(read)
