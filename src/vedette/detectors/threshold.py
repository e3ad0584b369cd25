"""Thresholds: from which score on a row is an anomaly, set from training scores alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from vedette.data.summaries import Moments, Sketch
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["THRESHOLDS", "AnyThreshold", "Fixed", "MeanStd", "Quantile", "Threshold"]


class Threshold(Settings, ABC):
    """Base of threshold rules.

    Parameters
    ----------
    fit
        ``"federated"``: one threshold from the merged scores of all nodes; ``"local"``: each node's own.
    """

    fit: Literal["federated", "local"] = "federated"

    @abstractmethod
    def value(self, moments: Moments, sketch: Sketch) -> float:
        """Return the threshold.

        Parameters
        ----------
        moments
            Of the scores of normal calibration rows, one column.
        sketch
            Quantiles of the same scores.
        """


class MeanStd(Threshold):
    """Mean plus k standard deviations of the scores; k = 1 is Holdren's rule (2022, section 3.3.1). It promises no false-alarm rate.

    Parameters
    ----------
    k
        Standard deviations.
    """

    k: float = 1.0

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return float(moments.mean[0] + self.k * math.sqrt(moments.variance[0]))


class Quantile(Threshold):
    """The q-quantile of the scores: a share of 1 - q of rows like the calibration rows raises a false alarm.

    Parameters
    ----------
    q
        In (0, 1).
    """

    q: float = Field(default=0.99, gt=0, lt=1)

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return sketch.quantile(self.q)


class Fixed(Threshold):
    """A given score, such as 0.5 for a classifier's probability; nothing is fitted.

    Parameters
    ----------
    score
        The threshold itself.
    """

    score: float = Field(default=0.5, ge=0)

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return self.score


THRESHOLDS: Registry[type[Threshold]] = Registry(
    "threshold", {"mean-std": f"{__name__}:MeanStd", "quantile": f"{__name__}:Quantile", "fixed": f"{__name__}:Fixed"}
)

AnyThreshold: TypeAlias = Annotated[Threshold, *named(THRESHOLDS)]
