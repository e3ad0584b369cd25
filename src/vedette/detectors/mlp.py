"""The supervised classifier: a dense network that tells anomalous from normal rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from vedette.data.rebalance import AnyRebalancer, Keep, Rebalancer
from vedette.detectors.network import NetworkDetector, dense
from vedette.detectors.threshold import AnyThreshold, Fixed
from vedette.message import Array, Memory
from vedette.training.task import Layers

__all__ = ["Mlp"]


class Mlp(NetworkDetector):
    """Dense classifier with ReLU layers and one logit; its score is the probability of an anomaly.

    Parameters
    ----------
    loss
        ``"cross-entropy"``; there is no other.
    hidden
        Widths of the hidden layers.
    dropout
        Share of each hidden layer's units left out in training.
    rebalance
        How a node's rows are re-balanced before it trains: ``"none"``, ``"over-sampling"``, ``"under-sampling"``, ``"smote"``.
    batch_norm
        Whether each hidden layer is batch-normalised.
    threshold
        0.5 unless another rule is given.
    """

    learning: ClassVar[Literal["supervised"]] = "supervised"

    loss: Literal["cross-entropy"] = "cross-entropy"
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rebalance: AnyRebalancer = Field(default_factory=Keep)
    batch_norm: bool = False
    threshold: AnyThreshold = Field(default_factory=Fixed)

    @model_validator(mode="after")
    def _can_normalise(self) -> Self:
        if self.batch_norm and self.optimiser.batch < 2:
            raise ValueError("batch_norm needs batches of at least two rows (optimiser.batch)")
        return self

    @property
    def balancer(self) -> Rebalancer:
        return self.rebalance

    def networks(self, features: int) -> Mapping[str, Layers]:
        widths = [features, *self.hidden]
        layers: list[dict[str, Any]] = []
        for place, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
            layers += dense(f"dense{place}", inputs, outputs, None)
            if self.batch_norm:
                layers.append({"name": f"norm{place}", "kind": "batch-norm", "width": outputs})
            layers.append({"name": f"relu{place}", "kind": "relu"})
            if self.dropout:
                layers.append({"name": f"dropout{place}", "kind": "dropout", "share": self.dropout})
        return {self.role: [*layers, *dense("output", widths[-1], 1, None)]}

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        # The logistic function, said so that no exponent overflows.
        return np.asarray(0.5 * (1 + np.tanh(outputs.astype(np.float64) / 2)))

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        return np.asarray(self.residuals(inputs, outputs)[:, 0])
