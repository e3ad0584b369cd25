"""Windows: what a detector sees of a row is the row and those before it, never across a border or a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from vedette.data.scaling import Scaler
from vedette.data.table import Table
from vedette.message import Array
from vedette.settings import Settings

__all__ = ["AnyWindow", "Samples", "Window", "averaged", "segment_starts"]

CACHE_BYTES = 512 * 2**20
"""Scaled rows are kept when they take no more than this; else they are scaled again block by block."""

CHUNK_VALUES = 2**18
"""Values of a chunk of samples: what lies between the steps of scoring stays in the cache (benchmarks/scoring.py)."""


class Window(Settings):
    """What a detector sees of a row: the row itself and those before it in its recording, so that nothing waits for the future.

    A window never spans two groups (files, devices), rows that were taken out, or a pause. Where fewer rows stand before a row, the
    first of them is repeated to score it; training and thresholds use whole windows alone, as long as there is one.

    Parameters
    ----------
    size
        Rows of a window; 1 is the row alone. In a recipe the number itself stands for settings: ``window = 30``.
    stride
        Every how many rows a window is trained on; every row is scored.
    scored
        Whose residuals count in a score: those of the ``"last"`` row, the newest, or of the ``"whole"`` window.
    average
        Rows whose scores are averaged to one: the row itself and those before it. Steadier, and so much later.
    pause
        Longest time between two rows of a window, in units of the usual (median) interval; where the clock runs backwards a new
        window begins too. Without times it does not matter.
    """

    size: int = Field(default=1, ge=1, le=100_000)
    stride: int = Field(default=1, ge=1)
    scored: Literal["last", "whole"] = "last"
    average: int = Field(default=1, ge=1, le=10_000)
    pause: float = Field(default=5.0, ge=1)
    across: bool = False

    def starts(self, table: Table) -> Array:
        """Return [rows] int64, the first row that the windows of each row can hold."""
        return segment_starts(table, self.pause, self.across)

    def ends(self, table: Table) -> Array:
        """Return the rows whose window is whole, every `stride`-th of a stretch; of none is whole, all rows."""
        at = np.arange(len(table))
        if self.size == 1 and self.average == 1:
            return at[:: self.stride]
        before = at - self.starts(table)
        whole = (before >= self.size - 1) & ((before - (self.size - 1)) % self.stride == 0)
        return np.flatnonzero(whole) if whole.any() else at

    def counted(self, values: Array) -> Array:
        """Return the values that count in a score, [samples, n], of values [samples, window size × features]."""
        return values if self.scored == "whole" else values[:, values.shape[1] - values.shape[1] // self.size :]


def _sized(value: Any) -> Any:
    return {"size": value} if isinstance(value, int) and not isinstance(value, bool) else value


AnyWindow = Annotated[Window, BeforeValidator(_sized)]


def segment_starts(table: Table, pause: float, across: bool = False) -> Array:
    """Return [rows] int64: the first row of the unbroken stretch of recording that each row belongs to.

    Parameters
    ----------
    table
        Rows, those of a group in time order.
    pause
        Longest time between neighbours, in units of the median one.
    across
        Whether nothing but another group breaks a stretch.
    """
    rows = len(table)
    breaks = np.zeros(rows, dtype=bool)
    breaks[:1] = True
    if table.group is not None:
        breaks[1:] |= np.diff(table.group.codes) != 0
    if table.place is not None and not across:
        breaks[1:] |= np.diff(table.place) != 1
    if table.time is not None and rows > 1 and not across:
        steps = np.diff(table.time)
        usual = steps[~breaks[1:] & (steps > 0)]
        if usual.size:
            breaks[1:] |= (steps < 0) | (steps > pause * np.median(usual))
    at = np.arange(rows)
    return np.maximum.accumulate(np.where(breaks, at, 0))


def averaged(scores: Array, before: Array, average: int) -> Array:
    """Average each score with those of the rows before it.

    Parameters
    ----------
    scores
        [rows] float64.
    before
        [rows] int, how many rows of its stretch stand before each row.
    average
        Over how many rows at most, the row itself among them.
    """
    total = scores.copy()
    for back in range(1, average):
        reach = np.flatnonzero(before >= back)
        if not reach.size:
            break
        total[reach] += scores[reach - back]
    return np.asarray(total / np.minimum(before + 1, average))


class Samples:
    """Rows as a network sees them: scaled, each with the rows of its window before it.

    The one place that knows of borders, gaps and overlap; training, queries and scoring take their rows from here.

    Parameters
    ----------
    scaler
        How rows are scaled.
    window
        How many of them are seen at once.
    table
        Raw rows.
    starts
        [rows] int, what `segment_starts` says of them, if they are but some rows of a table.

    Attributes
    ----------
    width
        Values of a sample: window size × scaled features, oldest row first.
    """

    def __init__(self, scaler: Scaler, window: Window, table: Table, starts: Array | None = None) -> None:
        self.scaler, self.window, self.table = scaler, window, table
        self.width = window.size * scaler.width
        self._starts = starts
        if starts is None and (window.size > 1 or window.average > 1):
            self._starts = window.starts(table)
        self._kept: Array | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def choices(self) -> tuple[slice, ...]:
        """Blocks of a sample's columns between whose values nothing lies: each category, and what tells of a missing number, row by row."""
        numbers, owners = len(self.scaler.number_places), self.scaler.owners
        # Columns of one category have the same owner; so no two blocks side by side have.
        starts = numbers + np.flatnonzero(np.diff(owners[numbers:], prepend=-1))
        blocks = list(zip(starts.tolist(), [*starts[1:].tolist(), self.scaler.width], strict=True)) if starts.size else []
        rows = range(0, self.width, self.scaler.width)
        return tuple(slice(row + first, row + end) for row in rows for first, end in blocks)

    def all(self) -> Array:
        """Return the samples of all rows, [rows, width] float32."""
        return self.take(np.arange(len(self)))

    def whole(self) -> Array:
        """Return the rows that are trained on: see `Window.ends`."""
        return self.window.ends(self.table)

    def take(self, at: Array, keep: bool = True) -> Array:
        """Return the samples that end at some rows.

        Parameters
        ----------
        at
            [n] int, row numbers.
        keep
            Whether to scale all rows now, if they fit, because more will be asked for.

        Returns
        -------
        Array
            [n, width] float32.
        """
        if keep:
            self.kept()
        if self.window.size == 1:
            return self.scaler.transform(self.table.take(at)) if self._kept is None else np.asarray(self._kept[at])
        rows = self._rows(at)
        if self._kept is not None:
            return np.asarray(self._kept[rows].reshape(len(at), self.width))
        # Windows overlap: each row is scaled once.
        low = int(rows.min()) if rows.size else 0
        needed = np.zeros(int(rows.max()) - low + 1 if rows.size else 0, dtype=bool)
        needed[rows - low] = True
        scaled = self.scaler.transform(self.table.take(low + np.flatnonzero(needed)))
        return np.asarray(scaled[(np.cumsum(needed) - 1)[rows - low]].reshape(len(at), self.width))

    def kept(self) -> Array | None:
        """Return all rows scaled, [rows, scaled features] float32, if they are few enough to be kept; they are then scaled once."""
        if self._kept is None and len(self.table) * self.scaler.width * 4 <= CACHE_BYTES:
            self._kept = self.scaler.transform(self.table)
        return self._kept

    def chunk(self, least: int = 256) -> int:
        """Return how many samples are scored at once."""
        return max(least, min(16_384, CHUNK_VALUES // max(self.width, 1)))

    def chunks(self, whole: bool = False, least: int = 256) -> Iterator[Array]:
        """Yield all samples in order, [n, width] float32 at a time, n at least `least`; with `whole` only those of `whole`."""
        size = self.chunk(least)
        if self.window.size == 1:
            for chunk in self.table.chunks(size):
                yield self.scaler.transform(chunk)
            return
        at = self.whole() if whole else np.arange(len(self.table))
        for first in range(0, len(at), size):
            yield self.take(at[first : first + size], keep=False)

    def scores(self, score: Callable[[Array], Array], settled: bool = False) -> Array:
        """Score all rows, in order.

        Parameters
        ----------
        score
            Of samples [n, width] float32 -> [n] float64.
        settled
            Leave out scores that stand on less than a whole window or a whole average, as long as there are others: for thresholds.

        Returns
        -------
        Array
            [rows] float64, averaged as the window says.
        """
        average = self.window.average
        parts = [score(chunk) for chunk in self.chunks(whole=settled and average == 1)]
        found = np.concatenate(parts) if parts else np.zeros(0)
        if average == 1 or not len(found):
            return found
        assert self._starts is not None
        before = np.arange(len(found)) - self._starts
        mean = averaged(found, before, average)
        whole = before >= self.window.size + average - 2
        return mean[whole] if settled and whole.any() else mean

    def _rows(self, at: Array) -> Array:
        """Return [n, size] int, the rows of the windows that end at some rows."""
        assert self._starts is not None
        return np.maximum(at[:, None] + np.arange(1 - self.window.size, 1), self._starts[at][:, None])
