"""Seconds to make one update of 1,000 of 100,000 parameters each, by every aggregator, against the obvious loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from table import measured, options, told

from vedette.message import Array
from vedette.strategies.aggregation import Aggregator, Mean, Median, TrimmedMean
from vedette.strategies.krum import Krum, MultiKrum
from vedette.strategies.similarity import squared_distances

NODES, PARAMETERS, ATTACKERS, SHARE = 1000, 100_000, 200, 0.2
COLUMNS, ROWS = 2_000, 40
"""Loops over coordinates are timed on some of them, Krum's over pairs of nodes on few of those, and scaled up."""


def mean_of_column(column: Sequence[float]) -> float:
    return sum(column) / len(column)


def median_of_column(column: Sequence[float]) -> float:
    ordered, half = sorted(column), len(column) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def trimmed_mean_of_column(column: Sequence[float]) -> float:
    cut = int(SHARE * len(column))
    return mean_of_column(sorted(column)[cut : len(column) - cut])


def over_coordinates(one: Callable[[Sequence[float]], float], matrix: Array) -> float:
    """Work some coordinates out one by one; return seconds for all."""
    begin = time.perf_counter()
    for at in range(COLUMNS):
        one(matrix[:, at].tolist())
    return (time.perf_counter() - begin) * matrix.shape[1] / COLUMNS


def over_pairs(matrix: Array) -> tuple[float, float]:
    """Work squared distances of some pairs out one by one in float64; return seconds for all, and how far ours are off at most."""
    rows, wanted = matrix[:ROWS].astype(np.float64), np.zeros((ROWS, ROWS))
    begin = time.perf_counter()
    for i in range(ROWS):
        for j in range(ROWS):
            wanted[i, j] = ((rows[i] - rows[j]) ** 2).sum()
    seconds = (time.perf_counter() - begin) * (NODES / ROWS) ** 2
    found = squared_distances(matrix)[:ROWS, :ROWS]
    apart = wanted > 0
    return seconds, float((np.abs(found - wanted)[apart] / wanted[apart]).max())


def one_product(matrix: Array) -> Array:
    """Work squared distances out at once, the whole matrix in float64."""
    rows = matrix.astype(np.float64)
    products = rows @ rows.T
    squares = np.diag(products)
    found: Array = squares[:, None] + squares - 2 * products
    return found


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    # Weights that set out from the same place, as a federation's do.
    matrix = rng.standard_normal((NODES, PARAMETERS), dtype=np.float32)
    matrix *= 0.02
    matrix += rng.normal(0, 0.05, PARAMETERS).astype(np.float32)
    pairs, deviation = over_pairs(matrix)
    # Attackers who agree, far from all others: the pairs for which one product does not do.
    hostile = matrix.copy()
    hostile[: ATTACKERS // 10] = 1e6 + 0.02 * hostile[: ATTACKERS // 10]
    hostile_deviation = over_pairs(hostile)[1]
    plainly: dict[str, Callable[[], Any]] = {
        "mean": lambda: matrix.mean(axis=0, dtype=np.float64),
        "median": lambda: np.median(matrix, axis=0),
        "trimmed mean": lambda: np.sort(matrix, axis=0)[200:800].mean(axis=0, dtype=np.float64),
        "Krum": lambda: one_product(matrix),
    }
    cases: list[tuple[str, Aggregator, Array, float, float | None]] = [
        ("mean", Mean(), matrix, over_coordinates(mean_of_column, matrix), None),
        ("median", Median(), matrix, over_coordinates(median_of_column, matrix), None),
        ("trimmed mean", TrimmedMean(share=SHARE), matrix, over_coordinates(trimmed_mean_of_column, matrix), None),
        ("Krum", Krum(attackers=ATTACKERS), matrix, pairs, deviation),
        ("Multi-Krum", MultiKrum(attackers=ATTACKERS), matrix, pairs, deviation),
        ("Multi-Krum, 20 far off", MultiKrum(attackers=ATTACKERS), hostile, pairs, hostile_deviation),
    ]
    rows: list[dict[str, Any]] = []
    for name, aggregator, updates, loop, off in cases:
        seconds, most = measured(lambda a=aggregator, u=updates: a(u, np.ones(NODES)), chosen.repeats)
        plain = plainly.get(name)
        rows.append(
            {
                "measured": name,
                "seconds": seconds,
                "loop, scaled up": loop,
                "ratio": loop / seconds,
                "NumPy, the whole at once": "" if plain is None else measured(plain, 1)[0],
                "MiB beside the matrix": most,
                "relative deviation": "" if off is None else off,
            }
        )
    told("aggregation", rows, chosen.json)


if __name__ == "__main__":
    main()
