"""A whole agent, MQTT in and alerts out: real processes, a real Mosquitto on loopback, 115 values a reading.

Throughput: Mosquitto holds messages for the agent (QoS 1); how many a second of the agent's own processor time it takes, scores, stores and
acknowledges. Latency: readings at a pace, some of them strange; from a reading's publication to the alert at a subscriber. In turn with it
what this machine needs where nothing is done with the same messages: a bare client hears all and passes on the strange ones at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import psutil
from mosquitto import Mosquitto, until
from table import options, told

from edge import FEATURES, bundle

HELD, PACE, SECONDS, EVERY, STRANGE_VALUE = 40_000, 2_000, 15, 100, 50.0
FAR = f'"x0": {STRANGE_VALUE}'.encode()
FAST = ("max_inflight_messages 0", "set_tcp_nodelay true")
TOGETHER = 100
"""Readings of a message that holds a list of objects."""


def publisher(port: int) -> paho.Client:
    """Return a client that never drops what it is to publish, connected."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="publisher")
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    until(client.is_connected)
    return client


def agent(model: Path, port: int, out: Path, *more: str) -> psutil.Popen:
    source = f"mqtt://127.0.0.1:{port}/plant/{{device}}"
    still = ["--set", "calibration=fixed", "--set", f'source.client="{out.name}"', "--set", "format.patience=0"]
    command = [sys.executable, "-m", "vedette", "watch", str(model), "--source", source, *still, *more, "--out", str(out), "--quiet"]
    with (out.parent / f"{out.name}.log").open("wb") as log:
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
    until(lambda: "connected" in (out.parent / f"{out.name}.log").read_text())
    return process


def stored(out: Path) -> int:
    """Return how many readings the journal was told of, by the batches' heads."""
    import sqlite3

    with sqlite3.connect(f"file:{out / 'sentry.db'}?mode=ro", uri=True) as db:
        return sum(json.loads(bytes(head).split(b"\n")[0])[0] for (head,) in db.execute("select substr(readings, 1, 40) from journal"))


def throughput(model: Path, folder: Path, name: str, payloads: list[tuple[str, bytes]], readings: int) -> dict[str, Any]:
    """Let the broker hold messages for an agent that is away, and time what it takes to work them off."""
    with Mosquitto(folder, *FAST) as broker:
        client = publisher(broker.port)
        roomy = ("--set", f"limit={4 << 30}", "--set", 'sinks=[{name="eve",path="' + str(folder / f"{name}.json") + '"}]')
        first = agent(model, broker.port, folder / name, *roomy)
        first.terminate()
        first.wait(30)
        sent = [client.publish(topic, payload, qos=1) for topic, payload in payloads]
        for one in sent[-100:]:
            one.wait_for_publish(300)
        client.disconnect()
        client.loop_stop()
        begin = time.monotonic()
        process = agent(model, broker.port, folder / name, *roomy)
        before = process.cpu_times()
        started = time.monotonic()
        until(lambda: stored(folder / name) >= readings, 600)
        wall, after = time.monotonic() - started, process.cpu_times()
        resident = process.memory_info().rss / 1e6
        process.terminate()
        process.wait(30)
        spent = after.user + after.system - before.user - before.system
        speeds = {"messages/s CPU": len(payloads) / spent, "readings/s CPU": readings / spent, "readings/s clock": readings / wall}
        return {"what": name, **speeds, "starting s": started - begin, "resident MB": resident}


def passing(port: int, out: Path) -> psutil.Popen:
    """Start a bare client that passes strange readings on."""
    with (out / "passed.log").open("wb") as log:
        process = psutil.Popen([sys.executable, __file__, "--pass-on", str(port)], stdout=log)
    until(lambda: "connected" in (out / "passed.log").read_text())
    return process


def passed_on(port: int) -> None:
    """Hear all readings and pass on when the strange ones were published, until stopped."""

    def heard(client: paho.Client, about: Any, message: paho.MQTTMessage) -> None:
        if FAR in message.payload:
            said = json.loads(message.payload)
            client.publish("v/s/events", json.dumps({"kind": "alert", "time": said["t"]}), qos=1)

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="bare")
    client.on_message, client.on_subscribe = heard, lambda *_: os.write(sys.stdout.fileno(), b"connected\n")
    client.connect("127.0.0.1", port)
    client.subscribe("plant/+", qos=1)
    client.loop_forever()


def throughputs(model: Path, folder: Path) -> list[dict[str, Any]]:
    """Time lists, objects and lists of objects."""
    rng = np.random.default_rng(0)
    rows, names = rng.normal(size=(1000, FEATURES)).round(4), [f"x{i}" for i in range(FEATURES)]
    lists = [json.dumps(row).encode() for row in rows.tolist()]
    objects = [json.dumps(dict(zip(names, row, strict=True))).encode() for row in rows.tolist()]
    many = [b"[" + b",".join(objects[at : at + TOGETHER]) + b"]" for at in range(0, len(objects), TOGETHER)]
    return [
        throughput(model, folder, "lists", [(f"plant/d{i % 50}", lists[i % 1000]) for i in range(HELD)], HELD),
        throughput(model, folder, "objects", [(f"plant/d{i % 50}", objects[i % 1000]) for i in range(HELD)], HELD),
        throughput(model, folder, "many", [(f"plant/d{i % 50}", many[i % len(many)]) for i in range(HELD // TOGETHER)], HELD),
    ]


def latency(model: Path, folder: Path, number: int, bare: bool) -> dict[str, Any]:
    """Time alerts from the publication of a strange reading to a subscriber; who publishes is a process of its own, as devices are."""
    late: list[float] = []
    ready = threading.Event()

    def heard(client: Any, about: Any, message: Any) -> None:
        now, said = time.time(), json.loads(message.payload)
        if said["kind"] == "alert":
            late.append(1e3 * (now - said["time"]))

    ear = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="ear")
    ear.on_message, ear.on_subscribe = heard, lambda *_: ready.set()
    with Mosquitto(folder, *FAST) as broker:
        ear.connect("127.0.0.1", broker.port)
        ear.subscribe("v/s/events", qos=1)
        ear.loop_start()
        ready.wait(10)
        sinks = f'sinks=[{{name="mqtt",port={broker.port},prefix="v",sentry="s",kinds=["alert"],rate=10000}}]'
        more = ("--set", sinks, "--set", 'incidents={alarms=1,among=1,quiet=1,repeat=0,related="none"}', "--set", "format.time=t")
        process = passing(broker.port, folder) if bare else agent(model, broker.port, folder / f"late-{number}", *more)
        subprocess.run([sys.executable, __file__, "--publish", str(broker.port), str(PACE)], check=True)
        end, before = time.monotonic() + 20, -1
        while len(late) != before and time.monotonic() < end:
            before = len(late)
            threading.Event().wait(1.0)
        process.terminate()
        process.wait(30)
        ear.disconnect()
        ear.loop_stop()
    middle, high = np.percentile(late, [50, 99]) if late else (np.nan, np.nan)
    return {
        "what": f"{PACE} messages/s{', passed on' if bare else ''}",
        "alerts": len(late),
        "p50 ms": float(middle),
        "p99 ms": float(high),
    }


def published(port: int, pace: int) -> None:
    """Publish readings at a pace, one of a hundred far from all others; some others are above the threshold too."""
    rng, client = np.random.default_rng(0), publisher(port)
    names = [f"x{i}" for i in range(FEATURES)]
    bodies = [json.dumps(dict(zip(names, row, strict=True)))[1:] for row in rng.normal(size=(997, FEATURES)).round(4).tolist()]
    far = json.dumps(dict.fromkeys(names, STRANGE_VALUE))[1:]
    begin, sent = time.time(), 0
    while sent < pace * SECONDS:
        due = min(int((time.time() - begin) * pace), pace * SECONDS)
        for place in range(sent, due):
            body = far if place % EVERY == 0 else bodies[place % len(bodies)]
            last = client.publish(f"plant/d{place % 50}", f'{{"t":{time.time()!r},{body}', qos=1)
        sent = due
        threading.Event().wait(0.0005)
    last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--publish", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--pass-on", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", choices=("all", "latency"), default="all", help="what to measure")
    chosen = parser.parse_args()
    if chosen.pass_on is not None:
        passed_on(chosen.pass_on)
        return
    if chosen.publish is not None:
        published(*chosen.publish)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle(folder / "bundle", FEATURES, 1, (32,))
        model = folder / "bundle"
        if chosen.rows == "all":
            told("edge_agent throughput", throughputs(model, folder), chosen.json)
        in_turn = [latency(model, folder, number, bare) for number in range(3) for bare in (True, False)]
        told("edge_agent latency", in_turn, chosen.json)


if __name__ == "__main__":
    main()
