"""Rows that are read and scaled a few at a time, into blocks that somebody else owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from vedette.message import Array
from vedette.training.lowmem.network import Buffers, allocated

__all__ = ["Affine", "HeldRows", "Rows", "ScaledRows", "scaling_buffers"]

SCALED = 8
"""Rows that are scaled at once: arithmetic is float64, as in `vedette.data.scaling`."""


class Rows(Protocol):
    """Training rows that fill a given block."""

    def __len__(self) -> int:
        """Count them."""

    def fill(self, at: Array, inputs: Array, labels: Array) -> None:
        """Write rows by number: `inputs` [n, width] float32, scaled, and `labels` [n] float32."""


class HeldRows(NamedTuple):
    """Rows that somebody hands out scaled.

    Attributes
    ----------
    size
        How many.
    take
        Numbers of rows [n] int -> inputs [n, width] and labels [n] float32.
    most
        How many are asked for at once; None: all that are wanted.
    """

    size: int
    take: Callable[[Array], tuple[Array, Array]]
    most: int | None = None

    def __len__(self) -> int:
        return self.size

    def fill(self, at: Array, inputs: Array, labels: Array) -> None:
        """See `Rows`."""
        most = self.most or len(at)
        for start in range(0, len(at), most):
            some = slice(start, start + most)
            inputs[some], labels[some] = self.take(at[some])


class Affine(NamedTuple):
    """What makes network inputs of numbers: ``clip((x - shift) / scale)``, after a logarithm if wanted.

    Attributes
    ----------
    shift, scale, middle
        [columns] float64; `middle` stands for missing numbers.
    limit
        Scaled values are cut there.
    log
        Whether numbers pass through sign(x)·log(1 + |x|) first.
    """

    shift: Array
    scale: Array
    middle: Array
    limit: float
    log: bool = False

    def apply(self, numbers: Array, spare: Array, missing: Array) -> None:
        """Scale [n, columns] float64 in place; `spare` and `missing` (bool) have the same shape and are spoilt."""
        with np.errstate(over="ignore"):
            if self.log:
                np.abs(numbers, out=spare)
                np.log1p(spare, out=spare)
                np.copysign(spare, numbers, out=numbers)
            numbers -= self.shift
            numbers /= self.scale
        np.isnan(numbers, out=missing)
        np.copyto(numbers, self.middle, where=missing)
        # Not np.clip, for which NumPy buffers both limits.
        np.maximum(numbers, -self.limit, out=numbers)
        np.minimum(numbers, self.limit, out=numbers)


def scaling_buffers(columns: int, width: int, kind: type[Any]) -> Buffers:
    """Return the shape and type of every buffer of `ScaledRows`, of files of so many columns of which so many are wanted."""
    wanted = {name: ((SCALED, width), each) for name, each in (("numbers", np.float64), ("spare", np.float64), ("missing", np.bool_))}
    return {"raw": ((SCALED, columns), kind), **wanted}


class ScaledRows:
    """Rows of raw numbers, scaled on their way into a block; none of them stays in memory.

    Parameters
    ----------
    read
        Numbers of rows and an array [n, columns] to read them into.
    kind
        Type of a raw number.
    columns
        How many a row has.
    chosen
        [width] int, those that are wanted, or None for all.
    scaling
        How they become inputs.
    label
        [rows] of 0 and 1.
    """

    def __init__(
        self,
        read: Callable[[Array, Array], None],
        kind: type[Any],
        columns: int,
        chosen: Array | None,
        scaling: Affine,
        label: Array,
    ) -> None:
        self.read, self.chosen, self.scaling, self.label = read, chosen, scaling, label
        made = allocated(scaling_buffers(columns, columns if chosen is None else len(chosen), kind))
        self._raw, self._numbers, self._spare, self._missing = made["raw"], made["numbers"], made["spare"], made["missing"]

    def __len__(self) -> int:
        return len(self.label)

    def fill(self, at: Array, inputs: Array, labels: Array) -> None:
        """See `Rows`."""
        labels[:] = self.label[at]
        for start in range(0, len(at), SCALED):
            some = at[start : start + SCALED]
            raw, numbers = self._raw[: len(some)], self._numbers[: len(some)]
            self.read(some, raw)
            if self.chosen is None:
                np.copyto(numbers, raw)
            else:
                # Chosen into room that is idle; with another mode than "clip" NumPy would buffer it.
                wanted = self._spare.reshape(-1).view(raw.dtype)[: numbers.size].reshape(numbers.shape)
                np.copyto(numbers, np.take(raw, self.chosen, axis=1, out=wanted, mode="clip"))
            self.scaling.apply(numbers, self._spare[: len(some)], self._missing[: len(some)])
            np.copyto(inputs[start : start + len(some)], numbers, casting="same_kind")
