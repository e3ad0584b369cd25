"""Scores over time: what a detector said of one node's readings, and what was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, logarithmic, place, svg
from vedette.evaluation.plots.looks import GREEN, VERMILLION, Look
from vedette.evaluation.plots.stretches import Stretch, stretches_of
from vedette.evaluation.plots.text import printable
from vedette.evaluation.plots.thinning import decimate
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BINS", "UNITS", "Trace", "clocks_of", "draw_scores", "evenly_timed", "marks_of", "trace_figure"]

BINS = 800
PANEL, DRAWN, MARKS = 156, 100, 16  # pixels: a panel with its title, its axes, the letters below them
UNITS = ((180, 1, "s"), (10_800, 60, "min"), (4e5, 3600, "h"), (np.inf, 86_400, "days"))  # spans below it, seconds, name


class Trace(NamedTuple):
    """One node's scored test rows under one method.

    Attributes
    ----------
    method, protocol, node
        Whose scores they are.
    time
        [rows] float64 seconds, or None: the row number is shown.
    score
        [rows] float64, at least 0, higher = more anomalous.
    label
        [rows] 0/1, or None where the truth is not known.
    threshold
        Scores that reach it are alerts.
    """

    method: str
    protocol: str
    node: str
    time: Array | None
    score: Array
    label: Array | None
    threshold: float


def trace_figure(traces: Sequence[Trace], looks: Mapping[str, Look]) -> str:
    """Draw one node's scores over time, one panel a method: threshold, shaded true anomalies, alerts on top, letters below.

    The letters are those of `detail_figure`.

    Parameters
    ----------
    traces
        Traces of one node under one protocol, none empty.
    looks
        From `styles`.
    """
    with drawing("trace"):
        figure = canvas(PANEL * len(traces) + 28 + MARKS)
        clocks, unit, _ = clocks_of(traces)
        first, last = min(clock[0] for clock in clocks), max(clock[-1] for clock in clocks)
        for row, (trace, clock) in enumerate(zip(traces, clocks, strict=True)):
            axes = place(figure, 70, 40 + PANEL * row, WIDTH - 90, DRAWN)
            draw_scores(axes, trace, clock, looks[trace.method].colour, BINS)
            axes.set_ylabel("anomaly score")
            axes.set_title(f"{printable(trace.method, 40)}: {_tally(trace)}", loc="left", pad=23, fontsize=12)
            axes.set_xlim(first, max(last, first + 1e-9))
            axes.xaxis.set_major_formatter("{x:,g}")
            _letters(axes, marks_of(trace), clock)
            if row == len(traces) - 1:
                axes.set_xlabel(unit)
                axes.tick_params(axis="x", pad=MARKS)
            else:
                axes.tick_params(labelbottom=False)
        return svg(figure, f"Anomaly scores of {printable(traces[0].node, 60)} over time")


def marks_of(trace: Trace) -> dict[str, Stretch]:
    """Return the stretches of a trace that deserve a closer look, by letter."""
    return dict(zip("ABC", stretches_of(trace.score, trace.label, trace.threshold, trace.time), strict=False))


def clocks_of(traces: Sequence[Trace]) -> tuple[list[Array], str, str]:
    """Put all traces on one axis: time since the first row, or row numbers where time is absent or mostly gaps.

    Returns
    -------
    clocks, label, unit
        [rows] of each trace, what the axis says, and the name of the unit (empty for row numbers).
    """
    times = [np.asarray(trace.time, dtype=np.float64) for trace in traces if trace.time is not None]
    if len(times) < len(traces) or not all(map(evenly_timed, times)):
        return [np.arange(len(trace.score), dtype=np.float64) for trace in traces], "test reading, row number", ""
    first, last = min(float(time[0]) for time in times), max(float(time[-1]) for time in times)
    size, name = next((size, name) for limit, size, name in UNITS if last - first < limit)
    dated = 946684800 <= first < 4102444800  # years 2000 to 2100: seconds of the Unix epoch
    since = f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d %H:%M} UTC" if dated else "the first test reading"
    return [(time - first) / size for time in times], f"time since {since}, {name}", name


def evenly_timed(time: Array) -> bool:
    """Say whether readings follow each other in time and mostly without gaps, so that time can be an axis."""
    steps = np.diff(time)
    if not np.isfinite(time).all() or (steps < 0).any() or not steps.sum() > 0:
        return False
    return bool(steps[steps > 20 * max(float(np.median(steps)), 1e-9)].sum() < 0.5 * steps.sum())


def draw_scores(axes: Axes, trace: Trace, clock: Array, colour: str, bins: int) -> None:
    """Draw the scores of a trace with threshold, truth and alerts.

    Parameters
    ----------
    axes
        Where; its upright axis is chosen here.
    trace, clock
        What, and [rows] where it stands.
    colour
        Of the line.
    bins
        Points that may remain; every peak does.
    """
    score = np.asarray(trace.score, dtype=np.float64)
    alert = score > trace.threshold  # as `Detector.predict` does
    truth = None if trace.label is None else np.asarray(trace.label) > 0
    finite = np.isfinite(score)
    drawn = np.where(finite | np.isnan(score), score, score[finite].max() if finite.any() else np.nan)
    starts, high = decimate(drawn, bins)
    low = np.fmin.reduceat(drawn, starts)
    x = clock[starts]
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    ends = np.minimum(np.append(x[1:], clock[-1] + step / 2), x + 3 * step)
    if truth is not None:
        _spans(axes, x, ends, np.logical_or.reduceat(truth, starts), (0, 1), VERMILLION, 0.27)
    _scale(axes, high, trace.threshold)
    floor = axes.get_ylim()[0]
    if len(score) > len(starts):
        axes.fill_between(x, np.fmax(low, floor), np.fmax(high, floor), color=colour, alpha=0.35, linewidth=0)
    axes.plot(x, np.fmax(high, floor), color=colour, linewidth=1.3, marker="" if len(x) > 1 else "o")
    if np.isfinite(trace.threshold):
        axes.axhline(max(trace.threshold, floor), color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    right = alert if truth is None else alert & truth
    _spans(axes, x, ends, np.logical_or.reduceat(right, starts), (1.03, 1.08), INK if truth is None else GREEN, 1)
    _spans(axes, x, ends, np.logical_or.reduceat(alert & ~right, starts), (1.11, 1.16), VERMILLION, 1)


def _letters(axes: Axes, marks: Mapping[str, Stretch], clock: Array) -> None:
    """Mark the stretches below the axes; letters that would meet move apart."""
    left, right = axes.get_xlim()
    apart, free = 14 * (right - left) / (WIDTH - 90), -np.inf
    for letter, stretch in sorted(marks.items(), key=lambda mark: mark[1].first + mark[1].last):
        ends = clock[stretch.first], clock[stretch.last - 1]
        axes.plot(ends, [-0.035, -0.035], transform=axes.get_xaxis_transform(), color=INK, linewidth=3, clip_on=False)
        free = max(float(ends[0] + ends[1]) / 2, free + apart)
        axes.text(free, -0.07, letter, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=11, weight="bold")


def _tally(trace: Trace) -> str:
    alert = trace.score > trace.threshold
    truth = None if trace.label is None else np.asarray(trace.label) > 0
    if truth is None:
        return f"{alert.sum():,} alerts in {len(alert):,} readings"
    hits = int((alert & truth).sum())
    false = int(alert.sum()) - hits
    alarms = f"{false:,} false alarm{'' if false == 1 else 's'} on {(~truth).sum():,} normal ones"
    return f"finds {hits:,} of {truth.sum():,} anomalous readings · {alarms}"


def _scale(axes: Axes, high: Array, threshold: float) -> None:
    """Choose the score axis: logarithmic when the peaks would flatten everything else, or the threshold."""
    seen = np.append(high, threshold)
    seen = seen[np.isfinite(seen)]
    positive = seen[seen > 0]
    top = float(positive.max()) if len(positive) else 1.0
    if len(positive) and (top > 30 * float(np.median(positive)) or 0 < threshold < top / 8):
        low = float(np.quantile(positive, 0.01))
        low = min(low, threshold) if threshold > 0 else low
        logarithmic(axes, max(low, top * 1e-9) / 1.5, top * 2)
    else:
        axes.set_ylim(min(0.0, float(seen.min()) if len(seen) else 0.0), top * 1.1)
        axes.locator_params(axis="y", nbins=4)


def _spans(axes: Axes, x: Array, ends: Array, where: Array, between: tuple[float, float], colour: str, alpha: float) -> None:
    """Fill the marked bins from one height of the panel to another (0 bottom, 1 top), as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    edges = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(np.int8)))
    if not len(edges):
        return
    lefts, rights = x[edges[::2]], ends[edges[1::2] - 1]
    (bottom, top), corners = between, np.empty((len(lefts), 5, 2))
    corners[:, :, 0] = np.stack([lefts, rights, rights, lefts, lefts], axis=1)
    corners[:, :, 1] = [bottom, bottom, top, top, bottom]
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(lefts))
    path = Path(corners.reshape(-1, 2), codes)
    edge = {"linewidth": 0.0} if alpha < 1 else {"linewidth": 1.0, "edgecolor": colour}  # a lone alert stays visible
    axes.add_patch(PathPatch(path, transform=axes.get_xaxis_transform(), facecolor=colour, alpha=alpha, clip_on=False, **edge))
