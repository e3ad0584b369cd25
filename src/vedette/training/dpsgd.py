"""DP-SGD: training with differential privacy for each row of a node."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from vedette.data.rebalance import Keep
from vedette.errors import DetectorMisused, MissingExtra, RecipeError, TrainingDiverged
from vedette.message import Channel, Memory
from vedette.seeds import seed_of
from vedette.training.accounting import Budget, Release, epsilon_of, noise_for, releases_of, table_of
from vedette.training.layers import needs_torch
from vedette.training.networks import Network
from vedette.training.objective import objective
from vedette.training.rows import TrainingRows
from vedette.training.task import Done, Job, Layers, Learnable, Proximal, Task, Trainer, Work
from vedette.training.trainer import DIVERGED, TorchBench

__all__ = ["SPENT", "DpSgdTrainer"]

RELEASED, NOISE, SPENT = "privacy.released", "privacy.noise", "privacy.epsilon"
"""What a node remembers: what it gave away so far (`vedette.training.accounting.table_of`), the noise it does it with, what it comes to."""

UNSUPPORTED = {
    "lstm": "whose gradients Opacus does not take apart row by row: take dense or convolutional layers, or 'noise' in the chain",
    "batch-norm": "by which a row's gradient depends on the others of its batch: leave it out, or take 'noise' in the chain",
}


class DpSgdTrainer(Trainer):
    """Trains with each row's gradient clipped and with noise (Abadi et al. 2016, algorithm 1), through Opacus.

    What is protected is each row of a node, from whoever sees the node's parameters: two sets of rows are neighbours if one has a row that
    the other has not. Where windows overlap, a row stands in several of them, which is counted too. How many rows a node has is no secret,
    no loss is told, and what queries answer (scaling, thresholds, residuals) is not covered here.

    Batches are drawn as the accountant has it: each row by itself, with a probability such that they are as large as usual on average.

    Parameters
    ----------
    epsilon, delta
        What a node may spend over all its training, whatever a run asks for. It remembers what it has spent, and stops before it is more.
    noise
        Standard deviation of the noise over `clip`. None: as little as keeps `epsilon` over the whole training, which a node knows by
        `Task.span`; who takes part in some rounds only spends less.
    clip
        Length that a row's gradient is clipped to.
    secret
        Whether batches and noise are drawn from the operating system's entropy (63 bits for the noise), by generators for statistics, in
        float32: enough against whoever sees networks, not against whoever takes them apart bit by bit (Mironov 2012). If not they are
        drawn from the run's seed: results can be repeated, and whoever knows the seed can take the noise away again. That is for
        experiments.
    """

    epsilon: float | None = Field(default=None, gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    noise: float | None = Field(default=None, ge=0)
    clip: float = Field(default=1.0, gt=0)
    secret: bool = True

    @model_validator(mode="after")
    def _has_some(self) -> Self:
        if self.epsilon is None and self.noise is None:
            raise ValueError("needs epsilon, noise, or both")
        return self

    def refuses(self, detector: Learnable, work: Work) -> str | None:
        """Say in one sentence why this work cannot be done here, or None."""
        if detector.adversary is not None:
            return "the trainer 'dp-sgd' does not train against evasion: leave out detector.hardening"
        if not isinstance(detector.balancer, Keep):
            return "re-balanced rows are made of several rows, which the trainer 'dp-sgd' cannot tell apart: leave out detector.rebalance"
        for task in work.tasks:
            if task.trained and task.extra:
                return "the trainer 'dp-sgd' trains on a node's own rows alone, and this strategy adds others: take another strategy"
            if any(isinstance(term, Proximal) for term in task.terms):
                return "the trainer 'dp-sgd' has no proximal term: take 'fedavg' instead of 'fedprox'"
        return None

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`.

        Raises
        ------
        BudgetSpent
            A node would spend more than it may.
        RecipeError
            A network with layers that cannot be trained like this.
        """
        torch = needs_torch()
        for job in jobs:
            with torch.random.fork_rng(devices=[]):
                bench = _PrivateBench(self, detector, job, channels, seed, round, phase)
                torch.default_generator.manual_seed(seed_of(*bench.path, "torch") % 2**63)
                with bench.located():
                    done, memory = bench.done()
                yield job.node, done, memory


class _PrivateBench(TorchBench):
    def __init__(self, trainer: DpSgdTrainer, *about: Any) -> None:
        super().__init__(*about)
        self.trainer = trainer

    def made(self, layers: Layers) -> Network:
        for layer in layers:
            if layer["kind"] in UNSUPPORTED:
                raise RecipeError(
                    f"the trainer 'dp-sgd' cannot train the layer '{layer['name']}' ({layer['kind']}), {UNSUPPORTED[layer['kind']]}"
                )
        return super().made(layers)

    def descend(self, network: Network, task: Task, rows: TrainingRows, place: int) -> None:
        torch, opacus = needs_torch(), _opacus()
        reason = self.trainer.refuses(self.detector, self.job.work)
        if reason:
            raise RecipeError(reason)
        module, settings, role = network.module, self.detector.optimiser, task.role or self.detector.role
        moving = {name: p for name, p in module.named_parameters() if fnmatchcase(name.rpartition(".")[0], task.trains)}
        if not moving:
            raise DetectorMisused(f"no layer of the network '{role}' is called '{task.trains}'")
        steps, batch = task.steps_over(len(rows), settings.batch), min(task.batch or settings.batch, len(rows))
        noise, spent = self._charged(steps, batch, rows)
        seed = secrets.randbits(63) if self.trainer.secret else seed_of(*self.path, "noise", place) % 2**63
        draws = np.random.default_rng(secrets.randbits(256)) if self.trainer.secret else self.drawn("task", place)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in moving)
        module.train()
        hooks = opacus.GradSampleModule(module)
        optimiser = self.optimiser(task, moving)
        private = opacus.optimizers.DPOptimizer(
            # Of Opacus' only what comes before a step: it asks for an optimiser whose gradients it may change.
            torch.optim.SGD(moving.values(), lr=0.0),
            noise_multiplier=noise,
            max_grad_norm=self.trainer.clip,
            expected_batch_size=batch,
            generator=torch.Generator().manual_seed(seed),
        )
        loss_of = objective(self.detector, network, task)
        for number in range(steps):
            taken = np.flatnonzero(draws.random(len(rows)) < batch / len(rows))
            private.zero_grad(set_to_none=True)
            if len(taken):
                inputs, labels = (torch.from_numpy(array) for array in rows.take(taken))
                # Opacus' hooks ask for the slope of what goes in.
                loss_of(inputs.requires_grad_(), labels)[1].backward()
            else:
                for parameter in moving.values():
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]
            private.pre_step()
            optimiser.step(task.rate_at(settings, number / steps))
        hooks.remove_hooks()
        module.requires_grad_(True)
        if not all(bool(p.isfinite().all()) for p in moving.values()):
            raise TrainingDiverged(DIVERGED)
        self.facts |= {"steps": float(steps)} | ({"epsilon": spent} if math.isfinite(spent) else {})
        self.keep(task, optimiser)

    def _charged(self, steps: int, batch: int, rows: TrainingRows) -> tuple[float, float]:
        """Return the noise of the next steps, and the epsilon with them, which is remembered before they are taken."""
        trainer, window = self.trainer, rows.samples.window
        before = releases_of(np.asarray(self.memory.get(RELEASED, table_of([]))))
        # Where no window is whole, each row has one.
        parts = window.size if rows.own == len(self.job.rows) else math.ceil(window.size / window.stride)
        if trainer.noise is not None:
            noise = trainer.noise
        elif NOISE in self.memory:
            noise = float(self.memory[NOISE])
        else:
            assert trainer.epsilon is not None
            noise = noise_for(trainer.epsilon, trainer.delta, *self._planned(rows), "poisson", parts, beside=before)
            self.memory[NOISE] = noise
        release = Release(noise, steps, batch / len(rows), "poisson", parts)
        if trainer.epsilon is None:
            spent = epsilon_of([release, *before], trainer.delta)
        else:
            who = f"node '{self.job.node}', round {self.round + 1}: "
            spent = Budget(trainer.epsilon, trainer.delta).demand(release, before, who)
        self.memory |= {RELEASED: table_of([*before, release])} | ({SPENT: spent} if math.isfinite(spent) else {})
        return noise, spent

    def _planned(self, rows: TrainingRows) -> tuple[int, float]:
        """Return how many steps there will be in the whole training, all networks together, and the share of the rows in a batch."""
        usual, steps, share = self.detector.optimiser.batch, 0, 0.0
        for task in self.job.work.tasks:
            if task.trained:
                begin, end = task.span
                left = (1 - begin) / (end - begin) if end > begin else 1.0
                steps += math.ceil(left * task.steps_over(len(rows), usual) - 1e-6)
                share = max(share, min(1.0, (task.batch or usual) / len(rows)))
        return steps, share


def _opacus() -> Any:
    try:
        import opacus.optimizers
    except ImportError:
        raise MissingExtra("the trainer 'dp-sgd' needs Opacus: pip install 'vedette[privacy]'") from None
    return opacus
