"""What a step of low-memory training takes, measured in a process of its own: in the test runner's, others' threads and contexts count too.

Reads a line for each measurement, a JSON list of the place in `SHAPES`, rule, precision and lanes; answers with one of losses and bytes.
"""

from __future__ import annotations

import itertools
import json
import sys
import tracemalloc
from typing import Any

import numpy as np

from vedette.data.scaling import LIMIT
from vedette.message import Array
from vedette.training.dense import Dense
from vedette.training.lowmem.descent import Schedule, descend
from vedette.training.lowmem.network import DenseNetwork
from vedette.training.lowmem.order import Scattered
from vedette.training.lowmem.rows import Affine, ScaledRows
from vedette.training.lowmem.update import Rule, Updater


def of_widths(*widths: int, activation: str = "relu") -> list[Dense]:
    pairs = list(itertools.pairwise(widths))
    return [Dense(*pair, activation if place < len(pairs) - 1 else "") for place, pair in enumerate(pairs)]


SHAPES = [
    (of_widths(115, 83, 128, 83, 1), 128, 32),
    (of_widths(115, 83, 128, 83, 1), 128, 128),
    (of_widths(115, 64, 16, 64, 115, activation="tanh"), 64, 16),
    (of_widths(20, 300, 1, activation="leaky-relu"), 256, 256),
    (of_widths(6, 6), 8, 1),
    (of_widths(40, 30, 40, activation="sigmoid"), 1024, 512),
]
"""Layers, rows of a batch and of a part of it."""


def task(rows: int, width: int, seed: int) -> tuple[Array, Array]:
    """Rows in two halves that a ball divides."""
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return x, ((x[:, :3] ** 2).sum(axis=1) > 2.4).astype(np.float32)


def peaks(place: int, rule: Any, precision: Any, lanes: int) -> dict[str, int]:
    """Return what five steps take at most, by loss: the least of three times.

    What Python and NumPy make on first use, and how much of it they still hold, is no part of a step.
    """
    dense, batch, micro = SHAPES[place]
    x, y = task(3 * batch, dense[0].inputs, 0)
    line = Affine(np.zeros(x.shape[1]), np.ones(x.shape[1]), np.zeros(x.shape[1]), LIMIT)

    def read(at: Array, into: Array) -> None:
        np.take(x, at, axis=0, out=into, mode="clip")

    def steps(count: int, loss: Any) -> None:
        network = DenseNetwork(dense, micro, precision, lanes)
        updater = Updater(network, Rule(rule, decay=0.01), np.random.default_rng(0), stays=True)
        rows = ScaledRows(read, np.float32, x.shape[1], None, line, y)
        order = Scattered(len(x), np.random.default_rng(1))
        penalty = Schedule(0.01, 0.01, 0.01, 0.001)
        descend(network, updater, [rows], lambda _: [order], loss, batch, count, lambda _: 1e-3, penalty)

    found = {}
    for loss in ("cross-entropy",) if dense[-1].outputs == 1 else ("mse", "mae"):
        times = list[int]()
        for _ in range(3):
            tracemalloc.start()
            steps(5, loss)
            times.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        found[loss] = min(times)
    return found


if __name__ == "__main__":
    for asked in sys.stdin:
        sys.stdout.write(json.dumps(peaks(*json.loads(asked))) + "\n")
        sys.stdout.flush()
