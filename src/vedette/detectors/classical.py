"""Detectors without training rounds: the bars that a network must pass."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from vedette.data.summaries import Covariance, Moments
from vedette.detectors.oneshot import OneShot
from vedette.message import Array, Memory

__all__ = ["Pca", "VarianceDistance"]


class VarianceDistance(OneShot):
    """Mean over the features of the squared distance to the training mean, each in units of its training variance plus `floor`.

    What an untrained network comes close to; training is worth what a detector gains over it.

    Parameters
    ----------
    floor
        Added to each variance, in squared scaled units.
    """

    summary: ClassVar[Literal["moments", "covariance"]] = "moments"

    floor: float = Field(default=1e-4, gt=0)

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        moments = Moments.from_table(np.asarray(memory["summary.moments"]))
        return np.asarray(self.window.counted((inputs - moments.mean) ** 2 / (moments.variance + self.floor)).mean(axis=1))

    def contributions(self, samples: Array) -> tuple[Array, Array]:
        moments = Moments.from_table(np.asarray(self.memory["summary.moments"]))
        parts = self.window.counted((samples - moments.mean) ** 2 / (moments.variance + self.floor))
        return self.per_feature(parts), np.tile(moments.mean[-self.scaler.width :], (len(samples), 1))


class Subspace(NamedTuple):
    """A principal subspace: mean [values], axes [kept, values], variances along them [kept], variance outside them."""

    mean: Array
    axes: Array
    variances: Array
    outside: float


class Pca(OneShot):
    """Distance to, or within, the principal subspace of the normal samples.

    Parameters
    ----------
    share
        Of the variance that the subspace keeps; at least one dimension stays outside.
    statistic
        ``"q"``: the mean squared distance to the subspace (Q, Jackson and Mudholkar 1979); ``"t2"``: Hotelling's T² within it, over
        the number of dimensions; ``"combined"``: their sum, Q in units of its mean (Yue and Qin 2001). Of a window the last row
        counts in Q unless `window` says otherwise; T² is the whole window's.
    """

    summary: ClassVar[Literal["moments", "covariance"]] = "covariance"

    share: float = Field(default=0.95, gt=0, lt=1)
    statistic: Literal["q", "t2", "combined"] = "q"

    def scores(self, inputs: Array, outputs: Array, memory: Memory) -> Array:
        mean, axes, variances, outside = self.derived("subspace", memory["summary.covariance"], self.subspace)
        centred = inputs - mean
        within = centred @ axes.T
        if self.statistic == "t2":
            return np.asarray((within**2 / variances).mean(axis=1))
        q = (self.window.counted(centred - within @ axes) ** 2).mean(axis=1)
        if self.statistic == "q":
            return np.asarray(q)
        return np.asarray(q * len(mean) / outside + (within**2 / variances).mean(axis=1))

    def contributions(self, samples: Array) -> tuple[Array, Array]:
        mean, axes, variances, outside = self.derived("subspace", self.memory["summary.covariance"], self.subspace)
        centred = samples - mean
        within = centred @ axes.T
        inside = within @ axes
        expected = (inside + mean)[:, -self.scaler.width :]
        counted = self.window.counted(centred - inside) ** 2
        far = centred * ((within / variances) @ axes) / len(variances)
        if self.statistic == "q":
            return self.per_feature(counted), expected
        if self.statistic == "t2":
            return self.per_feature(far), expected
        return self.per_feature(counted) / counted.shape[1] * len(mean) / outside + self.per_feature(far), expected

    def subspace(self, table: Array) -> Subspace:
        """Return the subspace of a summary."""
        covariance = Covariance.from_table(table)
        variances, axes = np.linalg.eigh(covariance.matrix)
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1].T
        shares = np.cumsum(variances) / max(float(variances.sum()), np.finfo(float).tiny)
        # A subspace of all dimensions would leave no distance to it.
        kept = max(1, min(int(np.searchsorted(shares, self.share, side="right")) + 1, len(axes) - 1))
        least = float(variances[0]) * 1e-12 + np.finfo(float).tiny
        return Subspace(covariance.mean, axes[:kept], np.maximum(variances[:kept], least), max(float(variances[kept:].sum()), least))
