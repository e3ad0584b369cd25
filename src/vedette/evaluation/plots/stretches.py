"""Where in a long series to look closer: the anomaly found, the one missed, the worst false alarm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.message import Array

__all__ = ["Stretch", "stretches_of"]

BEFORE, AFTER = 60, 180  # rows shown before and after the beginning
GAP = 20.0  # median steps: what lies further apart does not belong together
WHOLE = 0.6  # of all rows: a stretch as long as that is no closer look


class Stretch(NamedTuple):
    """Rows that are worth a closer look.

    Attributes
    ----------
    kind
        ``"found"`` and ``"missed"`` are anomalies, ``"false"`` is a false alarm, ``"alert"`` an alarm where no truth is known.
    begin, end
        First row of the anomaly or alarm, and the one after its last.
    first, last
        The rows to show, `last` excluded.
    """

    kind: str
    begin: int
    end: int
    first: int
    last: int


def stretches_of(score: Array, label: Array | None, threshold: float, time: Array | None) -> list[Stretch]:
    """Choose the longest anomaly found, the longest missed and the alarm that is highest of the false ones.

    Parameters
    ----------
    score, label, time
        [rows] as of a `Trace`; label and time may be None.
    threshold
        Scores above it are alerts.

    Returns
    -------
    list
        At most three; none where a closer look would show nearly all rows.
    """
    alert = score > threshold
    breaks = _breaks(time, len(score))
    peak = np.where(np.isnan(score), -np.inf, score)

    def height(alarm: tuple[int, int]) -> float:
        return float(peak[slice(*alarm)].max())

    def length(event: tuple[int, int]) -> int:
        return event[1] - event[0]

    chosen: dict[str, tuple[int, int]] = {}
    if label is None:
        if alarms := _runs(alert, breaks):
            chosen["alert"] = max(alarms, key=height)
    else:
        truth = np.asarray(label) > 0
        events = _runs(truth, breaks)
        for kind, wanted in (("found", True), ("missed", False)):
            if held := [event for event in events if bool(alert[slice(*event)].any()) == wanted]:
                chosen[kind] = max(held, key=length)
        # An alarm that began or ended with an anomaly comes second: it was not for nothing.
        alone = [alarm for alarm in _runs(alert, breaks) if not truth[slice(*alarm)].any()]
        if false := alone or _runs(alert & ~truth, breaks):
            chosen["false"] = max(false, key=height)
    stretches = [_shown(kind, event, alert, breaks) for kind, event in chosen.items()]
    return [stretch for stretch in stretches if stretch.last - stretch.first <= WHOLE * len(score)]


def _shown(kind: str, event: tuple[int, int], alert: Array, breaks: Array) -> Stretch:
    """Show how it begins, up to its first alert, with what was before and, if it is short, after."""
    begin, end = event
    within = np.flatnonzero(alert[begin:end])
    seen = begin + int(within[0]) if len(within) else begin
    last = min(max(begin + AFTER, seen + BEFORE), end + BEFORE)
    before, behind = breaks[breaks <= begin], breaks[breaks >= end]
    return Stretch(kind, begin, end, max(begin - BEFORE, int(before[-1])), min(last, int(behind[0])))


def _runs(where: Array, breaks: Array) -> list[tuple[int, int]]:
    """Return begin and end of each run of True that nothing breaks."""
    anew = np.zeros(len(where) + 1, dtype=bool)
    anew[breaks] = True
    padded = np.concatenate(([False], where, [False]))
    begins = padded[1:] & (~padded[:-1] | anew)
    ends = padded[:-1] & (~padded[1:] | anew)
    return list(zip(np.flatnonzero(begins).tolist(), np.flatnonzero(ends).tolist(), strict=True))


def _breaks(time: Array | None, rows: int) -> Array:
    """Return the rows at which readings begin anew, the first and the end included."""
    inner = np.zeros(0, dtype=np.int64)
    if time is not None and rows > 1:
        steps = np.diff(np.asarray(time, dtype=np.float64))
        usual = float(np.median(np.abs(steps[np.isfinite(steps)]))) if np.isfinite(steps).any() else 0.0
        if usual > 0:
            inner = np.flatnonzero(~((steps >= 0) & (steps <= GAP * usual))) + 1
    return np.concatenate(([0], inner, [rows]))
