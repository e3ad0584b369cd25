"""How well explanations name the metrics in which SMD's incidents were seen: HitRate@100 % and NDCG@5 (the table of docs/detectors.md).

``python tools/root_causes.py`` needs VEDETTE_DATA. Of each incident the tenth of its rows with the highest scores is explained, and
their shares are averaged. Detectors that learn from labels learn from two thirds of a machine's test rows, and explain incidents in the
third that was left out, each in turn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.datasets.smd import Smd, root_causes
from vedette.data.table import Table
from vedette.detectors import Autoencoder, Detector, Pca, VarianceDistance
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.explanation import explain
from vedette.evaluation.protocol import Protocol
from vedette.message import Array
from vedette.metrics.rootcause import hit_rate, ndcg
from vedette.training.task import Optimiser


def detectors() -> Iterator[tuple[str, Detector | None]]:
    """Yield what is compared; None guesses."""
    scaling: dict[str, Any] = {"scaling": {"numbers": "standard"}}
    network: dict[str, Any] = {**scaling, "residual": "variance", "epochs": 5, "optimiser": Optimiser(batch=128)}
    yield "random", None
    yield "variance-distance", VarianceDistance(**scaling)
    yield "pca, Q", Pca(share=0.9, **scaling)
    yield "pca, combined", Pca(share=0.8, statistic="combined", **scaling)
    yield "pca, Q, windows of 30", Pca(share=0.9, window=30, **scaling)
    yield "autoencoder", Autoencoder(hidden=(64, 16), **network)
    yield "autoencoder, windows of 10", Autoencoder(hidden=(128, 32), window=10, **network)
    dual: dict[str, Any] = {"channels": (32, 64, 32), "convolve": "time", "window": 20, "epochs": 6, "scaling": {"numbers": "min-max"}}
    adamw = Optimiser(name="adamw", rate=0.01, schedule="cosine", batch=128, decay=0.01)
    yield "se-ea-edn, windows of 20, by occlusion", DualNetwork(optimiser=adamw, **dual)


def part(table: Table, group: str) -> Table:
    """Return the rows of one machine."""
    assert table.group is not None
    return table.take(np.flatnonzero(table.group.codes == table.group.levels.index(group)))


def fitted_on(detector: Detector | None, train: Table, test: Table) -> Iterator[tuple[Detector | None, Array]]:
    """Yield fitted detectors, each with the test rows [rows] that it may explain."""
    if detector is None or detector.learning != "supervised":
        yield None if detector is None else detector.model_copy().fit(train, seed=0), np.arange(len(test))
        return
    numbered = replace(test, place=np.arange(len(test)))
    for parts_of in Protocol(leave_out="time", blocks=3).folds(Dataset("smd", {"all": numbered}, ordered=True), 0).values():
        parts = parts_of()
        assert parts.test.place is not None
        yield detector.model_copy().fit(parts.train, seed=0), parts.test.place


def main() -> int:
    root = os.environ.get("VEDETTE_DATA")
    if not root:
        print("root causes: set VEDETTE_DATA to the folder that holds smd", file=sys.stderr)
        return 2
    tables = Smd().load(Path(root)).tables
    assert tables["test"].group is not None
    print("| detector | HitRate@100 % | NDCG@5 |\n|---|---|---|")
    for name, detector in detectors():
        hits, gains = [], []
        for machine in sorted(set(tables["test"].group.texts())):
            test = part(tables["test"], machine)
            for fitted, rows in fitted_on(detector, part(tables["train"], machine), test):
                scores = None if fitted is None else fitted.decision_function(test)
                for cause in root_causes(Path(root), machine):
                    if cause.start not in rows:
                        continue
                    if fitted is None or scores is None:
                        shares = np.random.default_rng(cause.start).random(len(test.features))
                    else:
                        seen = np.arange(cause.start, cause.end)
                        peak = seen[np.argsort(-scores[seen])[: max(1, len(seen) // 10)]]
                        shares = explain(fitted, test, peak).shares.mean(axis=0)
                    truth = [number - 1 for number in cause.dims]
                    hits.append(hit_rate(shares, truth))
                    gains.append(ndcg(shares, truth))
        print(f"| {name} | {fmean(hits):.3f} | {fmean(gains):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
