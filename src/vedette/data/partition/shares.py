"""Random shares of everything, equal or not."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

import numpy as np
from pydantic import Field

from vedette.data.partition.base import Drawn, counts_of, deal, is_normal
from vedette.data.table import Table
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Iid", "Quantity", "Uneven"]

ATTEMPTS = 200


class Iid(Drawn):
    """Equal random shares of everything."""

    by: ClassVar[str] = "iid"

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        normal = int(is_normal(train).sum())
        if normal < self.nodes:
            raise DataUnusable(f"partition 'iid': {normal} normal training rows are too few for {self.nodes} nodes; take fewer nodes")
        places = np.empty(len(table), dtype=np.int64)
        deal(places, np.arange(len(table)), np.full(self.nodes, 1 / self.nodes), train, table, (seed, "partition", part))
        return places


class Uneven(Drawn, ABC):
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
            if counts_of(normal, shares).sum(axis=0).min() >= self.min_rows:
                return shares
        raise DataUnusable(
            f"partition '{self.by}': {ATTEMPTS} draws, none with {self.min_rows} normal rows for each of {self.nodes} nodes; "
            "take fewer nodes, a larger alpha or a smaller min_rows"
        )


class Quantity(Uneven):
    """The same distribution everywhere, but unequal amounts."""

    by: ClassVar[str] = "quantity"

    def places(self, train: Table, table: Table, part: str, seed: int) -> Array:
        (shares,) = self._shares(np.array([is_normal(train).sum()]), seed)
        places = np.empty(len(table), dtype=np.int64)
        deal(places, np.arange(len(table)), shares, train, table, (seed, "partition", part))
        return places
