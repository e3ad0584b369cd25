"""OpenTelemetry metrics by a real HTTP connection."""

from __future__ import annotations

import gzip
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fed import decoder, opened, read
from mosquitto import certificate

from vedette.data.table import Feature
from vedette.edge.readings import Readings
from vedette.edge.sources.otlp import Listener, Otlp, requests
from vedette.errors import AddressError, KeysError, RecipeError
from vedette.settings import validated

FEATURES = (Feature("temperature"), Feature("memory{state=used}"), Feature("requests"), Feature("latency.sum"))
NOW = 1_750_000_000.0


def export(*points: tuple[str, float, float], host: str = "web-1", total: float | None = None, time: float = NOW) -> dict[str, Any]:
    """A request as JSON: gauges (name, value, time), and a counter."""
    metrics: list[dict[str, Any]] = []
    for name, value, moment in points:
        base, _, state = name.partition("{state=")
        attributes = [{"key": "state", "value": {"stringValue": state.strip("}")}}] if state else []
        metrics.append(
            {"name": base, "gauge": {"dataPoints": [{"timeUnixNano": str(int(moment * 1e9)), "asDouble": value, "attributes": attributes}]}}
        )
    if total is not None:
        point = {"timeUnixNano": str(int(time * 1e9)), "asInt": str(int(total))}
        metrics.append({"name": "requests", "sum": {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}})
    resource = {
        "attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}, {"key": "host.name", "value": {"stringValue": host}}]
    }
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]}


@pytest.fixture
def feed() -> Iterator[Listener]:
    with opened(Otlp(address="127.0.0.1:0"), decoder(FEATURES, most_bytes=100_000)) as feed:
        yield feed


def post(feed: Listener, body: bytes, kind: str = "application/json", path: str = "/v1/metrics", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", feed.port, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": kind, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def sent(feed: Listener, *bodies: bytes, **about: str) -> list[int]:
    """Post from another thread, as an exporter does; statuses appear as they come."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.extend(post(feed, body, **about) for body in bodies), daemon=True)
    thread.start()
    feed.exporter = thread  # type: ignore[attr-defined]
    return statuses


def test_points_of_a_resource_are_a_reading_and_counters_are_rates(feed: Listener) -> None:
    first = export(
        ("temperature", 20.5, NOW), ("memory{state=used}", 3.0, NOW + 0.5), ("memory{state=free}", 9.0, NOW), total=100, time=NOW
    )
    second = export(("temperature", 21.0, NOW + 10), ("temperature", 22.0, NOW + 15), total=150, time=NOW + 10)
    statuses = sent(feed, json.dumps(first).encode(), json.dumps(second).encode())
    readings, _ = read(feed, 3)
    nan = np.nan
    np.testing.assert_equal(readings.numbers, [[20.5, 3, nan, nan], [21, nan, 5, nan], [22, nan, nan, nan]])
    np.testing.assert_allclose(readings.times, [NOW + 0.5, NOW + 10, NOW + 15], atol=1e-6)
    feed.exporter.join(60)  # type: ignore[attr-defined]
    assert statuses == [200, 200]
    assert read_names(feed) == ["web-1"]


def read_names(feed: Listener) -> list[str]:
    return feed._decoder.devices.names


def test_protobuf_and_gzip_say_the_same(feed: Listener) -> None:
    from google.protobuf import json_format

    body = export(("temperature", 20.5, NOW), host="a")
    data = json_format.ParseDict(body, requests()()).SerializeToString()
    later = json_format.ParseDict(export(("temperature", 21.5, NOW + 1), host="a"), requests()()).SerializeToString()
    sent(feed, data, kind="application/x-protobuf")
    one, _ = read(feed, 1)
    sent(feed, gzip.compress(later), kind="application/x-protobuf", **{"Content-Encoding": "gzip"})
    two, _ = read(feed, 1)
    assert Readings.concat([one, two]).numbers[:, 0].tolist() == [20.5, 21.5]


def test_an_exporter_is_answered_once_its_metrics_are_stored(feed: Listener) -> None:
    statuses = sent(feed, json.dumps(export(("temperature", 1.0, NOW))).encode())
    read(feed, 1, settle=False)
    assert not statuses
    feed.settle()
    feed.exporter.join(60)  # type: ignore[attr-defined]
    assert statuses == [200]


def test_what_cannot_be_taken_is_refused(feed: Listener) -> None:
    assert post(feed, b"{}", path="/v1/traces") == 404
    assert post(feed, b"{}", kind="text/plain") == 415
    assert post(feed, b"x" * 100_001) == 413
    assert post(feed, b"no gzip", **{"Content-Encoding": "gzip"}) == 400
    assert post(feed, gzip.compress(bytes(10**7)), **{"Content-Encoding": "gzip"}) == 413
    statuses = sent(feed, b"{", b'{"resourceMetrics": 5}')
    while feed.exporter.is_alive():  # type: ignore[attr-defined]
        assert feed.drain(0.05) is None
    assert statuses == [200, 200]  # sent again they would be no better
    assert feed.counts == {"too-large": 2, "garbage": 3}


def test_listening_is_told_when_it_cannot_be(feed: Listener) -> None:
    with pytest.raises(AddressError, match="cannot listen at 127"):
        Otlp(address=f"127.0.0.1:{feed.port}").open(decoder(FEATURES))
    with pytest.raises(KeysError, match=r"cannot use none\.pem: No such file"):
        Otlp(address="127.0.0.1:0", certificate=Path("none.pem")).open(decoder(FEATURES))
    with pytest.raises(RecipeError, match="off loopback needs 'certificate'"):
        validated(Otlp, {"address": "0.0.0.0:4318"}, "[source]")
    assert Otlp(address="0.0.0.0:4318", insecure=True).insecure


def test_tls_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    signed, key = certificate(tmp_path)
    with opened(Otlp(address="127.0.0.1:0", certificate=signed, key=key), decoder(FEATURES)) as feed:
        feed.settle()
        connection = http.client.HTTPSConnection("127.0.0.1", feed.port, timeout=60, context=ssl.create_default_context(cafile=signed))
        connection.request("POST", "/v1/traces", b"", {"Content-Type": "application/json"})
        assert connection.getresponse().status == 404
        connection.close()
