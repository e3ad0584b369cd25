"""Models that a device makes of its own last readings: where there is no bundle, or where all drifts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vedette.data.scaling import Scaling
from vedette.data.table import Feature, Table
from vedette.detectors.classical import Pca
from vedette.detectors.explanation import explain
from vedette.edge.readings import Readings
from vedette.edge.scorer import part_of, parts_as
from vedette.edge.windows import Histories, Ordered, grown, ordered
from vedette.errors import DataUnusable
from vedette.message import Array, Memory
from vedette.settings import Settings

__all__ = ["Rolling", "RollingScorer"]


class Rolling(Settings):
    """A principal subspace of a device's last readings, fitted anew again and again.

    A reading above the threshold enters the fit cut: drawn towards the middle of the rows the model stands on until its own score is
    the threshold. So a fault hardly turns the model, while a drift, which raises alarms too, still moves it: where alarms are left out,
    the model stands still when it has most to learn. An incident that lasts for more than `freeze` readings is how the device is now,
    and what comes after that enters whole.

    Parameters
    ----------
    statistic, share
        What of the subspace is the score, and the share of the variance that it keeps (`Pca`).
    rows
        Readings it is fitted to.
    least
        Readings from which on there is a score.
    every
        Readings after which it is fitted anew.
    freeze
        Readings of an incident after which they are not cut any more.
    average
        Readings whose scores, by the present model, are averaged to one (`Window.average`).
    """

    statistic: Literal["q", "t2", "combined"] = "combined"
    share: float = Field(default=0.95, gt=0, lt=1)
    rows: int = Field(default=400, ge=10, le=100_000)
    least: int = Field(default=100, ge=5)
    every: int = Field(default=20, ge=1)
    freeze: int = Field(default=100, ge=0)
    average: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self.average <= self.least <= self.rows:
            raise ValueError(f"average <= least <= rows must hold, not {self.average}, {self.least}, {self.rows}")
        return self

    def open(self, features: tuple[Feature, ...]) -> RollingScorer:
        """Begin with devices that have such features, all of them numbers."""
        return RollingScorer(self, features)


class RollingScorer:
    """Scores each reading by the model of its device, which `learn` then takes further; as `Scorer` otherwise.

    Parameters
    ----------
    settings
        How models are made.
    features
        What devices measure.

    Raises
    ------
    DataUnusable
        There are categories among the features.
    """

    def __init__(self, settings: Rolling, features: tuple[Feature, ...]) -> None:
        if any(feature.kind == "category" for feature in features):
            raise DataUnusable("a rolling model takes numbers only: leave categories out, or watch with a bundle")
        self.settings, self.features = settings, features
        self.digest = hashlib.sha256(f"{settings!r} {features!r}".encode()).hexdigest()
        # Rows since the last fit are kept beside those of the fit, so that a score can be made again.
        self._rows = Histories(settings.rows + settings.every, len(features))
        self._last = Histories(settings.average - 1, len(features))
        self._since, self._fitted = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self._inside = np.zeros(0, dtype=np.int64)
        self._models: dict[int, Pca] = {}
        self._batch: tuple[Ordered, Readings, Array, Array] | None = None

    def pieces(self, readings: Readings) -> Iterator[slice]:
        """Cut a batch so that no device's model changes within a piece; ask for the next piece once this one was learned from."""
        first = 0
        while first < len(readings):
            batch = ordered(readings.devices[first:])
            self._grow(int(batch.devices[-1]) + 1)
            over = batch.rows[batch.rank >= self._left(batch.devices)]
            last = len(readings) if not len(over) else first + int(over.min())
            yield slice(first, last)
            first = last

    def score(self, readings: Readings) -> Array:
        """Score a piece: [n] float64, NaN where a device has no model yet."""
        batch = ordered(readings.devices)
        scores, own = np.full((2, len(readings)), np.nan)
        if len(readings):
            self._grow(int(batch.devices[-1]) + 1)
        for start, end in zip(batch.starts.tolist(), batch.ends.tolist(), strict=True):
            model = self._model(int(batch.devices[start]))
            if model is not None:
                rows = batch.rows[start:end]
                found = self._scored(model, self._tail(int(batch.devices[start]), readings.numbers[rows]))
                scores[rows], own[rows] = self._averaged(found), found[self.settings.average - 1 :]
        self._batch = batch, readings, scores, own
        return scores

    def learn(self, inside: Array, thresholds: Array) -> None:
        """Take models further by the piece that was scored last.

        Parameters
        ----------
        inside
            [n] bool, which readings lie within an incident.
        thresholds
            [n] float64, what their scores were held against.
        """
        assert self._batch is not None
        batch, readings, scores, own = self._batch
        self._last.write(batch, np.asarray(readings.numbers[batch.rows], dtype=np.float64))
        for start, end in zip(batch.starts.tolist(), batch.ends.tolist(), strict=True):
            device, rows = int(batch.devices[start]), batch.rows[start:end]
            lasting = np.arange(1, len(rows) + 1) + self._inside[device]
            ends = np.maximum.accumulate(np.where(inside[rows], 0, lasting))
            lasting = np.where(inside[rows], lasting - ends, 0)
            self._inside[device] = lasting[-1]
            values, limits = np.array(readings.numbers[rows], dtype=np.float64), thresholds[rows]
            high = (scores[rows] > limits) & (own[rows] > limits) & (lasting <= self.settings.freeze)
            if high.any():
                values[high] = self._cut(device, values[high], limits[high] / own[rows][high])
            self._rows.add(device, values)
            self._since[device] += len(values)
            if self._left(np.array([device]))[0] <= 0:
                self._since[device], self._fitted[device] = 0, min(self._rows.count(device), self.settings.rows)
                self._models.pop(device, None)

    def sample(self, row: int) -> Array:
        """Return what the score of a row of the last piece stands on: [n, features], the rows of the fit, then those that are scored."""
        assert self._batch is not None
        readings = self._batch[1]
        device = int(readings.devices[row])
        own = np.flatnonzero(readings.devices[: row + 1] == device)
        return np.concatenate([self._of_fit(device), self._tail(device, readings.numbers[own])[-self.settings.average :]])

    def exact(self, values: Array) -> float:
        """Score the last of some raw rows, as from `sample`, by the model of the first of them."""
        model = self._fit(values[: -self.settings.average])
        return float("nan") if model is None else float(self._averaged(self._scored(model, values[-self.settings.average :]))[0])

    def causes(self, values: Array, most: int = 3) -> tuple[str, ...]:
        """Say which features the score of the last of some raw rows, as from `sample`, comes from."""
        model = self._fit(values[: -self.settings.average])
        return () if model is None else tuple(explain(model, self._table(values[-1:])).said(0, most))

    def memory(self) -> Memory:
        """Return what is known of all devices."""
        return parts_as(
            {
                "rows": self._rows.memory(),
                "last": self._last.memory(),
                "": {"since": self._since, "fitted": self._fitted, "inside": self._inside},
            }
        )

    def restore(self, memory: Memory) -> None:
        """Take over what `memory` returned."""
        self._rows.restore(part_of(memory, "rows"))
        self._last.restore(part_of(memory, "last"))
        self._since, self._fitted, self._inside = (np.array(memory[name]) for name in ("since", "fitted", "inside"))
        self._models, self._batch = {}, None

    def _grow(self, devices: int) -> None:
        self._rows.reserve(devices)
        self._last.reserve(devices)
        self._since, self._fitted = grown(self._since, devices), grown(self._fitted, devices)
        self._inside = grown(self._inside, devices)

    def _left(self, devices: Array) -> Array:
        """Return how many readings of each device there are until its model is made anew."""
        return np.where(self._fitted[devices] > 0, self.settings.every, self.settings.least) - self._since[devices]

    def _of_fit(self, device: int) -> Array:
        """Return the rows that a device's model is fitted to."""
        rows = self._rows.of(device)
        end = len(rows) - int(self._since[device])
        return rows[max(0, end - int(self._fitted[device])) : end]

    def _model(self, device: int) -> Pca | None:
        if self._fitted[device] and device not in self._models:
            model = self._fit(self._of_fit(device))
            if model is None:
                return None
            self._models[device] = model
        return self._models.get(device)

    def _fit(self, rows: Array) -> Pca | None:
        """Return the model of some rows; None if they all say the same."""
        settings = Scaling(numbers="standard", empty="left-out")
        try:
            return Pca(scaling=settings, share=self.settings.share, statistic=self.settings.statistic).fit(self._table(rows))
        except DataUnusable:
            return None

    def _cut(self, device: int, rows: Array, shares: Array) -> Array:
        """Return rows [n, features] drawn towards the middle of the fit, so that of their own scores such shares [n] remain."""
        scaler = self._models[device].scaler
        # Scaled, the middle is 0, no value is too large to be drawn in, and the score is quadratic.
        drawn = scaler.undo(scaler.transform(self._table(rows)) * np.sqrt(shares)[:, None])
        return np.where(np.isnan(rows), np.nan, drawn)

    def _table(self, rows: Array) -> Table:
        return Table(self.features, np.asarray(rows, dtype=np.float64))

    def _tail(self, device: int, rows: Array) -> Array:
        """Return rows of a device with those before them that their scores are averaged with; a model has seen as many at least."""
        return np.concatenate([self._last.of(device), np.asarray(rows, dtype=np.float64)])

    def _scored(self, model: Pca, rows: Array) -> Array:
        """Score each row by itself."""
        # The last digits depend on how many rows are scored together.
        return model.decision_function(self._table(rows)).astype(np.float32).astype(np.float64)

    def _averaged(self, scores: Array) -> Array:
        """Average the scores of all rows but those that only come before others."""
        return np.asarray(np.lib.stride_tricks.sliding_window_view(scores, self.settings.average).mean(axis=1))
