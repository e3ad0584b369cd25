"""Unbroken stretches of rows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.partition.base import Drawn, counts_of, is_normal
from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Stretches"]


class Stretches(Drawn):
    """Unbroken stretches of rows, equally long and dealt at random, so that windows stay whole but for those across a border.

    Parameters
    ----------
    each
        Stretches of a node; with more, nodes are more alike.
    """

    by: ClassVar[str] = "stretches"

    each: int = Field(default=1, ge=1)

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        held = np.bincount(self._dealt(train, "train", seed)[is_normal(train)], minlength=self.nodes)
        if not held.all():
            raise DataUnusable(f"partition 'stretches': of {self.nodes} nodes one gets no normal training rows; take fewer nodes")
        return self._dealt(table, part, seed)

    def _dealt(self, table: Table, part: str, seed: int) -> Array:
        stretches = self.nodes * self.each
        owners = stream(seed, "partition", part).permutation(stretches) % self.nodes
        return np.repeat(owners, counts_of(len(table), np.full(stretches, 1 / stretches)))
