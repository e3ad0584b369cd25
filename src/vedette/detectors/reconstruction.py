"""What autoencoders share: a network says what a sample should be, and how far it is from that is the score."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vedette.data.summaries import Covariance, Moments
from vedette.detectors.network import NetworkDetector
from vedette.message import Array, Memory

__all__ = ["Reconstruction"]


class Reconstruction(NetworkDetector, ABC):
    """Base of detectors whose network reproduces its input: what it cannot reproduce is an anomaly.

    Parameters
    ----------
    loss
        ``"mse"`` or ``"mae"``, minimised in training.
    residual
        How a row's residuals become one score: ``"absolute"`` or ``"squared"`` mean over the features; ``"variance"``: squared,
        each divided by that feature's mean squared residual on normal rows plus `floor`; ``"mahalanobis"``: the squared length
        after whitening by the residuals' second moments on normal rows plus `floor`, so that residuals that usually go together
        weigh as one. All are means over the features.
    floor
        Keeps features that are reproduced almost exactly from ruling the score; in squared scaled units.
    """

    learning: ClassVar[Literal["one-class"]] = "one-class"

    loss: Literal["mse", "mae"] = "mse"
    residual: Literal["absolute", "squared", "variance", "mahalanobis"] = "squared"
    floor: float = Field(default=1e-3, gt=0)

    @property
    def residual_summary(self) -> Literal["none", "moments", "covariance"]:
        """What the score needs to know of the residuals of normal rows."""
        if self.residual == "mahalanobis":
            return "covariance"
        return "moments" if self.residual == "variance" else "none"

    def residuals(self, inputs: Array, outputs: Array) -> Array:
        return (self.window.counted(outputs) - self.window.counted(inputs)).astype(np.float64)

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        gap = self.residuals(inputs, outputs)
        if self.residual == "absolute":
            return np.asarray(np.abs(gap).mean(axis=1))
        if self.residual == "squared":
            return np.asarray((gap**2).mean(axis=1))
        if self.residual == "variance":
            return np.asarray((gap**2 @ self.weights(memory)) / gap.shape[1])
        return np.asarray(((gap @ self.whitening(memory)) ** 2).mean(axis=1))

    def contributions(self, samples: Array) -> tuple[Array, Array]:
        outputs = self.network().forward(samples)
        gap = self.residuals(samples, outputs)
        if self.residual == "absolute":
            parts = np.abs(gap)
        elif self.residual == "squared":
            parts = gap**2
        elif self.residual == "variance":
            parts = gap**2 * self.weights(self.memory)
        else:
            white = self.whitening(self.memory)
            parts = gap * (gap @ white @ white.T)
        return self.per_feature(parts), outputs[:, -self.scaler.width :].astype(np.float64)

    def weights(self, memory: Memory) -> Array:
        """Return [features] float64, the weight of each squared residual."""
        moments = Moments.from_table(np.asarray(memory["residuals.moments"]))
        return np.asarray(1 / (moments.variance + moments.mean**2 + self.floor))

    def whitening(self, memory: Memory) -> Array:
        """Return [features, features] float64, which makes residuals of normal rows uncorrelated and of size 1."""

        def made(table: Array) -> Array:
            covariance = Covariance.from_table(table)
            values, axes = np.linalg.eigh(covariance.matrix + np.outer(covariance.mean, covariance.mean))
            return np.asarray(axes / np.sqrt(np.maximum(values, 0) + self.floor))

        return self.derived("whitening", memory["residuals.covariance"], made)
