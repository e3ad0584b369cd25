"""Support vector machines that learn from labels: the traditional detector that papers compare with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from vedette.detectors.baselines import Labelled, sklearn_module
from vedette.message import Array

__all__ = ["SupportVectors"]

MOST_REACH = 500.0
"""Distances beyond this would be the same after the logistic function anyway."""


class SupportVectors(Labelled):
    """Support vector machine (Cortes and Vapnik 1995), by scikit-learn; the score is 0.5 on the border, by the logistic function.

    Parameters
    ----------
    kernel
        ``"linear"``, or ``"rbf"``, by Nyström's features (Williams and Seeger 2001), for all pairs of rows would take too long; with as
        many landmarks as rows it is exact.
    landmarks
        Training samples that stand for all others.
    gamma
        Width of the RBF kernel; None: one over the number of values, as scikit-learn takes it for features of variance 1.
    penalty
        Weight of the penalty; the inverse of scikit-learn's ``C``.
    """

    kernel: Literal["linear", "rbf"] = "linear"
    landmarks: PositiveInt = 300
    gamma: float | None = Field(default=None, gt=0)
    penalty: float = Field(default=1.0, gt=0)

    def unfitted(self, seed: int) -> Any:
        machine = sklearn_module("svm").LinearSVC(C=1 / self.penalty, random_state=seed)
        if self.kernel == "linear":
            return machine
        features = sklearn_module("kernel_approximation").Nystroem(gamma=self.gamma, n_components=self.landmarks, random_state=seed)
        return sklearn_module("pipeline").make_pipeline(features, machine)

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        narrower = self if len(rows) >= self.landmarks else self.model_copy(update={"landmarks": len(rows)})
        return super(SupportVectors, narrower).trained(rows, label, seed)

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-np.clip(model.decision_function(rows), -MOST_REACH, MOST_REACH))))
