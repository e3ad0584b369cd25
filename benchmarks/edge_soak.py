"""Months of a sentry's readings in minutes: do memory, open files, threads and the store stay flat?

    python benchmarks/edge_soak.py                      # ten pumps, a reading a minute each, a year
    python benchmarks/edge_soak.py --days 30 --limit 16

A real `vedette watch` with rolling calibration reads JSON lines from a pipe as fast as it can, and tells events to a real Mosquitto that is
away for a tenth of the time. What the process holds is looked at a hundred times; the slope is that of the second half.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from mosquitto import Mosquitto
from table import options, told

from vedette.data.fleet import Fleet
from vedette.data.simulate import Simulated
from vedette.detectors import Autoencoder
from vedette.detectors.bundle import save_bundle

DEVICES, INTERVAL, LOOKS = 10, 60.0, 100
BLOCK = 128
"""Rows of each device that are made at once."""
AWAY = 10
"""One in so many looks is taken while the broker is away."""


class Look(NamedTuple):
    """What was seen of the process."""

    resident: float
    files: int
    threads: int
    store: float


def plant(days: float) -> Simulated:
    return Simulated(nodes=DEVICES, train_hours=48, test_hours=24 * days, interval=INTERVAL, fault_share=0.01)


def bundle(fleet: Fleet, folder: Path) -> Path:
    detector = Autoencoder(hidden=(16, 4), residual="variance", epochs=5, scaling={"numbers": "standard"})
    save_bundle(detector.fit(fleet.pooled(), seed=0), folder / "bundle")
    return folder / "bundle"


def lines(simulated: Simulated) -> Iterator[bytes]:
    """Yield the readings of all devices in the order of time, some thousands at once."""
    nodes = simulated.node_names()
    for tables in zip(*(simulated.node_tables(node, "test", 0, BLOCK) for node in nodes), strict=True):
        names = [feature.name for feature in tables[0].features]
        columns = [zip(table.time.tolist(), np.asarray(table.numbers).tolist(), strict=True) for table in tables]
        said = (
            json.dumps({"node": node, "time": at, **dict(zip(names, numbers, strict=True))})
            for moment in zip(*columns, strict=True)
            for node, (at, numbers) in zip(nodes, moment, strict=True)
        )
        yield "\n".join([*said, ""]).encode()


def look(process: psutil.Process, out: Path) -> Look:
    files = sum(each.stat().st_size for each in out.rglob("*") if each.is_file())
    return Look(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads(), files / 1e6)


def slope(values: list[float], readings: float) -> float:
    """Return what is added in a million readings, over the second half."""
    half = values[len(values) // 2 :]
    return float(np.polyfit(np.arange(len(half)), half, 1)[0] * len(values) / readings * 1e6)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--limit", type=int, default=32, help="MB that the store may take (default: 32)")
    chosen = parser.parse_args()
    simulated = plant(chosen.days)
    readings = int(DEVICES * chosen.days * 86_400 / INTERVAL)
    with tempfile.TemporaryDirectory() as place, Mosquitto(Path(place)) as broker:
        folder = Path(place)
        sinks = f'sinks=[{{name="mqtt",port={broker.port},prefix="v",sentry="s",rate=1000}}]'
        more = [f"limit={chosen.limit << 20}", sinks, "format.device=node", "format.time=time"]
        settings = itertools.chain.from_iterable(("--set", each) for each in more)
        model = bundle(simulated.fleet("train"), folder)
        command = [sys.executable, "-m", "vedette", "watch", str(model), "--source", "-", *settings, "--quiet"]
        begin = time.monotonic()
        with (folder / "log").open("wb") as log:
            agent = psutil.Popen([*command, "--out", str(folder / "out")], stdin=subprocess.PIPE, stdout=log, stderr=log)
        looks, sent, due, up = list[Look](), 0, readings / LOOKS, True
        try:
            for block in lines(simulated):
                agent.stdin.write(block)
                sent += block.count(b"\n")
                if sent < due:
                    continue
                due += readings / LOOKS
                looks.append(look(agent, folder / "out"))
                if up and len(looks) % AWAY == AWAY - 1:
                    broker.stop()
                elif not up:
                    broker.start()
                up = broker.process.poll() is None
            agent.stdin.close()
            code = agent.wait(600)
        except BrokenPipeError:
            code = agent.wait(60)
        seconds = time.monotonic() - begin
        text = (folder / "log").read_text()
        if code or not looks:
            sys.exit(f"the sentry ended with {code}: {text[-1000:]}")
        found = [
            {
                "what": name,
                "at a tenth": float(values[len(values) // 10]),
                "half way": float(values[len(values) // 2]),
                "at the end": float(values[-1]),
                "most": float(max(values)),
                "more in a million readings": slope(values, readings),
            }
            for name, values in zip(("resident MB", "open files", "threads", "store MB"), map(list, zip(*looks, strict=True)), strict=True)
        ]
    told("edge_soak", found, chosen.json)
    if not chosen.json:
        sys.stdout.write(f"{readings:,} readings, {chosen.days:g} days of {DEVICES} devices, in {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
