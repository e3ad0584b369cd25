"""Explanations: how much of a score each feature has to answer for, and what was expected of it in its own units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.data.table import Feature, Table
from vedette.detectors.base import Detector
from vedette.message import Array

__all__ = ["Explanation", "explain"]

BLOCK = 1024
"""Rows explained at once."""


class Explanation(NamedTuple):
    """Why rows scored as they did.

    Attributes
    ----------
    features
        The features, with their units.
    shares
        [rows, features] float64, each feature's share of its row's score; a row's shares add up to 1 (to 0 where the score is 0).
    expected
        [rows, features] float64, what the detector would have taken as normal, in the feature's unit; NaN for categories.
    seen
        [rows, features] float64, what was read; NaN where it was missing, and for categories.
    """

    features: tuple[Feature, ...]
    shares: Array
    expected: Array
    seen: Array

    def said(self, row: int, most: int = 3) -> list[str]:
        """Say the features that matter most in a row: ``"flow 63 %: 31.2 m³/h where 46.8 was expected"``."""
        lines = []
        for place in np.argsort(-self.shares[row], kind="stable")[:most].tolist():
            share, feature = self.shares[row, place], self.features[place]
            if share <= 0:
                break
            expected, seen = self.expected[row, place], self.seen[row, place]
            line = f"{feature.name} {share * 100:.0f} %"
            if not np.isnan(expected):
                unit = f" {feature.unit}" if feature.unit else ""
                line += f": {'nothing' if np.isnan(seen) else f'{seen:.4g}{unit}'} where {expected:.4g}{unit} was expected"
            lines.append(line)
        return lines


def explain(detector: Detector, table: Table, at: Array | None = None) -> Explanation:
    """Explain the scores of rows, each by its own window (an average of scores is not taken apart).

    Parameters
    ----------
    detector
        A fitted one.
    table
        Rows as it scores them, with those that windows reach back to.
    at
        [n] int, the rows to explain; all if absent.

    Raises
    ------
    DetectorMisused
        Not fitted, other features, or a detector that cannot tell features apart.
    """
    scaler = detector.scaler
    owners = scaler.owners
    places = np.arange(len(table)) if at is None else np.asarray(at, dtype=np.int64)
    rows = detector.samples(table, detector.memory)
    shares, expected = [], []
    for first in range(0, len(places), BLOCK):
        samples = rows.take(places[first : first + BLOCK], keep=False)
        parts, wanted = detector.contributions(samples)
        # A category's columns, and the one that says that a number is missing, belong to their feature.
        found = np.zeros((len(samples), len(scaler.features)))
        np.add.at(found.T, owners, np.maximum(parts, 0).T)
        total = found.sum(axis=1, keepdims=True)
        shares.append(np.divide(found, total, out=np.zeros_like(found), where=total > 0))
        expected.append(scaler.undo(wanted))
    seen = np.full((len(places), len(scaler.features)), np.nan)
    numbers = [place for place, feature in enumerate(scaler.features) if feature.kind == "number"]
    seen[:, numbers] = np.asarray(scaler.scaling.chosen(table.take(places)).numbers, dtype=np.float64)
    empty = np.zeros((0, len(scaler.features)))
    return Explanation(scaler.features, np.concatenate([empty, *shares]), np.concatenate([empty, *expected]), seen)
