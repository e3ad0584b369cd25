"""The NAB score of change points, as SKAB's leaderboard computes it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.message import Array

__all__ = ["PROFILES", "NabCounts", "changes", "nab"]

# What a false alarm and a missed change cost, by NAB's profile; a change found at once earns 1.
PROFILES = {"standard": (-0.11, -1.0), "low_fp": (-0.22, -1.0), "low_fn": (-0.11, -2.0)}
STEPS = 1000  # SKAB reads what an alarm earns off a table of as many steps a window


class NabCounts(NamedTuple):
    """What the NAB score of every profile is made of. Counts add up over series.

    Attributes
    ----------
    changes
        Change points, each with a window that begins there.
    found
        Change points with an alarm in their window.
    earliness
        Sum over the found ones: 1 for a first alarm at the window's beginning, falling to 0 at its end.
    false_alarms
        Alarms outside all windows.
    """

    changes: int = 0
    found: int = 0
    earliness: float = 0.0
    false_alarms: int = 0

    @classmethod
    def of(cls, change: Array, alarm: Array, time: Array, window: float = 60.0) -> NabCounts:
        """Count.

        A window runs from its change point to `window` seconds later, both included; where it would begin before the one before it
        ends, it begins at that end. Only the first alarm in a window counts.

        Parameters
        ----------
        change
            [rows] of one series, 1 = change point.
        alarm
            [rows], 1 = a change is reported; `changes` makes these of flagged rows.
        time
            [rows] seconds, never falling, no two change points at the same time.
        window
            Seconds; SKAB's leaderboard of today has 60.

        Raises
        ------
        ValueError
            The arrays differ in length, time falls or stands still between change points, or the window is not above 0.
        """
        clock, truth, raised = np.asarray(time, dtype=np.float64), np.asarray(change) != 0, np.asarray(alarm) != 0
        if not clock.shape == truth.shape == raised.shape or clock.ndim != 1:
            raise ValueError("change points, alarms and times must be three arrays of as many rows")
        begin, alarms = clock[truth], clock[raised]
        if not (np.diff(clock) >= 0).all() or not (np.diff(begin) > 0).all():
            raise ValueError("time must never fall, and must pass between two change points")
        if not window > 0:
            raise ValueError(f"a window has more than 0 seconds, not {window}")
        end = begin + window
        begin[1:] = np.maximum(begin[1:], end[:-1])
        after, past = np.searchsorted(alarms, begin), np.searchsorted(alarms, end, side="right")
        found = after < past
        waited = (alarms[after[found]] - begin[found]) / (end - begin)[found]
        # An alarm at a moment that two windows share is in both.
        inside = np.searchsorted(begin, alarms, side="right") > np.searchsorted(end, alarms)
        return cls(len(begin), int(found.sum()), float(_earliness(waited).sum()), int((~inside).sum()))

    def plus(self, other: NabCounts) -> NabCounts:
        """Add the counts of another series."""
        return NabCounts(
            self.changes + other.changes,
            self.found + other.found,
            self.earliness + other.earliness,
            self.false_alarms + other.false_alarms,
        )


def nab(counts: NabCounts) -> dict[str, float | None]:
    """Return the NAB scores of the profiles ``standard``, ``low_fp`` and ``low_fn``; None where there is no change point.

    100 is each change found in its first row and nothing else reported, 0 is silence; there is no lowest score. SKAB's leaderboard
    sums the counts of all files first and prints two decimals.

    Parameters
    ----------
    counts
        Of one series, or of many added up.

    References
    ----------
    Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark", ICMLA 2015: the profiles and the
    score scaled between silence and perfection. The window, and tanh in place of the paper's sigmoid, are SKAB's (`chp_score`, metric
    "nab", windows to the right). SKAB's older leaderboard, v0.9, had windows of 30 s, rows of training among those scored, and other
    code: its figures cannot be compared.
    """
    number, found, earliness, false_alarms = counts
    if not number:
        return dict.fromkeys(PROFILES)
    scores: dict[str, float | None] = {}
    for profile, (false, missed) in PROFILES.items():
        earned = found * false + (1 - false) * earliness  # from 1 at the window's beginning down to a false alarm's cost at its end
        score = earned + false_alarms * false + (number - found) * missed
        silent = number * missed
        scores[profile] = 100 * (score - silent) / (number - silent)
    return scores


def changes(flags: Array) -> Array:
    """Return the rows where flags begin or end, [rows] bool: what SKAB's notebooks take for reported changes.

    Parameters
    ----------
    flags
        [rows], 1 = flagged as anomalous.
    """
    changed: Array = np.diff((np.asarray(flags) != 0).astype(np.int8), prepend=0) != 0
    return changed


def _earliness(waited: Array) -> Array:
    """Return what a share of the window waited leaves, from 1 to 0 by a hyperbolic tangent."""
    step = np.minimum((waited * STEPS).astype(int), STEPS - 1)
    x = np.linspace(-np.pi / 2, np.pi / 2, STEPS)[step]
    left: Array = (1 - np.tanh(x) / np.tanh(np.pi / 2)) / 2
    return left
