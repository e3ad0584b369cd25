"""Nodes by nature."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from vedette.data.partition.base import Partition
from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array

__all__ = ["Natural"]


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
