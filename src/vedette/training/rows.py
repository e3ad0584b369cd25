"""A node's training rows, scaled and shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.data.table import Table
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory
from vedette.training.networks import needs_torch
from vedette.training.task import Learnable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TrainingRows"]

CACHE_BYTES = 512 * 2**20
"""Scaled rows of one task are kept when they take no more than this; else they are scaled again block by block."""

BLOCK = 65_536
"""Rows scaled at once when they are not kept."""


class TrainingRows:
    """A node's scaled rows with those it was given, in random batches.

    Parameters
    ----------
    detector
        Says how rows are scaled.
    table
        The node's raw rows.
    memory
        The node's state, with its scaler.
    extra
        Tables of scaled rows, [n, features + 1] each, the label last.

    Raises
    ------
    DataUnusable
        A supervised detector, but no labels.
    DetectorMisused
        A table of another width, or with values that are not finite.
    """

    def __init__(self, detector: Learnable, table: Table, memory: Memory, extra: Sequence[Array] = ()) -> None:
        self.detector, self.table, self.memory = detector, table, memory
        self.own, self.width = len(table), detector.scaled(table.take(slice(0, 0)), memory).shape[1]
        if detector.learning == "supervised" and table.label is None:
            raise DataUnusable("a supervised detector needs labels, and these rows have none")
        for rows in extra:
            if rows.ndim != 2 or rows.shape[1] != self.width + 1 or not np.isfinite(rows).all():
                raise DetectorMisused(f"rows to train on must be [n, {self.width + 1}] finite numbers, got an array of shape {rows.shape}")
        self.extra = np.concatenate(extra).astype(np.float32) if extra else None
        self._kept: tuple[Array, Array] | None = None

    def __len__(self) -> int:
        return self.own + (0 if self.extra is None else len(self.extra))

    def batches(self, size: int, steps: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `steps` batches of scaled rows and labels, shuffled anew in each pass."""
        torch = needs_torch()
        given = 0
        while given < steps:
            order = rng.permutation(len(self))
            for start in range(0, len(order), size * max(1, BLOCK // size)):
                block = order[start : start + size * max(1, BLOCK // size)]
                inputs, labels = (torch.from_numpy(array) for array in self.take(block))
                for at in range(0, len(block), size):
                    if given < steps:
                        yield inputs[at : at + size], labels[at : at + size]
                    given += 1

    def take(self, at: Array) -> tuple[Array, Array]:
        """Return scaled rows [n, features] and labels [n], float32, by number; those given come after a node's own."""
        mine = at < self.own
        if self.extra is None or mine.all():
            return self.scaled(at)
        rows = np.empty((len(at), self.extra.shape[1]), dtype=np.float32)
        rows[mine, :-1], rows[mine, -1] = self.scaled(at[mine])
        rows[~mine] = self.extra[at[~mine] - self.own]
        return rows[:, :-1], rows[:, -1]

    def scaled(self, at: Array) -> tuple[Array, Array]:
        """Return scaled rows and labels of the node's own rows, by number."""
        if self._kept is not None:
            return self._kept[0][at], self._kept[1][at]
        if self.own * self.width * 4 <= CACHE_BYTES:
            self._kept = self._scale(self.table)
            return self.scaled(at)
        return self._scale(self.table.take(at))

    def _scale(self, table: Table) -> tuple[Array, Array]:
        label = np.zeros(len(table), dtype=np.float32) if table.label is None else table.label.astype(np.float32)
        return self.detector.scaled(table, self.memory), label
