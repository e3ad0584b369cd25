"""Detectors without training rounds: the bars that a network must pass."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vedette.data.summaries import Moments
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.errors import MissingExtra
from vedette.message import Array, Memory

__all__ = ["Pca", "VarianceDistance"]


class VarianceDistance(Detector):
    """Mean over the features of the squared distance to the training mean, each in units of its training variance plus `floor`.

    What an untrained network comes close to; training is worth what a detector gains over it.

    Parameters
    ----------
    floor
        Added to each variance, in squared scaled units.
    """

    learning: ClassVar[Literal["one-class"]] = "one-class"

    floor: float = Field(default=1e-4, gt=0)

    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        moments = Moments.merged(Moments.of(chunk) for chunk in self.samples(table, memory).chunks(whole=True))
        return {**memory, "mean": moments.mean, "variance": moments.variance}

    def score_samples(self, samples: Array) -> Array:
        distance = (samples - np.asarray(self.memory["mean"])) ** 2
        return np.asarray(self.window.counted(distance / (np.asarray(self.memory["variance"]) + self.floor)).mean(axis=1))


class Pca(Detector):
    """Mean squared distance to the principal subspace of the training rows (Q statistic, Jackson and Mudholkar 1979), by scikit-learn.

    Parameters
    ----------
    share
        Of the variance that the subspace keeps; at least one dimension stays outside.
    """

    learning: ClassVar[Literal["one-class"]] = "one-class"

    share: float = Field(default=0.95, gt=0, lt=1)

    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        try:
            from sklearn.decomposition import PCA
        except ImportError:
            raise MissingExtra("pca needs scikit-learn: pip install 'vedette[train]'") from None
        samples = self.samples(table, memory)
        rows = samples.take(samples.whole()).astype(np.float64)
        # By the covariance: six times faster where windows make the rows wide.
        fitted: Any = PCA(n_components=self.share, svd_solver="covariance_eigh" if len(rows) > rows.shape[1] else "full").fit(rows)
        # A subspace of all dimensions would leave no distance to it.
        kept = min(len(fitted.components_), fitted.n_features_in_ - 1)
        return {**memory, "mean": fitted.mean_, "components": fitted.components_[:kept]}

    def score_samples(self, samples: Array) -> Array:
        centred = samples - np.asarray(self.memory["mean"])
        components = np.asarray(self.memory["components"])
        return np.asarray((self.window.counted(centred - centred @ components.T @ components) ** 2).mean(axis=1))
