"""So many rows of each class to each node, as tables in papers say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from vedette.data.partition.base import Partition, is_normal
from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["Counts", "Wanted"]


class Wanted(Settings):
    """What one node gets.

    Parameters
    ----------
    group
        Only rows of this device, machine or experiment; any if empty.
    normal, anomaly
        How many rows labelled as normal, and how many anomalous ones of any kind.
    kinds
        How many of each kind of anomaly, instead of `anomaly` or beside it.
    """

    group: str = ""
    normal: NonNegativeInt = 0
    anomaly: NonNegativeInt = 0
    kinds: dict[str, NonNegativeInt] = {}

    @property
    def total(self) -> int:
        """Rows in all."""
        return self.normal + self.anomaly + sum(self.kinds.values())


class Counts(Partition):
    """Explicit counts, drawn at random without replacement; rows that nobody wants belong to no node.

    ``rows = { a = { group = "Danmini_Doorbell", normal = 5000, anomaly = 23 }, b = { normal = 79, kinds = { "mirai-udp" = 10 } } }``

    Parameters
    ----------
    rows
        Training rows of each node.
    tests
        Test rows of each node, for protocols that test each node on its own; this reads their labels, to compose the sets as a paper
        did. Without it each node gets as large a share of the test rows as it has of the training rows, as far as its group has them.
    """

    by: ClassVar[str] = "counts"

    rows: dict[str, Wanted] = Field(min_length=1)
    tests: dict[str, Wanted] = {}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        strange = next((node for node in self.tests if node not in self.rows), None)
        if strange is not None:
            raise ValueError(f"node '{strange}' has test rows but no training rows")
        bare = next((node for node, wanted in self.rows.items() if not wanted.normal), None)
        if bare is not None:
            raise ValueError(f"node '{bare}' gets no normal training row")
        return self

    def names(self, train: Table) -> list[str]:
        return sorted(self.rows)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        names = self.names(train)
        if table is train or (part == "test" and self.tests):
            return self._drawn(table, names, self.rows if table is train else self.tests, part, seed)
        return self._proportional(table, names, part, seed)

    def _drawn(self, table: Table, names: list[str], wanted: Mapping[str, Wanted], part: str, seed: int) -> Array:
        places = np.full(len(table), -1, dtype=np.int64)
        anomalous = ~is_normal(table)
        # Kinds first, or the draw of any anomaly could leave none of them.
        nodes = [node for node in names if node in wanted]
        orders: list[tuple[str, str | None, int]] = [(node, kind, count) for node in nodes for kind, count in wanted[node].kinds.items()]
        orders += [(node, "", wanted[node].anomaly) for node in nodes]
        orders += [(node, None, wanted[node].normal) for node in nodes]
        for node, kind, count in orders:
            fits = (places < 0) & (~anomalous if kind is None else anomalous) & self._of_group(table, wanted[node].group, part)
            if kind:
                column = table.column("kind")
                fits &= column.codes == (column.levels.index(kind) if kind in column.levels else -1)
            free = np.flatnonzero(fits)
            if len(free) < count:
                what = "normal" if kind is None else f"'{kind}'" if kind else "anomalous"
                where = f" of '{wanted[node].group}'" if wanted[node].group else ""
                raise DataUnusable(f"node '{node}' wants {count:,} {what} {part} rows{where}, but {len(free):,} are left; ask for fewer")
            places[stream(seed, "partition", part, node, str(kind)).permutation(free)[:count]] = names.index(node)
        return places

    def _proportional(self, table: Table, names: list[str], part: str, seed: int) -> Array:
        """Give each node as large a share of the rows as it has of all nodes' training rows, as far as its group has them."""
        places = np.full(len(table), -1, dtype=np.int64)
        everything = sum(wanted.total for wanted in self.rows.values())
        order = stream(seed, "partition", part).permutation(len(table))
        # Those bound to a group choose first: the others can take what they leave.
        for node in sorted(names, key=lambda node: not self.rows[node].group):
            fits = (places < 0) & self._of_group(table, self.rows[node].group, part)
            places[order[fits[order]][: round(len(table) * self.rows[node].total / everything)]] = names.index(node)
        return places

    def _of_group(self, table: Table, group: str, part: str) -> Array:
        if not group:
            return np.ones(len(table), dtype=bool)
        column = table.column("group")
        if group not in column.levels:
            raise DataUnusable(f"no {part} rows are of '{group}'; known: {', '.join(sorted(column.levels)[:10])}")
        return np.asarray(column.codes == column.levels.index(group))
