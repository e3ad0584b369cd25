"""Points a second that re-balancing makes: 100,000 of 1,000 rows × 115, against imbalanced-learn's SMOTE and algorithm 1 as plain loops."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from table import options, told

from vedette.data.rebalance import KSmote, Smote
from vedette.message import Array

POINTS, RARE, FEATURES, FEW = 100_000, 1_000, 115, 500
"""The plain loops make few points; their rate is the same."""

K_SMOTE = KSmote(samples=15, neighbours=20)


def plain_loops(rare: Array, count: int, rng: np.random.Generator) -> Array:
    """Make points as algorithm 1 is written, one and one neighbour at a time."""
    found = []
    for base in rng.choice(len(rare), K_SMOTE.samples, replace=False):
        apart = [float(np.linalg.norm(row - rare[base])) for row in rare]
        nearest = np.argsort(apart)[1 : K_SMOTE.neighbours + 1]
        for _ in range(-(-count // K_SMOTE.samples)):
            point = rare[base].copy()
            for neighbour in nearest:
                point += (rare[neighbour] - rare[base]) * rng.random() / len(nearest)
            found.append(point)
    return np.array(found[:count])


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the fastest time."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    # As many common rows as bring both methods to the same number of points.
    rows = rng.normal(size=(POINTS + 2 * RARE, FEATURES)).astype(np.float32)
    labels = (np.arange(len(rows)) < RARE).astype(np.int8)
    rare = rows[:RARE]
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "vedette, k-smote": (lambda: K_SMOTE.balanced(rows, labels, rng), POINTS),
        "vedette, k-smote, points alone": (lambda: K_SMOTE.points(rare, POINTS, rng), POINTS),
        "imbalanced-learn, SMOTE": (lambda: Smote().balanced(rows, labels, rng), POINTS),
        "imbalanced-learn, SMOTE, its own call": (lambda: _smote(rows, labels), POINTS),
        "plain loops": (lambda: plain_loops(rare, FEW, rng), FEW),
    }
    for way, _ in ways.values():
        way()  # imports
    times = {name: seconds(way, chosen.repeats) / count for name, (way, count) in ways.items()}
    whole = times["vedette, k-smote"]
    told(
        "rebalance",
        [{"measured": name, "points/s": 1 / each, "times as long as k-smote": each / whole} for name, each in times.items()],
        chosen.json,
    )


def _smote(rows: Array, labels: Array) -> Any:
    from imblearn.over_sampling import SMOTE

    return SMOTE(random_state=0).fit_resample(rows, labels)


if __name__ == "__main__":
    main()
