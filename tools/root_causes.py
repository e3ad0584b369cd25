"""How well explanations name the metrics in which SMD's incidents were seen: HitRate@100 % and NDCG@5 (the table of docs/detectors.md).

``python tools/root_causes.py`` needs VEDETTE_DATA. Of each incident the tenth of its rows with the highest scores is explained, and
their shares are averaged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from vedette.data.datasets.smd import Smd, root_causes
from vedette.data.table import Table
from vedette.detectors import Autoencoder, Detector, Pca, VarianceDistance
from vedette.detectors.explanation import explain
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


def part(table: Table, group: str) -> Table:
    """Return the rows of one machine."""
    assert table.group is not None
    return table.take(np.flatnonzero(table.group.codes == table.group.levels.index(group)))


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
            fitted = None if detector is None else detector.model_copy().fit(part(tables["train"], machine), seed=0)
            scores = None if fitted is None else fitted.decision_function(test)
            for cause in root_causes(Path(root), machine):
                if fitted is None or scores is None:
                    shares = np.random.default_rng(cause.start).random(len(test.features))
                else:
                    rows = np.arange(cause.start, cause.end)
                    peak = rows[np.argsort(-scores[rows])[: max(1, len(rows) // 10)]]
                    shares = explain(fitted, test, peak).shares.mean(axis=0)
                truth = [number - 1 for number in cause.dims]
                hits.append(hit_rate(shares, truth))
                gains.append(ndcg(shares, truth))
        print(f"| {name} | {fmean(hits):.3f} | {fmean(gains):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
