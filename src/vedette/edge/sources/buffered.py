"""A paho client for many small messages: packets are read and written many at a time, and messages handed over as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

__all__ = ["BufferedClient"]

AHEAD = 1 << 16
"""Bytes that are read at a time."""


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

    def _handed(self, client: Any, _: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = b"\xff"
        self._message(topic, bytes(message.payload), message.mid, message.qos, bool(message.dup), bool(message.retain))

    def _handle_publish(self) -> MQTTErrorCode:
        """Hand a message over without what paho makes of it: objects, properties that nobody asks for, lines for a log."""
        command, packet = int(self._in_packet["command"]), self._in_packet["packet"]
        qos, topic = command >> 1 & 3, 2 + int.from_bytes(packet[:2])
        begin = topic + 2 * (qos > 0)
        if self._protocol == paho.MQTTv5:
            begin += _properties(packet, begin)
        if qos > 1 or topic == 2 or begin > len(packet):
            return super()._handle_publish()  # which knows what is wrong
        number = int.from_bytes(packet[topic : topic + 2]) if qos else 0
        self._message(bytes(packet[2:topic]), bytes(packet[begin:]), number, qos, bool(command & 8), bool(command & 1))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        found = super().loop_read(max_packets)
        while not found and isinstance(self._sock, _Buffered) and self._sock.pending():
            found = super().loop_read(max_packets)
        self._came()
        return found

    def loop_write(self) -> MQTTErrorCode:
        found = super().loop_write()
        if isinstance(self._sock, _Buffered):
            # A connection that is lost is found out by the next read.
            with contextlib.suppress(OSError):
                self._sock.flush()
        return found

    def want_write(self) -> bool:
        return super().want_write() or (isinstance(self._sock, _Buffered) and bool(self._sock.behind))


def _properties(packet: bytearray, begin: int) -> int:
    """Return how many bytes the properties of a message take, with their length before them."""
    length = 0
    for place, byte in enumerate(packet[begin : begin + 4]):
        length |= (byte & 127) << 7 * place
        if byte < 128:
            return length + place + 1
    return len(packet)


class _Buffered:
    """A socket that reads ahead, and writes when it is told to."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._ahead, self._at, self.behind = sock, b"", 0, bytearray()

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
        with contextlib.suppress(OSError):
            self.flush()
        self._sock.close()
