"""MQTT: JSON payloads, one value a topic, or Sparkplug B, by a session that the broker keeps."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import platform
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from vedette.edge.decoding import Decoder
from vedette.edge.sources.base import Drained, Feed, Source
from vedette.edge.sources.sparkplug import Sparkplug
from vedette.edge.sources.topics import Topics
from vedette.errors import MissingExtra, RecipeError

__all__ = ["Mqtt"]

log = logging.getLogger(__name__)

UNSETTLED = 10_000
"""Messages that the broker may send before the first of them is acknowledged; every broker keeps to its own limit besides."""
LARGEST = 16 * 2**20
"""Bytes of a packet that the broker need not send at all (MQTT 5)."""


class Mqtt(Source):
    """A subscriber (QoS 1) that acknowledges what is stored, so that the broker keeps what is not.

    Parameters
    ----------
    topics
        What to subscribe to, with wildcards; ``{device}`` stands where a level names the device, ``{sensor}`` where it names the feature
        whose value is all the payload: ``"plant/{device}/telemetry"``, ``"plant/{device}/{sensor}"``, ``"spBv1.0/plant/#"``.
    host, port
        Of the broker; port 8883 with TLS and 1883 without, if none is given.
    payload
        ``"json"``, or ``"sparkplug"``.
    device
        Name of the device where neither topic nor payload says.
    user, password_file
        For the broker; the file holds the password alone.
    ca, certificate, key
        PEM files: who signed the broker's certificate (empty: the system's authorities), and what shows who this is.
    insecure
        Speak to a broker off loopback without TLS.
    tls
        Use TLS on loopback too.
    client
        Name of the session; no two agents may share one. Empty: of this machine and the topics.
    keep
        Seconds that the broker shall keep the session of an agent that is away (MQTT 5).
    version
        Of the protocol. 5 lets a session end, and more messages travel than a broker's ``max_inflight_messages``; for brokers that do not
        speak it there is 3.1.1.
    queue
        Bytes of messages that may wait here; beyond that nothing more is read from the broker.
    """

    topics: tuple[str, ...] = Field(min_length=1)
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=1, le=65535)
    payload: Literal["json", "sparkplug"] = "json"
    device: str = "device"
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    tls: bool = False
    client: str = ""
    keep: float = Field(default=7 * 86_400.0, ge=0, lt=2**32)
    version: Literal["3.1.1", "5"] = "5"
    queue: int = Field(default=2 * 2**20, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Mqtt:
        Topics(self.topics)
        return self

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used: off loopback, unless it is to be insecure."""
        try:
            near = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            near = self.host == "localhost"
        return self.tls or self.ca is not None or not (near or self.insecure)

    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it; see `Source.open`. A broker that is not there is waited for, for ever.

        Raises
        ------
        MissingExtra
            paho-mqtt is not installed.
        RecipeError
            A password or certificate cannot be read.
        """
        try:
            import paho.mqtt.client as paho
        except ImportError:
            raise MissingExtra("the source 'mqtt' needs paho-mqtt: pip install 'vedette[edge]'") from None
        return _Subscriber(self, decoder, paho)


class _Message(NamedTuple):
    """A message as it came; `data` is None where it is too large."""

    topic: bytes
    data: bytes | None
    size: int
    at: float
    mid: int
    qos: int
    again: bool
    retained: bool
    connection: int


class _Subscriber(Feed):
    def __init__(self, source: Mqtt, decoder: Decoder, paho: Any) -> None:
        self.counts = decoder.counts
        self._source, self._decoder = source, decoder
        self._topics = Topics(source.topics)
        self._sparkplug = Sparkplug(decoder) if source.payload == "sparkplug" else None
        self._queue: deque[_Message] = deque()
        self._bytes = self._connection = 0
        self._some, self._space = threading.Event(), threading.Event()
        self._space.set()
        self._lock = threading.Lock()
        self._closed = False
        self._drained: list[_Message] = []
        self._client = _client(source, paho, self._came, self._all_came)
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._failed
        self._client.on_disconnect = self._gone
        self._client.loop_start()

    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        deadline = time.monotonic() + wait
        while self._some.wait(max(0.0, deadline - time.monotonic())):
            self._some.clear()
            while self._decoder.pending < most and (messages := self._taken(most)):
                for message in messages:
                    self._read(message)
                self._drained += messages
            if self._queue:
                self._some.set()
            readings = self._decoder.drained()
            if readings is not None:
                return Drained(readings, "")
            self.settle()  # nothing of it needs to be stored
        return None

    def settle(self) -> None:
        # What an earlier connection brought comes again; acknowledged now, it would stand for another message.
        now = self._connection
        self._client.acknowledge([message.mid for message in self._drained if message.qos == 1 and message.connection == now])
        self._drained.clear()

    def close(self) -> None:
        self._closed = True
        self._space.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _taken(self, most: int) -> list[_Message]:
        """Return messages that wait, not more than may become `most` readings."""
        with self._lock:
            count = min(len(self._queue), max(1, most - self._decoder.pending))
            messages = [self._queue.popleft() for _ in range(count)]
            self._bytes -= sum(message.size for message in messages)
            if self._bytes < self._source.queue:
                self._space.set()
        return messages

    def _read(self, message: _Message) -> None:
        try:
            topic = message.topic.decode()
        except UnicodeDecodeError:
            self.counts.add("bad-topic", message.topic)
            return
        if message.data is None:
            self.counts.add("too-large", message.size)
        elif self._sparkplug is not None:
            for where, asked in self._sparkplug.message(topic, message.data, message.at):
                self._client.publish(where, asked, qos=0)
        elif (named := self._topics.named(topic)) is None:
            self.counts.add("unexpected-topic", topic)
        elif named.sensor:
            self._decoder.value(message.data, named.device or self._source.device, named.sensor, message.at, message.again)
        elif message.retained and not self._decoder.format.time:
            self.counts.add("retained", topic)  # nobody knows how old it is
        else:
            self._decoder.payload(message.data, named.device or self._source.device, message.at, message.again)

    # What follows is called by the client's own thread.

    def _came(self, topic: bytes, data: bytes, mid: int, qos: int, again: bool, retained: bool) -> None:
        if self._closed:
            return  # the broker keeps it
        size = len(data)
        kept = data if size <= self._decoder.format.most_bytes else None
        held = _Message(topic, kept, size, time.time(), mid, qos, again, retained, self._connection)
        with self._lock:
            self._queue.append(held)
            self._bytes += size
            if self._bytes >= self._source.queue:
                self._space.clear()
                self._some.set()
        while not self._space.is_set() and not self._closed:
            self._space.wait(1.0)  # not read on until there is room: the broker keeps what is not acknowledged

    def _all_came(self) -> None:
        if self._queue and not self._some.is_set():
            self._some.set()

    def _connected(self, client: Any, _: Any, flags: Any, reason: Any, properties: Any = None) -> None:
        if reason.is_failure:
            self.counts["refused"] += 1
            log.warning("the broker refuses us; trying on", extra={"broker": self._source.host, "reason": str(reason)})
            return
        self._connection += 1
        log.info("connected", extra={"broker": self._source.host, "session": "kept" if flags.session_present else "new"})
        client.subscribe([(topic, 1) for topic in self._topics.filters])

    def _failed(self, client: Any, _: Any) -> None:
        self.counts.add("unreachable", sys.exc_info()[1])

    def _gone(self, client: Any, _: Any, flags: Any, reason: Any, properties: Any = None) -> None:
        if not self._closed:
            self.counts["disconnected"] += 1
            log.warning("the broker is gone; trying again", extra={"broker": self._source.host, "reason": str(reason)})


def _client(source: Mqtt, paho: Any, message: Callable[..., None], came: Callable[[], None]) -> Any:
    """Return a client that is about to connect."""
    from vedette.edge.sources.buffered import BufferedClient

    digest = hashlib.sha256("\0".join(source.topics).encode()).hexdigest()[:8]
    name = source.client or f"vedette-{platform.node()}-{digest}"
    later = source.version == "5"
    client = BufferedClient(
        message,
        came,
        client_id=name,
        clean_session=None if later else False,
        protocol=paho.MQTTv5 if later else paho.MQTTv311,
    )
    client.reconnect_delay_set(1, 60)
    try:
        if source.user:
            password = source.password_file.read_text().strip() if source.password_file else None
            client.username_pw_set(source.user, password)
        if source.encrypted:
            context = ssl.create_default_context(cafile=source.ca)
            if source.certificate is not None:
                context.load_cert_chain(source.certificate, source.key)
            client.tls_set_context(context)
    except (OSError, ValueError) as error:
        raise RecipeError(f"the source 'mqtt' cannot use its password or certificates: {error}") from None
    port = source.port or (8883 if source.encrypted else 1883)
    if later:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = int(source.keep)
        properties.ReceiveMaximum = UNSETTLED
        properties.MaximumPacketSize = LARGEST
        client.connect_async(source.host, port, keepalive=30, clean_start=False, properties=properties)
    else:
        client.connect_async(source.host, port, keepalive=30)
    return client
