"""A sentry killed again and again, its broker going up and down: is every event told, and none that should not be?

    python benchmarks/edge_faults.py                    # 100,000 readings, 50 kills
    python benchmarks/edge_faults.py --readings 20000 --kills 10 --seed 3

The same recording is replayed twice through `vedette watch` into a real Mosquitto: once undisturbed, once with `kill -9` at random moments
of the agent and now and then of the broker. What a subscriber was told is compared by the events' ids, and so are the incidents kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from mosquitto import Mosquitto

from vedette.data.simulate import Simulated
from vedette.data.table import Table
from vedette.detectors import Autoencoder
from vedette.detectors.bundle import save_bundle
from vedette.edge.database import Database
from vedette.edge.records import Records

DEVICES = 10
INTERVAL = 60.0
SETTLED = 30.0
"""Seconds that the subscriber is given at the end to hear what is left."""


def lasting(folder: Path) -> tuple[str, ...]:
    """Return settings of a broker that keeps its messages on disk."""
    kept = folder / "broker"
    kept.mkdir()
    return "persistence true", f"persistence_location {kept}/", "autosave_on_changes true", "autosave_interval 1"


class Subscriber:
    """Whoever is told: ids of events, and how often each came."""

    def __init__(self, port: int, topic: str) -> None:
        import paho.mqtt.client as paho

        self.heard: dict[str, int] = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=topic.replace("/", "-"), clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self._on_message
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()
        if not ready.wait(10):
            sys.exit("nobody could subscribe at the broker")

    def _on_message(self, client: object, about: object, message: object) -> None:
        said = json.loads(message.payload)  # type: ignore[attr-defined]
        self.heard[said["id"]] = self.heard.get(said["id"], 0) + 1

    def settled(self) -> None:
        """Wait until nothing has come for a while."""
        before, end, quiet = -1, time.monotonic() + SETTLED, time.monotonic()
        while time.monotonic() < end and time.monotonic() - quiet < 3:
            if sum(self.heard.values()) != before:
                before, quiet = sum(self.heard.values()), time.monotonic()
            threading.Event().wait(0.1)


def recording(folder: Path, readings: int, seed: int) -> tuple[Path, Path]:
    """Write rows of some pumps in the order of time, and a detector for them."""
    hours = readings / DEVICES * INTERVAL / 3600
    whole = Simulated(nodes=DEVICES, train_hours=48, test_hours=hours, interval=INTERVAL, fault_share=0.05)
    train, test = whole.fleet("train", seed=seed), whole.fleet("test", seed=seed)
    rows = []
    for node in test:
        table = test[node]
        rows += [(float(time), node, *numbers) for time, numbers in zip(table.time, np.asarray(table.numbers).tolist(), strict=True)]
    rows.sort(key=lambda row: row[:2])
    path = folder / "plant.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["time", "node", *(feature.name for feature in table.features)])
        out.writerows(rows)
    rows_of = np.concatenate([np.asarray(train[node].numbers) for node in train])
    detector = Autoencoder(hidden=(16, 4), residual="variance", epochs=5, scaling={"numbers": "standard"})
    save_bundle(detector.fit(Table(table.features, rows_of), seed=seed), folder / "bundle")
    return path, folder / "bundle"


def command(table: Path, bundle: Path, out: Path, port: int, prefix: str, speed: float) -> list[str]:
    sinks = f'sinks=[{{name="mqtt",port={port},prefix="{prefix}",sentry="s",kinds=["alert","opened","closed"],rate=2000}}]'
    source = f'source={{name="replay",files=["{table}"],speed={speed}}}'
    more = ["--set", sinks, "--set", source, "--set", "format.device=node", "--set", "format.time=time", "--quiet"]
    return [sys.executable, "-m", "vedette", "watch", str(bundle), "--out", str(out), *more]


def kept(out: Path) -> dict[str, tuple[object, ...]]:
    """Return the incidents that a sentry has in its store."""
    with closing(Database(out, writer=False)) as database:
        found = Records(database).incidents(most=1_000_000)
    return {
        event.incident: (event.device, event.kind, event.began, event.time, event.alerts, event.readings, event.score) for event in found
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--readings", type=int, default=100_000)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seconds", type=float, default=1.0, help="mean time from a start to the kill, beyond what starting takes")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table, bundle = recording(folder, asked.readings, asked.seed)
        with Mosquitto(folder, *lasting(folder)) as broker:
            plain, hit = Subscriber(broker.port, "plain/s/events"), Subscriber(broker.port, "hit/s/events")
            begin = time.monotonic()
            subprocess.run(command(table, bundle, folder / "plain", broker.port, "plain", 0), check=True, capture_output=True)
            starting = time.monotonic() - begin
            plain.settled()
            # The rest of the replay shall last for all kills.
            speed = asked.readings / DEVICES * INTERVAL / (asked.kills * asked.seconds * 1.5)
            agent = command(table, bundle, folder / "hit", broker.port, "hit", speed)
            kills = outages = 0
            down_until = 0.0
            while True:
                process = subprocess.Popen(agent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                left = None if kills >= asked.kills else 1.0 + draw.expovariate(1 / asked.seconds)
                end = None if left is None else time.monotonic() + left
                while process.poll() is None and (end is None or time.monotonic() < end):
                    if down_until and time.monotonic() > down_until:
                        broker.start()
                        down_until = 0.0
                    elif not down_until and draw.random() < 0.01 and kills < asked.kills:
                        broker.stop()
                        outages += 1
                        down_until = time.monotonic() + draw.uniform(0.2, 3)
                    threading.Event().wait(0.05)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    continue
                if process.returncode:
                    sys.exit(f"the agent ended with {process.returncode}: {process.stderr.read().decode()[-500:]}")  # type: ignore[union-attr]
                break
            if down_until:
                broker.start()
            # What was not told before it ended is told after the next start.
            subprocess.run(agent, check=True, capture_output=True)
            hit.settled()
            for each in (plain, hit):
                each.client.loop_stop()
        ours, theirs = kept(folder / "plain"), kept(folder / "hit")
    told = {
        "readings": asked.readings,
        "kills": kills,
        "outages": outages,
        "undisturbed_s": round(starting, 1),
        "events": len(plain.heard),
        "missing": len(plain.heard.keys() - hit.heard.keys()),
        "invented": len(hit.heard.keys() - plain.heard.keys()),
        "told_more_than_once": sum(count > 1 for count in hit.heard.values()),
        "incidents": len(ours),
        "incidents_equal": ours == theirs,
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))
    sys.exit(bool(told["missing"] or told["invented"] or not told["incidents_equal"]))


if __name__ == "__main__":
    main()
