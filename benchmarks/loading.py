"""The loader of KDD99's 10 % file against the csv module and polars.read_csv: seconds and peak memory, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from table import options, told

NAME = "kddcup.data_10_percent.gz"

WAYS = {
    "vedette (checked, coded)": """
from pathlib import Path
from vedette.data.datasets.kdd99 import Kdd99
published = {"train": ("kddcup.data_10_percent", 494_021, 97_278)}
loader, root = Kdd99(), Path(PATH).parent
def load():
    return len(loader._parts(root, published)["train"])
""",
    "polars.read_csv": """
import polars
def load():
    return len(polars.read_csv(PATH, has_header=False))
""",
    "csv module, numbers parsed": """
import csv, gzip
import numpy
text = {1, 2, 3, 41}
def load():
    with gzip.open(PATH, "rt", newline="") as file:
        rows = [[cell if i in text else float(cell) for i, cell in enumerate(row)] for row in csv.reader(file)]
    numbers = numpy.array([[cell for i, cell in enumerate(row) if i not in text] for row in rows], dtype=numpy.float32)
    return len(numbers)
""",
}
"""Code that defines `load`; imports are not measured."""

MEASURE = """
import json, os, resource, sys, time
PATH = sys.argv[1]
exec(sys.argv[2])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, begin = peak(), time.perf_counter()
rows = load()
print(json.dumps({"rows": rows, "seconds": time.perf_counter() - begin, "before": before, "peak": peak()}))
"""


def measured(code: str, path: Path) -> dict[str, float]:
    environment = {**os.environ, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, str(path), code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("VEDETTE_DATA"), help="data root (default: VEDETTE_DATA)")
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("needs --data or VEDETTE_DATA, the folder that holds kdd99/")
    path = Path(chosen.data) / "kdd99" / NAME
    rows: list[dict[str, Any]] = []
    ours = None
    for way, code in WAYS.items():
        runs = [measured(code, path) for _ in range(chosen.repeats)]
        fastest, peak = min(run["seconds"] for run in runs), max(run["peak"] for run in runs)
        ours = ours or fastest
        rows.append({"way": way, "rows": int(runs[0]["rows"]), "s": fastest, "of ours": fastest / ours, "peak MiB": peak})
    told("loading", rows, chosen.json)


if __name__ == "__main__":
    main()
