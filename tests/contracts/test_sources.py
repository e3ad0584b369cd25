"""Every source lives through whatever comes: what is wrong is counted, what is right behind it is read."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from fed import TWO, decoder, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosquitto import Mosquitto
from test_sources_mqtt import Publisher, connected
from test_sources_otlp import export
from test_sources_sparkplug import payload as sparkplug

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.readings import Readings
from vedette.edge.sources.base import SOURCES, Feed
from vedette.edge.sources.sparkplug import Sparkplug

NOW = 1_750_000_000.0
FEATURES = (*TWO, Feature("state", "category"))

plain = st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats() | st.text(max_size=8)
fields = st.sampled_from(["flow", "pressure", "state", "t", "n", "id", "rows", "in.flow"])
parsed = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | st.text(max_size=4), inner, max_size=6), max_leaves=12
)
payloads = st.binary(max_size=60) | parsed.map(lambda value: json.dumps(value).encode()) | st.text(max_size=30).map(str.encode)
FORMATS = [
    {},
    {"device": "id", "time": "t", "sequence": "n"},
    {"time": "t", "tolerance": 5.0, "fields": {"flow": "in.flow"}, "readings": "rows"},
]


def sound(made: Decoder, readings: Readings | None) -> None:
    """What is given on can be scored and stored."""
    if readings is None:
        return
    assert len(readings) == len(readings.times) == len(readings.numbers) == len(readings.categories[0].codes) > 0
    assert np.isfinite(readings.times).all()
    assert not np.isinf(readings.numbers).any()
    assert (readings.devices >= 0).all()
    assert (readings.devices < len(made.devices)).all()
    for text in (*made.devices.names, *readings.categories[0].levels):
        assert len(text.encode()) <= 4 * 256
    for place in np.unique(readings.devices):
        if not made.format.tolerance:
            assert np.all(np.diff(readings.times[readings.devices == place]) > 0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FORMATS), st.lists(st.tuples(payloads, st.floats(NOW - 100, NOW + 100), st.booleans()), max_size=6))
def test_a_decoder_takes_anything(format: dict[str, object], sent: list[tuple[bytes, float, bool]]) -> None:
    made = decoder(FEATURES, most=20, **format)
    for data, at, again in sent:
        made.payload(data, "d", at, again)
        made.value(data, "e", "flow", at, again)
        made.value(data, "e", "state", at, again)
    sound(made, made.drained())
    # A device that was never heard of is read as if nothing had come before it.
    said = {"id": "z", "t": 7, "n": 1, "flow": 1, "in.flow": 1, "pressure": 2, "state": "s"}
    data = json.dumps(said | {"rows": [said]}).encode()
    made.payload(data, "z", NOW)
    readings = made.drained()
    assert readings is not None
    assert readings.numbers.tolist() == [[1, 2]]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH", "X"]), st.binary(max_size=80)), max_size=5
    )
)
def test_sparkplug_takes_anything(sent: list[tuple[str, bytes]]) -> None:
    made = decoder(FEATURES)
    host = Sparkplug(made)
    for kind, data in sent:
        list(host.message(f"spBv1.0/g/{kind}/e/d", data, NOW))
        list(host.message(f"spBv1.0/g/{kind}/e", sparkplug(3, {"name": "flow", "datatype": 99, "long_value": 2**63}) + data, NOW))
    sound(made, made.drained())


HOSTILE = [
    b"",
    b"\x00" * 50,
    b"\xff\xfe",
    b"{",
    b"[" * 3000,
    b'{"flow": {}}',
    b'{"flow":"x","pressure":[],"state":{}}',
    b'"\\ud800"',
    b"1e999",
    300 * b"9",
]
WHOLE = b'{"flow": 1.25, "pressure": 2.5, "state": "s"}'

Tried = Callable[[Path, Decoder], AbstractContextManager[Feed]]


@contextlib.contextmanager
def mqtt(folder: Path, made: Decoder) -> Iterator[Feed]:
    broker = Mosquitto(folder)
    publisher = Publisher(broker)
    try:
        with opened(SOURCES["mqtt"](topics=("#",), port=broker.port), made) as feed:
            connected(feed)
            for data in [*HOSTILE, WHOLE]:
                publisher.send("any/topic", data)
            yield feed
    finally:
        publisher.close()
        broker.stop()


@contextlib.contextmanager
def lines(folder: Path, made: Decoder) -> Iterator[Feed]:
    (folder / "log").write_bytes(b"\n".join([*HOSTILE, WHOLE, b""]))
    with opened(SOURCES["lines"](path=str(folder / "log")), made) as feed:
        yield feed


@contextlib.contextmanager
def replay(folder: Path, made: Decoder) -> Iterator[Feed]:
    cells = [b"", b"x", b"\xff\x00", b'"', b"1e999", b"nan", b"1,2,3,4,5", b'"a""b",,', 200_000 * b"y"]
    rows = b"\n".join(cell + b",2,s" for cell in cells)
    (folder / "log.csv").write_bytes(b"flow,pressure,state\n1.25,2.5,s\n" + rows + b"\r\r\n")
    with opened(SOURCES["replay"](files=(str(folder / "log.csv"),)), made) as feed:
        yield feed


@contextlib.contextmanager
def eve(folder: Path, made: Decoder) -> Iterator[Feed]:
    records = [{"event_type": "flow"}, {"event_type": "flow", "timestamp": 5, "flow": {"start": [], "bytes_toserver": "x"}, "src_ip": {}}]
    last = {"event_type": "flow", "timestamp": 5, "src_ip": "a", "flow": {"age": 1.25, "pkts_toserver": 10**30}}
    said = [json.dumps(record).encode() for record in [*records, last]]
    (folder / "log").write_bytes(b"\n".join([*HOSTILE, *said, b""]))
    with opened(SOURCES["eve"](path=str(folder / "log")), made) as feed:
        yield feed


@contextlib.contextmanager
def otlp(folder: Path, made: Decoder) -> Iterator[Feed]:
    with opened(SOURCES["otlp"](address="127.0.0.1:0"), made) as feed:
        bodies = [*HOSTILE, json.dumps(export(("flow", 1.25, NOW), ("pressure", 2.5, NOW))).encode()]

        def post() -> None:
            for data in bodies:
                for kind in ("application/x-protobuf", "application/json"):
                    connection = http.client.HTTPConnection("127.0.0.1", feed.port, timeout=60)
                    connection.request("POST", "/v1/metrics", data, {"Content-Type": kind})
                    connection.getresponse().read()
                    connection.close()

        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        yield feed
        deadline = time.monotonic() + 20
        while thread.is_alive() and time.monotonic() < deadline:
            feed.drain(0.01)
            feed.settle()


@contextlib.contextmanager
def host(folder: Path, made: Decoder) -> Iterator[Feed]:
    with opened(SOURCES["host"](every=0.05), made) as feed:
        yield feed


TRIED: dict[str, Tried] = {"mqtt": mqtt, "lines": lines, "replay": replay, "eve": eve, "otlp": otlp, "host": host}


def test_every_source_is_tried() -> None:
    assert set(TRIED) == set(SOURCES)


@pytest.mark.parametrize("name", sorted(TRIED))
def test_a_source_lives_through_what_is_hostile(name: str, tmp_path: Path) -> None:
    features = FEATURES if name not in ("eve", "host") else SOURCES[name]().features
    made = decoder((*features, Feature("none", "category")) if name == "host" else features)
    found: list[Readings] = []
    with TRIED[name](tmp_path, made) as feed:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (found and (name == "host" or 1.25 in found[-1].numbers[:, 0] or feed.ended)):
            drained = feed.drain(0.1)
            if drained is not None:
                sound(made, drained.readings)
                found.append(drained.readings)
                feed.settle()
    assert found, f"nothing was read of '{name}': {dict(made.counts)}"
    if name != "host":
        assert any(1.25 in readings.numbers[:, 0] for readings in found)
        assert sum(made.counts.values()) >= 3
