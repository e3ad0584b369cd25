"""Reading and writing many MQTT packets at a time: nothing is lost, doubled or reordered, however the system cuts it up."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from vedette.edge.sources.buffered import AHEAD, _Buffered, _properties


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
    ("packet", "length"), [(b"\x00rest", 1), (b"\x02\x01\x01rest", 3), (b"\x81\x01" + bytes(200), 131), (b"\xff" * 9, 9)]
)
def test_properties_of_a_message_are_passed_over(packet: bytes, length: int) -> None:
    assert _properties(bytearray(packet), 0) == length
