"""A paho client for many small messages: packets are read and written many at a time, and messages handed over as they are."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

__all__ = ["BufferedClient"]

AHEAD = 1 << 16
"""Bytes that are read at a time."""

LINGER = 1.0
"""Seconds that a broker has to read what was written before a connection is cut."""

_ACKNOWLEDGED = struct.Struct("!BBH")


class BufferedClient(paho.Client):
    """paho's client, with a socket that is asked once for many small packets.

    Parameters
    ----------
    message
        Takes a message, in the client's thread: topic and payload as bytes, its number, QoS (0 or 1), whether it comes again, and whether
        the broker had kept it.
    came
        Called by the same thread after the messages of a read were handed over.
    settings
        As of `paho.mqtt.client.Client`.
    """

    def __init__(self, message: Callable[[bytes, bytes, int, int, bool, bool], None], came: Callable[[], None], **settings: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, manual_ack=True, **settings)
        self._message, self._came = message, came
        # Should paho's own way of handling messages change, they come by this.
        self.on_message = self._handed

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1, in order and as one packet for paho: it wakes its thread for each."""
        if numbers:
            packets = b"".join(_ACKNOWLEDGED.pack(paho.PUBACK, 2, number) for number in numbers)
            self._packet_queue(paho.PUBACK, packets, numbers[-1], 1)

    def _handed(self, client: Any, _: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = b"\xff"
        self._message(topic, bytes(message.payload), message.mid, message.qos, bool(message.dup), bool(message.retain))

    def _handle_publish(self) -> MQTTErrorCode:
        """Hand a message over without what paho makes of it: objects, properties that nobody asks for, lines for a log."""
        if self._publication(int(self._in_packet["command"]), bytes(self._in_packet["packet"])):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._handle_publish()  # which knows what is wrong

    def _publication(self, command: int, packet: bytes) -> bool:
        """Hand over the message in a packet; returns whether it is one that is handed over so."""
        qos, topic = command >> 1 & 3, 2 + int.from_bytes(packet[:2])
        begin = topic + 2 * (qos > 0)
        if self._protocol == paho.MQTTv5:
            length, begin = _length(packet, begin)
            begin += length
        if qos > 1 or topic == 2 or begin > len(packet):
            return False
        number = int.from_bytes(packet[topic : topic + 2]) if qos else 0
        self._message(packet[2:topic], packet[begin:], number, qos, bool(command & 8), bool(command & 1))
        return True

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        found = super().loop_read(max_packets)
        # A client that is to end goes on to write, which tells the broker: it may have messages for minutes.
        while not found and isinstance(self._sock, _Buffered) and self._sock.pending() and not self._thread_terminate:
            self._hand_over(self._sock)
            if self._sock.pending():
                found = super().loop_read(max_packets)
        self._came()
        return found

    def _hand_over(self, ahead: _Buffered) -> None:
        """Hand over the messages that lie here whole: paho would take each packet apart byte by byte."""
        if getattr(self, "_in_packet", {}).get("command") == 0:  # else paho has begun to read one
            while (packet := ahead.publication()) is not None and self._publication(*packet):
                ahead.passed()

    def loop_write(self) -> MQTTErrorCode:
        found = super().loop_write()
        if isinstance(self._sock, _Buffered):
            # A connection that is lost is found out by the next read.
            with contextlib.suppress(OSError):
                self._sock.flush()
        return found

    def want_write(self) -> bool:
        return super().want_write() or (isinstance(self._sock, _Buffered) and bool(self._sock.behind))


def _length(data: bytes, begin: int) -> tuple[int, int]:
    """Return the length that is written at a place, and where it ends; one that reaches beyond all that there is if it is none."""
    length = 0
    for place, byte in enumerate(data[begin : begin + 4]):
        length |= (byte & 127) << 7 * place
        if byte < 128:
            return length, begin + place + 1
    return len(data) + 1, begin


class _Buffered:
    """A socket that reads ahead, and writes when it is told to."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._ahead, self._at, self._end, self.behind = sock, b"", 0, 0, bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def pending(self) -> int:
        """Return the bytes that can be had without asking the system."""
        inner = getattr(self._sock, "pending", None)
        return len(self._ahead) - self._at + (inner() if inner is not None else 0)

    def recv(self, size: int) -> bytes:
        if self._at == len(self._ahead):
            if size >= AHEAD:
                return bytes(self._sock.recv(size))
            self._ahead, self._at = self._sock.recv(AHEAD), 0
        begin = self._at
        self._at = min(len(self._ahead), begin + size)
        return self._ahead[begin : self._at]

    def publication(self) -> tuple[int, bytes] | None:
        """Return the next packet, if it is a message and was read ahead whole: its first byte, and what follows its length."""
        at = self._at
        if at == len(self._ahead) or self._ahead[at] >> 4 != 3:
            return None
        length, begin = _length(self._ahead, at + 1)
        self._end = begin + length
        return (self._ahead[at], self._ahead[begin : self._end]) if self._end <= len(self._ahead) else None

    def passed(self) -> None:
        """Leave the packet behind that `publication` returned."""
        self._at = self._end

    def send(self, data: bytes) -> int:
        self.behind += data
        if len(self.behind) >= AHEAD:
            with contextlib.suppress(OSError):
                self.flush()
        return len(data)

    def flush(self) -> None:
        """Write what there is.

        Raises
        ------
        OSError
            Not all of it could be written; what is left is kept.
        """
        while self.behind:
            del self.behind[: self._sock.send(self.behind)]

    def close(self) -> None:
        """End the connection, once the other side has read what was written.

        Were it cut while a broker still sends, the broker would be reset and forget acknowledgements that it has not read yet.
        """
        end = time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            self._sock.settimeout(LINGER)
            self.flush()
            self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(AHEAD) and (left := end - time.monotonic()) > 0:
                self._sock.settimeout(left)
        self._sock.close()
