"""Speed and memory of live scoring: one reading from values to decision, micro-batches of arrays, the memory of 1,000 series.

Measured in processor time of this process (readings a second) and by the clock (one reading), after a warm-up, with garbage frozen.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from table import options, told

from vedette.detectors.bundle import Engine
from vedette.edge.calibration import Rate
from vedette.edge.contract import Contract
from vedette.edge.incidents import IncidentSettings
from vedette.edge.judge import Judge
from vedette.edge.readings import Devices, Readings
from vedette.edge.scorer import Scorer

FEATURES, SERIES, WINDOW, NARROW = 115, 1000, 200, 8
READINGS = 2**17


def bundle(folder: Path, features: int, window: int, hidden: tuple[int, ...]) -> None:
    """Write a bundle; in a process of its own, so that torch is not in this one's memory."""
    code = (
        "import sys, numpy as np; from pathlib import Path; from vedette.detectors import Autoencoder, save_bundle; "
        f"x = np.random.default_rng(0).normal(size=(600, {features})); "
        f"save_bundle(Autoencoder(hidden={hidden}, window={window}, epochs=1, scaling={{'numbers': 'standard'}}).fit(x), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def one_by_one(scorer: Scorer, x: np.ndarray) -> dict[str, Any]:
    """Time single readings from values to decision."""
    graph, threshold = scorer.graph, scorer.detector.threshold_
    assert graph is not None
    times = np.empty(len(x))
    for at, values in enumerate(x):
        begin = time.perf_counter_ns()
        _ = graph.one(values) > threshold
        times[at] = time.perf_counter_ns() - begin
    middle, high = np.percentile(times[len(times) // 10 :], [50, 99]) / 1e3
    return {"p50 µs": float(middle), "p99 µs": float(high)}


def rate(work: Any, readings: Readings, batch: int, repeats: int) -> float:
    """Return readings a second of processor time, the best of some repeats."""
    best = 0.0
    for _ in range(repeats):
        begin = time.process_time()
        for at in range(0, len(readings), batch):
            work(readings.take(slice(at, at + batch)))
        best = max(best, len(readings) / (time.process_time() - begin))
    return best


def resident() -> float:
    """Return the memory of this process in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024 / 1e6


def series(folder: Path, engine: Engine) -> list[dict[str, Any]]:
    """Fill the windows of 1,000 series and say what this process holds, and how long a reading took."""
    assert "torch" not in sys.modules
    settings, rows = IncidentSettings(), []
    for name, calibration in (("contract", Contract()), ("rate", Rate(rows=1000))):
        scorer, devices = Scorer.of(folder, engine), devices_of(SERIES)
        judge = Judge.of(calibration, settings, devices, scorer.detector)
        rng, begin = np.random.default_rng(0), time.process_time()
        for step in range(WINDOW + 20):
            times = np.full(SERIES, 60.0 * step)
            judge.watch(scorer, Readings(np.arange(SERIES, dtype=np.int32), times, rng.normal(size=(SERIES, NARROW))))
        each = (time.process_time() - begin) / SERIES / (WINDOW + 20) * 1e6
        rows.append({"engine": engine, "calibration": name, "resident MB": resident(), "µs a reading": each})
        del scorer, judge
        gc.collect()
    return rows


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--series", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="onnx", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.series is not None:
        told("series", series(chosen.series, chosen.engine), chosen.json)
        return
    rng = np.random.default_rng(1)
    x = rng.normal(size=(READINGS, FEATURES))
    readings = Readings(np.arange(READINGS, dtype=np.int32) % SERIES, np.arange(READINGS) * 0.06, x)
    singles, batches = [], []
    with tempfile.TemporaryDirectory() as place:
        for hidden in ((32, 8), (64, 16)):
            folder = Path(place) / str(hidden[0])
            bundle(folder, FEATURES, 1, hidden)
            scorer = Scorer.of(folder)
            settings = IncidentSettings()
            judge = Judge.of(Contract(), settings, devices_of(SERIES), scorer.detector)
            scorer.score(readings.take(slice(0, 4096)))
            gc.collect()
            gc.freeze()
            found = [one_by_one(scorer, x[:20_000]) for _ in range(chosen.repeats)]
            singles.append({"hidden": f"{hidden[0]}, {hidden[1]}", **min(found, key=lambda each: each["p50 µs"])})
            for batch in (256, 4096):
                scored = rate(scorer.score, readings, batch, chosen.repeats)
                judged = rate(lambda part, judge=judge, scorer=scorer: judge.watch(scorer, part), readings, batch, 1)
                batches.append({"hidden": f"{hidden[0]}, {hidden[1]}", "batch": batch, "scored/s": scored, "judged too/s": judged})
        told("one reading", singles, chosen.json)
        told("batches", batches, chosen.json)
        bundle(Path(place) / "series", NARROW, WINDOW, (32, 8))
        for engine in ("onnx", "numpy"):
            command = [sys.executable, __file__, "--series", str(Path(place) / "series"), "--engine", engine]
            subprocess.run([*command, *(["--json"] if chosen.json else [])], check=True)


def devices_of(count: int) -> Devices:
    """Return names of so many devices."""
    return Devices([f"device-{place}" for place in range(count)])


if __name__ == "__main__":
    main()
