"""An MQTT broker that something is published to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from vedette.edge.sinks.base import Unaccepted
from vedette.edge.transport import Transport, is_loopback, secret
from vedette.errors import MissingExtra

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["Broker", "Publication", "Publisher"]


class Broker(Transport):
    """Which broker, and how it is connected to.

    Parameters
    ----------
    host, port
        Port 8883 with TLS and 1883 without, unless said.
    tls
        By default everywhere but on loopback.
    user, password_file
        The file is of mode 600.
    version
        Of MQTT. A broker that speaks 5 says why it does not take something; with 3.1.1 it drops what a client may not publish, unheard.
    timeout
        Seconds for a connection, and for the broker to take what was published.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535)
    tls: bool | None = None
    user: str | None = None
    password_file: Path | None = None
    version: Literal["5", "3.1.1"] = "5"
    timeout: float = Field(10.0, gt=0, le=300)

    @property
    def secured(self) -> bool:
        """Whether TLS is used."""
        return not (is_loopback(self.host) or self.insecure) if self.tls is None else self.tls

    def client(self, name: str) -> Client:
        """Return a client that is set up and not connected.

        Raises
        ------
        MissingExtra, KeysError, RecipeError
            It cannot work, and waiting would not help.
        """
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        except ImportError:
            raise MissingExtra("MQTT needs paho-mqtt: pip install 'vedette[edge]'") from None
        self.demand_tls(self.host, self.secured)
        protocol = MQTTProtocolVersion.MQTTv5 if self.version == "5" else MQTTProtocolVersion.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol)
        if self.secured:
            client.tls_set_context(self.context())
        if self.user is not None:
            client.username_pw_set(self.user, None if self.password_file is None else secret(self.password_file))
        client.connect_timeout = self.timeout
        return client

    def connect(self, client: Client) -> None:
        """Connect a client; what fails is an `OSError` or `ValueError`."""
        client.connect(self.host, self.port or (8883 if self.secured else 1883), keepalive=30)


class Publication(NamedTuple):
    """What is published with QoS 1; `retained`: kept by the broker for whoever comes later."""

    topic: str
    payload: bytes
    retained: bool = False


class Publisher:
    """Publishes to a broker and waits until it has taken everything; used by one thread.

    Parameters
    ----------
    broker
        Which.
    name
        The client's identifier there.
    status
        A topic on which ``online`` stands while this is connected and ``offline`` when it is not (last will); "" for none.
    """

    def __init__(self, broker: Broker, name: str, status: str = "") -> None:
        self.broker, self.name, self.status = broker, name, status
        # What cannot work is known now; a broker that is not there yet is waited for.
        broker.client(name)
        self._client: Client | None = None
        self._news = threading.Condition()
        # Publications that the broker has not answered, why it did not take one, and the one that says `online`.
        self._left, self._refused, self._greeting = 0, "", -1
        # None before the broker has answered, "" while it is connected, else why it is not.
        self._state: str | None = None

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish in order; return once the broker has taken all.

        Raises
        ------
        Unaccepted
            It did not, or is not there; some may have been taken.
        """
        client = self._client if self._client is not None else self._begun()
        self._await(lambda: self._state is not None, "no connection")
        self._left, self._refused = len(publications), ""
        try:
            for one in publications:
                client.publish(one.topic, one.payload, qos=1, retain=one.retained)
        except ValueError as error:
            self.close()
            raise Unaccepted(f"cannot be published: {error}", lasting=True) from None
        self._await(lambda: self._state != "" or self._left <= 0, "no answer")
        if self._refused:
            raise Unaccepted(f"{self.broker.host}: {self._refused}")

    def _await(self, done: Callable[[], bool], why: str) -> None:
        """Wait for the broker; where it is lost, begin anew next time, with nothing in the client that would be published twice."""
        with self._news:
            there = self._news.wait_for(done, self.broker.timeout)
            if there and self._state == "":
                return
            # Some brokers say why they do not take something, and hang up.
            why = self._refused or self._state or why
        self.close()
        raise Unaccepted(f"{self.broker.host}: {why}")

    def _begun(self) -> Client:
        """Connect; the client's own thread keeps the connection alive, and makes it anew when it breaks."""
        client = self.broker.client(self.name)
        if self.status:
            client.will_set(self.status, b"offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect, client.on_publish = self._on_connect, self._on_disconnect, self._on_publish
        client.max_inflight_messages_set(100)
        client.reconnect_delay_set(1, 60)
        self._state = None
        try:
            self.broker.connect(client)
        except (OSError, ValueError) as error:
            raise Unaccepted(f"{self.broker.host}: {getattr(error, 'strerror', None) or error}") from None
        client.loop_start()
        self._client = client
        return client

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.status and not reason.is_failure:
            self._greeting = client.publish(self.status, b"online", qos=1, retain=True).mid
        self._heard(f"refused ({reason})" if reason.is_failure else "")

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._heard(self._state or f"disconnected ({reason})")

    def _heard(self, state: str) -> None:
        with self._news:
            self._state = state
            self._news.notify_all()

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if mid == self._greeting:
            return
        with self._news:
            self._left -= 1
            if reason.is_failure:
                self._refused = f"not taken ({reason})"
            # Only the last is waited for: each waking takes longer than an answer.
            if self._left == 0:
                self._news.notify_all()

    def close(self) -> None:
        """Say good-bye and disconnect; the next publication connects again."""
        client, self._client = self._client, None
        if client is None:
            return
        if self.status and client.is_connected():
            # A last will is for those who go without a word.
            with contextlib.suppress(RuntimeError, ValueError):
                client.publish(self.status, b"offline", qos=1, retain=True).wait_for_publish(1.0)
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()
