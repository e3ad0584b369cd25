"""Re-balancing: as many rows of the rarer class as a classifier needs to see."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field

from vedette.errors import DataUnusable, MissingExtra
from vedette.message import Array
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["REBALANCERS", "AnyRebalancer", "Balanced", "KSmote", "Keep", "OverSampling", "Rebalancer", "Smote", "UnderSampling"]

MOST_SEED = 2**31


class Balanced(NamedTuple):
    """Rows to train on.

    Attributes
    ----------
    keep
        [n] int, which of the own rows, some perhaps several times.
    extra
        [m, features + 1] float32, synthetic rows, the label last.
    """

    keep: Array
    extra: Array


class Rebalancer(Settings, ABC):
    """Base of re-balancing methods, for classifiers.

    Parameters
    ----------
    ratio
        Rows of the rarer class for each row of the other. Where it is reached already, nothing happens.
    """

    ratio: float = Field(default=1.0, gt=0, le=1)

    def balanced(self, rows: Array, labels: Array, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        """Re-balance.

        Parameters
        ----------
        rows
            [rows, features] float32, scaled.
        labels
            [rows] of 0 and 1.
        rng
            What every draw is made with.
        choices
            Blocks of columns that stay whole, because nothing lies between two of their values (`Samples.choices`); not every
            method heeds them.

        Raises
        ------
        DataUnusable
            A class without any row.
        MissingExtra
            imbalanced-learn, or scikit-learn, is not installed.
        """
        labels = np.asarray(labels).astype(np.int8)
        counts = np.bincount(labels, minlength=2)
        if not counts.all():
            raise DataUnusable(f"there is no {'anomalous' if counts[0] else 'normal'} training row: nothing to balance ('rebalance')")
        rare = int(counts.argmin())
        if counts[rare] >= self.ratio * counts[1 - rare]:
            return _as_it_is(rows, np.arange(len(labels)))
        return self.balance(rows, labels, rare, rng, choices)

    @abstractmethod
    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        """Re-balance rows of which the class `rare` is too rare."""


class Keep(Rebalancer):
    """Rows as they are."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        return _as_it_is(rows, np.arange(len(labels)))


class OverSampling(Rebalancer):
    """Random rows of the rarer class once more, or several times (imbalanced-learn)."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        sampler = _learn("over_sampling").RandomOverSampler(sampling_strategy=self.ratio, random_state=_seed(rng))
        return _as_it_is(rows, _indices(sampler, labels))


class UnderSampling(Rebalancer):
    """Random rows of the other class left out (imbalanced-learn)."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        sampler = _learn("under_sampling").RandomUnderSampler(sampling_strategy=self.ratio, random_state=_seed(rng))
        return _as_it_is(rows, np.sort(_indices(sampler, labels)))


class Smote(Rebalancer):
    """Points between a row of the rarer class and one of its nearest of the same class (Chawla et al. 2002, by imbalanced-learn).

    With a single such row there is nothing between: it is repeated.

    Parameters
    ----------
    neighbours
        How many nearest rows it chooses among; fewer where there are not so many.
    """

    neighbours: int = Field(default=5, ge=1)

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        few = int((labels == rare).sum())
        if few == 1:
            return OverSampling(ratio=self.ratio).balance(rows, labels, rare, rng)
        smote = _learn("over_sampling").SMOTE(
            sampling_strategy=self.ratio, k_neighbors=min(self.neighbours, few - 1), random_state=_seed(rng)
        )
        found, given = smote.fit_resample(rows, labels)
        extra = np.column_stack([found[len(rows) :], given[len(rows) :]]).astype(np.float32)
        return Balanced(np.arange(len(rows)), extra)


class KSmote(Rebalancer):
    """Points around a few rows of the rarer class, each drawn towards all its nearest of the same class (Wang et al. 2021, algorithm 1).

    For each of k random rows x_b of the class with nearest rows x_1 ... x_N (eq. 3)::

        x = x_b + 1 / N * sum_n (x_n - x_b) * delta_n,  each delta_n drawn from U(0, 1)

    A point so lies around its own row, and not on a line between two. With a single row of the class there is nothing to be drawn
    towards: the points are copies of it, which `vedette.data.disclosure` counts and keeps on their node.

    Parameters
    ----------
    samples
        k, how many rows points are made around; fewer where there are not so many.
    neighbours
        N, how many nearest rows each is drawn towards; fewer where there are not so many.
    """

    samples: int = Field(default=15, ge=1)
    neighbours: int = Field(default=20, ge=1)

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Balanced:
        own = rows[labels == rare]
        points = self.points(own, self.lacking(len(own), len(rows) - len(own)), rng, choices)
        return Balanced(np.arange(len(rows)), np.column_stack([points, np.full(len(points), rare, dtype=np.float32)]))

    def lacking(self, rare: int, common: int) -> int:
        """Return how many rows the rarer class lacks for the ratio (line 1), of how many rows there are of each class."""
        # A product such as 0.07 * 100 = 7.000000000000001 shall not ask for one row more.
        return max(0, math.ceil(self.ratio * common - 1e-9) - rare)

    def points(self, rows: Array, count: int, rng: np.random.Generator, choices: Sequence[slice] = ()) -> Array:
        """Make points of rows of one class.

        Parameters
        ----------
        rows
            [rows, features] float32, scaled, at least one; all of the same class.
        count
            How many points; each row that is drawn gets an equal share of them, or one less.
        rng
            What every draw is made with.
        choices
            Blocks of columns that stay whole: each is copied from the point's row or one of its neighbours, drawn at random.

        Returns
        -------
        Array
            [count, features] float32, those around the same row together.

        Raises
        ------
        MissingExtra
            scikit-learn is not installed.
        """
        made = np.empty((count, rows.shape[1]), dtype=np.float32)
        if not count:
            return made
        bases = rng.choice(len(rows), min(self.samples, len(rows)), replace=False)
        shares = np.diff(np.arange(len(bases) + 1) * count // len(bases))
        ends = np.cumsum(shares)
        for base, nearest, share, end in zip(bases, self._nearest(rows, bases), shares, ends, strict=True):
            part = made[end - share : end]
            # One product makes all points of a row: what each neighbour adds to the mean, by what it is multiplied with.
            steps = (rows[nearest].astype(np.float64) - rows[base]) / max(len(nearest), 1)
            np.matmul(rng.random((share, len(nearest)), dtype=np.float32), steps.astype(np.float32), out=part)
            part += rows[base]
            givers = rows[[base, *nearest]]
            for block in choices:
                part[:, block] = givers[rng.integers(len(givers), size=share), block]
        return made

    def _nearest(self, rows: Array, bases: Array) -> Array:
        """Return [bases, N] int, the nearest other rows of some."""
        try:
            from sklearn.neighbors import NearestNeighbors
            from threadpoolctl import threadpool_limits
        except ImportError:
            raise MissingExtra("k-smote needs scikit-learn: pip install 'vedette[train]'") from None
        wanted = min(self.neighbours, len(rows) - 1)
        # Which of several rows that are equally far it takes would depend on the number of threads.
        with threadpool_limits(1, user_api="openmp"):
            found = NearestNeighbors(n_neighbors=wanted + 1).fit(rows).kneighbors(rows[bases], return_distance=False)
        # The nearest of all is the row itself, or one that is equal to it.
        return np.asarray(found[:, 1:])


def _as_it_is(rows: Array, keep: Array) -> Balanced:
    return Balanced(keep, np.zeros((0, rows.shape[1] + 1), dtype=np.float32))


def _indices(sampler: Any, labels: Array) -> Array:
    """Resample row numbers instead of rows."""
    numbers, _ = sampler.fit_resample(np.arange(len(labels))[:, None], labels)
    return np.asarray(numbers[:, 0])


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(MOST_SEED))


def _learn(part: str) -> Any:
    try:
        import imblearn.over_sampling
        import imblearn.under_sampling
    except ImportError:
        raise MissingExtra("re-balancing needs imbalanced-learn: pip install 'vedette[baselines]'") from None
    return getattr(imblearn, part)


REBALANCERS: Registry[type[Rebalancer]] = Registry(
    "rebalancer",
    {
        "none": f"{__name__}:Keep",
        "over-sampling": f"{__name__}:OverSampling",
        "under-sampling": f"{__name__}:UnderSampling",
        "smote": f"{__name__}:Smote",
        "k-smote": f"{__name__}:KSmote",
    },
)

AnyRebalancer: TypeAlias = Annotated[Rebalancer, *named(REBALANCERS)]
