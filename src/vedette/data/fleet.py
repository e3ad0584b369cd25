"""The fleet: node id -> that node's rows, made when asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from vedette.data.table import Table, concat
from vedette.errors import DataUnusable
from vedette.message import Array

__all__ = ["Fleet"]


KEPT = 256 << 20
"""Bytes of tables that a fleet keeps."""


class Fleet(Mapping[str, Table]):
    """All nodes of a run; a node's table is made when it is asked for, so a fleet need not fit in memory.

    Tables are kept as long as all that are kept take little, so that what is made of them can be kept too.

    Parameters
    ----------
    nodes
        Node ids; kept sorted, because no result may depend on their order.
    table_of
        Returns the rows of one node, the same each time; called when the node is asked for and its table is not kept.

    Raises
    ------
    DataUnusable
        No node, or two of the same id.
    """

    def __init__(self, nodes: Sequence[str], table_of: Callable[[str], Table]) -> None:
        self.nodes = tuple(sorted(nodes))
        if not self.nodes:
            raise DataUnusable("a fleet needs at least one node")
        if len(set(self.nodes)) != len(self.nodes):
            raise DataUnusable("two nodes of the fleet have the same id")
        self._known = frozenset(self.nodes)
        self._table_of = table_of
        self._kept: dict[str, Table] = {}
        self._room = KEPT

    @classmethod
    def of(cls, tables: Mapping[str, Table]) -> Fleet:
        """Make a fleet of tables already in memory."""
        return cls(tuple(tables), tables.__getitem__)

    @classmethod
    def from_places(cls, table: Table, places: Array, nodes: Sequence[str]) -> Fleet:
        """Share out one table.

        Parameters
        ----------
        table
            All rows.
        places
            [rows] int, which of `nodes` each row belongs to.
        nodes
            Node ids.
        """
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(len(nodes) + 1))
        rows = {node: order[starts[i] : starts[i + 1]] for i, node in enumerate(nodes)}
        return cls(tuple(nodes), lambda node: table.take(rows[node]))

    def __getitem__(self, node: str) -> Table:
        if node not in self._known:
            raise KeyError(node)
        if node in self._kept:
            return self._kept[node]
        table = self._table_of(node)
        if table.nbytes <= self._room:
            self._kept[node] = table
            self._room -= table.nbytes
        return table

    def __contains__(self, node: object) -> bool:
        return node in self._known  # Mapping would make the table to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def map(self, change: Callable[[Table], Table]) -> Fleet:
        """Return a fleet whose tables are changed as they are asked for."""
        return Fleet(self.nodes, lambda node: change(self._table_of(node)))

    def without(self, nodes: Collection[str]) -> Fleet:
        """Return the fleet of all other nodes."""
        return Fleet([node for node in self.nodes if node not in nodes], self._table_of) if nodes else self

    def pooled(self) -> Table:
        """Return all rows of all nodes in one table (what a central server would hold)."""
        return concat([self[node] for node in self.nodes])
