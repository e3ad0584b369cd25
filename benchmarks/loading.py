"""From a CSV file to the first training batch: the loader, cold and from its cache, against pandas, each in a process of its own.

A file in the layout of N-BaIoT is made up (``--rows`` of 115 features, 1.2 GB a million), read, scaled by the extremes of all rows, and
the first shuffled batch is taken. With ``--kdd`` KDD99's 10 % file is read instead, gzip'ed as it is published, without a batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from table import options, told

FILE = "n-baiot/Danmini_Doorbell/benign_traffic.csv"
KDD = "kdd99/kddcup.data_10_percent.gz"

VEDETTE = """
from vedette.data.datasets.nbaiot import NBaiot
from vedette.detectors.autoencoder import Autoencoder
from vedette.training.rows import TrainingRows
import polars, torch
polars.read_csv(b"1,2", has_header=False)
def load():
    table = NBaiot(keep_time_leak=True).load(ROOT).tables["all"]
    detector = Autoencoder()
    scaler = detector.scaling.fitted(detector.scaling.summary(table))
    x, _ = next(TrainingRows(detector, table, scaler.memory()).batches(256, 1, np.random.default_rng(0)))
    return len(table), x
"""

PANDAS = """
import pandas, torch
def load():
    frame = pandas.read_csv(ROOT / FILE)
    low, high = frame.min(), frame.max()
    scale = (high - low).where(high > low, 1.0)
"""

WAYS = {
    "vedette, first time": VEDETTE,
    "vedette, from its cache": VEDETTE,
    "pandas, all rows scaled": PANDAS
    + """
    rows = torch.from_numpy(((frame - low) / scale).to_numpy("float32"))
    return len(frame), rows[np.random.default_rng(0).permutation(len(frame))[:256]]
""",
    "pandas, one batch scaled": PANDAS
    + """
    chosen = frame.iloc[np.random.default_rng(0).permutation(len(frame))[:256]]
    return len(frame), torch.from_numpy(((chosen - low) / scale).to_numpy("float32"))
""",
}
"""Code that defines `load`, which returns the number of rows and a batch; imports are not measured."""

KDD_WAYS = {
    "vedette, first time": """
from vedette.data.datasets.kdd99 import Kdd99
loader = Kdd99()
from vedette.data.stored import in_memory
def load():
    return len(loader._connections(ROOT / FILE, in_memory, 494_021, 97_278)), None
""",
    "polars.read_csv": """
import polars
def load():
    return len(polars.read_csv(ROOT / FILE, has_header=False)), None
""",
    "csv module, numbers parsed": """
import csv, gzip
text = {1, 2, 3, 41}
def load():
    with gzip.open(ROOT / FILE, "rt", newline="") as file:
        rows = [[cell if i in text else float(cell) for i, cell in enumerate(row)] for row in csv.reader(file)]
    return len(np.array([[cell for i, cell in enumerate(row) if i not in text] for row in rows], dtype=np.float32)), None
""",
}

MEASURE = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
ROOT, FILE = Path(sys.argv[1]), sys.argv[2]
exec(sys.argv[3])
def now():
    said = dict(line.split(":") for line in open("/proc/self/status") if line.startswith(("VmHWM", "RssAnon")))
    return {name: int(text.split()[0]) / 1024 for name, text in said.items()}
anonymous, done = [now()["RssAnon"]], threading.Event()
def watch():
    while not done.wait(0.01):
        anonymous.append(now()["RssAnon"])
watcher = threading.Thread(target=watch)
watcher.start()
begin, busy = time.perf_counter(), time.process_time()
rows, batch = load()
seconds, busy = time.perf_counter() - begin, time.process_time() - busy
done.set()
watcher.join()
batch = None if batch is None else [float(batch.min()), float(batch.max()), float(batch.double().sum())]
print(json.dumps({"rows": rows, "s": seconds, "cpu s": busy, "peak MiB": now()["VmHWM"], "anonymous MiB": max(anonymous), "batch": batch}))
"""


def traffic(path: Path, rows: int, seed: int = 0) -> None:
    """Write a file of numbers as they stand in those of N-BaIoT: ten digits, a fifth of them whole, a sixth zero, some tiny."""
    import polars as pl

    from vedette.data.datasets.nbaiot import NAMES

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for start in range(0, rows, 20_000):
            shape = min(20_000, rows - start), len(NAMES)
            size, kind = np.exp(rng.normal(2, 3, shape)), rng.random(shape)
            digits = 10.0 ** (9 - np.floor(np.log10(size)))
            values = np.where(kind < 0.35, np.round(size), np.round(size * digits) / digits) * rng.choice([1, 1, 1, -1], shape)
            values = np.where(kind < 0.15, 0, np.where(kind > 0.93, values * 1e-40, values))
            file.write(pl.DataFrame(values, schema=list(NAMES)).write_csv(include_header=start == 0).encode())


def measured(code: str, root: Path, file: str, cache: str) -> dict[str, Any]:
    environment = {**os.environ, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1", "VEDETTE_CACHE": cache}
    command = [sys.executable, "-c", MEASURE, str(root), file, code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the file made up (default: 2,000,000)")
    parser.add_argument("--kdd", action="store_true", help="read KDD99's 10 %% file instead")
    parser.add_argument("--data", type=Path, default=os.environ.get("VEDETTE_DATA"), help="data root, for --kdd (default: VEDETTE_DATA)")
    chosen = parser.parse_args()
    if chosen.kdd and chosen.data is None:
        parser.error("--kdd needs --data or VEDETTE_DATA, the folder that holds kdd99/")
    if not chosen.kdd:
        try:
            import pandas  # noqa: F401
        except ImportError:
            parser.error("compares with pandas, which Vedette does not need: pip install -c constraints.txt pandas")
    with tempfile.TemporaryDirectory() as folder:
        root = chosen.data if chosen.kdd else Path(folder)
        file, ways = (KDD, KDD_WAYS) if chosen.kdd else (FILE, WAYS)
        if not chosen.kdd:
            traffic(root / file, chosen.rows)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for i in range(chosen.repeats):
            for way, code in ways.items():
                cache = "off" if chosen.kdd else f"{folder}/cache-{i}"
                runs[way].append(measured(code, root, file, cache))
    told("loading", [_row(way, found, runs["vedette, first time"]) for way, found in runs.items()], chosen.json)


def _row(way: str, runs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    best = min(runs, key=lambda run: float(run["s"]))
    if best["batch"] is not None and not np.allclose(best["batch"], ours[0]["batch"], rtol=1e-4):
        raise SystemExit(f"{way}: another batch, {best['batch']} instead of {ours[0]['batch']}")
    return {
        "way": way,
        "rows": best["rows"],
        "s": best["s"],
        "rows/s": best["rows"] / best["s"],
        "of ours": best["s"] / min(run["s"] for run in ours),
        "cpu s": best["cpu s"],
        "peak MiB": max(run["peak MiB"] for run in runs),
        "anonymous MiB": max(run["anonymous MiB"] for run in runs),
    }


if __name__ == "__main__":
    main()
