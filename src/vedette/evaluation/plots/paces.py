"""How soon and how well: the latency of detection against F1, and F1 over the time that training took (L'Amour 2021, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look
from vedette.evaluation.plots.rounds import Course
from vedette.evaluation.plots.text import printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["pace_figure"]

ROOM = 0.12
"""Of an axis, beyond the outermost points."""


def pace_figure(courses: Sequence[Course], soon: Mapping[str, tuple[float, float]], looks: Mapping[str, Look]) -> str:
    """Draw the latency of each method against its F1, and beside it F1 over seconds of training, mean over seeds.

    Parameters
    ----------
    courses
        What was followed; ``rounds`` are seconds.
    soon
        By method, p99 of a reading in milliseconds, and F1.
    looks
        From `styles`.
    """
    with drawing("paces"):
        figure, wide = canvas(330), (WIDTH - 200) / 2
        found = [f1 for _, f1 in soon.values()] + [float(value) for each in courses for value in _means(each)]
        axes = place(figure, 70, 14, wide if courses else 2 * wide, 262)
        _dots(axes, soon, looks)
        if courses:
            _stretch(axes, found)
            axes = place(figure, 150 + wide, 14, wide, 262)
            for course in courses:
                look = looks[course.method]
                axes.plot(course.rounds, _means(course), color=look.colour, linestyle=look.linestyle, linewidth=2, marker="o", markersize=4)
            axes.set(xlabel="seconds of training", ylabel="F1")
            axes.set_xlim(0, None)
        _stretch(axes, found)
        return svg(figure, f"How soon and how well: {', '.join(printable(method, 40) for method in soon)}")


def _dots(axes: Axes, soon: Mapping[str, tuple[float, float]], looks: Mapping[str, Look]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for method, (milliseconds, f1) in soon.items():
        axes.scatter([milliseconds], [f1], s=70, color=looks[method].colour, marker="s" if looks[method].dash else "o")
    axes.set(xlabel="99 % of readings are judged within, ms", ylabel="F1", xscale="log")
    taken = [milliseconds for milliseconds, _ in soon.values()]
    axes.set_xlim(min(taken) / 2, max(taken) * 2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _means(course: Course) -> Array:
    return np.asarray(np.nanmean(course.values["f1"], axis=0))


def _stretch(axes: Axes, found: Sequence[float]) -> None:
    known = [value for value in found if np.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = max((high - low) * ROOM, 0.01)
    axes.set_ylim(max(low - margin, -0.02), min(high + margin, 1.02))
