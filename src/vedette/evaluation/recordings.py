"""What can only be told of rows that follow each other in time: events and alarms, delays, alarms a day, change points, volumes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vedette.data.table import Table
from vedette.message import Array
from vedette.metrics.changepoints import PROFILES, NabCounts, changes, nab
from vedette.metrics.events import EventCounts, FalseAlarms, delays, event_rates, typical_delay
from vedette.metrics.vus import vus

__all__ = ["EVENT_FIGURES", "NAB_FIGURES", "Recordings", "Told", "event_figures"]

WINDOW = 100
"""Rows of the widest buffer of VUS."""
EVENT_FIGURES = ("event_precision", "event_recall", "event_f1", "delay", "alarms_per_day", "vus_roc", "vus_pr")
NAB_FIGURES = tuple(f"nab_{profile}" for profile in PROFILES)
"""Those that are there besides where change points and times are known."""


class Recordings(NamedTuple):
    """How rows follow each other.

    Attributes
    ----------
    edges
        [recordings + 1] int, where each begins, and where the last ends.
    time
        [rows] seconds that never fall within a recording; None: nobody knows.
    change
        [rows], 1 = a change begins, at most one at a time; None: nobody knows which, or when.
    """

    edges: Array
    time: Array | None
    change: Array | None = None

    @classmethod
    def of(cls, table: Table) -> Recordings:
        """Return those of a table whose groups each stand in the order of time."""
        breaks = [] if table.group is None else (np.flatnonzero(np.diff(table.group.codes)) + 1).tolist()
        edges = np.array([0, *breaks, len(table)])
        if table.time is None:
            return cls(edges, None)
        # A clock that is set back stands still here.
        time = [np.maximum.accumulate(table.time[rows]) for rows in _slices(edges)]
        if table.change is None:
            return cls(edges, np.concatenate(time))
        change = [_one_at_a_time(table.change[rows], clock) for rows, clock in zip(_slices(edges), time, strict=True)]
        return cls(edges, np.concatenate(time), np.concatenate(change))


class Told(NamedTuple):
    """What one detector's flags and scores are worth over recordings; `plus` joins those of several."""

    counts: EventCounts
    alarms: FalseAlarms
    delays: Array
    volumes: tuple[tuple[float, float], ...]
    nab: NabCounts | None = None

    @classmethod
    def of(cls, recordings: Recordings, label: Array, score: Array, threshold: float) -> Told:
        """Look at each recording by itself."""
        told = cls(EventCounts(), FalseAlarms(), np.zeros(0), (), None if recordings.change is None else NabCounts())
        for rows in _slices(recordings.edges):
            truth, flagged = np.asarray(label[rows]) != 0, score[rows] > threshold
            time = None if recordings.time is None else recordings.time[rows]
            # Without times a row counts as nothing, and alarms a day are not known.
            steps = np.zeros(0) if time is None else np.diff(time)
            lasts = float(np.median(steps)) if len(steps) else 0.0
            volume = vus(truth, score[rows], WINDOW)
            known = () if volume.roc is None or volume.pr is None else ((volume.roc, volume.pr),)
            alarms = FalseAlarms.of(truth, flagged, lasts)
            turned = None
            if time is not None and recordings.change is not None:
                turned = NabCounts.of(recordings.change[rows], changes(flagged), time)
            told = told.plus(cls(EventCounts.of(truth, flagged), alarms, delays(truth, flagged, time), known, turned))
        return told

    def plus(self, other: Told) -> Told:
        """Join with what is told of other recordings."""
        waited = np.concatenate([self.delays, other.delays])
        turned = None if self.nab is None or other.nab is None else self.nab.plus(other.nab)
        return Told(self.counts.plus(other.counts), self.alarms.plus(other.alarms), waited, self.volumes + other.volumes, turned)


def event_figures(told: Sequence[Told]) -> dict[str, float | None]:
    """Return ``events`` and `EVENT_FIGURES`: counts added up, the median delay of found events (s, or rows), mean volumes.

    Where change points are known there are `NAB_FIGURES` too: scores of all counts, with windows of 60 s.
    """
    total = told[0]
    for more in told[1:]:
        total = total.plus(more)
    rates, waited = event_rates(total.counts), typical_delay(total.delays)
    volumes = np.array(total.volumes).reshape(-1, 2)
    roc, pr = volumes.mean(axis=0).tolist() if len(volumes) else (None, None)
    turned = {} if total.nab is None else {f"nab_{profile}": score for profile, score in nab(total.nab).items()}
    return {
        "events": total.counts.events,
        "event_precision": rates["precision"],
        "event_recall": rates["recall"],
        "event_f1": rates["f_beta"],
        "delay": waited["median"],
        "alarms_per_day": total.alarms.per_day(),
        "vus_roc": roc,
        "vus_pr": pr,
        **turned,
    }


def _slices(edges: Array) -> list[slice]:
    return [slice(first, last) for first, last in pairwise(edges.tolist())]


def _one_at_a_time(change: Array, time: Array) -> Array:
    """Leave one change point of those at the same moment, as a clock that stands still has them."""
    rows = np.flatnonzero(change)
    single = np.zeros(len(change), dtype=bool)
    single[rows[np.diff(time[rows], prepend=-np.inf) > 0]] = True
    return single
