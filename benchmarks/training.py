"""The trainer against a hand-written torch loop: seconds an epoch of the dense autoencoder of NSL-KDD (122-64-16-64-122)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from table import options, told

from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.message import Channel, Memory
from vedette.training.networks import Network
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer

FEATURES, BATCH, ROWS, NODES, ROWS_A_NODE = 122, 128, 67_343, 20, 3_367
DETECTOR = Autoencoder(hidden=(64, 16), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=1e-3, batch=BATCH))


def job_of(node: str, rows: int, seed: int) -> tuple[Job, np.ndarray]:
    """Return a node's work, and its rows scaled."""
    numbers = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    table = Table.from_array(numbers)
    memory: Memory = DETECTOR.scaling.fitted(DETECTOR.scaling.summary(table), table.features).memory()
    return Job(node, table, Work(tasks=(Task(epochs=1.0),)), memory), DETECTOR.samples(table, memory).all()


def vedette(jobs: list[Job]) -> None:
    for _ in LoopTrainer().run(DETECTOR, jobs, (Channel("model"),), 0, 0, "train"):
        pass


def by_hand(scaled: list[np.ndarray]) -> None:
    """One epoch for each node as one would write it: rows in memory, shuffled once, Adam fused, no frills."""
    for rows in scaled:
        module = Network(DETECTOR.networks(FEATURES)["model"]).module
        optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
        x = torch.from_numpy(rows)
        shuffled = x[torch.randperm(len(x))]
        for start in range(0, len(x), BATCH):
            batch = shuffled[start : start + BATCH]
            loss = torch.nn.functional.mse_loss(module(batch), batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


def seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def compared(what: str, jobs: list[tuple[Job, np.ndarray]], repeats: int) -> dict[str, Any]:
    """Measure both in turn, so that a busy machine slows both; the fastest of each counts."""
    ours, theirs = [job for job, _ in jobs], [scaled for _, scaled in jobs]
    vedette(ours[:1])
    by_hand(theirs[:1])
    pairs = [(seconds(lambda: vedette(ours)), seconds(lambda: by_hand(theirs))) for _ in range(repeats)]
    trainer, loop = (min(times) for times in zip(*pairs, strict=True))
    return {"epoch of": what, "trainer s": trainer, "loop s": loop, "ratio": trainer / loop, "rows/s": sum(map(len, theirs)) / trainer}


def main() -> None:
    chosen = options(__doc__).parse_args()
    torch.set_num_threads(1)
    fleet = [job_of(f"node-{i}", ROWS_A_NODE, i) for i in range(NODES)]
    one = [job_of("one", ROWS, 99)]
    rows = [
        compared(f"1 node x {ROWS:,} rows", one, chosen.repeats),
        compared(f"{NODES} nodes x {ROWS_A_NODE:,} rows", fleet, chosen.repeats),
    ]
    told("training", rows, chosen.json)


if __name__ == "__main__":
    main()
