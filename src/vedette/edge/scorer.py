"""Scoring readings as they come: each by its own device's window, with whatever else is pending."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from vedette.data.table import Coded, Table
from vedette.data.windows import CHUNK_VALUES, averaged
from vedette.detectors.base import Detector
from vedette.detectors.bundle import Engine, digest_of, load_bundle, load_score
from vedette.detectors.explanation import explain
from vedette.detectors.fused import OnnxScore
from vedette.edge.readings import Readings
from vedette.edge.windows import Histories, Intervals, Ordered, ordered
from vedette.errors import DetectorMisused
from vedette.message import Array, Memory

__all__ = ["Scorer", "input_digest", "part_of", "parts_as"]

NONE = ordered(np.zeros(0, dtype=np.int32))

UNSEEN = "\0"
"""Stands for a text that the detector has never seen."""


class Scorer:
    """A detector at work on many devices at once.

    What a reading scores depends on that device's readings before it, and neither on what else is in the batch nor on where batches end:
    one by one, in batches and all at once give the same scores.

    Parameters
    ----------
    detector
        A fitted one that scores windows by themselves.
    graph
        It as one graph (`load_score`); without, rows are scaled by NumPy and go through its network.
    digest
        SHA-256 of the bundle it comes from.
    """

    def __init__(self, detector: Detector, graph: OnnxScore | None = None, digest: str = "") -> None:
        window, scaler = detector.window, detector.scaler
        self.detector, self.graph, self.digest = detector, graph, digest
        self.features = scaler.features
        self._numbers = sum(feature.kind == "number" for feature in self.features)
        self._texts = [feature.name for feature in self.features if feature.kind == "category"]
        self._size, self._average = window.size, window.average
        # Rows before the newest: those of its window, and of the windows that its score is averaged with.
        self._rows = Histories(self._size + self._average - 2, len(self.features))
        self._scores = Histories(self._average - 1)
        self._intervals = Intervals(None if window.across else window.pause)
        self._before = np.zeros(0, dtype=np.int64)
        self._batch: tuple[Ordered, Array, Array, Array] | None = None

    @classmethod
    def of(cls, folder: Path, engine: Engine = "onnx") -> Self:
        """Make one of a bundle.

        Parameters
        ----------
        folder
            The bundle.
        engine
            As for `load_bundle`; only ONNX Runtime scores by the bundle's graph.

        Raises
        ------
        CheckpointError
            See `load_bundle`, `load_score`.
        """
        detector = load_bundle(folder, engine)
        return cls(detector, load_score(folder, detector) if engine == "onnx" else None, digest_of(folder))

    @property
    def windowed(self) -> bool:
        """Whether a score depends on more than the reading itself."""
        return self._rows.depth > 0

    def pieces(self, readings: Readings) -> Iterator[slice]:
        """Cut a batch where a model changes: nowhere, a bundle's does not."""
        if len(readings):
            yield slice(0, len(readings))

    def learn(self, inside: Array, thresholds: Array) -> None:
        """Learn from the piece scored last: nothing, a bundle's model stays as it is."""

    def score(self, readings: Readings) -> Array:
        """Score a batch.

        Parameters
        ----------
        readings
            Of the detector's features.

        Returns
        -------
        Array
            [n] float64.

        Raises
        ------
        DetectorMisused
            The readings have other features.
        """
        if readings.numbers.shape[1] != self._numbers or len(readings.categories) != len(self._texts):
            raise DetectorMisused(
                f"the readings have {readings.numbers.shape[1]} numbers and {len(readings.categories)} texts, "
                f"this detector was trained on {self._numbers} and {len(self._texts)}"
            )
        self._settle()
        if not len(readings):
            return np.zeros(0)
        values = self._values(readings)
        if not self.windowed:
            self._batch = NONE, values, NONE.rows, NONE.rank
            return self._scored(values)
        batch = ordered(readings.devices)
        values = values[batch.rows]
        self._reserve(int(batch.devices[-1]) + 1)
        before = self._stretches(batch, self._intervals.breaks(batch, readings.times[batch.rows]))
        own = np.empty(len(values))
        for first in range(0, len(values), max(1, CHUNK_VALUES // (self._size * values.shape[1]))):
            part = slice(first, first + max(1, CHUNK_VALUES // (self._size * values.shape[1])))
            own[part] = self._scored(self._windows(batch, values, before, part))
        mean = self._mean(batch, own, before)
        self._batch = batch, values, before, own
        scores = np.empty(len(values))
        scores[batch.rows] = mean
        return scores

    def sample(self, row: int) -> Array:
        """Return what the score of a row of the last batch stands on: [rows, features] float64, raw, the oldest first.

        Of categories it holds the place of the text among those known, and their number for one that is not.
        """
        assert self._batch is not None
        batch, values, before, _ = self._batch
        if not self.windowed:
            return np.array(values[row : row + 1])
        at = int(np.flatnonzero(batch.rows == row)[0])
        back = np.arange(min(int(before[at]), self._rows.depth), -1, -1)
        return np.array(self._reached(batch, values, np.full(len(back), at), back))

    def exact(self, values: Array) -> float:
        """Score the last row of some raw rows [rows, features] by itself: the score of record, the same on each call."""
        at = np.arange(max(0, len(values) - self._average), len(values))
        windows = values[np.maximum(at[:, None] + np.arange(1 - self._size, 1), 0)]
        own = np.concatenate([self._scored(window[None]) for window in windows])
        return float(averaged(own, np.arange(len(own)), self._average)[-1])

    def causes(self, values: Array, most: int = 3) -> tuple[str, ...]:
        """Say which features of raw rows [rows, features] the score of the last comes from; nothing if the detector cannot."""
        try:
            found = explain(self.detector, self._table(values), np.array([len(values) - 1]))
        except DetectorMisused:
            return ()
        return tuple(found.said(0, most))

    def memory(self) -> Memory:
        """Return what is known of all devices."""
        self._settle()
        parts = {"rows": self._rows.memory(), "scores": self._scores.memory(), "intervals": self._intervals.memory()}
        return parts_as({**parts, "": {"before": self._before}})

    def restore(self, memory: Memory) -> None:
        """Take over what `memory` returned."""
        self._rows.restore(part_of(memory, "rows"))
        self._scores.restore(part_of(memory, "scores"))
        self._intervals.restore(part_of(memory, "intervals"))
        self._before, self._batch = np.array(memory["before"]), None

    def _reserve(self, devices: int) -> None:
        self._rows.reserve(devices)
        self._scores.reserve(devices)
        if devices > len(self._before):
            self._before = np.concatenate([self._before, np.full(max(devices, 2 * len(self._before)) - len(self._before), -1)])

    def _settle(self) -> None:
        """Write the last batch into the histories; until then `sample` can look at each of its rows."""
        if self._batch is not None and self.windowed:
            batch, values, _, own = self._batch
            self._rows.write(batch, values)
            self._scores.write(batch, own[:, None])
        self._batch = None

    def _stretches(self, batch: Ordered, breaks: Array) -> Array:
        """Return [n] int, how many rows of its stretch stand before each reading."""
        whose = batch.devices[batch.starts]
        at = np.arange(len(breaks))
        edge = breaks.copy()
        edge[batch.starts] = True
        begun = np.maximum.accumulate(np.where(edge, at, 0))
        carried = np.where(breaks[begun], 0, self._before[batch.devices] + 1)
        before = at - begun + carried
        # No more is looked back at than that, and numbers stay small for years.
        self._before[whose] = np.minimum(before[batch.ends - 1], self._rows.depth)
        return np.minimum(before, self._rows.depth)

    def _windows(self, batch: Ordered, values: Array, before: Array, part: slice) -> Array:
        """Return the windows [n, size, features] of some rows; where a stretch is too short its first row is repeated."""
        at = np.arange(len(values))[part]
        back = np.minimum(np.arange(self._size - 1, -1, -1), before[part][:, None])
        found = self._reached(batch, values, np.repeat(at, self._size), back.reshape(-1))
        return found.reshape(len(at), self._size, values.shape[1])

    def _reached(self, batch: Ordered, values: Array, at: Array, back: Array) -> Array:
        """Return [n, features], the rows so many steps before some rows of the batch: in the batch itself, or from before."""
        earlier = back > batch.rank[at]
        found: Array = values[np.where(earlier, at, at - back)]
        if earlier.any():
            found[earlier] = self._rows.back(batch.devices[at[earlier]], (back - batch.rank[at])[earlier])
        return found

    def _mean(self, batch: Ordered, own: Array, before: Array) -> Array:
        """Average each score with those before it in its stretch, added up in the order that `averaged` does."""
        if self._average == 1:
            return own
        total = own.copy()
        for back in range(1, self._average):
            reach = np.flatnonzero(before >= back)
            inside = reach[batch.rank[reach] >= back]
            outside = reach[batch.rank[reach] < back]
            total[inside] += own[inside - back]
            if outside.size:
                total[outside] += self._scores.back(batch.devices[outside], back - batch.rank[outside])[:, 0]
        return np.asarray(total / np.minimum(before + 1, self._average))

    def _scored(self, windows: Array) -> Array:
        """Score raw windows [n, size, features], or rows [n, features]."""
        count = len(windows)
        if self.graph is not None:
            return self.graph.many(windows.reshape(count, -1))
        scaler = self.detector.scaler
        samples = scaler.transform(self._table(windows.reshape(-1, len(self.features)))).reshape(count, self._size * scaler.width)
        # NumPy adds up the values of one sample in another order than those of many, which shows beyond the digits of 32 bits.
        return self.detector.score_samples(samples).astype(np.float32).astype(np.float64)

    def _values(self, readings: Readings) -> Array:
        """Return readings as [n, features] float64: numbers, and the places of texts among those the detector knows."""
        numbers = np.asarray(readings.numbers, dtype=np.float64)
        if not self._texts:
            return numbers
        levels = self.detector.scaler.levels
        places = [column.places(levels[name]) for name, column in zip(self._texts, readings.categories, strict=True)]
        return np.column_stack([numbers, *places])

    def _table(self, values: Array) -> Table:
        """Inverse of `_values`."""
        levels = self.detector.scaler.levels
        columns = zip(self._texts, values.T[self._numbers :], strict=True)
        texts = tuple(Coded(places.astype(np.int32), (*levels[name], UNSEEN)) for name, places in columns)
        return Table(self.features, values[:, : self._numbers], texts)


def parts_as(parts: Mapping[str, Memory]) -> Memory:
    """Put the memories of parts together, each behind its name."""
    return {f"{name}/{key}" if name else key: value for name, memory in parts.items() for key, value in memory.items()}


def part_of(memory: Memory, name: str) -> Memory:
    """Return one of the parts that `parts_as` put together."""
    return {key.removeprefix(f"{name}/"): value for key, value in memory.items() if key.startswith(f"{name}/")}


def input_digest(values: Array) -> str:
    """Return the SHA-256 of raw values."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes()).hexdigest()
