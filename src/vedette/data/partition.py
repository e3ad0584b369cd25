"""Partitions: which node holds which row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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

    The draw (who gets which share of what) depends on the seed and on the training rows alone; other rows follow the same shares.
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
            A node would stay without training rows.
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
        at = {name: i for i, name in enumerate(names)}
        strange = [table.group.levels[code] for code in np.unique(table.group.codes) if table.group.levels[code] not in at]
        if strange:
            raise DataUnusable(f"node '{strange[0]}' has {part} rows but no training rows")
        return np.array([at.get(level, -1) for level in table.group.levels], dtype=np.int64)[table.group.codes]


class _Drawn(Partition):
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
        return _dealt(len(table), np.full(self.nodes, 1 / self.nodes), stream(seed, "partition", part))


class Quantity(_Drawn):
    """The same distribution everywhere, but unequal amounts, with shares drawn from a Dirichlet distribution.

    Parameters
    ----------
    alpha
        Small = very unequal.
    min_rows
        Fewest normal training rows a node may get; shares are drawn again until it holds.
    """

    by: ClassVar[str] = "quantity"
    alpha: float = Field(default=0.5, gt=0)
    min_rows: int = Field(default=32, ge=1)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        normal = len(train.normal())

        def drawn(rng: np.random.Generator) -> Array:
            return rng.dirichlet(np.full(self.nodes, self.alpha))

        shares = _drawn_until_fair(self, drawn, lambda shares: shares * normal, seed)
        return _dealt(len(table), shares, stream(seed, "partition", part))


class Dirichlet(_Drawn):
    """Non-IID: each level of a column is shared out by its own draw from a Dirichlet distribution.

    Anomalous rows follow the shares of their level, so that a node meets attacks on the services it has.

    Parameters
    ----------
    over
        A category feature, ``"kind"`` or ``"group"``.
    alpha
        Small = each level at few nodes; large = nearly IID.
    min_rows
        Fewest normal training rows a node may get; shares are drawn again until it holds.
    """

    by: ClassVar[str] = "dirichlet"
    over: str
    alpha: float = Field(default=0.3, gt=0)
    min_rows: int = Field(default=32, ge=1)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        column = train.normal().column(self.over)
        counts = {level: int(n) for level, n in zip(column.levels, np.bincount(column.codes, minlength=len(column.levels)), strict=True)}
        levels = sorted(counts)

        def drawn(rng: np.random.Generator) -> Array:
            return rng.dirichlet(np.full(self.nodes, self.alpha), size=len(levels))

        totals = np.array([counts[level] for level in levels], dtype=np.float64)
        shares = dict(zip(levels, _drawn_until_fair(self, drawn, lambda p: p.T @ totals, seed), strict=True))
        wanted = table.column(self.over)
        places = np.empty(len(table), dtype=np.int64)
        for code in np.unique(wanted.codes):
            level = wanted.levels[code]
            rows = np.flatnonzero(wanted.codes == code)
            if level not in shares:
                shares[level] = stream(seed, "partition", "level", level).dirichlet(np.full(self.nodes, self.alpha))
            for part_of, some in _by_label(table, rows):
                places[some] = _dealt(len(some), shares[level], stream(seed, "partition", part, level, part_of))
        return places


def _by_label(table: Table, rows: Array) -> list[tuple[str, Array]]:
    """Split row numbers into normal and anomalous ones, each dealt by itself so that its shares are exact."""
    if table.label is None:
        return [("all", rows)]
    return [("normal", rows[table.label[rows] == 0]), ("anomalous", rows[table.label[rows] != 0])]


def _dealt(rows: int, shares: Array, rng: np.random.Generator) -> Array:
    """Deal `rows` rows in random order so that each node gets its share to within one row."""
    cuts = np.round(np.cumsum(shares)[:-1] * rows).astype(np.int64)
    places = np.zeros(rows, dtype=np.int64)
    places[rng.permutation(rows)] = np.searchsorted(cuts, np.arange(rows), side="right")
    return places


def _drawn_until_fair(
    partition: Quantity | Dirichlet, draw: Callable[[np.random.Generator], Array], sizes: Callable[[Array], Array], seed: int
) -> Array:
    """Draw shares again until every node gets `min_rows` normal training rows."""
    rng = stream(seed, "partition", "shares")
    for _ in range(ATTEMPTS):
        shares = draw(rng)
        if sizes(shares).min() >= partition.min_rows:
            return shares
    raise DataUnusable(
        f"partition '{partition.by}': {ATTEMPTS} draws, none with {partition.min_rows} normal rows for each of {partition.nodes} nodes; "
        "take fewer nodes, a larger alpha or a smaller min_rows"
    )


PARTITIONS: Registry[type[Partition]] = Registry(
    "partition", {part.by: f"{__name__}:{part.__name__}" for part in (Natural, Iid, Quantity, Dirichlet)}
)
