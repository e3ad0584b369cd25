"""Thresholds: from which score on a row is an anomaly, set from training scores alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from vedette.data.summaries import Moments, Sketch
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["THRESHOLDS", "AnyThreshold", "Conformal", "Fixed", "MeanStd", "PeaksOverThreshold", "Quantile", "Threshold", "pareto"]


class Threshold(Settings, ABC):
    """Base of threshold rules.

    Parameters
    ----------
    fit
        ``"federated"``: one threshold from the merged scores of all nodes; ``"local"``: each node's own.
    """

    fit: Literal["federated", "local"] = "federated"

    @property
    @abstractmethod
    def says(self) -> str:
        """What it is, and in brackets what it promises, under which assumption."""

    @abstractmethod
    def value(self, moments: Moments, sketch: Sketch) -> float:
        """Return the threshold.

        Parameters
        ----------
        moments
            Of the scores of normal calibration rows, one column.
        sketch
            Quantiles of the same scores.

        Raises
        ------
        DataUnusable
            Too few rows for what is promised.
        """


class MeanStd(Threshold):
    """Mean plus k standard deviations of the scores; k = 1 is Holdren's rule (2022, section 3.3.1). It promises no false-alarm rate.

    Parameters
    ----------
    k
        Standard deviations.
    """

    k: float = 1.0

    @property
    def says(self) -> str:
        return f"mean plus {self.k:g} × standard deviation (which promises no rate of false alarms)"

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return float(moments.mean[0] + self.k * math.sqrt(moments.variance[0]))


class Quantile(Threshold):
    """The q-quantile of the scores: a share of 1 - q of rows like the calibration rows raises a false alarm.

    Parameters
    ----------
    q
        In (0, 1]; 1 is the largest score.
    factor
        Times; for scores of few rows that were trained on, which are smaller than those of new ones. Then nothing is promised.
    """

    q: float = Field(default=0.99, gt=0, le=1)
    factor: float = Field(default=1.0, gt=0)

    @property
    def says(self) -> str:
        if self.factor != 1:
            return f"{self.factor:g} × the {self.q:g} quantile (which promises no rate of false alarms)"
        return f"the {self.q:g} quantile (so that {(1 - self.q) * 100:g} % of such rows raise a false alarm)"

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return self.factor * sketch.quantile(self.q)


class Conformal(Threshold):
    """Split conformal: new rows raise a false alarm at most at a given rate, whatever the distribution of scores (Vovk et al. 2005).

    It holds for rows that are exchangeable with the calibration rows (the protocol's ``calibration``), and only if those were not
    trained on. Without `confidence` the rate holds on average over calibrations: this one's may be somewhat higher.

    Parameters
    ----------
    rate
        Of false alarms among normal rows, at most.
    confidence
        With this probability over calibrations the rate of this one is at most `rate` too (a tolerance bound; more careful).
    """

    rate: float = Field(default=0.01, gt=0, lt=1)
    confidence: float | None = Field(default=None, gt=0, lt=1)

    @property
    def says(self) -> str:
        sure = "on average" if self.confidence is None else f"with {self.confidence * 100:g} % confidence"
        promise = f"{sure} at most {self.rate * 100:g} % of rows raise a false alarm if they are exchangeable with those it is set by"
        return f"the split conformal bound ({promise})"

    def value(self, moments: Moments, sketch: Sketch) -> float:
        rows = int(sketch.counts.sum())
        above = self.above(rows)
        if above < 0:
            least = next(n for n in (2**i for i in range(64)) if self.above(n) >= 0)
            raise DataUnusable(f"a false-alarm rate of {self.rate:g} cannot be promised by {rows} calibration rows; about {least} would do")
        return sketch.at_rank(rows - above)

    def above(self, rows: int) -> int:
        """Return how many of so many calibration rows may score above the threshold; -1 if they are too few."""
        if self.confidence is None:
            return rows - math.ceil((rows + 1) * (1 - self.rate) - 1e-9)
        # The rate above the (rows - m)-th score follows a beta distribution: it exceeds `rate` as often as a binomial draw is at most m.
        odds, term, total, above = self.rate / (1 - self.rate), rows * math.log1p(-self.rate), 0.0, -1
        while above < rows:
            total += math.exp(term)
            if total > 1 - self.confidence:
                return above
            above += 1
            if above < rows:
                term += math.log((rows - above) / (above + 1) * odds)
        return above


class PeaksOverThreshold(Threshold):
    """Extremes beyond a high quantile, extended to a rate that the rows are too few to show (SPOT's first step, Siffer et al. 2017).

    Parameters
    ----------
    rate
        Of false alarms among normal rows.
    start
        The quantile beyond which scores are taken as extremes.
    """

    LEAST: ClassVar[int] = 10
    """Extremes, at least."""

    rate: float = Field(default=1e-3, gt=0, lt=1)
    start: float = Field(default=0.98, gt=0, lt=1)

    @property
    def says(self) -> str:
        promise = f"about {self.rate * 100:g} % of rows raise a false alarm if the tail is as fitted and rows follow independently"
        return f"a generalised Pareto tail fitted beyond the {self.start:g} quantile ({promise})"

    def value(self, moments: Moments, sketch: Sketch) -> float:
        rows = float(sketch.counts.sum())
        if rows * (1 - self.start) < self.LEAST:
            wanted = math.ceil(self.LEAST / (1 - self.start))
            raise DataUnusable(f"a tail cannot be fitted to {rows:g} calibration rows; {wanted} would do, or a lower 'start'")
        begin = sketch.quantile(self.start)
        beyond = sketch.middles > begin
        excess, counts = sketch.middles[beyond] - begin, sketch.counts[beyond]
        if not counts.sum() or self.rate >= counts.sum() / rows:
            return sketch.quantile(max(self.start, 1 - self.rate))
        shape, scale = pareto(excess, counts)
        often = self.rate * rows / counts.sum()
        away = -scale * math.log(often) if abs(shape) < 1e-6 else scale / shape * (often**-shape - 1)
        return begin + away


def pareto(excess: Array, counts: Array) -> tuple[float, float]:
    """Fit a generalised Pareto distribution by maximum likelihood, along the one parameter that is left (Grimshaw 1993): shape, scale."""
    mean, most = float(np.average(excess, weights=counts)), float(excess.max())

    def shapes(ratios: Array) -> Array:
        return np.asarray(np.log1p(ratios[:, None] * excess) @ counts / counts.sum())

    def likelihoods(ratios: Array) -> Array:
        shape = shapes(ratios)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(np.abs(ratios) * mean < 1e-9, -math.log(mean) - 1, -np.log(shape / ratios) - shape - 1)
        # Shapes beyond these have no variance, or an end that the rows show already.
        return np.where((shape < 0.9) & (shape > -0.5), found, -np.inf)

    low, high = -1 / most * (1 - 1e-6), 50 / mean
    ratios = np.unique(np.concatenate([low * np.geomspace(1e-6, 1, 200), [0.0], high * np.geomspace(1e-8, 1, 400)]))
    for _ in range(3):
        best = int(np.argmax(likelihoods(ratios)))
        ratios = np.linspace(ratios[max(best - 1, 0)], ratios[min(best + 1, len(ratios) - 1)], 101)
    ratio = float(ratios[np.argmax(likelihoods(ratios))])
    shape = float(shapes(np.array([ratio]))[0])
    return (0.0, mean) if abs(ratio) * mean < 1e-9 else (shape, shape / ratio)


class Fixed(Threshold):
    """A given score, such as 0.5 for a classifier's probability; nothing is fitted.

    Parameters
    ----------
    score
        The threshold itself.
    """

    score: float = Field(default=0.5, ge=0)

    @property
    def says(self) -> str:
        return f"the fixed score {self.score:g} (nothing is fitted, nothing promised)"

    def value(self, moments: Moments, sketch: Sketch) -> float:
        return self.score


THRESHOLDS: Registry[type[Threshold]] = Registry(
    "threshold",
    {
        "mean-std": f"{__name__}:MeanStd",
        "quantile": f"{__name__}:Quantile",
        "conformal": f"{__name__}:Conformal",
        "pot": f"{__name__}:PeaksOverThreshold",
        "fixed": f"{__name__}:Fixed",
    },
)

AnyThreshold: TypeAlias = Annotated[Threshold, *named(THRESHOLDS)]
