"""The trainer: carries out tasks, one node after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette.errors import DataUnusable, DetectorMisused, TrainingDiverged
from vedette.message import Array, Channel, Memory, Message, Query, Vector
from vedette.seeds import seed_of, stream
from vedette.training.evasion import hardened
from vedette.training.layers import needs_torch
from vedette.training.layout import initial
from vedette.training.networks import Network
from vedette.training.objective import objective
from vedette.training.queries import QUERIES, Asked
from vedette.training.rows import TrainingRows
from vedette.training.task import Done, Job, Learnable, Optimiser, Task, Work

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

__all__ = ["LoopTrainer"]


class LoopTrainer:
    """Trains networks with torch, node by node."""

    def refuses(self, detector: Learnable, work: Work) -> str | None:
        """Say in one sentence why this work cannot be done here, or None."""
        for query in work.queries.values():
            QUERIES[query.name]
        return None

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        torch = needs_torch()
        for job in jobs:
            with torch.random.fork_rng(devices=[]):
                bench = _Bench(detector, job, channels, seed, round, phase)
                # Only dropout draws from it; torch.manual_seed would also look for every kind of accelerator, each time.
                torch.default_generator.manual_seed(seed_of(*bench.path, "torch") % 2**63)
                try:
                    done, memory = bench.done()
                except (DataUnusable, DetectorMisused, TrainingDiverged) as error:
                    raise type(error)(f"node '{job.node}', round {round + 1}: {error}") from None
                yield job.node, done, memory


class _Bench:
    """One node's work in one phase."""

    def __init__(self, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str) -> None:
        self.detector, self.job, self.channels, self.seed, self.round = detector, job, channels, seed, round
        self.path = (seed, "round", round, phase, "node", job.node)
        self.memory: dict[str, Any] = {**job.memory, **job.work.keep}
        self.networks: dict[str, Network] = {}
        self.tables: dict[str, Array] = dict(job.work.tables)
        self.facts: dict[str, float | str] = {"rows": float(len(job.rows))}

    def done(self) -> tuple[Done, Memory]:
        work = self.job.work
        wanted_first = {name for task in work.tasks for name in task.extra}
        for name, query in work.queries.items():
            if name in wanted_first:
                self.answer(name, query)
        for place, task in enumerate(work.tasks):
            self.train(place, task)
        for name, query in work.queries.items():
            if name not in wanted_first:
                self.answer(name, query)
        vectors = {c.name: self.network(c.role).vector(c.part, c.holds) for c in self.channels} if work.tasks else {}
        for role, network in self.networks.items():
            vector = network.vector()
            self.memory |= {f"network.{role}": vector.values, f"layout.{role}": vector.layout}
        answered = {name: table for name, table in self.tables.items() if name not in work.tables}
        return Done(vectors, Message(tables=answered, facts=self.facts)), self.memory

    def network(self, role: str) -> Network:
        role = role or self.detector.role
        if role not in self.networks:
            width = self.detector.samples(self.job.rows.take(slice(0, 0)), self.memory).width
            layers = self.detector.networks(width)[role]
            network = Network(layers)
            # Every node draws its first weights from the same place of the seed tree: averages need a common start.
            kept = self.memory.get(f"network.{role}")
            first = initial(layers, stream(self.seed, "initial", role)) if kept is None else Vector(kept, self.memory[f"layout.{role}"])
            network.load(first)
            self.networks[role] = network
        return self.networks[role]

    def forward(self, rows: Array) -> Array:
        """Run the network that scores; a detector without one looks at the rows themselves."""
        return self.network("").forward(rows) if self.detector.role else rows

    def tried(self, parts: Mapping[str, Vector], rows: Array) -> Array:
        """Run somebody else's network."""
        other = Network(self.network("").layers)
        other.load(self.network("").vector())
        for channel in self.channels:
            if channel.name in parts:
                other.load(parts[channel.name], channel.part, channel.holds)
        return other.forward(rows)

    def answer(self, name: str, query: Query) -> None:
        rng = stream(*self.path, "query", name)
        models = {model: partial(self.tried, parts) for model, parts in self.job.work.models.items()}
        asked = Asked(self.job.rows, self.memory, self.detector, self.forward, models)
        said = QUERIES[query.name](asked, query.settings, rng)
        self.tables |= {f"{name}.{key}" if key else name: table for key, table in said.tables.items()}
        self.facts |= {f"{name}.{key}": fact for key, fact in said.facts.items()}

    def train(self, place: int, task: Task) -> None:
        network = self.network(task.role)
        for channel in self.channels:
            if channel.name in task.start:
                given = task.start[channel.name]
                vector = self.network(given).vector(channel.part, channel.holds) if isinstance(given, str) else given
                network.load(vector, channel.part, channel.holds)
        if not (task.steps if task.steps is not None else task.epochs):
            return
        extra = [self.tables[name] for name in task.extra if name in self.tables and len(self.tables[name])]
        rows = TrainingRows(self.detector, self.job.rows, self.memory, extra, stream(*self.path, "rebalance", place))
        if not len(rows):
            raise DataUnusable("no training rows; check the partition and the labels")
        harden = hardened(self.detector.adversary, network, rows.samples, stream(*self.path, "evasion", place))
        self.descend(network, task, rows, stream(*self.path, "task", place), harden)

    def descend(
        self, network: Network, task: Task, rows: TrainingRows, rng: np.random.Generator, harden: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        module, settings = network.module, self.detector.optimiser
        moving = {name: p for name, p in module.named_parameters() if fnmatchcase(name.rpartition(".")[0], task.trains)}
        if not moving:
            raise DetectorMisused(f"no layer of the network '{task.role or self.detector.role}' is called '{task.trains}'")
        optimiser = _optimiser(settings, list(moving.values()))
        role = task.role or self.detector.role
        state = f"optimiser.{role}."
        if task.keep_optimiser:
            _recall(optimiser, moving, {key.removeprefix(state): kept for key, kept in self.memory.items() if key.startswith(state)})
        loss_of = objective(self.detector, network, task)
        batch = task.batch or settings.batch
        steps = task.steps if task.steps is not None else max(1, math.ceil(task.epochs * len(rows) / batch))
        # A batch of one row has no variance to normalise by; it is left out.
        normalises = any(layer["kind"] == "batch-norm" for layer in network.layers)
        for name, layer in module.named_children():
            # Layers that do not move keep their batch-norm statistics too.
            layer.train(fnmatchcase(name, task.trains))
        total, seen = 0.0, 0
        for number, (inputs, labels) in enumerate(rows.batches(batch, steps, rng)):
            if normalises and len(inputs) == 1:
                continue
            for group in optimiser.param_groups:
                group["lr"] = settings.rate_at(task.span[0] + (task.span[1] - task.span[0]) * number / steps)
            fit, loss = loss_of(harden(inputs, labels), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            # What is reported is the fit to the rows in the last pass over them, without the terms, so that strategies compare.
            if steps - number <= math.ceil(len(rows) / batch):
                total, seen = total + float(fit.detach()) * len(inputs), seen + len(inputs)
        if not math.isfinite(total) or not all(bool(p.isfinite().all()) for p in moving.values()):
            raise TrainingDiverged("the loss is no longer a number; lower the learning rate (detector.optimiser.rate) or scale the data")
        self.facts |= {"steps": float(steps)}
        if seen:
            self.facts |= {"loss": total / seen, f"loss.{role}": total / seen}
        if task.keep_optimiser:
            self.memory |= {state + key: value for key, value in _remembered(optimiser, moving).items()}


def _optimiser(settings: Optimiser, parameters: list[nn.Parameter]) -> optim.Optimizer:
    known = needs_torch().optim
    if settings.name == "sgd":
        return known.SGD(parameters, lr=settings.rate, weight_decay=settings.decay)  # type: ignore[no-any-return]
    kind = known.AdamW if settings.name == "adamw" else known.Adam
    return kind(parameters, lr=settings.rate, weight_decay=settings.decay, fused=True)  # type: ignore[no-any-return]


def _remembered(optimiser: optim.Optimizer, moving: Mapping[str, nn.Parameter]) -> dict[str, Array]:
    return {
        f"{name}/{key}": value.detach().numpy().copy()
        for name, parameter in moving.items()
        for key, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def _recall(optimiser: optim.Optimizer, moving: Mapping[str, nn.Parameter], kept: Mapping[str, Array]) -> None:
    torch = needs_torch()
    for place, array in kept.items():
        name, _, key = place.rpartition("/")
        if name in moving:
            optimiser.state[moving[name]][key] = torch.from_numpy(np.array(array))
