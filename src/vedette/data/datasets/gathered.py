"""Columns of a person's files, gathered piece by piece into a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vedette.data.datasets.pieces import Piece
from vedette.data.stored import Growing, Matrix, NewMatrix
from vedette.data.table import Coded, Feature
from vedette.message import Array

__all__ = ["Gathered"]


class Gathered:
    """What is learnt from in the files of one table: numbers go to where the matrix is kept, the rest stays in memory.

    Parameters
    ----------
    features
        Names of the columns to learn from.
    categories
        Those of them whose numbers are names of something.
    kinds
        What the columns were found to hold so far, in any file; kept up.
    matrix
        Starts the matrix of the numbers.
    """

    def __init__(self, features: Sequence[str], categories: Collection[str], kinds: dict[str, str], matrix: NewMatrix) -> None:
        self.features, self.categories, self.kinds = features, categories, kinds
        self.rows = 0
        self._new = matrix
        self._numbers: Growing | None = None
        self._columns: list[str] = []
        self._texts: dict[str, list[Coded]] = {name: [] for name in features}

    def add(self, piece: Piece) -> None:
        """Add rows.

        Raises
        ------
        DataBroken
            A column holds both numbers and text, or a number that is not finite.
        """
        values = dict(self._plain(piece))
        for name in self.features:
            if name in values:
                continue
            part = piece.feature(name, self.kinds, name in self.categories or not piece.may_hold_numbers(name))
            if not isinstance(part, Coded):
                values[name] = part
            elif self.kinds.get(name) != "number":
                self._texts[name].append(part)
        if self._numbers is None:
            # A column of which nothing is known yet but missing values has a place among the numbers too.
            self._columns = [name for name in self.features if self.kinds.get(name) != "category"]
            self._numbers = self._new(len(self._columns), np.float64)
        block = np.full((piece.frame.height, len(self._columns)), np.nan)
        for at, name in enumerate(self._columns):
            if name in values:
                block[:, at] = values[name]
        self._numbers.append(block)
        self.rows += len(block)

    def _plain(self, piece: Piece) -> dict[str, Array]:
        """Return the columns that were parsed as numbers and have nothing that needs a second look."""
        names = [name for name in self.features if self.kinds.get(name) == "number" and piece.is_plain(name)]
        values = piece.frame.select(names).to_numpy() if names else np.empty((piece.frame.height, 0))
        return {name: column for name, column in zip(names, values.T, strict=True) if not np.isinf(column).any()}

    def columns(self, features: Sequence[Feature]) -> tuple[Matrix, tuple[Coded, ...]]:
        """Return all rows: the matrix of the number features and a column for each category feature, in their order."""
        assert self._numbers is not None
        numbers = self._numbers.whole()
        chosen = [self._columns.index(feature.name) for feature in features if feature.kind == "number"]
        if chosen != list(range(len(self._columns))):
            numbers = numbers[:, chosen] if isinstance(numbers, np.ndarray) else numbers.select(chosen)
        return numbers, tuple(Coded.concat(self._texts[feature.name]) for feature in features if feature.kind == "category")
