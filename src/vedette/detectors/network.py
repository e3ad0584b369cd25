"""Detectors whose model is a network: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, PrivateAttr

from vedette.data.rebalance import Keep, Rebalancer
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.message import Array, Memory, Query, Vector
from vedette.training.evasion import Evasion
from vedette.training.lowmem.flat import FlatNetwork
from vedette.training.networks import Network
from vedette.training.task import Job, Layers, Optimiser, Task, Trainer, Work
from vedette.training.trainer import LoopTrainer

__all__ = ["NetworkDetector", "Runner", "dense"]


class Runner(Protocol):
    """What runs a network: torch, ONNX Runtime, or NumPy alone."""

    def forward(self, samples: Array, /) -> Array:
        """Run [n, width] float32 through the network."""


class NetworkDetector(Detector):
    """Base of detectors that a strategy can train among many nodes (`vedette.training.task.Learnable`).

    Parameters
    ----------
    epochs
        Passes over the rows in `fit`; a federation counts its own (rounds × epochs a round).
    optimiser
        How weights move.
    """

    roles: ClassVar[tuple[str, ...]] = ("model",)
    """Its networks; the first scores unless settings say otherwise."""
    loss: Any

    epochs: float = Field(default=20, ge=0)
    optimiser: Optimiser = Optimiser()

    _network: Runner | None = PrivateAttr(default=None)
    _trainer: Trainer = PrivateAttr(default_factory=LoopTrainer)

    @property
    def role(self) -> str:
        """The network that scores."""
        return self.roles[0]

    @property
    def residual_summary(self) -> Literal["none", "moments", "covariance", "inputs"]:
        """What the score needs to know of the residuals of normal rows (``residuals.moments``, ``.covariance`` in the memory).

        ``"inputs"``: nothing, but explanations need to know what is usual (``own.inputs.moments``).
        """
        return "none"

    @property
    def balancer(self) -> Rebalancer:
        """How training rows are re-balanced; detectors of normality have nothing to balance."""
        return Keep()

    @property
    def adversary(self) -> Evasion | None:
        """Who changes training rows to evade it; detectors of normality see no anomaly that could."""
        return None

    @abstractmethod
    def networks(self, features: int) -> Mapping[str, Layers]:
        """Return the networks by role for samples of so many values."""

    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        queries = {"residuals": Query("residuals", {"summary": self.residual_summary})}
        if self.residual_summary in ("none", "inputs"):
            queries = {"own.inputs": Query("inputs")} if self.residual_summary == "inputs" else {}
        work = Work(tasks=(Task(role=self.role, epochs=self.epochs),), queries=queries)
        job = Job("fit", table, work, memory)
        ((_, done, learned),) = self._trainer.run(self, [job], (), seed, 0, "train")
        return {**learned, **done.answers.tables}

    def score_samples(self, samples: Array) -> Array:
        network = self.network()
        return self.scores(samples, network.forward(samples), self.memory)

    @property
    def layers(self) -> Layers:
        """The network that scores, as data."""
        return self.networks(self.window.size * self.scaler.width)[self.role]

    @property
    def weights_(self) -> Vector:
        """What that network learned."""
        return Vector(self.memory[f"network.{self.role}"], str(self.memory[f"layout.{self.role}"]))  # type: ignore[arg-type]

    def network(self) -> Runner:
        """Return the network that scores, with its learned weights."""
        if self._network is None:
            network = Network(self.layers) if isinstance(self._trainer, LoopTrainer) else FlatNetwork(self.layers)
            network.load(self.weights_)
            self._network = network
        return self._network

    def trained_by(self, trainer: Trainer) -> Self:
        """Return a detector of the same settings that `fit` trains, and NumPy runs, by another trainer than torch.

        Parameters
        ----------
        trainer
            Such as ``LowmemTrainer(memory_budget="256 kB")``.
        """
        other = self.model_copy()
        other._trainer = trainer
        return other

    def run_by(self, network: Runner) -> Self:
        """Score by this network from now on; it must be the one that was learned."""
        self._network = network
        return self

    @abstractmethod
    def residuals(self, inputs: Array, outputs: Array) -> Array:
        """Return [samples, values] float64, how far each output that counts is from what it should be."""

    @abstractmethod
    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        """Return [samples] float64 >= 0 of inputs and the network's outputs."""

    def restore(self, memory: Memory) -> Self:
        self._network = None
        return super().restore(memory)


def dense(name: str, inputs: int, outputs: int, activation: str | None = "relu") -> list[dict[str, Any]]:
    """Return a dense layer as data, with its activation."""
    layers: list[dict[str, Any]] = [{"name": name, "kind": "dense", "inputs": inputs, "outputs": outputs}]
    return layers if activation is None else [*layers, {"name": f"{name}-{activation}", "kind": activation}]
