"""How long it takes to find every node's nearest peer: distances between the weights of 1,000 nodes of 200,000 parameters each.

``python benchmarks/matching.py`` compares with the double loop of the paper's equations (on a tenth of the nodes, scaled up) and with one
product of all in float64, and says the peak of memory beside the weights themselves.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from vedette.message import Array
from vedette.strategies.similarity import distances, nearest_of

NODES, PARAMETERS, FEW = 1000, 200_000, 40


def double_loop(matrix: Array) -> Array:
    """Work the distances out pair by pair."""
    rows = matrix.astype(np.float64)
    found = np.full((len(rows), len(rows)), np.inf)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if i != j:
                cosine = one @ other / np.sqrt((one @ one) * (other @ other))
                found[i, j] = np.sqrt(((one - other) ** 2).sum()) / cosine if cosine > 0 else np.inf
    return found


def one_product(matrix: Array) -> Array:
    """Work them out at once, the whole matrix in float64."""
    rows = matrix.astype(np.float64)
    products = rows @ rows.T
    squares = np.diag(products)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    found: Array = apart * np.sqrt(squares[:, None] * squares) / products
    return found


def timed(work: Callable[[Array], Array], matrix: Array) -> tuple[float, float]:
    """Return the best of three times in seconds, and the peak of memory in MiB."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work(matrix)
        times.append(time.perf_counter() - begin)
    tracemalloc.start()
    work(matrix)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return min(times), peak


def main() -> None:
    rng = np.random.default_rng(0)
    # Weights that set out from the same place, as a federation's do.
    matrix = (rng.normal(0, 0.05, PARAMETERS) + rng.normal(0, 0.02, (NODES, PARAMETERS))).astype(np.float32)
    print(f"{NODES:,} nodes, {PARAMETERS:,} parameters; the weights themselves: {matrix.nbytes / 2**20:.0f} MiB")  # noqa: T201
    ours, ours_peak = timed(lambda weights: nearest_of(distances(weights))[0], matrix)
    print(f"distances and matching: {ours:.2f} s, {ours_peak:.0f} MiB beside the weights")  # noqa: T201
    whole, whole_peak = timed(one_product, matrix)
    print(f"one product in float64: {whole:.2f} s, {whole_peak:.0f} MiB; ours is {whole / ours:.1f} times as fast")  # noqa: T201
    few, _ = timed(double_loop, matrix[:FEW])
    print(f"double loop: {few * (NODES / FEW) ** 2:.0f} s (from {FEW} nodes); ours is {few * (NODES / FEW) ** 2 / ours:.0f} times as fast")  # noqa: T201


if __name__ == "__main__":
    main()
