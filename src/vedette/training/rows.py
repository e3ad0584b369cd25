"""A node's training rows as its network sees them, shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vedette.data.rebalance import Keep
from vedette.data.table import Table
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory
from vedette.training.task import Learnable

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

    Attributes
    ----------
    all
        Whether all of the node's own rows are taken, as they stand; else `ends` tells those (and how often) that samples end at.

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
        self.all = self.samples.window.size == self.samples.window.stride == 1
        self.ends = np.zeros(0, dtype=np.int64) if self.all else self.samples.whole()
        self.label = np.zeros(len(table), dtype=np.int8) if table.label is None else table.label
        if rng is not None and detector.learning == "supervised" and not isinstance(detector.balancer, Keep):
            ends = self.samples.whole()
            balanced = detector.balancer.balanced(self.samples.take(ends), self.label[ends], rng, self.samples.choices)
            self.all, self.ends, extra = False, ends[balanced.keep], [balanced.extra, *extra]
        self.extra = np.concatenate(extra).astype(np.float32) if extra else None

    def __len__(self) -> int:
        return self.own + (0 if self.extra is None else len(self.extra))

    @property
    def own(self) -> int:
        """How many of them are the node's own."""
        return len(self.samples) if self.all else len(self.ends)

    def batches(self, size: int, steps: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        """Yield `steps` batches of samples [n, width] and labels [n], float32, shuffled anew in each pass."""
        block = size * max(1, BLOCK // (size * self.samples.window.size))
        given = 0
        while given < steps:
            order = rng.permutation(len(self))
            for start in range(0, len(order), block):
                part = order[start : start + block][: (steps - given) * size]
                inputs, labels = self.take(part)
                for at in range(0, len(part), size):
                    yield inputs[at : at + size], labels[at : at + size]
                    given += 1

    def fill(self, at: Array, inputs: Array, labels: Array | None) -> None:
        """Write samples and labels (if they are wanted) by number into arrays [n, width] and [n] float32; see `take`."""
        kept = self.samples.kept() if self.extra is None and self.samples.window.size == 1 else None
        if kept is None:
            inputs[:], given = self.take(at)
            if labels is not None:
                labels[:] = given
            return
        ends = at if self.all else self.ends[at]
        kept.take(ends, axis=0, out=inputs, mode="clip")
        if labels is not None:
            labels[:] = self.label[ends]

    def take(self, at: Array, keep: bool = True) -> tuple[Array, Array]:
        """Return samples [n, width] and labels [n], float32, by number; those given come after a node's own. `keep`: see `Samples.take`."""
        mine = at < self.own
        if self.extra is None or mine.all():
            ends = at if self.all else self.ends[at]
            return self.samples.take(ends, keep), self.label[ends].astype(np.float32)
        rows = np.empty((len(at), self.extra.shape[1]), dtype=np.float32)
        ends = at[mine] if self.all else self.ends[at[mine]]
        rows[mine, :-1], rows[mine, -1] = self.samples.take(ends, keep), self.label[ends]
        rows[~mine] = self.extra[at[~mine] - self.own]
        return rows[:, :-1], rows[:, -1]
