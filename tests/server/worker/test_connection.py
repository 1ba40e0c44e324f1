"""The engine's end of the socket, over a real socket pair."""

import os
import socket
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from server.engine import wire
from server.engine.wire import HEADER, MAX_MESSAGE_BYTES, WireError, pack
from server.worker.connection import Connection


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def connection(sockets: tuple[socket.socket, socket.socket]) -> Iterator[Connection]:
    connection = Connection(sockets[0])
    yield connection
    connection.close()


@pytest.fixture
def peer(sockets: tuple[socket.socket, socket.socket]) -> socket.socket:
    return sockets[1]


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


def content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


def test_messages_that_arrive_together_are_told_apart(connection: Connection, peer: socket.socket) -> None:
    peer.sendall(pack(wire.Cancel("a")) + pack(wire.Cancel("b")))
    assert [connection.receive(), connection.receive()] == [(wire.Cancel("a"), ()), (wire.Cancel("b"), ())]


def test_a_message_that_arrives_byte_by_byte_is_whole(connection: Connection, peer: socket.socket) -> None:
    data = pack(wire.Cancel("abc"))
    sender = Thread(target=lambda: [peer.send(data[i : i + 1]) for i in range(len(data))])
    sender.start()
    assert connection.receive() == (wire.Cancel("abc"), ())
    sender.join()


def test_descriptors_come_with_their_own_message(connection: Connection, peer: socket.socket) -> None:
    for name in ("a", "b"):
        fd = memory_file(name.encode())
        socket.send_fds(peer, [pack(wire.Encode(name, [], 1, 1, 1, {}))], [fd])
        os.close(fd)
    for name in ("a", "b"):
        received = connection.receive()
        assert received is not None
        message, (fd,) = received
        assert isinstance(message, wire.Encode)
        assert (message.id, content(fd)) == (name, name.encode())


def test_sent_descriptors_arrive_and_stay_the_senders_to_close(
    connection: Connection, peer: socket.socket
) -> None:
    fd = memory_file(b"tokens")
    connection.send(wire.TokenData("a", 6, [1], "uint8"), (fd,))
    assert content(fd) == b"tokens"
    received = Connection(peer).receive()
    assert received is not None
    assert content(received[1][0]) == b"tokens"


def test_a_long_message_is_sent_whole(connection: Connection, peer: socket.socket) -> None:
    message = wire.Piece("a", "x" * (1 << 21), 1)
    sender = Thread(target=connection.send, args=(message,))
    sender.start()
    assert Connection(peer).receive() == (message, ())
    sender.join()


def test_messages_of_many_threads_do_not_mix(connection: Connection, peer: socket.socket) -> None:
    def send(name: str) -> None:
        for _ in range(20):
            connection.send(wire.Piece(name, name * 5000, 1))

    senders = [Thread(target=send, args=(name,)) for name in "abcd"]
    for sender in senders:
        sender.start()
    reader = Connection(peer)
    for _ in range(80):
        received = reader.receive()
        assert received is not None
        assert isinstance(received[0], wire.Piece)
        assert received[0].text == received[0].id * 5000
    for sender in senders:
        sender.join()


def test_a_peer_that_leaves_after_the_last_byte_is_no_error(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = sockets

    class ReadAtOnce(socket.socket):
        """Its peer has read everything and left before `send` returns."""

        def send(self, *given: Any) -> int:
            sent = super().send(*given)
            theirs.close()
            return sent

    connection = Connection(ReadAtOnce(fileno=ours.detach()))
    connection.send(wire.Shutdown(0.0))
    connection.close()


def test_a_peer_that_is_gone_is_none(connection: Connection, peer: socket.socket) -> None:
    peer.sendall(pack(wire.Cancel("a"))[:-1])
    peer.close()
    assert connection.receive() is None


def test_a_peer_that_left_messages_unread_is_none(connection: Connection, peer: socket.socket) -> None:
    connection.send(wire.Cancel("a"))
    peer.close()
    assert connection.receive() is None


def test_a_message_that_is_too_long_is_refused_before_it_is_read(
    connection: Connection, peer: socket.socket
) -> None:
    peer.sendall(HEADER.pack(MAX_MESSAGE_BYTES + 1, 0))
    with pytest.raises(WireError, match=f"at most {MAX_MESSAGE_BYTES}"):
        connection.receive()


def test_a_message_without_its_descriptors_is_refused(connection: Connection, peer: socket.socket) -> None:
    peer.sendall(pack(wire.Encode("a", [], 1, 1, 1, {})))
    with pytest.raises(WireError, match="0 of its 1 descriptors"):
        connection.receive()


def test_a_header_that_promises_no_descriptor_for_a_message_with_one_is_refused(
    connection: Connection, peer: socket.socket
) -> None:
    data = bytearray(pack(wire.Encode("a", [], 1, 1, 1, {})))
    data[HEADER.size - 1] = 0
    peer.sendall(data)
    with pytest.raises(WireError, match="Encode came with 0 descriptors"):
        connection.receive()


def test_closing_closes_descriptors_that_no_message_claimed(
    connection: Connection, peer: socket.socket
) -> None:
    read, write = os.pipe()
    socket.send_fds(peer, [pack(wire.Cancel("a"))], [write])
    os.close(write)
    connection.receive()
    connection.close()
    assert os.read(read, 1) == b""  # nobody can write any more
    os.close(read)
