"""Reading and writing many MQTT packets at a time: nothing is lost, doubled or reordered, however the system cuts it up."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest

from vedette.edge.sources.buffered import AHEAD, BufferedClient, _Buffered, _length


@pytest.fixture
def ends() -> Iterator[tuple[_Buffered, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield _Buffered(ours), theirs


def test_what_was_read_ahead_is_handed_out_piece_by_piece(ends: tuple[_Buffered, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"abcdef")
    assert ours.recv(1) == b"a"
    assert ours.pending() == 5
    assert [ours.recv(2), ours.recv(9)] == [b"bc", b"def"]
    assert ours.pending() == 0
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    large = bytes(range(256)) * (AHEAD // 128)
    theirs.sendall(large)
    found = bytearray(ours.recv(3))
    while len(found) < len(large):
        found += ours.recv(len(large) - len(found))
    assert found == large
    theirs.close()
    assert ours.recv(1) == b""


def test_what_the_system_does_not_take_at_once_is_kept(ends: tuple[_Buffered, socket.socket]) -> None:
    ours, theirs = ends
    pieces = [bytes([place % 256]) * 5000 for place in range(400)]
    assert [ours.send(piece) for piece in pieces] == [5000] * len(pieces)
    assert ours.behind, "the system took all of it: the test shows nothing"
    found = bytearray()
    while ours.behind:
        try:
            ours.flush()
        except BlockingIOError:
            found += theirs.recv(1 << 20)
    ours.close()
    while more := theirs.recv(1 << 20):
        found += more
    assert found == b"".join(pieces)


@pytest.mark.parametrize(
    ("packet", "length", "end"),
    [(b"\x00rest", 0, 1), (b"\x02\x01\x01rest", 2, 1), (b"\x81\x01" + bytes(200), 129, 2), (b"\xff" * 9, 10, 0), (b"", 1, 0)],
)
def test_a_length_is_read(packet: bytes, length: int, end: int) -> None:
    assert _length(packet, 0) == (length, end)
    assert _length(b"?" + packet, 1) == (length + (end == 0), end + 1)


def varying(value: int) -> bytes:
    """Return a length as MQTT writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def packet(topic: bytes, payload: bytes, number: int, flags: int, properties: bytes | None) -> bytes:
    """Return a message as a broker sends it; `flags`: 8 again, 2 QoS 1, 1 retained."""
    own = number.to_bytes(2) if flags & 2 else b""
    more = b"" if properties is None else varying(len(properties)) + properties
    body = len(topic).to_bytes(2) + topic + own + more + payload
    return bytes([0x30 | flags]) + varying(len(body)) + body


@pytest.mark.parametrize("pieces", [1, 7, 1000, 1 << 17])
@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_messages_are_the_same_however_they_were_cut_up(version: Any, pieces: int, ends: tuple[_Buffered, socket.socket]) -> None:
    ours, theirs = ends
    rng, found, came = random.Random(0), [], []
    client = BufferedClient(lambda *message: found.append(message), lambda: came.append(len(found)), client_id="test", protocol=version)
    client._sock = ours  # type: ignore[assignment]
    sizes = [0, 1, 100, 130, 3000] * (2 if pieces == 1 else 12) + [70_000] * (pieces > 1)
    wanted, stream = [], b""
    for place, size in enumerate(sizes):
        topic, payload, flags = f"plant/\xe4{place}".encode(), rng.randbytes(size), rng.choice((0, 1, 2, 3, 10))
        properties = None if version == paho.MQTTv311 else rng.choice((b"", b"\x01\x01", b"\x26\x00\x01a\x00\x01b" * 30))
        wanted.append((topic, payload, place + 1 if flags & 2 else 0, flags >> 1 & 1, bool(flags & 8), bool(flags & 1)))
        stream += packet(topic, payload, place + 1, flags, properties) + b"\xd0\x00" * (place % 3 == 0)
    for at in range(0, len(stream), pieces):
        theirs.sendall(stream[at : at + pieces])
        assert client.loop_read() == 0
    while ours.pending() or len(found) < len(wanted):
        assert client.loop_read() == 0
    assert found == wanted
    assert came[-1] == len(found)


def test_whoever_still_sends_is_not_reset_before_all_that_was_written_is_read() -> None:
    """A connection that is cut while something is unread is reset; a broker that is slow forgets what it was told before."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as inner:
        theirs, _ = server.accept()
        with theirs:
            inner.setblocking(False)
            ours = _Buffered(inner)
            theirs.sendall(b"unread")
            ours.send(b"acknowledged")
            ender = threading.Thread(target=ours.close)
            ender.start()
            theirs.settimeout(10)
            assert theirs.recv(100) == b"acknowledged"
            theirs.sendall(b"more of it")
            assert theirs.recv(100) == b""
            theirs.shutdown(socket.SHUT_WR)
            ender.join(10)
            assert ours.fileno() == -1


def test_a_client_that_is_to_end_takes_nothing_more(ends: tuple[_Buffered, socket.socket]) -> None:
    ours, theirs = ends
    found: list[bytes] = []
    client = BufferedClient(lambda topic, *_: found.append(topic), lambda: None, client_id="test", protocol=paho.MQTTv311)
    client._sock = ours  # type: ignore[assignment]
    theirs.sendall(b"".join(packet(b"plant", b"", number, 2, None) for number in range(1, 4)))
    client._thread_terminate = True
    assert client.loop_read() == 0
    assert found == [b"plant"]
    client._thread_terminate = False
    assert client.loop_read() == 0
    assert found == [b"plant"] * 3


def test_messages_are_acknowledged_in_order_by_one_packet(ends: tuple[_Buffered, socket.socket]) -> None:
    ours, theirs = ends
    client = BufferedClient(lambda *_: None, lambda: None, client_id="test")
    client._sock = ours  # type: ignore[assignment]
    client.acknowledge([])
    client.acknowledge([1, 2, 0x1234])
    assert theirs.recv(100) == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x12\x34"
