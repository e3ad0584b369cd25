"""Events published to an MQTT broker, with the state of every device, and as Home Assistant finds them."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from pydantic import Field, field_validator

from vedette.edge.broker import Broker, Publication, Publisher
from vedette.edge.events import Event
from vedette.edge.sinks.base import Outlet, Sink
from vedette.version import __version__

__all__ = ["MqttEvents"]


class MqttEvents(Broker, Sink):
    """Events on a topic of their own (QoS 1), the state of each device on another, which the broker keeps.

    Topics are ``<prefix>/<sentry>/events``, ``<prefix>/<sentry>/devices/<device>`` (``state`` is ``"ON"`` while an incident is open) and
    ``<prefix>/<sentry>/status`` (``online``, ``offline``). In names of devices what is no letter, digit or one of ``_.-~`` is %-encoded.

    Parameters
    ----------
    prefix, sentry
        Of all topics; `sentry` is the name of this machine unless said.
    home_assistant
        The prefix of Home Assistant's discovery topics, as it comes ``"homeassistant"``; "" tells it nothing.
    every
        Seconds after which the states of devices with open incidents are published again, for a broker that forgot them.
    """

    prefix: str = "vedette"
    sentry: str = ""
    home_assistant: str = ""
    every: float = Field(300.0, ge=1)

    @field_validator("prefix", "sentry", "home_assistant")
    @classmethod
    def _topic(cls, topic: str) -> str:
        if any(char in "+#\0" for char in topic) or topic.startswith(("/", "$")) or topic.endswith("/"):
            raise ValueError("is part of a topic: no +, no #, no / at an end")
        return topic

    def open(self) -> Outlet:
        return _Opened(self)


class _Opened(Outlet):
    def __init__(self, sink: MqttEvents) -> None:
        name = sink.sentry or quote(socket.gethostname(), safe="")
        self.sink, self.every, self.base = sink, sink.every, f"{sink.prefix}/{name}" if sink.prefix else name
        client = f"vedette-{hashlib.sha256(self.base.encode()).hexdigest()[:12]}"
        self.publisher = Publisher(sink, client, f"{self.base}/status")
        self._announced: set[str] = set()

    def send(self, events: Sequence[Event]) -> None:
        self._publish([part for event in events for part in (self._told(event), *self._state(event))])

    def remind(self, current: Sequence[Event]) -> None:
        self._publish([part for event in current for part in self._state(event)])

    def _publish(self, publications: list[Publication]) -> None:
        try:
            self.publisher.publish(publications)
        except Exception:
            # What the broker knows of devices is not certain any more.
            self._announced.clear()
            raise

    def _told(self, event: Event) -> Publication:
        return Publication(f"{self.base}/events", json.dumps(event.said(), ensure_ascii=False).encode())

    def _state(self, event: Event) -> Iterator[Publication]:
        """Yield what the broker keeps of a device: what it is, once, and how it stands with it."""
        if event.kind == "alert":
            return
        topic = f"{self.base}/devices/{quote(event.device, safe='')}"
        if self.sink.home_assistant and event.device not in self._announced:
            self._announced.add(event.device)
            yield self._discovery(event.device, topic)
        state = {"state": "OFF" if event.kind == "closed" else "ON", **event.said()}
        yield Publication(topic, json.dumps(state, ensure_ascii=False).encode(), retained=True)

    def _discovery(self, device: str, topic: str) -> Publication:
        """Describe a device to Home Assistant: a binary sensor that is on while something is wrong."""
        # Only some characters may stand there, and two devices may differ in others.
        digest = hashlib.sha256(f"{self.base}/{device}".encode()).hexdigest()[:8]
        key = f"vedette_{re.sub('[^a-zA-Z0-9_-]', '_', device)[:40]}_{digest}"
        found = {
            "name": "Anomaly",
            "unique_id": key,
            "device_class": "problem",
            "state_topic": topic,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topic,
            "availability_topic": f"{self.base}/status",
            "device": {"identifiers": [key], "name": device},
            "origin": {"name": "vedette", "sw_version": __version__},
        }
        return Publication(f"{self.sink.home_assistant}/binary_sensor/{key}/config", json.dumps(found).encode(), retained=True)

    def close(self) -> None:
        self.publisher.close()
