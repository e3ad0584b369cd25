"""Rows of a chunk of nodes in the order of their steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vedette.message import Array
from vedette.training.cohort.bench import Ready
from vedette.training.cohort.stacked import Stacked

__all__ = ["Feed"]

HELD = 4 << 20
"""Bytes of rows that are held ready for a chunk at once."""


class Feed:
    """Rows of a chunk in the order of their steps, gathered a block of steps at a time.

    Parameters
    ----------
    group
        The chunk.
    rngs
        What shuffles each node's rows.
    stack
        Where they are trained; it keeps room for the rows.
    """

    def __init__(self, group: Sequence[Ready], rngs: Sequence[np.random.Generator], stack: Stacked) -> None:
        lesson = group[0].lesson
        batch, filled = lesson.batch, lesson.filled
        self.group, self.batch, self.filled, self.passes = group, batch, filled, math.ceil(filled / batch)
        self.counts = [ready.lesson.size for ready in group]
        self.least = min(self.counts)
        width = group[0].rows.samples.width
        self.block = max(1, min(self.passes, HELD // max(1, 4 * len(group) * batch * width)))
        self.inputs, self.labels = stack.room(self.block * batch)
        self._rngs = rngs
        self._orders: list[Array] = []
        self._from = -1

    def batch_of(self, number: int, steps: int) -> tuple[Array, Array | None, Array | int]:
        """Return inputs, labels, and how many rows of each node count, of a step."""
        place = number % self.passes
        if not place:
            self._orders = [rng.permutation(count) for rng, count in zip(self._rngs, self.counts, strict=True)]
            self._from = -1
        if self._from < 0 or not self._from <= place < self._from + self.block:
            self._gather(place, min(place + self.block, self.passes, place + steps - number))
        start = (place - self._from) * self.batch
        rows = min(self.filled - place * self.batch, self.batch)
        part = slice(start, start + rows)
        inputs, labels = self.inputs[:, part], None if self.labels is None else self.labels[:, part]
        if self.least - place * self.batch >= rows:
            return inputs, labels, rows
        return inputs, labels, np.minimum(np.array(self.counts) - place * self.batch, rows)

    def _gather(self, begin: int, end: int) -> None:
        self._from = begin
        if self.least < end * self.batch:
            # What a node has no rows for counts nothing, but must be finite.
            self.inputs[:, max(0, self.least - begin * self.batch) :] = 0
        for place, (ready, order) in enumerate(zip(self.group, self._orders, strict=True)):
            some = order[begin * self.batch : end * self.batch]
            ready.rows.fill(some, self.inputs[place, : len(some)], None if self.labels is None else self.labels[place, : len(some)])
