"""Baselines: each recording told by how far it is from its own beginning."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from pydantic import Field

from vedette.data.table import Table
from vedette.message import Array
from vedette.settings import Settings

__all__ = ["Baseline"]

FLAT = 1e-3
"""A reading that hardly varies at the beginning of a recording is divided by this share of its level."""


class Baseline(Settings):
    """Numbers as deviations from what their recording was like at first, so that detectors fit rigs and machines of any level.

    Nothing looks ahead: the rows of the beginning itself are compared with those before them.

    Parameters
    ----------
    rows
        How many first rows of each group are its beginning; 0 leaves numbers as they are.
    divide
        Whether deviations are in standard deviations of the beginning, or in the features' own units.
    """

    rows: int = Field(default=0, ge=0)
    divide: bool = True

    def applied(self, table: Table) -> Table:
        """Return the table with deviations in place of numbers; missing numbers stay missing."""
        if not self.rows or not len(table):
            return table
        numbers = np.array(table.numbers, dtype=np.float64)
        codes = np.zeros(len(table), dtype=np.int64) if table.group is None else table.group.codes
        edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(table)]
        for first, last in pairwise(edges):
            numbers[first:last] = self._deviations(numbers[first:last])
        features = tuple(replace(each, unit="σ") if self.divide and each.kind == "number" else each for each in table.features)
        return replace(table, numbers=numbers, features=features)

    def _deviations(self, numbers: Array) -> Array:
        begun = numbers[: self.rows]
        known = ~np.isnan(begun)
        # Sums run over the beginning row by row; a shift keeps squares from cancelling.
        shift = np.array([column[seen][0] if seen.any() else 0.0 for column, seen in zip(begun.T, known.T, strict=True)])
        values = np.where(known, begun - shift, 0.0)
        count = np.maximum(np.cumsum(known, axis=0), 1)
        mean = np.cumsum(values, axis=0) / count
        spread = np.sqrt(np.maximum(np.cumsum(values**2, axis=0) / count - mean**2, 0))
        rows = np.minimum(np.arange(len(numbers)), len(begun) - 1)
        deviations = numbers - (mean + shift)[rows]
        if not self.divide:
            return np.asarray(deviations)
        floor = np.maximum(FLAT * np.abs(mean + shift), np.finfo(np.float64).tiny)
        return np.asarray(deviations / np.maximum(spread, floor)[rows])
