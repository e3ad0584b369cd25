"""A node's training rows as its network sees them, shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.data.rebalance import Keep
from vedette.data.table import Table
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory
from vedette.training.layers import needs_torch
from vedette.training.task import Learnable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TrainingRows"]

BLOCK = 65_536
"""Rows taken at once."""


class TrainingRows:
    """A node's samples with those it was given, in random batches.

    Parameters
    ----------
    detector
        Says how rows are scaled and how many of them a sample holds.
    table
        The node's raw rows.
    memory
        The node's state, with its scaler.
    extra
        Tables of samples, [n, width + 1] each, the label last.
    rng
        For re-balancing; without it rows stay as they are.

    Raises
    ------
    DataUnusable
        A supervised detector, but no labels.
    DetectorMisused
        A table of another width, or with values that are not finite.
    """

    def __init__(
        self, detector: Learnable, table: Table, memory: Memory, extra: Sequence[Array] = (), rng: np.random.Generator | None = None
    ) -> None:
        self.samples = detector.samples(table, memory)
        if detector.learning == "supervised" and table.label is None:
            raise DataUnusable("a supervised detector needs labels, and these rows have none")
        width = self.samples.width + 1
        for rows in extra:
            if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
                raise DetectorMisused(f"rows to train on must be [n, {width}] finite numbers, got an array of shape {rows.shape}")
        self.ends = self.samples.whole()
        self.label = np.zeros(len(table), dtype=np.int8) if table.label is None else table.label
        if rng is not None and detector.learning == "supervised" and not isinstance(detector.balancer, Keep):
            balanced = detector.balancer.balanced(self.samples.take(self.ends), self.label[self.ends], rng, self.samples.choices)
            self.ends, extra = self.ends[balanced.keep], [balanced.extra, *extra]
        self.extra = np.concatenate(extra).astype(np.float32) if extra else None

    def __len__(self) -> int:
        return len(self.ends) + (0 if self.extra is None else len(self.extra))

    def batches(self, size: int, steps: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `steps` batches of samples and labels, shuffled anew in each pass."""
        torch = needs_torch()
        block = size * max(1, BLOCK // (size * self.samples.window.size))
        given = 0
        while given < steps:
            order = rng.permutation(len(self))
            for start in range(0, len(order), block):
                part = order[start : start + block][: (steps - given) * size]
                inputs, labels = (torch.from_numpy(array) for array in self.take(part))
                for at in range(0, len(part), size):
                    yield inputs[at : at + size], labels[at : at + size]
                    given += 1

    def take(self, at: Array) -> tuple[Array, Array]:
        """Return samples [n, width] and labels [n], float32, by number; those given come after a node's own."""
        own = len(self.ends)
        mine = at < own
        if self.extra is None or mine.all():
            ends = self.ends[at]
            return self.samples.take(ends), self.label[ends].astype(np.float32)
        rows = np.empty((len(at), self.extra.shape[1]), dtype=np.float32)
        ends = self.ends[at[mine]]
        rows[mine, :-1], rows[mine, -1] = self.samples.take(ends), self.label[ends]
        rows[~mine] = self.extra[at[~mine] - own]
        return rows[:, :-1], rows[:, -1]
