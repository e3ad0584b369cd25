"""The dense autoencoder: what it cannot reproduce is an anomaly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from vedette.data.summaries import Moments
from vedette.detectors.network import NetworkDetector, dense
from vedette.message import Array, Memory
from vedette.training.task import Layers

__all__ = ["Autoencoder"]


class Autoencoder(NetworkDetector):
    """Dense autoencoder, ReLU between layers, linear output (Holdren 2022, section 3.3.1).

    Parameters
    ----------
    hidden
        Widths of the encoder's layers, the last being the bottleneck.
    mirror
        ``"bottleneck"``: the decoder repeats the bottleneck's width first (32-16-8 | 8-16-32, as in the thesis);
        ``"plain"``: it does not (64-16-64).
    loss
        ``"mse"`` or ``"mae"``, minimised in training.
    residual
        How a row's residuals become one score: ``"absolute"`` or ``"squared"`` mean over the features, or ``"variance"``: squared,
        each divided by that feature's mean squared residual on normal rows plus `floor`.
    floor
        Keeps features that are reproduced almost exactly from ruling the score; in squared scaled units.
    """

    learning: ClassVar[Literal["one-class"]] = "one-class"

    hidden: tuple[PositiveInt, ...] = Field(default=(64, 16), min_length=1)
    mirror: Literal["bottleneck", "plain"] = "plain"
    loss: Literal["mse", "mae"] = "mse"
    residual: Literal["absolute", "squared", "variance"] = "squared"
    floor: float = Field(default=1e-3, gt=0)

    @property
    def calibrates_residuals(self) -> bool:
        """Whether the score needs the residuals of normal rows."""
        return self.residual == "variance"

    def networks(self, features: int) -> Mapping[str, Layers]:
        down = [features, *self.hidden]
        up = [*reversed(self.hidden if self.mirror == "plain" else (*self.hidden, self.hidden[-1])), features]
        layers: list[dict[str, Any]] = []
        for place, (inputs, outputs) in enumerate(itertools.pairwise(down), 1):
            layers += dense(f"encoder{place}", inputs, outputs)
        for place, (inputs, outputs) in enumerate(itertools.pairwise(up), 1):
            layers += dense(f"decoder{place}", inputs, outputs, "relu" if place < len(up) - 1 else None)
        return {self.role: layers}

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        return (self.window.counted(outputs) - self.window.counted(inputs)).astype(np.float64)

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        gap = self.residuals(inputs, outputs)
        if self.residual == "absolute":
            return np.asarray(np.abs(gap).mean(axis=1))
        if self.residual == "squared":
            return np.asarray((gap**2).mean(axis=1))
        return np.asarray((gap**2 @ self.weights(memory)) / gap.shape[1])

    def weights(self, memory: Memory) -> Array:
        """Return [features] float64, the weight of each squared residual."""
        moments = Moments.from_table(np.asarray(memory["residuals.moments"]))
        return np.asarray(1 / (moments.variance + moments.mean**2 + self.floor))
