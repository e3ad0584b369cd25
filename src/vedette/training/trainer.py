"""The ordinary trainer: carries tasks out with torch, one node after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from vedette.errors import DetectorMisused, TrainingDiverged
from vedette.message import Channel, Memory
from vedette.seeds import seed_of
from vedette.training.bench import Bench
from vedette.training.evasion import hardened
from vedette.training.layers import needs_torch
from vedette.training.networks import Network
from vedette.training.objective import objective
from vedette.training.optimiser import TorchOptimiser
from vedette.training.rows import TrainingRows
from vedette.training.task import Done, Job, Layers, Learnable, Task, Trainer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DIVERGED", "LoopTrainer", "TorchBench"]

DIVERGED = "the loss is no longer a number; lower the learning rate (detector.optimiser.rate) or scale the data"


class LoopTrainer(Trainer):
    """Trains networks with torch, node by node."""

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        torch = needs_torch()
        for job in jobs:
            with torch.random.fork_rng(devices=[]):
                bench = TorchBench(detector, job, channels, seed, round, phase)
                # Only dropout draws from it; torch.manual_seed would also look for every kind of accelerator, each time.
                torch.default_generator.manual_seed(seed_of(*bench.path, "torch") % 2**63)
                with bench.located():
                    done, memory = bench.done()
                yield job.node, done, memory


class TorchBench(Bench[Network]):
    """One node's work, trained by torch."""

    def made(self, layers: Layers) -> Network:
        return Network(layers)

    def done(self) -> tuple[Done, Memory]:
        self.begin()
        for place, task in enumerate(self.job.work.tasks):
            network = self.loaded(task)
            if task.trained:
                self.descend(network, task, self.rows(task, place), place)
        return self.ended()

    def descend(self, network: Network, task: Task, rows: TrainingRows, place: int) -> None:
        torch = needs_torch()
        harden = hardened(self.detector.adversary, network, rows.samples, self.drawn("evasion", place))
        module, settings = network.module, self.detector.optimiser
        moving = {name: p for name, p in module.named_parameters() if fnmatchcase(name.rpartition(".")[0], task.trains)}
        if not moving:
            raise DetectorMisused(f"no layer of the network '{task.role or self.detector.role}' is called '{task.trains}'")
        role = task.role or self.detector.role
        optimiser = self.optimiser(task, moving)
        loss_of = objective(self.detector, network, task)
        batch, steps = task.batch or settings.batch, task.steps_over(len(rows), settings.batch)
        # A batch of one row has no variance to normalise by; it is left out.
        normalises = any(layer["kind"] == "batch-norm" for layer in network.layers)
        for name, layer in module.named_children():
            # Layers that do not move keep their batch-norm statistics too.
            layer.train(fnmatchcase(name, task.trains))
        total, seen = 0.0, 0
        for number, arrays in enumerate(rows.batches(batch, steps, self.drawn("task", place))):
            inputs, labels = (torch.from_numpy(array) for array in arrays)
            if normalises and len(inputs) == 1:
                continue
            fit, loss = loss_of(harden(inputs, labels), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step(task.rate_at(settings, number / steps))
            # What is reported is the fit to the rows in the last pass over them, without the terms, so that strategies compare.
            if steps - number <= math.ceil(len(rows) / batch):
                total, seen = total + float(fit.detach()) * len(inputs), seen + len(inputs)
        if not math.isfinite(total) or not all(bool(p.isfinite().all()) for p in moving.values()):
            raise TrainingDiverged(DIVERGED)
        if seen:
            self.fitted(role, steps, total / seen)
        self.keep(task, optimiser)

    def optimiser(self, task: Task, moving: Mapping[str, nn.Parameter]) -> TorchOptimiser:
        """Return what moves parameters, which goes on where it was if it is kept."""
        prefix, memory = self._prefix(task), self.memory if task.keep_optimiser else {}
        kept = {key.removeprefix(prefix): array for key, array in memory.items() if key.startswith(prefix)}
        return TorchOptimiser(self.detector.optimiser, moving, kept)

    def keep(self, task: Task, optimiser: TorchOptimiser) -> None:
        """Remember an optimiser, if it is kept."""
        if task.keep_optimiser:
            self.memory |= {self._prefix(task) + key: value for key, value in optimiser.remembered().items()}

    def _prefix(self, task: Task) -> str:
        return f"optimiser.{task.role or self.detector.role}."
