"""Nodes by nature."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.partition.base import Partition
from vedette.data.table import Coded, Table
from vedette.errors import DataUnusable
from vedette.message import Array

__all__ = ["Natural"]


class Natural(Partition):
    """By the group each row belongs to by nature: device, machine, experiment.

    Parameters
    ----------
    depth
        How much of a group's name makes a node: so many of the parts between ``/``, so that with 1 the experiments ``"valve1/0"`` and
        ``"valve1/7"`` are both of node ``"valve1"``. 0: the whole name.
    """

    by: ClassVar[str] = "natural"

    depth: int = Field(default=0, ge=0)

    def names(self, train: Table) -> list[str]:
        if train.group is None:
            raise DataUnusable("these rows know no devices or groups; choose another partition, such as 'iid'")
        return list(dict.fromkeys(self._node(train.group.levels[code]) for code in np.unique(train.group.codes)))

    def _node(self, group: str) -> str:
        return "/".join(group.split("/")[: self.depth]) if self.depth else group

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        names = self.names(train)
        if table.group is None:
            raise DataUnusable(f"the {part} rows know no devices or groups")
        places = Coded(table.group.codes, tuple(map(self._node, table.group.levels))).places(names)
        strange = np.flatnonzero(places == len(names))
        if strange.size:
            raise DataUnusable(f"node '{table.group.levels[table.group.codes[strange[0]]]}' has {part} rows but no training rows")
        return places
