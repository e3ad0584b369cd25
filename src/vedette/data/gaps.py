"""Gaps: what is done about missing readings and irregular sampling, by stated rules, before anything is split or learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field

from vedette.data.table import Coded, Table, concat
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.settings import Settings

__all__ = ["Gaps"]


class Gaps(Settings):
    """Rules for missing readings; none looks ahead.

    What stays missing takes the middle of the training values when it is scaled (and a column that says so, with
    ``scaling.missing = "mask"``).

    Parameters
    ----------
    resample
        Seconds: one row for each so long stretch of time, at its end, with the mean of the known numbers, the last text, and the
        anomaly and the change if there was one. Where nothing was read there is no row, and no window spans it. None: rows stay as
        they are.
    fill
        ``"forward"``: what is missing is as it was last known in the same group, for at most `limit` rows; after `resample` also rows
        that are missing altogether. ``"none"``: nothing.
    limit
        Rows that a reading is carried on for.
    """

    resample: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    fill: Literal["none", "forward"] = "none"
    limit: int = Field(default=5, ge=1)

    def closed(self, table: Table) -> Table:
        """Apply the rules to a table.

        Raises
        ------
        DataUnusable
            Rows without a time shall be resampled.
        """
        if self.resample is None and self.fill == "none":
            return table
        if self.resample is not None and table.time is None:
            raise DataUnusable("these rows have no time: they cannot be resampled")
        if not len(table):
            return table
        parts = []
        for first, last in _stretches(table):
            part = table.take(slice(first, last))
            if self.resample is not None:
                part = _resampled(part, self.resample, self.limit if self.fill == "forward" else 0)
            parts.append(_carried_on(part, self.limit) if self.fill == "forward" else part)
        return concat(parts)


def _stretches(table: Table) -> list[tuple[int, int]]:
    """Return first and last (excluded) rows of stretches of one group in which time does not run backwards."""
    breaks = np.zeros(len(table), dtype=bool)
    breaks[0] = True
    if table.group is not None:
        breaks[1:] |= np.diff(table.group.codes) != 0
    if table.time is not None:
        breaks[1:] |= np.diff(table.time) < 0
    edges = [*np.flatnonzero(breaks).tolist(), len(table)]
    return list(pairwise(edges))


def _resampled(table: Table, step: float, more: int) -> Table:
    """Return one row for each `step` in which there is one, and up to `more` empty ones after each."""
    assert table.time is not None
    bins = np.floor(table.time / step).astype(np.int64)
    starts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
    lasts = np.append(starts[1:], len(table)) - 1
    known = ~np.isnan(table.numbers)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    sums = np.add.reduceat(np.where(known, table.numbers, 0), starts, axis=0, dtype=np.float64)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0).astype(table.numbers.dtype)
    label, kind = table.label, table.kind
    # The first anomalous row of a stretch speaks for it.
    telling = starts
    if label is not None:
        marked = np.where(label != 0, np.arange(len(table)), len(table))
        telling = np.minimum.reduceat(marked, starts)
        telling = np.where(telling < len(table), telling, starts)
    used = bins[starts]
    empty = np.minimum(np.diff(used, append=used[-1] + 1) - 1, more)
    rows = np.repeat(np.arange(len(starts)), 1 + empty)
    after = np.arange(len(rows)) - np.repeat(np.cumsum(1 + empty) - 1 - empty, 1 + empty)
    numbers = means[rows]
    numbers[after > 0] = np.nan
    taken = telling[rows]
    place = used[rows] + after
    return replace(
        table,
        numbers=numbers,
        categories=tuple(column.take(lasts[rows]) for column in table.categories),
        label=None if label is None else label[taken],
        kind=None if kind is None else Coded(kind.codes[taken], kind.levels),
        change=None if table.change is None else np.where(after > 0, 0, np.maximum.reduceat(table.change, starts)[rows]).astype(np.int8),
        group=None if table.group is None else table.group.take(lasts[rows]),
        time=(place + 1) * step,
        place=place,
    )


def _carried_on(table: Table, limit: int) -> Table:
    """Fill missing numbers with the last known one of the same feature, if it is at most `limit` rows old."""
    at = np.arange(len(table)) if table.place is None else np.asarray(table.place)
    numbers = np.array(table.numbers)
    for column in range(numbers.shape[1]):
        missing = np.isnan(numbers[:, column])
        if missing.any() and not missing.all():
            last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(table))))
            fill = missing & (last >= 0)
            fill[fill] = _age(at, last, fill) <= limit
            numbers[fill, column] = numbers[last[fill], column]
    return replace(table, numbers=numbers)


def _age(at: Array, last: Array, rows: Array) -> Array:
    """Return how many rows ago the last known values were, missing rows counted."""
    return np.asarray(at[rows] - at[last[rows]])
