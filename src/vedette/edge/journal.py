"""Readings as bytes: what the journal holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from vedette.data.table import Coded
from vedette.edge.readings import Readings
from vedette.errors import CheckpointError
from vedette.message import Array

__all__ = ["packed", "unpacked"]

INTEGER, REAL = np.dtype("<i4"), np.dtype("<f8")


def packed(readings: Readings) -> bytes:
    """Return readings as bytes: a line of JSON (rows, number features, levels of each category feature), then the columns."""
    levels = [column.levels for column in readings.categories]
    head = json.dumps([len(readings), readings.numbers.shape[1], levels], separators=(",", ":")).encode()
    # A reading's values lie side by side, whichever way the array was made.
    parts: list[tuple[Array, np.dtype[Any]]] = [(readings.devices, INTEGER), (readings.times, REAL), (readings.numbers, REAL)]
    parts += [(column.codes, INTEGER) for column in readings.categories]
    return b"".join([head, b"\n", *(np.ascontiguousarray(part, kind).data.cast("B") for part, kind in parts if part.size)])


def unpacked(stored: bytes) -> Readings:
    """Return the readings again, to the last bit; the arrays cannot be written.

    Raises
    ------
    CheckpointError
        The bytes are damaged.
    """
    try:
        head, _, _ = stored.partition(b"\n")
        rows, features, levels = json.loads(head)
        at, columns = len(head) + 1, []
        parts: list[tuple[np.dtype[Any], int]] = [(INTEGER, rows), (REAL, rows), (REAL, rows * features)] + [(INTEGER, rows)] * len(levels)
        for kind, count in parts:
            columns.append(np.frombuffer(stored, kind, count, at))
            at += count * kind.itemsize
        if at != len(stored):
            raise ValueError("it has another length than it says")
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"stored readings are damaged: {error}") from None
    coded = tuple(Coded(codes, tuple(texts)) for codes, texts in zip(columns[3:], levels, strict=True))
    return Readings(columns[0], columns[1], columns[2].reshape(rows, features), coded)
