"""Sources: where the training rows of a node come from, and how little of them is held."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.data.scaling import LIMIT, Scaler
from vedette.data.stored import Stored
from vedette.message import Array
from vedette.training.lowmem.process import FileRows
from vedette.training.lowmem.rows import SCALED, Affine, HeldRows, Rows, ScaledRows
from vedette.training.rows import TrainingRows

__all__ = ["Source"]


class Source(NamedTuple):
    """Where a node's rows come from: scaled a few at a time if they are numbers, else as they are handed out.

    Attributes
    ----------
    rows
        As any trainer takes them.
    tight
        Whether nothing is kept that grows with the rows.
    scaling, file, label
        What makes inputs of numbers, where they lie on disk, and what they are; None if they are not of that kind.
    why
        They are not.
    """

    rows: TrainingRows
    tight: bool
    scaling: Affine | None
    file: FileRows | None
    label: Array
    why: str = ""

    @classmethod
    def of(cls, rows: TrainingRows, tight: bool) -> Source:
        """Look at rows."""
        samples, scaler = rows.samples, rows.samples.scaler
        label = rows.label if rows.all else rows.label[rows.ends]
        if samples.window.size > 1 or rows.extra is not None:
            return cls(rows, tight, None, None, label, "they are windows" if rows.extra is None else "some were made up")
        affine = _affine(scaler)
        if affine is None:
            return cls(rows, tight, None, None, label, f"scaling '{scaler.scaling.numbers}', categories or masks work otherwise")
        table = scaler.scaling.chosen(samples.table)
        table = table if rows.all else table.take(rows.ends)
        if not isinstance(table.matrix, Stored):
            return cls(rows, tight, affine, None, label, "they lie in memory")
        return cls(rows, tight, affine, FileRows(*table.matrix.where()), label)

    def source(self) -> Rows:
        """Return what fills blocks."""
        if not self.tight or self.scaling is None:
            return HeldRows(len(self.rows), lambda at: self.rows.take(at, keep=not self.tight), None if not self.tight else SCALED)
        if self.file is not None:
            return self.file.scaled(self.scaling, self.label)
        numbers = self.rows.samples.scaler.scaling.chosen(self.rows.samples.table).numbers
        ends = None if self.rows.all else self.rows.ends

        def read(at: Array, into: Array) -> None:
            np.take(numbers, at if ends is None else ends[at], axis=0, out=into, mode="clip")

        return ScaledRows(read, numbers.dtype.type, numbers.shape[1], None, self.scaling, self.label)


def _affine(scaler: Scaler) -> Affine | None:
    """Return a scaling that works on each number by itself, in a line; None if it is another."""
    line = scaler.line
    return None if line is None else Affine(*line, LIMIT, scaler.scaling.log)
