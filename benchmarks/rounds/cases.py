"""What is trained in rounds of FedAvg, by Vedette and by a plain PyTorch loop."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import vedette
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Feature, Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.message import Message
from vedette.runtimes.base import Round
from vedette.seeds import stream
from vedette.strategies.base import STRATEGIES, Turn
from vedette.strategies.fedavg import FedAvg
from vedette.training.layout import initial
from vedette.training.task import Done, Optimiser, Trainer, Work
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / "build" / "benchmarks"
RATES = {"sgd": 0.1, "adam": 1e-3}


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


class Case(NamedTuple):
    """What is trained: one row of the table."""

    widths: tuple[int, ...]
    detector: Autoencoder
    rows: int
    batch: int
    nodes: int
    flower: int
    """Nodes that Flower runs; its time a node does not depend on it by much."""


CASES = {
    "A": Case((115, 32, 115), Autoencoder(hidden=(32,)), 50, 10, 1_000, 300),
    "B": Case((41, 32, 16, 8, 8, 16, 32, 41), Autoencoder(hidden=(32, 16, 8), mirror="bottleneck"), 1_000, 128, 1_000, 100),
    "C": Case((115, 32, 115), Autoencoder(hidden=(32,)), 50, 10, 20, 20),
}


@STRATEGIES.register("benchmark-still")
class Still(FedAvg):
    """FedAvg whose nodes take no step."""

    def work(self, turn: Turn, inbox: Message, mine: Any) -> Work:
        work = super().work(turn, inbox, mine)
        return work._replace(tasks=tuple(task._replace(epochs=0.0) for task in work.tasks))


@TRAINERS.register("benchmark-idle")
class Idle(Trainer):
    """Hands back the weights that it received, at once."""

    def refuses(self, detector: Any, work: Work) -> str | None:
        return None

    def run(self, detector: Any, jobs: Any, channels: Any, seed: int, round: int, phase: str) -> Any:
        for job in jobs:
            if job.work.tasks and job.work.tasks[0].start:
                yield job.node, Done(job.work.tasks[0].start, Message(facts={"rows": float(len(job.rows))})), job.memory
            else:
                yield from LoopTrainer().run(detector, [job], channels, seed, round, phase)


class Times(NamedTuple):
    """Of a round."""

    seconds: float
    cpu: float
    """Seconds of the processor, of all threads; beside other work on the machine they tell more."""

    @classmethod
    def now(cls) -> Times:
        return cls(time.perf_counter(), time.process_time())

    def until(self, end: Times) -> Times:
        return Times(end.seconds - self.seconds, end.cpu - self.cpu)


class Enough(Exception):
    """Ends a federation after its rounds: what follows (thresholds) is not measured."""


def detector_of(case: Case, optimiser: str) -> Autoencoder:
    wanted = Optimiser(name=optimiser, rate=RATES[optimiser], batch=case.batch)  # type: ignore[arg-type]
    return case.detector.model_copy(update={"optimiser": wanted, "scaling": Scaling(numbers="none")})


def first_weights(case: Case) -> np.ndarray:
    """Return the weights that Vedette begins with: seed 0."""
    return initial(case.detector.networks(case.widths[0])["model"], stream(0, "initial", "model")).values


def made_rows(case: Case, nodes: int) -> np.ndarray:
    """Return [nodes, rows, features] float32 that eight hidden numbers make up."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((8, case.widths[0]), dtype=np.float32) / np.float32(3)
    return rng.standard_normal((nodes, case.rows, 8), dtype=np.float32) @ mixed


def fleet_of(rows: np.ndarray) -> Fleet:
    features = tuple(Feature(f"x{i}") for i in range(rows.shape[2]))
    return Fleet.of({f"node-{i:06d}": Table(features, table) for i, table in enumerate(rows)})


def by_vedette(fleet: Fleet, detector: Autoencoder, strategy: FedAvg, trainer: Trainer) -> tuple[list[Times], float | None]:
    """Return what each round but the first took, and the loss in training of the last."""
    ends: list[Times] = []
    losses: list[float | None] = []

    def on_round(entry: Round, _: Any) -> None:
        if entry.stage == "rounds":
            ends.append(Times.now())
            losses.append(entry.loss)
            if entry.number == entry.of:
                raise Enough

    with suppress(Enough):
        vedette.federate(fleet, detector, strategy, trainer=trainer, on_round=on_round)
    return [begin.until(end) for begin, end in itertools.pairwise(ends)], losses[-1]


class Loop:
    """FedAvg as one would write it by hand with autograd."""

    def __init__(self, case: Case, optimiser: str) -> None:
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(case.widths):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        self.module, self.batch = torch.nn.Sequential(*layers[:-1]), case.batch
        self.moved = list(self.module.parameters())
        torch.nn.utils.vector_to_parameters(torch.from_numpy(first_weights(case).copy()), self.moved)
        # Each in its fastest form on one core: SGD is no faster fused.
        kind = partial(torch.optim.Adam, fused=True) if optimiser == "adam" else torch.optim.SGD
        self.optimiser = kind(self.moved, lr=RATES[optimiser])
        self.loss = 0.0

    def round(self, rows: torch.Tensor, watch: bool = False) -> Times:
        """Train all nodes and average; return what it took. `watch` also notes the loss in training."""
        begin = Times.now()
        start = [p.detach().clone() for p in self.moved]
        total = [torch.zeros_like(p) for p in start]
        losses: list[float] = []
        for mine in rows:
            with torch.no_grad():
                torch._foreach_copy_(self.moved, start)
            self.optimiser.state.clear()
            shuffled = mine[torch.randperm(len(mine))]
            for at in range(0, len(mine), self.batch):
                batch = shuffled[at : at + self.batch]
                self.optimiser.zero_grad(set_to_none=True)
                loss = torch.nn.functional.mse_loss(self.module(batch), batch)
                loss.backward()
                self.optimiser.step()
                if watch:
                    losses.append(float(loss.detach()) * len(batch))
            with torch.no_grad():
                torch._foreach_add_(total, self.moved, alpha=len(mine))
        with torch.no_grad():
            torch._foreach_div_(total, float(rows.shape[0] * rows.shape[1]))
            torch._foreach_copy_(self.moved, total)
        if watch:
            self.loss = sum(losses) / (rows.shape[0] * rows.shape[1])
        return begin.until(Times.now())

    @torch.no_grad()
    def error(self, rows: torch.Tensor) -> float:
        """Return the loss of the averaged network."""
        return float(torch.nn.functional.mse_loss(self.module(rows), rows))
