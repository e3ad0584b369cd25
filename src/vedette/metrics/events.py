"""Event-wise metrics: a run of anomalous rows is one event, a run of flagged rows one alarm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.message import Array
from vedette.metrics.pointwise import Confusion, rates

__all__ = [
    "EventCounts",
    "FalseAlarms",
    "delays",
    "event_rates",
    "pair",
    "point_adjusted",
    "point_adjusted_f1",
    "precision_at_recall",
    "recall_at_precision",
    "runs",
    "typical_delay",
]

DAY = 86_400.0  # seconds


class EventCounts(NamedTuple):
    """Counts of events and alarms. Counts add up over nodes.

    An event, a run of anomalous rows, is found if any of its rows is flagged. An alarm, a run of flagged rows, is false if it touches
    no event. One alarm may find several events, and several alarms one event.
    """

    events: int = 0
    found: int = 0
    alarms: int = 0
    false_alarms: int = 0

    @classmethod
    def of(cls, label: Array, decision: Array) -> EventCounts:
        """Count.

        Parameters
        ----------
        label
            [rows] of one series, in the order of time, 1 = anomaly.
        decision
            [rows], 1 = flagged.

        Raises
        ------
        ValueError
            The two differ in length.
        """
        truth, flagged = pair(label, decision)
        found, justified = _touched(truth, flagged), _touched(flagged, truth)
        return cls(len(found), int(found.sum()), len(justified), int((~justified).sum()))

    def plus(self, other: EventCounts) -> EventCounts:
        """Add the counts of other series."""
        return EventCounts(*(a + b for a, b in zip(self, other, strict=True)))


def event_rates(counts: EventCounts, beta: float = 1.0) -> dict[str, float | None]:
    """Return event-wise precision, recall and ``f_beta``.

    Precision is the share of alarms that are not false, recall the share of events that are found, F-beta their weighted harmonic mean.
    None stands where a rate is undefined. Precision is 0 where nothing was flagged but something was there. A single alarm over all rows
    has precision 1 and recall 1: show the point-wise precision or the false-positive rate beside these.

    Parameters
    ----------
    counts
        Events and alarms, of one series or of many.
    beta
        How many times as much recall weighs as precision; above 0.

    Raises
    ------
    ValueError
        `beta` is not above 0.

    References
    ----------
    Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic Thresholding", KDD 2018: true and false
    positives counted by sequence.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    events, found, alarms, false_alarms = counts
    precision = (alarms - false_alarms) / alarms if alarms else (0.0 if events else None)
    recall = found / events if events else None
    both: float | None = None
    if precision is not None:  # there are events or alarms
        weighted = beta**2 * precision + (recall or 0.0)
        both = (1 + beta**2) * precision * (recall or 0.0) / weighted if weighted else 0.0
    return {"precision": precision, "recall": recall, "f_beta": both}


class FalseAlarms(NamedTuple):
    """Runs of flagged rows that touch no event, and the seconds of normal rows they fell in. Both add up over devices.

    Attributes
    ----------
    alarms
        Alarms that touch no event.
    seconds
        Normal time: what the rows outside events stand for, in seconds.
    """

    alarms: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, label: Array, decision: Array, seconds: float | Array) -> FalseAlarms:
        """Count.

        Parameters
        ----------
        label
            [rows] of one device, in the order of time, 1 = anomaly.
        decision
            [rows], 1 = flagged.
        seconds
            Seconds that a row stands for: one number, or [rows].

        Raises
        ------
        ValueError
            The arrays differ in length, or a row stands for less than 0 seconds.
        """
        truth, flagged = pair(label, decision)
        durations = np.asarray(seconds, dtype=np.float64)
        if durations.shape not in {(), truth.shape} or not (durations >= 0).all():
            raise ValueError("a row stands for 0 or more seconds: give one number, or one a row")
        return cls(int((~_touched(flagged, truth)).sum()), float(np.broadcast_to(durations, truth.shape)[~truth].sum()))

    def plus(self, other: FalseAlarms) -> FalseAlarms:
        """Add those of another device or time."""
        return FalseAlarms(self.alarms + other.alarms, self.seconds + other.seconds)

    def per_day(self) -> float | None:
        """Return false alarms per device and day of 86,400 s of normal time; None where there was no normal time."""
        return self.alarms * DAY / self.seconds if self.seconds else None


def delays(label: Array, decision: Array, time: Array | None = None) -> Array:
    """Return how long each event ran before its first flagged row, [events] float64, nan where the event was missed.

    An alarm that began before the event counts from the event's first row: its delay is 0.

    Parameters
    ----------
    label
        [rows] of one series, in the order of time, 1 = anomaly.
    decision
        [rows], 1 = flagged.
    time
        [rows] seconds, never falling; without it, delays are numbers of rows.

    Raises
    ------
    ValueError
        The arrays differ in length, or time falls.
    """
    truth, flagged = pair(label, decision)
    clock = np.arange(len(truth), dtype=np.float64) if time is None else np.asarray(time, dtype=np.float64)
    if clock.shape != truth.shape or not (np.diff(clock) >= 0).all():
        raise ValueError("time must be one number a row, and never fall")
    first, last = runs(truth)
    raised = np.append(np.flatnonzero(flagged), len(truth))
    alarm = raised[np.searchsorted(raised, first)]
    return np.where(alarm <= last, clock[np.minimum(alarm, last)] - clock[first], np.nan)


def typical_delay(delay: Array) -> dict[str, float | None]:
    """Return mean and median of the delays of the found events, None without any, and the numbers ``found`` and ``missed``.

    Parameters
    ----------
    delay
        [events], nan where the event was missed; those of several series may stand one after the other.
    """
    given = np.asarray(delay, dtype=np.float64)
    found = given[~np.isnan(given)]
    middle = {"mean": float(found.mean()), "median": float(np.median(found))} if len(found) else {"mean": None, "median": None}
    return {**middle, "found": len(found), "missed": len(given) - len(found)}


def point_adjusted(label: Array, decision: Array) -> Array:
    """Return flags as older papers adjust them, [rows] bool: every row of a found event is taken for flagged. See `point_adjusted_f1`.

    Parameters
    ----------
    label
        [rows] of one series, in the order of time, 1 = anomaly.
    decision
        [rows], 1 = flagged.

    Raises
    ------
    ValueError
        The two differ in length.
    """
    truth, flagged = pair(label, decision)
    first, last = runs(truth)
    adjusted = flagged.copy()
    adjusted[truth] = np.repeat(_touched(truth, flagged), last - first + 1)
    return adjusted


def point_adjusted_f1(label: Array, decision: Array) -> float | None:
    """Return the F1 of rows after every row of a found event is taken for flagged: for comparison with older papers only.

    One lucky row in a long event counts as if the whole event had been flagged, so that random scores, and an untrained network's, beat
    published detectors (Kim et al. 2022). Never rank detectors by it. None where nothing is anomalous and nothing flagged.

    Parameters
    ----------
    label
        [rows], in the order of time, 1 = anomaly.
    decision
        [rows], 1 = flagged.

    Raises
    ------
    ValueError
        The two differ in length.

    References
    ----------
    Xu et al., "Unsupervised Anomaly Detection via Variational Auto-Encoder for Seasonal KPIs in Web Applications", WWW 2018:
    the "adjusted" alarms of its evaluation.
    Kim et al., "Towards a Rigorous Evaluation of Time-Series Anomaly Detection", AAAI 2022.
    """
    return rates(Confusion.of(label, point_adjusted(label, decision)))["f1"]


def precision_at_recall(label: Array, score: Array, recall: float = 0.75) -> float | None:
    """Return the best precision of rows of all thresholds that reach a recall; None where there is only one class.

    Parameters
    ----------
    label
        [rows], 1 = anomaly.
    score
        [rows], higher = more anomalous. A threshold flags the rows at or above it.
    recall
        Share of anomalous rows that must be flagged, above 0 and at most 1.

    Raises
    ------
    ValueError
        The arrays differ in length, a score is not a number, or `recall` is out of its range.
    """
    curve = _curve(label, score, recall)
    return None if curve is None else float(curve[0][curve[1] >= recall].max())


def recall_at_precision(label: Array, score: Array, precision: float = 0.75) -> float | None:
    """Return the best recall of rows of all thresholds that reach a precision, 0 if none does; None where there is only one class.

    Parameters
    ----------
    label
        [rows], 1 = anomaly.
    score
        [rows], higher = more anomalous. A threshold flags the rows at or above it.
    precision
        Share of flagged rows that must be anomalous, above 0 and at most 1.

    Raises
    ------
    ValueError
        The arrays differ in length, a score is not a number, or `precision` is out of its range.
    """
    curve = _curve(label, score, precision)
    return None if curve is None else float(curve[1][curve[0] >= precision].max(initial=0.0))


def runs(flags: Array) -> tuple[Array, Array]:
    """Return the first and the last row of each run of rows that are not 0, [runs] and [runs]."""
    edge = np.diff((np.asarray(flags) != 0).astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1


def pair(label: Array, decision: Array) -> tuple[Array, Array]:
    """Return what is anomalous and what is flagged, [rows] bool each.

    Raises
    ------
    ValueError
        The two differ in length, or have more than one axis.
    """
    truth, flagged = np.asarray(label) != 0, np.asarray(decision) != 0
    if truth.shape != flagged.shape or truth.ndim != 1:
        raise ValueError(f"labels and decisions must be two arrays of as many rows, not of the shapes {truth.shape} and {flagged.shape}")
    return truth, flagged


def _touched(flags: Array, others: Array) -> Array:
    """Return of each run in `flags` whether a row of `others` falls in it, [runs] bool."""
    first, last = runs(flags)
    before = np.concatenate([[0], np.cumsum(others)])
    touched: Array = before[last + 1] > before[first]
    return touched


def _curve(label: Array, score: Array, share: float) -> tuple[Array, Array] | None:
    """Return precision and recall of each distinct threshold, the highest first."""
    truth, scores = np.asarray(label) != 0, np.asarray(score)
    if truth.shape != scores.shape or truth.ndim != 1:
        raise ValueError(f"labels and scores must be two arrays of as many rows, not of the shapes {truth.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers: there is a nan")
    if not 0 < share <= 1:
        raise ValueError(f"a share to reach lies above 0 and is at most 1, not {share}")
    if truth.all() or not truth.any():
        return None
    order = np.argsort(scores)[::-1]
    at = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last row of each threshold
    found = np.cumsum(truth[order])[at]
    return found / (at + 1), found / truth.sum()
