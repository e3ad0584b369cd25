"""MQTT by a real broker: what is stored is acknowledged, what is not comes again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fed import decoder, opened, read
from listening import until
from mosquitto import Mosquitto, certificate
from test_sources_sparkplug import BIRTH
from test_sources_sparkplug import FEATURES as METRICS
from test_sources_sparkplug import payload as sparkplug

from vedette.edge.sources.base import Feed
from vedette.edge.sources.buffered import BufferedClient
from vedette.edge.sources.mqtt import Mqtt
from vedette.edge.sources.topics import Named, Topics
from vedette.errors import RecipeError
from vedette.settings import validated

TOPICS = ("plant/{device}/telemetry",)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "persistence true", f"persistence_location {tmp_path}/", "autosave_on_changes true", "autosave_interval 1")
    yield broker
    broker.stop()


class Publisher:
    def __init__(self, broker: Mosquitto) -> None:
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def send(self, topic: str, body: Any, qos: int = 1, retain: bool = False) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.client.publish(topic, data, qos, retain).wait_for_publish(20)

    def rows(self, first: int, count: int, device: str = "a") -> None:
        for i in range(first, first + count):
            self.send(f"plant/{device}/telemetry", {"t": i, "flow": i, "pressure": 1})

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Publisher]:
    publisher = Publisher(broker)
    yield publisher
    publisher.close()


def subscribed(feed: Feed) -> None:
    """Wait until the broker knows what is subscribed to."""
    done = threading.Event()
    feed._client.on_subscribe = lambda *_: done.set()  # type: ignore[attr-defined]
    feed._client.subscribe("nothing")  # type: ignore[attr-defined]
    assert done.wait(60)


def connected(feed: Feed) -> None:
    until(lambda: feed._client.is_connected())  # type: ignore[attr-defined]
    subscribed(feed)


@pytest.mark.parametrize("quick", [True, False])
def test_objects_lists_and_single_values_come_by_their_topics(
    broker: Mosquitto, publisher: Publisher, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by paho's own way of handing messages over, which is taken where ours does not apply."""
    if not quick:
        monkeypatch.delattr(BufferedClient, "_handle_publish")
    source = Mqtt(topics=(*TOPICS, "single/{device}/{sensor}", "lists/#"), port=broker.port, device="lists")
    made = decoder()
    with opened(source, made) as feed:
        connected(feed)
        publisher.send("plant/a/telemetry", {"flow": 1, "pressure": 2})
        publisher.send("plant/b/telemetry", [[3, 4], [5, 6]])
        publisher.send("single/c/flow", b"7")
        publisher.send("single/c/pressure", b"8")
        publisher.send("lists/x/y", [9, 10])
        publisher.send("plant/a/telemetry", b"garbage")
        publisher.send("plant/a/telemetry", bytes(5 * 2**20))
        publisher.send("plant/a/telemetry", {"flow": 11, "pressure": 12}, qos=0)
        readings, _ = read(feed, 6)
    names = [made.devices.names[place] for place in readings.devices]
    assert names == ["a", "b", "b", "c", "lists", "a"]
    assert readings.numbers.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    assert made.counts == {"garbage": 1, "too-large": 1}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_was_not_settled_comes_again_and_what_was_does_not(broker: Mosquitto, publisher: Publisher, version: str) -> None:
    source = Mqtt(topics=TOPICS, port=broker.port, version=version)  # type: ignore[arg-type]
    with opened(source, decoder(time="t")) as feed:
        connected(feed)
        publisher.rows(0, 10)
        read(feed, 10)
        publisher.rows(10, 10)
        read(feed, 10, settle=False)
    publisher.rows(20, 5)  # while nobody is there
    made = decoder(time="t")
    with opened(source, made) as feed:
        readings, _ = read(feed, 15)
        assert readings.numbers[:, 0].tolist() == list(range(10, 25))
        until(lambda: feed.drain(0.0) is None)
    assert not made.counts
    with opened(source, made) as feed:
        connected(feed)
        publisher.rows(30, 1)
        assert read(feed, 1)[0].times.tolist() == [30]


def test_a_broker_that_dies_is_waited_for_and_nothing_is_lost(broker: Mosquitto, publisher: Publisher) -> None:
    made = decoder(time="t", sequence="t")
    with opened(Mqtt(topics=TOPICS, port=broker.port), made) as feed:
        feed._client.reconnect_delay_set(1, 1)
        connected(feed)
        publisher.rows(0, 15)
        read(feed, 15, settle=False)
        broker.stop()
        feed.settle()  # nobody is there to hear it: all of it comes again
        until(lambda: made.counts["disconnected"] == 1)
        broker.start()
        until(publisher.client.is_connected)
        publisher.rows(15, 20)
        readings, _ = read(feed, 20)
        assert readings.numbers[:, 0].tolist() == list(range(15, 35))
    assert made.counts["gap"] == 0
    assert made.counts["duplicate"] == 15


def test_a_queue_that_is_full_holds_the_broker_up_and_loses_nothing(broker: Mosquitto, publisher: Publisher) -> None:
    made = decoder(sequence="t")
    with opened(Mqtt(topics=TOPICS, port=broker.port, queue=200), made) as feed:
        connected(feed)
        publisher.rows(0, 60)
        readings, _ = read(feed, 60, most=4)
    assert readings.numbers[:, 0].tolist() == list(range(60))
    assert not made.counts


def test_retained_messages_without_a_time_are_no_readings(broker: Mosquitto, publisher: Publisher) -> None:
    publisher.send("plant/a/telemetry", {"flow": 1, "pressure": 2}, retain=True)
    made = decoder()
    with opened(Mqtt(topics=TOPICS, port=broker.port), made) as feed:
        connected(feed)
        publisher.send("plant/a/telemetry", {"flow": 3, "pressure": 4})
        assert read(feed, 1)[0].numbers.tolist() == [[3, 4]]
    assert made.counts == {"retained": 1}


def test_sparkplug_nodes_are_asked_for_the_births_that_were_missed(broker: Mosquitto, publisher: Publisher) -> None:
    asked = threading.Event()
    publisher.client.on_message = lambda *_: asked.set()
    publisher.client.subscribe("spBv1.0/plant/NCMD/edge", qos=1)
    made = decoder(METRICS)
    with opened(Mqtt(topics=("spBv1.0/plant/#",), port=broker.port, payload="sparkplug"), made) as feed:
        connected(feed)
        publisher.send("spBv1.0/plant/NDATA/edge", sparkplug(9, {"alias": 2, "int_value": 1}), qos=0)
        until(lambda: feed.drain(0.01) is None and asked.is_set())
        publisher.send("spBv1.0/plant/NBIRTH/edge", sparkplug(0, *BIRTH), qos=0)
        publisher.send("spBv1.0/plant/NDATA/edge", sparkplug(1, {"alias": 2, "int_value": 5}, time=1_750_000_001.0), qos=0)
        assert read(feed, 2)[0].numbers.tolist() == [[1.5, -7], [1.5, 5]]
    assert made.counts == {"before-birth": 1}


def test_passwords_and_tls_are_used_and_a_refusal_is_no_end(tmp_path: Path) -> None:
    signed, key = certificate(tmp_path)
    broker = Mosquitto(tmp_path, f"certfile {signed}", f"keyfile {key}", f"cafile {signed}", "require_certificate true")
    try:
        source = Mqtt(topics=TOPICS, host="127.0.0.1", port=broker.port, ca=signed, certificate=signed, key=key)
        with opened(source, decoder()) as feed:
            connected(feed)
        made = decoder()
        with opened(source.model_copy(update={"certificate": None}), made) as feed:
            until(lambda: bool(sum(made.counts.values())))
            assert feed.drain(0.0) is None
    finally:
        broker.stop()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_refuses_is_asked_again(tmp_path: Path, version: str) -> None:
    (tmp_path / "password").write_text("wrong")
    broker = Mosquitto(tmp_path, "allow_anonymous false")
    source = Mqtt(topics=TOPICS, port=broker.port, user="me", password_file=tmp_path / "password", version=version)  # type: ignore[arg-type]
    made = decoder()
    try:
        with opened(source, made) as feed:
            until(lambda: made.counts["refused"] > 0)
            assert feed.drain(0.0) is None
    finally:
        broker.stop()


def test_tls_is_the_default_off_loopback() -> None:
    assert Mqtt(topics=TOPICS, host="broker.example").encrypted
    assert not Mqtt(topics=TOPICS, host="broker.example", insecure=True).encrypted
    assert not Mqtt(topics=TOPICS, host="localhost").encrypted
    assert Mqtt(topics=TOPICS, tls=True).encrypted
    with pytest.raises(RecipeError, match="cannot use its password or certificates"):
        Mqtt(topics=TOPICS, host="broker.example", ca=Path("/nowhere/ca.pem")).open(decoder())


# Topics.


@pytest.mark.parametrize(
    ("pattern", "topic", "named"),
    [
        ("plant/{device}/telemetry", "plant/a/telemetry", Named("a", "")),
        ("plant/{device}/telemetry", "plant/a/other", None),
        ("plant/{device}/telemetry", "plant/a/telemetry/more", None),
        ("{device}/{device}/{sensor}", "hall/pump/flow", Named("hall/pump", "flow")),
        ("plant/+/{sensor}/#", "plant/a/flow", Named("", "flow")),
        ("plant/+/{sensor}/#", "plant/a/flow/x/y", Named("", "flow")),
        ("plant/+/{sensor}/#", "plant/a", None),
        ("#", "any/thing", Named("", "")),
    ],
)
def test_topics_name_devices_and_sensors(pattern: str, topic: str, named: Named | None) -> None:
    assert Topics([pattern]).named(topic) == named


def test_topics_that_nobody_can_subscribe_to_are_told() -> None:
    assert Topics(["a/{device}/{sensor}", "b/+/#"]).filters == ["a/+/+", "b/+/#"]
    for wrong, said in [("a/#/b", "last level"), ("a/{devce}", "neither a name"), ("", "is empty"), ("{sensor}/{sensor}", "twice")]:
        with pytest.raises(RecipeError, match=said):
            validated(Mqtt, {"topics": [wrong]}, "[source]")
