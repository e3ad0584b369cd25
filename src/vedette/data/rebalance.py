"""Re-balancing: as many rows of the rarer class as a classifier needs to see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field

from vedette.errors import DataUnusable, MissingExtra
from vedette.message import Array
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["REBALANCERS", "AnyRebalancer", "Balanced", "Keep", "OverSampling", "Rebalancer", "Smote", "UnderSampling"]

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

    def balanced(self, rows: Array, labels: Array, rng: np.random.Generator) -> Balanced:
        """Re-balance.

        Parameters
        ----------
        rows
            [rows, features] float32, scaled.
        labels
            [rows] of 0 and 1.
        rng
            What every draw is made with.

        Raises
        ------
        DataUnusable
            A class without any row.
        MissingExtra
            imbalanced-learn is not installed.
        """
        labels = np.asarray(labels).astype(np.int8)
        counts = np.bincount(labels, minlength=2)
        if not counts.all():
            raise DataUnusable(f"there is no {'anomalous' if counts[0] else 'normal'} training row: nothing to balance ('rebalance')")
        rare = int(counts.argmin())
        if counts[rare] >= self.ratio * counts[1 - rare]:
            return _as_it_is(rows, np.arange(len(labels)))
        return self.balance(rows, labels, rare, rng)

    @abstractmethod
    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator) -> Balanced:
        """Re-balance rows of which the class `rare` is too rare."""


class Keep(Rebalancer):
    """Rows as they are."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator) -> Balanced:
        return _as_it_is(rows, np.arange(len(labels)))


class OverSampling(Rebalancer):
    """Random rows of the rarer class once more, or several times (imbalanced-learn)."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator) -> Balanced:
        sampler = _learn("over_sampling").RandomOverSampler(sampling_strategy=self.ratio, random_state=_seed(rng))
        return _as_it_is(rows, _indices(sampler, labels))


class UnderSampling(Rebalancer):
    """Random rows of the other class left out (imbalanced-learn)."""

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator) -> Balanced:
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

    def balance(self, rows: Array, labels: Array, rare: int, rng: np.random.Generator) -> Balanced:
        few = int((labels == rare).sum())
        if few == 1:
            return OverSampling(ratio=self.ratio).balance(rows, labels, rare, rng)
        smote = _learn("over_sampling").SMOTE(
            sampling_strategy=self.ratio, k_neighbors=min(self.neighbours, few - 1), random_state=_seed(rng)
        )
        found, given = smote.fit_resample(rows, labels)
        extra = np.column_stack([found[len(rows) :], given[len(rows) :]]).astype(np.float32)
        return Balanced(np.arange(len(rows)), extra)


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
    },
)

AnyRebalancer: TypeAlias = Annotated[Rebalancer, *named(REBALANCERS)]
