"""Seconds to find every node's nearest peer: 1,000 nodes of 200,000 parameters, against a double loop and one product in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from table import measured, options, told

from vedette.message import Array
from vedette.strategies.similarity import distances, nearest_of

NODES, PARAMETERS, FEW = 1000, 200_000, 40
"""The double loop is timed on few nodes and scaled up."""


def double_loop(matrix: Array) -> Array:
    """Work distances out pair by pair, in float64 (eqs. 13-15 of the paper)."""
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


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    # Weights that set out from the same place, as a federation's do.
    matrix = (rng.normal(0, 0.05, PARAMETERS) + rng.normal(0, 0.02, (NODES, PARAMETERS))).astype(np.float32)
    ways: dict[str, Callable[[Array], Any]] = {
        "vedette, distances and nearest": lambda weights: nearest_of(distances(weights)),
        "one product in float64": one_product,
    }
    rows: list[dict[str, Any]] = []
    for name, way in ways.items():
        seconds, most = measured(lambda way=way: way(matrix), chosen.repeats)
        rows.append({"measured": name, "nodes": NODES, "seconds": seconds, "MiB beside the weights": most})
    seconds, most = measured(lambda: double_loop(matrix[:FEW]), 1)
    rows.append(
        {"measured": "double loop, scaled up", "nodes": NODES, "seconds": seconds * (NODES / FEW) ** 2, "MiB beside the weights": most}
    )
    told("matching", rows, chosen.json)


if __name__ == "__main__":
    main()
