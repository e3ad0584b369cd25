"""What classifiers share: a network with one logit tells anomalous from normal rows."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vedette.data.rebalance import AnyRebalancer, Keep, Rebalancer
from vedette.data.summaries import Moments
from vedette.detectors.network import NetworkDetector
from vedette.detectors.threshold import AnyThreshold, Fixed
from vedette.message import Array, Memory
from vedette.training.evasion import Evasion

__all__ = ["Classifier"]


class Classifier(NetworkDetector, ABC):
    """Base of detectors that learn from labels; the score is the probability of an anomaly.

    Parameters
    ----------
    loss
        ``"cross-entropy"``; there is no other.
    rebalance
        How a node's rows are re-balanced before it trains: ``"none"``, ``"over-sampling"``, ``"under-sampling"``, ``"smote"``.
    threshold
        0.5 unless another rule is given.
    hardening
        The evasion it is trained against (adversarial training, Madry et al. 2018): ``{ name = "pgd", budget = 0.05 }``. It costs time:
        ``"pgd"`` runs the network on half of the anomalies as often as it has steps.
    """

    learning: ClassVar[Literal["supervised"]] = "supervised"

    loss: Literal["cross-entropy"] = "cross-entropy"
    rebalance: AnyRebalancer = Field(default_factory=Keep)
    threshold: AnyThreshold = Field(default_factory=Fixed)
    hardening: Evasion | None = None

    @property
    def residual_summary(self) -> Literal["inputs"]:
        """Nothing for the score; what is usual, for explanations."""
        return "inputs"

    @property
    def balancer(self) -> Rebalancer:
        return self.rebalance

    @property
    def adversary(self) -> Evasion | None:
        return self.hardening

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        # The logistic function, said so that no exponent overflows.
        return np.asarray(0.5 * (1 + np.tanh(outputs.astype(np.float64) / 2)))

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        return np.asarray(self.residuals(inputs, outputs)[:, 0])

    def contributions(self, samples: Array) -> tuple[Array, Array]:
        """Return how much each scaled column adds to the logit, by occlusion, and what is usual of it on normal rows.

        A column's part is what the logit loses when the column is as usual throughout the window (Zeiler and Fergus 2014); what makes
        a row look normal counts as 0.
        """
        usual = Moments.from_table(np.asarray(self.memory["own.inputs.moments"])).mean
        network, width = self.network(), len(usual)
        logits = network.forward(samples)[:, 0].astype(np.float64)
        parts = np.empty((len(samples), width))
        for column in range(width):
            occluded = samples.copy()
            occluded[:, column::width] = usual[column]
            parts[:, column] = logits - network.forward(occluded)[:, 0]
        return np.maximum(parts, 0), np.broadcast_to(usual, parts.shape)
