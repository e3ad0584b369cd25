"""So many rows of each class to each node, as tables in papers say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from vedette.data.partition.base import Partition, is_normal
from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["SHARED", "Counts", "Wanted"]

SHARED = "*"
"""Stands among `Counts.tests` for the rows that every node is tested on."""


class Wanted(Settings):
    """What one node gets.

    Parameters
    ----------
    group
        Only rows of this device, machine or experiment; any if empty.
    normal, anomaly
        How many rows labelled as normal, and how many anomalous ones of any kind.
    kinds
        How many of each kind of anomaly, instead of `anomaly` or beside it; ``"DoS"`` stands for ``"DoS-TCP"`` and ``"DoS-UDP"`` too.
    """

    group: str = ""
    normal: NonNegativeInt = 0
    anomaly: NonNegativeInt = 0
    kinds: dict[str, NonNegativeInt] = {}

    @property
    def total(self) -> int:
        """Rows in all."""
        return self.normal + self.anomaly + sum(self.kinds.values())

    @property
    def orders(self) -> list[tuple[str | None, int]]:
        """What to draw, in this order: a kind of anomaly, any ("") or normal rows (None), and how many.

        Kinds first, or the draw of any anomaly could leave none of them.
        """
        return [*self.kinds.items(), ("", self.anomaly), (None, self.normal)]

    @property
    def larger(self) -> Literal["normal", "anomaly"]:
        """Of which there are more."""
        return "anomaly" if self.anomaly > self.normal else "normal"

    def scaled(self, factor: Fraction) -> Wanted:
        """Return the same with fewer rows of the larger class: rounded down, but one at least of those who want any."""
        count = getattr(self, self.larger)
        return self.model_copy(update={self.larger: max(int(factor * count), 1)}) if count else self


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
        Under ``"*"``: the rows that every node is tested on, for recipes that say ``test = "shared"`` (all rows without it). Unless it
        names a group, they are drawn as evenly from the groups of all nodes as these have rows; or from all rows at random, if a node
        takes rows of any group.
    fit
        Where fewer rows are here than wanted, all nodes get fewer of their larger class (normal or anomalous rows), by one common factor
        (see `factor`) and rounded down, but each one at least: for papers whose tables count a whole data set of which only a sample is
        here. Nodes of the same group share its rows. Training rows, test rows and those of ``"*"`` have a factor each. Of its smaller
        class no node gets fewer, nor of `kinds`: too few of them is an error.
    """

    by: ClassVar[str] = "counts"

    rows: dict[str, Wanted] = Field(min_length=1)
    tests: dict[str, Wanted] = {}
    fit: bool = False

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if SHARED in self.rows:
            raise ValueError(f"no node can be called '{SHARED}', which stands for all of them in 'tests'")
        strange = next((node for node in self._own if node not in self.rows), None)
        if strange is not None:
            raise ValueError(f"node '{strange}' has test rows but no training rows")
        bare = next((node for node, wanted in self.rows.items() if not wanted.normal), None)
        if bare is not None:
            raise ValueError(f"node '{bare}' gets no normal training row")
        if SHARED in self.tests and not self.tests[SHARED].total:
            raise ValueError(f"'tests' under '{SHARED}' asks for no row")
        return self

    def names(self, train: Table) -> list[str]:
        return sorted(self.rows)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        names = self.names(train)
        if table is train or (part == "test" and self._own):
            return self._drawn(table, names, self.rows if table is train else self._own, part, seed)
        return self._proportional(train, table, names, part, seed)

    def shared_tests(self, table: Table, seed: int) -> Array | None:
        wanted = self.tests.get(SHARED)
        if wanted is None:
            return None
        wanted = wanted.scaled(self._factor(table, {SHARED: wanted}, "test"))
        groups = self._shared_groups(wanted)
        taken = np.zeros(len(table), dtype=bool)
        for kind, count in wanted.orders:
            free = {group: np.flatnonzero(~taken & self._fits(table, group, kind, "test")) for group in groups}
            self._check(SHARED, groups, kind, count, sum(map(len, free.values())), "test")
            for group, share in zip(groups, _evenly(count, [len(free[group]) for group in groups]), strict=True):
                taken[stream(seed, "partition", "shared", group, str(kind)).permutation(free[group])[:share]] = True
        return np.flatnonzero(taken)

    def factor(self, table: Table, part: Literal["train", "test", "shared"] = "train") -> float:
        """Say what the numbers of each node's larger class are multiplied by.

        Parameters
        ----------
        table
            The rows to draw from: training rows, or test rows.
        part
            Whose numbers: ``"train"`` those of `rows`, ``"test"`` those of `tests`, ``"shared"`` that of ``tests["*"]``.

        Returns
        -------
        float
            In [0, 1]; 1 without `fit`, or where there are enough rows. 0 where not even one for each node is there.
        """
        if part == "train":
            return float(self._factor(table, self.rows, part))
        wanted = self._own if part == "test" else {node: wanted for node, wanted in self.tests.items() if node == SHARED}
        return float(self._factor(table, wanted, "test"))

    @property
    def _own(self) -> dict[str, Wanted]:
        """Test rows of each node."""
        return {node: wanted for node, wanted in self.tests.items() if node != SHARED}

    def _shared_groups(self, wanted: Wanted) -> list[str]:
        """Return the groups that rows for all nodes are drawn from; "" for any."""
        groups = [wanted.group] if wanted.group else sorted({each.group for each in self.rows.values()})
        return [""] if "" in groups else groups

    def _factor(self, table: Table, wanted: Mapping[str, Wanted], part: str) -> Fraction:
        if not self.fit:
            return Fraction(1)
        # Nodes bound to a group share its rows, and all nodes share all rows; what smaller classes take is gone.
        sharing: dict[tuple[tuple[str, ...], str | None], list[int]] = {}
        taken = Counter[tuple[tuple[str, ...], str | None]]()
        for node, each in wanted.items():
            pool = tuple(self._shared_groups(each)) if node == SHARED else (each.group,)
            for groups in {pool, ("",)}:
                for kind, count in each.orders:
                    if each.larger == ("normal" if kind is None else kind or "anomaly"):
                        sharing.setdefault((groups, kind), []).append(count)
                    else:
                        taken[groups, None if kind is None else ""] += count
        here = {
            (groups, kind): sum(int(self._fits(table, group, kind, part).sum()) for group in groups) - taken[groups, kind]
            for groups, kind in sharing
        }
        return min((_fitting(counts, here[key]) for key, counts in sharing.items()), default=Fraction(1))

    def _drawn(self, table: Table, names: list[str], wanted: Mapping[str, Wanted], part: str, seed: int) -> Array:
        places = np.full(len(table), -1, dtype=np.int64)
        factor = self._factor(table, wanted, part)
        # Those bound to a group choose first: the others can take what they leave.
        nodes = sorted((node for node in names if node in wanted), key=lambda node: not wanted[node].group)
        orders = [(node, kind, count) for node in nodes for kind, count in wanted[node].scaled(factor).orders]
        # Each round of orders (kinds, then any anomaly, then normal rows) goes through all nodes before the next begins.
        for node, kind, count in sorted(orders, key=lambda order: (order[1] is None, not order[1])):
            free = np.flatnonzero((places < 0) & self._fits(table, wanted[node].group, kind, part))
            self._check(node, [wanted[node].group], kind, count, len(free), part)
            places[stream(seed, "partition", part, node, str(kind)).permutation(free)[:count]] = names.index(node)
        return places

    def _proportional(self, train: Table, table: Table, names: list[str], part: str, seed: int) -> Array:
        """Give each node as large a share of the rows as it has of all nodes' training rows, as far as its group has them."""
        places = np.full(len(table), -1, dtype=np.int64)
        factor = self._factor(train, self.rows, "train")
        totals = {node: wanted.scaled(factor).total for node, wanted in self.rows.items()}
        everything = sum(totals.values())
        order = stream(seed, "partition", part).permutation(len(table))
        # Those bound to a group choose first: the others can take what they leave.
        for node in sorted(names, key=lambda node: not self.rows[node].group):
            fits = (places < 0) & self._of_group(table, self.rows[node].group, part)
            places[order[fits[order]][: round(len(table) * totals[node] / everything)]] = names.index(node)
        return places

    def _check(self, node: str, groups: Sequence[str], kind: str | None, count: int, left: int, part: str) -> None:
        if left < count:
            who = f"'tests' under '{SHARED}'" if node == SHARED else f"node '{node}'"
            what = "normal" if kind is None else f"'{kind}'" if kind else "anomalous"
            where = " of " + ", ".join(f"'{group}'" for group in groups) if groups[0] else ""
            advice = "ask for fewer" if self.fit else "ask for fewer, or set fit = true"
            raise DataUnusable(f"{who} wants {count:,} {what} {part} rows{where}, but {left:,} are left; {advice}")

    def _fits(self, table: Table, group: str, kind: str | None, part: str) -> Array:
        """Tell the rows of a group that are of a kind of anomaly, any ("") or normal (None), [rows] bool."""
        anomalous = ~is_normal(table)
        fits = self._of_group(table, group, part) & (~anomalous if kind is None else anomalous)
        if kind:
            column = table.column("kind")
            of_kind = np.array([level == kind or level.startswith(f"{kind}-") for level in column.levels], dtype=bool)
            fits &= of_kind[column.codes]
        return fits

    def _of_group(self, table: Table, group: str, part: str) -> Array:
        if not group:
            return np.ones(len(table), dtype=bool)
        column = table.column("group")
        if group not in column.levels:
            raise DataUnusable(f"no {part} rows are of '{group}'; known: {', '.join(sorted(column.levels)[:10])}")
        return np.asarray(column.codes == column.levels.index(group))


def _fitting(counts: Sequence[int], rows: int) -> Fraction:
    """Return the largest factor up to 1 by which counts fit into so many rows, where none goes below 1; 0 if there is none."""
    ordered = sorted(count for count in counts if count)
    for ones, least in enumerate(ordered):
        # The smallest take one row each, the others what is left.
        factor = Fraction(rows - ones, sum(ordered[ones:]))
        if factor * least >= 1:
            return min(factor, Fraction(1))
    return Fraction(0 if ordered else 1)


def _evenly(count: int, rows: Sequence[int]) -> list[int]:
    """Share a number out as evenly as piles of so many rows allow; the larger piles give what cannot be halved."""
    shares = [0] * len(rows)
    for done, pile in enumerate(sorted(range(len(rows)), key=lambda pile: rows[pile])):
        shares[pile] = min(rows[pile], (count - sum(shares)) // (len(rows) - done))
    return shares
