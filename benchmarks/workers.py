"""Two worker processes against this one: seconds a round of 20 nodes that train an LSTM autoencoder (windows of 26 × 10, 64/32)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from table import options, told

from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.lstm import LstmAutoencoder
from vedette.message import Channel, Memory
from vedette.runtimes.workers import Workers
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer

NODES, ROWS, FEATURES = 20, 1_000, 10
DETECTOR = LstmAutoencoder(window=Window(size=26), hidden=(64, 32), scaling=Scaling(numbers="standard"), optimiser=Optimiser(batch=64))


def jobs() -> Iterator[Job]:
    for number in range(NODES):
        table = Table.from_array(np.random.default_rng(number).normal(size=(ROWS, FEATURES)).astype(np.float32))
        memory: Memory = DETECTOR.scaling.fitted(DETECTOR.scaling.summary(table)).memory()
        yield Job(f"node-{number:02}", table, Work(tasks=(Task(epochs=1.0),)), memory)


def carried(workers: Workers) -> tuple[float, list[np.ndarray]]:
    """Return the seconds of a round, and each node's weights."""
    begin = time.perf_counter()
    found = list(workers.run(LoopTrainer(), DETECTOR, jobs(), NODES, (Channel("model"),), 0, 0, "train"))
    return time.perf_counter() - begin, [done.vectors["model"].values for _, done, _ in found]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="how many worker processes (default: 2)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    one, several = Workers(1), Workers(chosen.workers)
    # The first round starts the workers, which import torch: that is told, and counts for nothing.
    first, there = carried(several)
    here = carried(one)[1]
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True)), "the weights differ"
    # In turn, so that a busy machine slows both.
    pairs = [(carried(one)[0], carried(several)[0]) for _ in range(chosen.repeats)]
    alone, spread = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    row: dict[str, Any] = {"nodes": NODES, "workers": chosen.workers, "one s": alone, "workers s": spread, "times as fast": ratio}
    told("workers", [{**row, "nodes/s": NODES / spread, "first round s": first}], chosen.json)


if __name__ == "__main__":
    main()
