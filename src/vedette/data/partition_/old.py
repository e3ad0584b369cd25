"""Partitions: which node holds which row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.registry import Registry
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["PARTITIONS", "Dirichlet", "Iid", "Natural", "Partition", "Quantity"]

ATTEMPTS = 200


class Partition(Settings, ABC):
    """How a table is shared out.

    The draw (who gets which share of what) depends on the seed and on the training rows alone; other rows follow the same shares,
    whatever their labels say.
    """

    by: ClassVar[str]

    @abstractmethod
    def names(self, train: Table) -> list[str]:
        """Return the node ids."""

    @abstractmethod
    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        """Say where rows belong.

        Parameters
        ----------
        train
            The training rows, which fix the shares.
        table
            The rows to place: `train` itself or others.
        part
            A name for `table` in the seed tree: ``"train"``, ``"test"``.
        seed
            Of the run.

        Returns
        -------
        Array
            [rows] int, index into `names`.

        Raises
        ------
        DataUnusable
            A node would stay without normal training rows.
        """


class Natural(Partition):
    """By the group each row belongs to by nature: device, machine, experiment."""

    by: ClassVar[str] = "natural"

    def names(self, train: Table) -> list[str]:
        if train.group is None:
            raise DataUnusable("these rows know no devices or groups; choose another partition, such as 'iid'")
        return [train.group.levels[code] for code in np.unique(train.group.codes)]

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        names = self.names(train)
        if table.group is None:
            raise DataUnusable(f"the {part} rows know no devices or groups")
        places = table.group.places(names)
        strange = np.flatnonzero(places == len(names))
        if strange.size:
            raise DataUnusable(f"node '{table.group.levels[table.group.codes[strange[0]]]}' has {part} rows but no training rows")
        return places


class _Drawn(Partition, ABC):
    """Base of partitions among a chosen number of nodes.

    Parameters
    ----------
    nodes
        How many.
    """

    nodes: int = Field(default=3, ge=1, le=1_000_000)

    def names(self, train: Table) -> list[str]:
        width = len(str(self.nodes))
        return [f"node-{i + 1:0{width}d}" for i in range(self.nodes)]


class Iid(_Drawn):
    """Equal random shares of everything."""

    by: ClassVar[str] = "iid"

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        normal = int(_is_normal(train).sum())
        if normal < self.nodes:
            raise DataUnusable(f"partition 'iid': {normal} normal training rows are too few for {self.nodes} nodes; take fewer nodes")
        places = np.empty(len(table), dtype=np.int64)
        _deal(places, np.arange(len(table)), np.full(self.nodes, 1 / self.nodes), train, table, (seed, "partition", part))
        return places


class _Uneven(_Drawn, ABC):
    """Base of partitions whose shares are drawn from a Dirichlet distribution.

    Parameters
    ----------
    alpha
        Small = very unequal.
    min_rows
        Fewest normal training rows a node may get; shares are drawn again until it holds.
    """

    alpha: float = Field(default=0.5, gt=0)
    min_rows: int = Field(default=32, ge=1)

    def _shares(self, normal: Array, seed: int) -> Array:
        """Return [levels, nodes] shares, given the normal training rows of each level."""
        rng = stream(seed, "partition", "shares")
        for _ in range(ATTEMPTS):
            shares = rng.dirichlet(np.full(self.nodes, self.alpha), size=len(normal))
            if _counts(normal, shares).sum(axis=0).min() >= self.min_rows:
                return shares
        raise DataUnusable(
            f"partition '{self.by}': {ATTEMPTS} draws, none with {self.min_rows} normal rows for each of {self.nodes} nodes; "
            "take fewer nodes, a larger alpha or a smaller min_rows"
        )


class Quantity(_Uneven):
    """The same distribution everywhere, but unequal amounts."""

    by: ClassVar[str] = "quantity"

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        (shares,) = self._shares(np.array([_is_normal(train).sum()]), seed)
        places = np.empty(len(table), dtype=np.int64)
        _deal(places, np.arange(len(table)), shares, train, table, (seed, "partition", part))
        return places


class Dirichlet(_Uneven):
    """Non-IID: each level of a column is shared out by its own draw.

    Anomalous rows follow the shares of their level, so that a node meets attacks on the services it has.

    Parameters
    ----------
    over
        A category feature, ``"kind"`` or ``"group"``.
    alpha
        Small = each level at few nodes; large = nearly IID.
    """

    by: ClassVar[str] = "dirichlet"
    over: str
    alpha: float = Field(default=0.3, gt=0)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        column = train.column(self.over)
        normal = np.bincount(column.codes[_is_normal(train)], minlength=len(column.levels))
        counts = {level: n for level, n in sorted(zip(column.levels, normal.tolist(), strict=True)) if n}
        shares = dict(zip(counts, self._shares(np.array(list(counts.values()), dtype=np.int64), seed), strict=True))
        wanted = table.column(self.over)
        places = np.empty(len(table), dtype=np.int64)
        for code in np.unique(wanted.codes):
            level = wanted.levels[code]
            if level not in shares:
                shares[level] = stream(seed, "partition", "level", level).dirichlet(np.full(self.nodes, self.alpha))
            _deal(places, np.flatnonzero(wanted.codes == code), shares[level], train, table, (seed, "partition", part, level))
        return places


def _is_normal(table: Table) -> Array:
    """Tell the rows not labelled as anomalies, [rows] bool."""
    return np.ones(len(table), dtype=bool) if table.label is None else np.asarray(table.label == 0)


def _deal(places: Array, rows: Array, shares: Array, train: Table, table: Table, path: tuple[int | str, ...]) -> None:
    """Deal some rows in random order, so that each node gets its share to within one row.

    Of the training rows normal and anomalous ones are dealt by themselves, so that both shares are exact. The labels of other rows
    are not looked at: where a test row is scored must not depend on its label.
    """
    normal = _is_normal(train)[rows] if table is train else np.ones(len(rows), dtype=bool)
    for pile, dealt in (("normal", rows[normal]), ("anomalous", rows[~normal])):
        order = stream(*path, pile).permutation(dealt)
        places[order] = np.repeat(np.arange(len(shares)), _counts(len(dealt), shares))


def _counts(rows: Array | int, shares: Array) -> Array:
    """Return how many of `rows` each node gets, [..., nodes] int, for `rows` [...] and `shares` [..., nodes]."""
    rows = np.asarray(rows)[..., None]
    cuts = np.rint(np.cumsum(shares, axis=-1)[..., :-1] * rows).astype(np.int64)
    return np.diff(cuts, prepend=0, append=rows)


PARTITIONS: Registry[type[Partition]] = Registry(
    "partition", {part.by: f"{__name__}:{part.__name__}" for part in (Natural, Iid, Quantity, Dirichlet)}
)
