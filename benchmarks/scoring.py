"""Rows a second of `decision_function`, by batch: a dense autoencoder of 115 features and an LSTM autoencoder, by torch and from a bundle.

The LSTM is that of SKAB's size: windows of 26 rows of 10 features, hidden layers of 64 and 32; of it the network alone is measured
too, window by window, as a live agent calls it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from table import options, told

from vedette.data.scaling import Scaling
from vedette.detectors import Autoencoder, Detector, LstmAutoencoder, load_bundle, save_bundle
from vedette.detectors.network import NetworkDetector
from vedette.training.task import Optimiser

ROWS = 100_000


def rows_a_second(score: Any, x: np.ndarray, batch: int, budget: float = 1.0) -> float:
    """Score batch after batch, for about `budget` seconds at most."""
    done = 0
    begin = time.perf_counter()
    while done < len(x) and time.perf_counter() - begin < budget:
        part = x[done : done + batch]
        score(part)
        done += len(part)
    return done / (time.perf_counter() - begin)


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"epochs": 1, "scaling": Scaling(numbers="standard"), "optimiser": Optimiser(batch=256)}
    dense = Autoencoder(hidden=(64, 16), residual="variance", **settings)
    lstm = LstmAutoencoder(window=26, hidden=(64, 32), **settings)
    rows: list[dict[str, Any]] = []
    for name, detector, features, batches in (
        ("dense", dense, 115, (1, 32, 1_000, 4_096, ROWS)),
        ("lstm", lstm, 10, (1, 32, 1_000, 4_096)),
    ):
        x = rng.normal(size=(ROWS, features)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            save_bundle(detector.fit(x[:5_000]), Path(folder))
            engines: dict[str, Detector] = {"torch": detector, "bundle": load_bundle(Path(folder))}
        for batch in batches:
            for engine, scorer in engines.items():
                fastest = max(rows_a_second(scorer.decision_function, x, batch) for _ in range(chosen.repeats))
                rows.append({"scored": f"{name}, {engine}", "rows a call": batch, "rows/s": fastest, "µs a row": 1e6 / fastest})
        if name == "lstm":
            windows = rng.normal(size=(10_000, 260)).astype(np.float32)
            for engine, scorer in engines.items():
                assert isinstance(scorer, NetworkDetector)
                forward = scorer.network().forward
                fastest = max(rows_a_second(forward, windows, 1) for _ in range(chosen.repeats))
                rows.append({"scored": f"lstm's network, {engine}", "rows a call": 1, "rows/s": fastest, "µs a row": 1e6 / fastest})
    told("scoring", rows, chosen.json)


if __name__ == "__main__":
    main()
