"""Shares by the level of a column: each service, device, kind or cluster goes to some nodes more than to others."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.partition.base import Drawn, deal, is_normal
from vedette.data.partition.shares import ATTEMPTS, Uneven
from vedette.data.scaling import Scaling
from vedette.data.table import Coded, Table
from vedette.errors import DataUnusable, MissingExtra
from vedette.message import Array
from vedette.seeds import seed_of, stream

__all__ = ["CLUSTERS", "ByLevel", "Dirichlet", "Shards", "clusters_of"]

CLUSTERS = "k-means"
"""Stands for the clusters of normal rows where a column is asked for."""

MOST_CLUSTERED = 50_000
"""Rows that clusters are found by."""


class ByLevel(Drawn):
    """Base of partitions that share out each level of a column by itself.

    Anomalous rows follow the shares of their level, so that a node meets attacks on the services it has.

    Parameters
    ----------
    over
        A category feature, ``"kind"``, ``"group"``, or ``"k-means"``: clusters of the normal training rows; other rows belong to the
        nearest one.
    clusters
        How many, for ``over = "k-means"``.
    """

    over: str
    clusters: int = Field(default=10, ge=2, le=1000)

    @abstractmethod
    def shares_of(self, normal: Array, all_rows: Array, seed: int) -> Array:
        """Return [levels, nodes] shares, given the normal and all training rows of each level; levels without any are left out."""

    @abstractmethod
    def share_unseen(self, level: str, seed: int) -> Array:
        """Return [nodes] shares of a level that the training rows lack (or that no normal one has)."""

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        column, wanted = self._columns(train, table, seed)
        normal = np.bincount(column.codes[is_normal(train)], minlength=len(column.levels)).tolist()
        all_rows = np.bincount(column.codes, minlength=len(column.levels)).tolist()
        known = {level: n for level, *n in sorted(zip(column.levels, normal, all_rows, strict=True)) if self.counts(*n)}
        numbers = np.array(list(known.values()), dtype=np.int64).reshape(-1, 2)
        shares = dict(zip(known, self.shares_of(numbers[:, 0], numbers[:, 1], seed), strict=True))
        places = np.empty(len(table), dtype=np.int64)
        for code in np.unique(wanted.codes):
            level = wanted.levels[code]
            if level not in shares:
                shares[level] = self.share_unseen(level, seed)
            deal(places, np.flatnonzero(wanted.codes == code), shares[level], train, table, (seed, "partition", part, level))
        return places

    def counts(self, normal: int, all_rows: int) -> bool:
        """Tell whether a level with so many training rows takes part in the draw."""
        return normal > 0

    def classes(self, train: Table, seed: int) -> Coded | None:
        return self._columns(train, train, seed)[0]

    def _columns(self, train: Table, table: Table, seed: int) -> tuple[Coded, Coded]:
        if self.over != CLUSTERS:
            return train.column(self.over), table.column(self.over)
        found = clusters_of(train, table, self.clusters, seed)
        return (found, found) if table is train else (clusters_of(train, train, self.clusters, seed), found)


class Dirichlet(ByLevel, Uneven):
    """Non-IID: each level of a column is shared out by its own draw from a Dirichlet distribution (Hsu et al. 2019).

    Parameters
    ----------
    alpha
        Small = each level at few nodes; large = nearly IID.
    """

    by: ClassVar[str] = "dirichlet"

    alpha: float = Field(default=0.3, gt=0)

    def shares_of(self, normal: Array, all_rows: Array, seed: int) -> Array:
        return self._shares(normal, seed)

    def share_unseen(self, level: str, seed: int) -> Array:
        return stream(seed, "partition", "level", level).dirichlet(np.full(self.nodes, self.alpha))


class Shards(ByLevel):
    """Non-IID: training rows sorted by a column and cut into equal shards, some for each node (McMahan et al. 2017, section 3).

    Parameters
    ----------
    shards
        For each node: 1 gives it little but one or two levels.
    """

    by: ClassVar[str] = "shards"

    shards: int = Field(default=2, ge=1, le=1000)

    def counts(self, normal: int, all_rows: int) -> bool:
        return all_rows > 0

    def shares_of(self, normal: Array, all_rows: Array, seed: int) -> Array:
        pieces, total = self.nodes * self.shards, int(all_rows.sum())
        if total < pieces:
            raise DataUnusable(f"partition 'shards': {total} training rows cannot be cut into {pieces} shards; take fewer nodes or shards")
        # How much of each level lies in each piece: the overlap of two cuts of the same line.
        levels = np.concatenate([[0], np.cumsum(all_rows)])
        cuts = np.rint(np.linspace(0, total, pieces + 1))
        overlap = np.minimum(levels[1:, None], cuts[1:]) - np.maximum(levels[:-1, None], cuts[:-1])
        inside = np.maximum(overlap, 0)
        rng = stream(seed, "partition", "shards")
        for _ in range(ATTEMPTS):
            owner = rng.permutation(np.repeat(np.arange(self.nodes), self.shards))
            shares = np.stack([inside[:, owner == node].sum(axis=1) for node in range(self.nodes)], axis=1) / all_rows[:, None]
            if (np.floor(shares * normal[:, None]).sum(axis=0) >= 1).all():
                return shares
        raise DataUnusable(
            f"partition 'shards': {ATTEMPTS} draws, none with normal training rows for each of {self.nodes} nodes; "
            "take more shards, fewer nodes or another column"
        )

    def share_unseen(self, level: str, seed: int) -> Array:
        shares = np.zeros(self.nodes)
        shares[stream(seed, "partition", "level", level).integers(self.nodes)] = 1
        return shares


def clusters_of(train: Table, table: Table, clusters: int, seed: int) -> Coded:
    """Return the cluster of each row: of k-means over normal training rows, scaled; no label of other rows is looked at.

    Parameters
    ----------
    train
        The training rows, which make the clusters.
    table
        The rows to place.
    clusters
        How many.
    seed
        Of the run.

    Raises
    ------
    DataUnusable
        Fewer normal training rows than clusters.
    MissingExtra
        scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise MissingExtra("clusters need scikit-learn: pip install 'vedette[train]'") from None
    normal = np.flatnonzero(is_normal(train))
    if len(normal) < clusters:
        raise DataUnusable(f"{len(normal)} normal training rows are too few for {clusters} clusters")
    chosen = np.sort(stream(seed, "partition", "clusters").permutation(normal)[:MOST_CLUSTERED])
    scaling = Scaling(log=True, numbers="standard")
    rows = train.take(chosen)
    scaler = scaling.fitted(scaling.summary(rows))
    found = MiniBatchKMeans(clusters, n_init=3, random_state=seed_of(seed, "partition", "clusters") % 2**32).fit(scaler.transform(rows))
    codes = [found.predict(scaler.transform(chunk)) for chunk in table.chunks()]
    width = len(str(clusters))
    levels = tuple(f"cluster {place + 1:0{width}d}" for place in range(clusters))
    return Coded(np.concatenate(codes).astype(np.int32) if codes else np.zeros(0, dtype=np.int32), levels)
