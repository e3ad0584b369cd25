"""Drift: how far live scores and features are from those a model was calibrated by."""

from __future__ import annotations

import numpy as np

from vedette.detectors.base import Detector
from vedette.edge.readings import Readings
from vedette.message import Array, Memory

__all__ = ["Drift"]

BINS = 10
TOGETHER = 256
"""Readings that are taken into account together: a batch of a few costs no more than putting it there."""
FADING = 1e-4
"""How much less a reading counts with each one after it: about 10,000 are looked back on."""


class Drift:
    """Compares what a model sees with what it was calibrated by, all devices together.

    Parameters
    ----------
    detector
        A calibrated one.
    """

    def __init__(self, detector: Detector) -> None:
        _, sketch = detector.calibration_scores
        self._edges = np.array([sketch.quantile(place / BINS) for place in range(1, BINS)])
        self._numbers = [feature for feature in detector.scaler.features if feature.kind == "number"]
        self._line = detector.scaler.line
        self._waiting: list[tuple[Array, Array]] = []
        self._left = TOGETHER
        self._spread = detector.scaler.scaling.spread
        self._counts, self._shift, self._weight = np.zeros(BINS), np.zeros(len(self._numbers)), 0.0

    def take(self, readings: Readings, scores: Array) -> None:
        """Take scored readings into account."""
        self._waiting.append((readings.numbers, scores))
        self._left -= len(scores)
        if self._left <= 0:
            self._settle()

    def _settle(self) -> None:
        """Count what waits."""
        if not self._waiting:
            return
        numbers, scores = (parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._left = [], TOGETHER
        known = ~np.isnan(scores)
        if not known.all():
            numbers, scores = numbers[known], scores[known]
        keep = (1 - FADING) ** len(scores)
        self._counts = keep * self._counts + np.bincount(np.searchsorted(self._edges, scores), minlength=BINS)
        self._weight = keep * self._weight + len(scores)
        if self._line is not None:
            shift, scale, middle = self._line
            scaled = self._spread(numbers) - (shift + middle * scale)
            scaled /= scale
            np.clip(scaled, -BINS, BINS, out=scaled)
            total = scaled.sum(axis=0)
            self._shift = keep * self._shift + (np.nansum(scaled, axis=0) if np.isnan(total).any() else total)

    @property
    def scores(self) -> float:
        """Population stability index of the scores over the tenths of those at calibration; above 0.25 is taken for a change."""
        self._settle()
        if not self._weight:
            return 0.0
        # As if one reading more had been seen in each tenth.
        live = (self._counts + 1) / (self._counts.sum() + BINS)
        return float(((live - 1 / BINS) * np.log(live * BINS)).sum())

    @property
    def features(self) -> dict[str, float]:
        """How far the mean of each number feature is from the middle of its training values, in scaled units; none if ranks are scaled."""
        self._settle()
        if self._line is None or not self._weight:
            return {}
        return {feature.name: float(shift / self._weight) for feature, shift in zip(self._numbers, self._shift, strict=True)}

    def memory(self) -> Memory:
        """Return what was counted, and what waits: when a state is stored changes nothing about it."""
        numbers = np.concatenate([np.zeros((0, len(self._numbers))), *(numbers for numbers, _ in self._waiting)])
        scores = np.concatenate([np.zeros(0), *(scores for _, scores in self._waiting)])
        counted: Memory = {"counts": self._counts, "shift": self._shift, "weight": self._weight}
        return {**counted, "waiting.numbers": numbers, "waiting.scores": scores}

    def restore(self, memory: Memory) -> None:
        """Take over what `memory` returned."""
        self._counts, self._shift, self._weight = np.array(memory["counts"]), np.array(memory["shift"]), float(memory["weight"])
        # States of before hold nothing that waits.
        scores = np.asarray(memory.get("waiting.scores", ()))
        self._waiting = [(np.asarray(memory["waiting.numbers"]), scores)] if len(scores) else []
        self._left = TOGETHER - len(scores)
