"""Seconds of `vus`, both volumes: 28,000 rows with few and with many events, windows of 100 and 300 rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from table import options, told

from vedette.metrics.vus import vus

ROWS = 28_000


def seconds(label: np.ndarray, score: np.ndarray, window: int) -> float:
    """Compute both volumes once."""
    begin = time.perf_counter()
    vus(label, score, window)
    return time.perf_counter() - begin


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for events, length in ((10, 100), (500, 5), (7_000, 2)):
        label = np.zeros(ROWS, dtype=np.int64)
        for first in np.linspace(0, ROWS - length, events).astype(int):
            label[first : first + length] = 1
        score = rng.random(ROWS) + 0.3 * label
        for window in (100, 300):
            fastest = min(seconds(label, score, window) for _ in range(chosen.repeats))
            rows.append({"measured": "vus", "rows": ROWS, "events": events, "window": window, "seconds": fastest})
    told("vus", rows, chosen.json)


if __name__ == "__main__":
    main()
