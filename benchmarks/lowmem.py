"""A training step in little memory against the ordinary torch loop: MEDNN's 115-83-128-83-1, batch 128, one thread.

Time: both sides gather the same batches of rows held in memory, and take turns, so that a busy machine slows both. ``torch`` is module,
binary cross-entropy with logits, ``zero_grad(set_to_none=True)``, backward and step of ``torch.optim.Adam(fused=True)`` or ``SGD``.
``NumPy`` is `vedette.training.lowmem.descent.descend` on `HeldRows`. A ratio above 1: NumPy is faster than torch with the same optimiser.

Memory: of NumPy, tracemalloc's peak from before the network and the updater are built until after 5 steps of rows scaled as they are
read, beside what the planner promises. Of torch, allocations and releases that its profiler reports (``profile_memory=True``, events
named "[memory]", positive and negative bytes) from before module and optimiser are built until after 3 steps, in order of time: the
highest running sum, without the rows themselves.
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from table import options, told

from vedette.training.dense import Dense, parameters
from vedette.training.lowmem.descent import descend
from vedette.training.lowmem.network import DenseNetwork, Precision
from vedette.training.lowmem.planner import LANES, step_bytes
from vedette.training.lowmem.rows import Affine, HeldRows, Rows, ScaledRows
from vedette.training.lowmem.update import Rule, Updater

WIDTHS, BATCH, ROWS, STEPS, RATE = (115, 83, 128, 83, 1), 128, 8192, 64, 1e-3
DENSE = [Dense(inputs, outputs, "relu" if outputs > 1 else "") for inputs, outputs in itertools.pairwise(WIDTHS)]


class Way(NamedTuple):
    """How a step is taken in NumPy."""

    rule: str
    micro: int
    precision: Precision


WAYS = [
    Way(rule, micro, precision)
    for rule in ("adam", "sgd")
    for precision, micro in itertools.product(("float32", "float16"), (128, 32))  # type: ignore[misc]
]


class InOrder:
    """Rows as they stand."""

    def take(self, start: int, stop: int) -> np.ndarray:
        return np.arange(start, stop)


def steps_of(way: Way, rows: Rows, vector: np.ndarray) -> Callable[[int], None]:
    """Build a network and return what takes so many steps."""
    network = DenseNetwork(DENSE, way.micro, way.precision, LANES[way.precision][0])
    updater = Updater(network, Rule(way.rule), np.random.default_rng(0))
    network.weights[:] = vector

    def step(count: int) -> None:
        descend(network, updater, [rows], lambda _: [InOrder()], "cross-entropy", BATCH, count, lambda _: RATE)

    return step


def torch_steps(rule: str, x: torch.Tensor, y: torch.Tensor) -> Callable[[int], None]:
    """Build a module and return what takes so many steps."""
    layers: list[torch.nn.Module] = []
    for layer in DENSE:
        layers += [torch.nn.Linear(layer.inputs, layer.outputs), *([torch.nn.ReLU()] if layer.activation else [])]
    module = torch.nn.Sequential(*layers)
    moved = module.parameters()
    optimiser = torch.optim.Adam(moved, lr=RATE, fused=True) if rule == "adam" else torch.optim.SGD(moved, lr=RATE)

    def step(count: int) -> None:
        for start in range(0, count * BATCH, BATCH):
            at = torch.arange(start % ROWS, start % ROWS + BATCH)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x[at])[:, 0], y[at])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return step


def torch_bytes(rule: str, x: torch.Tensor, y: torch.Tensor) -> int:
    """Return the most bytes that torch held at once over construction and three steps."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        torch_steps(rule, x, y)(3)
    raw = profile.profiler.kineto_results.events()  # `profile.events()` has most of them only as sums by operation.
    events = sorted((event for event in raw if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def traced(way: Way, x: np.ndarray, y: np.ndarray, vector: np.ndarray) -> int:
    """Return tracemalloc's peak over construction and five steps."""

    def read(at: np.ndarray, into: np.ndarray) -> None:
        np.take(x, at, axis=0, out=into, mode="clip")

    line = Affine(np.zeros(x.shape[1]), np.ones(x.shape[1]), np.zeros(x.shape[1]), 1e6)
    # Once before, so that what Python and NumPy make on first use is not counted.
    for counts in (False, True):
        if counts:
            tracemalloc.start()
        steps_of(way, ScaledRows(read, np.float32, x.shape[1], None, line, y), vector)(5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    chosen = options(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, WIDTHS[0]), dtype=np.float32)
    y = (x[:, :3].sum(axis=1) > 1.5).astype(np.float32)
    vector = (rng.uniform(-0.1, 0.1, parameters(DENSE))).astype(np.float32)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    held = HeldRows(ROWS, lambda at: (x[at], y[at]))
    works: dict[Any, Callable[[int], None]] = {rule: torch_steps(rule, *tensors) for rule in ("adam", "sgd")}
    works |= {way: steps_of(way, held, vector) for way in WAYS}
    best = dict.fromkeys(works, float("inf"))
    for repeat in range(chosen.repeats + 1):
        for name, work in works.items():
            begin = time.perf_counter()
            work(STEPS)
            if repeat:
                best[name] = min(best[name], (time.perf_counter() - begin) / STEPS * 1e3)
    rows: list[dict[str, Any]] = []
    for rule in ("adam", "sgd"):
        rows.append({"step": f"torch, {rule}", "ms": best[rule], "ratio": 1.0, "kB": torch_bytes(rule, *tensors) / 1e3, "promised kB": ""})
        for way in WAYS:
            if way.rule == rule:
                promised = step_bytes(DENSE, way.micro, way.precision, LANES[way.precision][0], rule) / 1e3
                name = f"NumPy, {rule}, {way.precision}, {BATCH // way.micro} × {way.micro} rows"
                peak = traced(way, x, y, vector) / 1e3
                rows.append({"step": name, "ms": best[way], "ratio": best[rule] / best[way], "kB": peak, "promised kB": promised})
    told("lowmem", rows, chosen.json)


if __name__ == "__main__":
    main()
