"""What a cohort trainer keeps from node to node and from round to round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vedette.data.table import Table
from vedette.message import Array, Memory, Vector
from vedette.training.cohort.device import DeviceStack
from vedette.training.cohort.slot import Shape, Slot
from vedette.training.cohort.stack import Stack
from vedette.training.cohort.stacked import Stacked
from vedette.training.rows import TrainingRows
from vedette.training.task import Learnable

__all__ = ["Kept"]


class Kept:
    """What is worked out once for many nodes and rounds.

    Parameters
    ----------
    room
        Bytes of scaled rows that are kept.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.rows: dict[Table, tuple[Learnable, Any, TrainingRows]] = {}
        self._shapes: dict[Any, tuple[Learnable, Shape]] = {}
        self._stacks: dict[Any, Stacked] = {}
        self._first: dict[Any, Vector] = {}
        self._room = np.empty(0, np.float32)
        self.started: tuple[Any, Any, Any, Array] | None = None
        """Shape, seed and what was received, of the last node that began anew, and the parameters it began with."""

    def __eq__(self, other: object) -> bool:
        """What is kept makes no trainer differ from another."""
        return isinstance(other, Kept)

    __hash__ = None  # type: ignore[assignment]

    def shape(self, detector: Learnable, role: str, width: int) -> Shape:
        """Return what networks of a role share, for samples of so many values."""
        key = id(detector), role, width
        if key not in self._shapes:
            # With the detector, so that no other one takes its place in memory, and with it its shapes.
            self._shapes[key] = detector, Shape(detector.networks(width)[role])
        return self._shapes[key][1]

    def first(self, slot: Slot, seed: int, role: str, draw: Callable[[Slot, str], Vector]) -> Vector:
        """Return first weights, drawn once for all nodes."""
        key = id(slot.shape), seed, role
        if key not in self._first:
            self._first[key] = draw(slot, role)
        return self._first[key]

    def rows_of(self, detector: Learnable, table: Table, memory: Memory) -> TrainingRows | None:
        """Return a node's rows as they were scaled before, with the same scaler."""
        kept = self.rows.get(table)
        return kept[2] if kept is not None and kept[0] is detector and kept[1] is memory.get("scaling.numbers") else None

    def keep(self, detector: Learnable, memory: Memory, rows: TrainingRows) -> None:
        """Keep rows of small tables for the next round."""
        table, size = rows.samples.table, _bytes(rows)
        before = self.rows.get(table)
        room = self.room + (0 if before is None else _bytes(before[2]))
        if size <= room:
            self.rows[table], self.room = (detector, memory.get("scaling.numbers"), rows), room - size

    def room_for(self, nodes: int, size: int) -> Array:
        """Return an array [nodes, size] float32; its memory is used again."""
        if self._room.size < nodes * size:
            self._room = np.empty(nodes * size, np.float32)
        return self._room[: nodes * size].reshape(nodes, size)

    def stack(self, detector: Learnable, shape: Shape, nodes: int, batch: int, device: str, place: int = 0) -> Stacked:
        """Return room to train in, in NumPy or on a device of torch's; threads that train at once have a place each."""
        key = id(shape), nodes, batch, place
        found = self._stacks.get(key)
        if found is None:
            if len(self._stacks) > 8 * (place + 1):
                self._stacks.clear()
            loss = "cross-entropy" if detector.learning == "supervised" else detector.loss
            work = shape.dense, nodes, batch, loss, detector.optimiser
            found = self._stacks[key] = Stack(*work) if device == "numpy" else DeviceStack(*work, device)
        return found


def _bytes(rows: TrainingRows) -> int:
    """Return what rows take once they are scaled."""
    return 4 * len(rows.samples) * rows.samples.scaler.width
