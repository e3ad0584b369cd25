"""What a partition is, and how rows are dealt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.table import Coded, Table
from vedette.message import Array
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["Drawn", "Partition", "counts_of", "deal", "is_normal"]


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
            [rows] int64, index into `names`; -1 for a row that no node holds.

        Raises
        ------
        DataUnusable
            A node would stay without normal training rows.
        """

    def shared_tests(self, table: Table, seed: int) -> Array | None:
        """Choose the rows that every node is tested on where a recipe says ``test = "shared"``.

        Parameters
        ----------
        table
            The test rows.
        seed
            Of the run.

        Returns
        -------
        Array or None
            [chosen] int64, row numbers in ascending order; None for all rows.

        Raises
        ------
        DataUnusable
            There are not as many rows as the settings ask for.
        """
        return None

    def classes(self, train: Table, seed: int) -> Coded | None:
        """Return the column that tells best what nodes hold, for the report: kinds of rows unless the partition goes by another."""
        return train.kind


class Drawn(Partition, ABC):
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


def is_normal(table: Table) -> Array:
    """Tell the rows not labelled as anomalies, [rows] bool."""
    return np.ones(len(table), dtype=bool) if table.label is None else np.asarray(table.label == 0)


def deal(places: Array, rows: Array, shares: Array, train: Table, table: Table, path: tuple[int | str, ...]) -> None:
    """Deal some rows in random order, so that each node gets its share to within one row.

    Of the training rows normal and anomalous ones are dealt by themselves, so that both shares are exact. The labels of other rows
    are not looked at: where a test row is scored must not depend on its label.
    """
    normal = is_normal(train)[rows] if table is train else np.ones(len(rows), dtype=bool)
    for pile, dealt in (("normal", rows[normal]), ("anomalous", rows[~normal])):
        order = stream(*path, pile).permutation(dealt)
        places[order] = np.repeat(np.arange(len(shares)), counts_of(len(dealt), shares))


def counts_of(rows: Array | int, shares: Array) -> Array:
    """Return how many of `rows` each node gets, [..., nodes] int, for `rows` [...] and `shares` [..., nodes]."""
    rows = np.asarray(rows)[..., None]
    cuts = np.rint(np.cumsum(shares, axis=-1)[..., :-1] * rows).astype(np.int64)
    return np.diff(cuts, prepend=0, append=rows)
