"""Detectors that learn in one step, from a summary of rows that merges: many nodes' summaries make the detector of all their rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from vedette.data.rebalance import Keep, Rebalancer
from vedette.data.summaries import Covariance, Moments
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.network import NetworkDetector
from vedette.errors import DataUnusable
from vedette.message import Array, Memory
from vedette.training.task import Layers, Optimiser

__all__ = ["Federable", "OneShot"]


class OneShot(Detector):
    """Base of detectors whose model is a summary of normal samples: there are no rounds, and federated is exactly as centralised.

    It also says what `vedette.training.task.Learnable` asks, so that runtimes prepare, merge and calibrate it as they do networks.
    """

    learning: ClassVar[Literal["one-class"]] = "one-class"
    summary: ClassVar[Literal["moments", "covariance"]]
    """What is summarised: the model stands in the memory as ``summary.moments`` or ``summary.covariance``."""

    role: ClassVar[str] = ""
    loss: ClassVar[str] = ""
    optimiser: ClassVar[Optimiser] = Optimiser()
    balancer: ClassVar[Rebalancer] = Keep()
    adversary: ClassVar[None] = None
    residual_summary: ClassVar[Literal["none"]] = "none"

    def networks(self, features: int) -> Mapping[str, Layers]:
        """Return none."""
        return {}

    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        return {**memory, f"summary.{self.summary}": self.summarised(table, memory)}

    def summarised(self, table: Table, memory: Memory) -> Array:
        """Summarise the whole samples of a table, scaled by the scaler in a memory.

        Raises
        ------
        DataUnusable
            There is none.
        """
        kind: Any = {"moments": Moments, "covariance": Covariance}[self.summary]
        samples = self.samples(table.normal(), memory)
        # Products of wide samples are worth their merging only for as many samples as they are wide.
        parts = [kind.of(chunk) for chunk in samples.chunks(whole=True, least=2 * samples.width)]
        if not parts:
            raise DataUnusable("no normal row to learn from; check the labels and the split")
        found: Array = kind.merged(parts).table()
        return found

    def score_samples(self, samples: Array) -> Array:
        return self.scores(samples, samples, self.memory)

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        """Return nothing: what such a detector makes of a sample is a score."""
        return inputs[:, :0]

    @abstractmethod
    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        """Return [samples] float64 >= 0 of inputs, by the summary in a memory."""


Federable: TypeAlias = NetworkDetector | OneShot
"""What nodes can learn together."""
