"""Rows a second of `decision_function`: a dense autoencoder of 115 features, so many rows a call."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from table import options, told

from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.training.task import Optimiser

FEATURES, ROWS = 115, 100_000


def rows_a_second(detector: Autoencoder, x: np.ndarray | Table, batch: int, budget: float = 1.0) -> float:
    """Score batch after batch, for about `budget` seconds at most."""
    calls = done = 0
    begin = time.perf_counter()
    while done < ROWS and time.perf_counter() - begin < budget:
        part = x.take(slice(done, done + batch)) if isinstance(x, Table) else x[done : done + batch]
        detector.decision_function(part)
        calls, done = calls + 1, done + len(part)
    return done / (time.perf_counter() - begin)


def main() -> None:
    chosen = options(__doc__).parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    optimiser = Optimiser(batch=256)
    detector = Autoencoder(hidden=(64, 16), residual="variance", epochs=1, scaling=Scaling(numbers="standard"), optimiser=optimiser)
    detector.fit(x[:5_000])
    rows: list[dict[str, Any]] = []
    for batch in (1, 32, 1_000, 16_384, ROWS):
        fastest = max(rows_a_second(detector, x, batch) for _ in range(chosen.repeats))
        rows.append({"rows a call": batch, "rows/s": fastest, "µs a row": 1e6 / fastest})
    told("scoring", rows, chosen.json)


if __name__ == "__main__":
    main()
