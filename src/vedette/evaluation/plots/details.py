"""A closer look at a few stretches of a node's scores: reading by reading, what the overview can only hint at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look
from vedette.evaluation.plots.scores import UNITS, Trace, clocks_of, draw_scores, evenly_timed, marks_of
from vedette.evaluation.plots.stretches import Stretch
from vedette.evaluation.plots.text import printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["detail_figure"]

LEAST, BINS = 2, 400  # columns; points of a panel
PANEL, DRAWN, ABOVE = 212, 112, 54  # pixels: a panel with its texts, its axes, what stands above them
KINDS = {
    "found": "longest anomaly found",
    "missed": "longest anomaly missed",
    "false": "highest false alarm",
    "alert": "highest alert",
}


def detail_figure(traces: Sequence[Trace], looks: Mapping[str, Look]) -> str | None:
    """Draw the stretches that `trace_figure` marks by letters, a row of panels a method; None where there are none.

    Parameters
    ----------
    traces
        Traces of one node under one protocol, as given to `trace_figure`.
    looks
        From `styles`.
    """
    clocks, _, unit = clocks_of(traces)
    marked = [(trace, clock, marks) for trace, clock in zip(traces, clocks, strict=True) if (marks := marks_of(trace))]
    if not marked:
        return None
    with drawing("details"):
        figure, room = canvas(PANEL * len(marked)), (WIDTH - 50) / max(LEAST, *(len(marks) for *_, marks in marked))
        for row, (trace, clock, marks) in enumerate(marked):
            for column, (letter, stretch) in enumerate(marks.items()):
                axes = place(figure, 70 + column * room, ABOVE + PANEL * row, room - 56, DRAWN)
                _draw(axes, trace, stretch, looks[trace.method].colour)
                name = f" ({printable(trace.method, 20)})" if len(traces) > 1 else ""
                title = f"{letter}: {KINDS[stretch.kind]}{name}"
                axes.text(0, 1, title, transform=_above(axes, 45), fontsize=12, weight="bold")
                axes.text(0, 1, _said(trace, stretch, clock, unit), transform=_above(axes, 28), fontsize=12)
                if column == 0:
                    axes.set_ylabel("anomaly score")
        return svg(figure, f"Anomaly scores of {printable(traces[0].node, 60)}, a closer look")


def _above(axes: Axes, pixels: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    return axes.transAxes + ScaledTranslation(0, pixels / 72, axes.figure.dpi_scale_trans)


def _draw(axes: Axes, trace: Trace, stretch: Stretch, colour: str) -> None:
    shown = slice(stretch.first, stretch.last)
    time = None if trace.time is None else np.asarray(trace.time[shown], dtype=np.float64)
    part = trace._replace(time=time, score=trace.score[shown], label=None if trace.label is None else trace.label[shown])
    since, unit = _since(time, stretch)
    draw_scores(axes, part, since, colour, BINS)
    axes.set_xlim(since[0], max(since[-1], since[0] + 1e-9))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"{unit} since it began")


def _since(time: Array | None, stretch: Stretch) -> tuple[Array, str]:
    """Count time, or readings, from the beginning of the anomaly or alarm."""
    begin = stretch.begin - stretch.first
    if time is None or len(time) < 2 or not evenly_timed(time):
        return np.arange(stretch.last - stretch.first, dtype=np.float64) - begin, "readings"
    size, name = next((size, name) for limit, size, name in UNITS if time[-1] - time[0] < limit)
    return (time - time[begin]) / size, name


def _said(trace: Trace, stretch: Stretch, clock: Array, unit: str) -> str:
    """Say where in the overview it stands, how long it is, and how much of it was seen."""
    where = f"at {clock[stretch.begin]:,.2f} {unit}" if unit else f"at reading {stretch.begin:,}"
    rows = stretch.end - stretch.begin
    lasts = f"{rows:,} reading{'' if rows == 1 else 's'}"
    if stretch.kind != "found":
        return f"{where}, {lasts}"
    return f"{where}, alert on {(trace.score[stretch.begin : stretch.end] > trace.threshold).sum():,} of {lasts}"
