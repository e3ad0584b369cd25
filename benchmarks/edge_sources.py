"""Readings a second of what a live agent does before it scores: payloads of 115 values decoded, and MQTT received.

Processor time of this process is measured, not what the clock says: brokers and publishers are at work beside it. MQTT needs Mosquitto
(Debian: mosquitto); its messages are QoS 1, published before the subscriber begins and acknowledged as a live agent does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mosquitto import Mosquitto
from table import options, told

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.readings import Devices
from vedette.edge.sources.mqtt import Mqtt
from vedette.edge.sources.replay import Replay

FEATURES = tuple(Feature(f"sensor_{i:03d}_mean") for i in range(115))
NAMES = [feature.name for feature in FEATURES]
PUBLISHER = """
import sys
import paho.mqtt.client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
client.max_inflight_messages_set(1000)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
messages = sys.stdin.buffer.read().split(b"\\n")
for i in range(int(sys.argv[2])):
    said = client.publish(f"plant/d{i % 50}/telemetry", messages[i % len(messages)], qos=1)
said.wait_for_publish()
client.disconnect()
client.loop_stop()
"""


def decoder() -> Decoder:
    return Decoder(FEATURES, Devices())


def fastest(work: Callable[[], int], repeats: int) -> float:
    """Return the readings a second of processor time."""
    best = 0.0
    for _ in range(repeats):
        begin = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - begin))
    return best


def decoded(take: Callable[[Decoder], Any], batch: int) -> Callable[[], int]:
    made = decoder()

    def work() -> int:
        count = 0
        while count < 20_000:
            for _ in range(batch):
                take(made)
            readings = made.drained()
            count += 0 if readings is None else len(readings)
        return count

    return work


def received(messages: list[bytes], count: int, version: Any) -> dict[str, float]:
    """Publish to a broker that holds the messages for a session, then take them all."""
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder), "max_inflight_messages 0") as broker:
        source = Mqtt(topics=("plant/{device}/telemetry",), port=broker.port, client="benchmark", version=version)
        feed: Any = source.open(decoder())
        subscribed = threading.Event()
        feed._client.on_subscribe = lambda *_: subscribed.set()
        while not subscribed.wait(0.1):
            feed._client.subscribe("plant/+/telemetry", 1)
        feed.close()
        publishing = [sys.executable, "-c", PUBLISHER, str(broker.port), str(count)]
        subprocess.run(publishing, input=b"\n".join(messages), check=True)
        begin, cpu, found = time.perf_counter(), time.process_time(), 0
        feed = source.open(decoder())
        while found < count:
            drained = feed.drain(1.0)
            found += 0 if drained is None else len(drained.readings)
            feed.settle()
        wall, used = time.perf_counter() - begin, time.process_time() - cpu
        feed.close()
    return {"readings/s of processor time": count / used, "µs a reading": 1e6 * used / count, "readings/s by the clock": count / wall}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--messages", type=int, default=40_000, help="messages through the broker (default: 40,000)")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    values = [[float(f"{value:.6g}") for value in row] for row in rng.normal(size=(500, 115)) * 50]
    objects = [dict(zip(NAMES, row, strict=True)) for row in values]
    payloads = [json.dumps(row, separators=(",", ":")).encode() for row in objects]
    rounds: dict[str, Any] = {name: iter(()) for name in ("objects", "payloads", "lists")}

    def one(name: str, of: list[Any]) -> Any:
        found = next(rounds[name], None)
        if found is None:
            rounds[name] = iter(of)
            found = next(rounds[name])
        return found

    lists = [json.dumps(row, separators=(",", ":")).encode() for row in values]
    pieces = [json.dumps(objects[i : i + 100], separators=(",", ":")).encode() for i in range(0, 500, 100)]
    rows: list[dict[str, Any]] = []

    def note(what: str, batch: int, take: Callable[[Decoder], Any]) -> None:
        speed = fastest(decoded(take, batch), chosen.repeats)
        rows.append({"read": what, "rows a batch": batch, "readings/s of processor time": speed, "µs a reading": 1e6 / speed})

    for batch in (1, 1000):
        note("parsed objects", batch, lambda made: made.add(one("objects", objects), "d", 1.0))
        note("JSON objects", batch, lambda made: made.payload(one("payloads", payloads), "d", 1.0))
        note("JSON lists", batch, lambda made: made.payload(one("lists", lists), "d", 1.0))
    rounds["pieces"] = iter(())
    note("JSON lists of 100 objects", 100, lambda made: made.payload(one("pieces", pieces), "d", 1.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_text("\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in values * 10)]))

        def replayed() -> int:
            feed, count = Replay(files=(str(path),)).open(decoder()), 0
            while not feed.ended:
                drained = feed.drain(0.0)
                count += 0 if drained is None else len(drained.readings)
            return count

        speed = fastest(replayed, chosen.repeats)
    rows.append({"read": "CSV replayed", "rows a batch": 65_536, "readings/s of processor time": speed, "µs a reading": 1e6 / speed})
    for row in rows:
        row["readings/s by the clock"] = "-"
    for version in ("3.1.1", "5"):
        found = [received(payloads, chosen.messages, version) for _ in range(min(chosen.repeats, 3))]
        best = max(found, key=lambda row: row["readings/s of processor time"])
        rows.append({"read": f"MQTT {version}, one object a message", "rows a batch": "-", **best})
    told("edge_sources", rows, chosen.json)


if __name__ == "__main__":
    main()
