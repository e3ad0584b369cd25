"""How well detectors would do if training ended there: figures round by round, as P2PK-SMOTE's figures 3 to 9 show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look
from vedette.evaluation.plots.text import printable
from vedette.evaluation.plots.thinning import banded
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PANELS", "Course", "Panel", "mean_of_rows", "node_rounds_figure", "round_figure"]

BINS, FEW_BINS = 60, 30
LEAST = 0.001  # of an axis: what is smaller is no difference
FINEST = 1e-4
STRETCHED = 20.0


class Panel(NamedTuple):
    """One figure that is followed: its key in metrics.json, its name, whether 1 is perfect (else 0 is), and whether it is a share."""

    key: str
    name: str
    short: str
    good: bool
    percent: bool = True


PANELS = (
    Panel("fnr", "Missed (FNR)", "Missed", good=False),
    Panel("fpr", "False alarms (FPR)", "False alarms", good=False),
    Panel("precision_at_recall_75", "Precision where 75 % are found", "Precision at 75 %", good=True),
    Panel("recall_at_precision_75", "Found where 75 % of alerts are right", "Found at 75 %", good=True),
    Panel("auc_roc", "ROC-AUC", "ROC-AUC", good=True, percent=False),
    Panel("f1", "F1", "F1", good=True, percent=False),
)


class Course(NamedTuple):
    """The figures of one method, round by round.

    Attributes
    ----------
    method
        Whose.
    rounds
        Ascending, not necessarily each.
    values
        [seeds, rounds] by key of a panel; NaN where it is not known.
    """

    method: str
    rounds: Sequence[int]
    values: Mapping[str, Array]


class _Drawn(NamedTuple):
    """A line in units of its axis: how far from perfect."""

    look: Look
    rounds: Array
    mean: Array
    low: Array
    high: Array


def round_figure(courses: Sequence[Course], looks: Mapping[str, Look]) -> str:
    """Draw a panel a figure and a line a method: the mean over seeds, and from the lowest seed to the highest a band.

    Parameters
    ----------
    courses
        In the order to draw.
    looks
        From `styles`.
    """
    with drawing("rounds"):
        figure, room = canvas(2 * 246), WIDTH / 3
        for at, panel in enumerate(PANELS):
            row, column = divmod(at, 3)
            axes = place(figure, column * room + 64, 30 + row * 246, room - 64 - 16, 166)
            lines = [_drawn(course, panel, looks, BINS) for course in courses]
            _scale(axes, panel, lines)
            _across(axes, courses)
            for line in lines:
                _line(axes, line)
            axes.set_title(panel.name, loc="left", fontsize=12, weight="bold")
            if row:
                axes.set_xlabel("round")
        return svg(figure, f"{', '.join(panel.name for panel in PANELS)} round by round")


def node_rounds_figure(by_node: Mapping[str, Sequence[Course]], looks: Mapping[str, Look]) -> str:
    """Draw the same node by node: a row a node, a column a figure, so that nodes stand below each other on one scale.

    Parameters
    ----------
    by_node
        The means over seeds are drawn.
    looks
        From `styles`.
    """
    labels = [printable(node, 60) for node in by_node]
    tall, between, room = 74.0, 42.0, WIDTH / len(PANELS)
    every = [course for courses in by_node.values() for course in courses]
    with drawing("rounds-of-nodes"):
        figure = canvas(46 + len(by_node) * (tall + between) + 8)
        for column, panel in enumerate(PANELS):
            lines = {node: [_drawn(course, panel, looks, FEW_BINS) for course in courses] for node, courses in by_node.items()}
            together = [line._replace(low=line.mean, high=line.mean) for of_node in lines.values() for line in of_node]
            for row, node in enumerate(by_node):
                axes = place(figure, column * room + 52, 48 + row * (tall + between), room - 52 - 8, tall)
                _scale(axes, panel, together, ticks=3)
                _across(axes, every, ticks=3)
                for line in lines[node]:
                    _line(axes, line._replace(low=line.mean, high=line.mean))
                axes.tick_params(labelbottom=row == len(by_node) - 1, labelsize=11)
                if column == 0:
                    axes.annotate(labels[row], (-46, tall + 9), xycoords="axes pixels", annotation_clip=False, weight="bold")
                if row == 0:
                    axes.annotate(panel.short, (0, tall + 30), xycoords="axes pixels", annotation_clip=False)
                if row == len(by_node) - 1:
                    axes.set_xlabel("round", fontsize=11)
        return svg(figure, f"{', '.join(panel.name for panel in PANELS)} of each node, round by round")


def mean_of_rows(table: Array) -> Array:
    """Average the rows of a table, [rows, columns] to [columns]; NaN is left out, and stays where nothing is known."""
    known = np.isfinite(table)
    sums = np.where(known, table, 0.0).sum(axis=0)
    mean: Array = np.divide(sums, known.sum(axis=0), out=np.full(sums.shape, np.nan), where=known.any(axis=0))
    return mean


def _drawn(course: Course, panel: Panel, looks: Mapping[str, Look], bins: int) -> _Drawn:
    table = np.asarray(course.values[panel.key], dtype=np.float64)
    table = np.where(np.isfinite(table), 1 - table if panel.good else table, np.nan)
    starts, mean, low, high = banded(table, bins)
    return _Drawn(looks[course.method], np.asarray(course.rounds)[starts], mean, low, high)


def _line(axes: Axes, line: _Drawn) -> None:
    if np.nanmax(line.high - line.low, initial=0.0) > 0:
        axes.fill_between(line.rounds, line.low, line.high, color=line.look.colour, alpha=0.18, linewidth=0)
    marker = "o" if np.isfinite(line.mean).sum() < 3 else ""
    axes.plot(line.rounds, line.mean, color=line.look.colour, linestyle=line.look.linestyle, linewidth=2, marker=marker, markersize=5)


def _scale(axes: Axes, panel: Panel, lines: Iterable[_Drawn], ticks: int = 5) -> None:
    """Choose the upright axis: from perfect to the worst there is, stretched near perfect where values span decades."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    values = np.concatenate([np.concatenate([line.low, line.high]) for line in lines])
    values = values[np.isfinite(values)]
    found = values[values > FINEST]
    worst = max(float(values.max(initial=0.0)), LEAST)
    fine = float(np.quantile(found, 0.1)) if len(found) else worst
    if worst > STRETCHED * fine:
        unit = max(10.0 ** np.floor(np.log10(fine)), FINEST)
        axes.set_yscale("symlog", linthresh=unit, linscale=0.6)
        axes.yaxis.set_major_locator(FixedLocator(_decades(unit, worst, ticks)))
        axes.yaxis.set_minor_locator(NullLocator())
        limits = -0.25 * unit, worst * 1.25
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=ticks - 1, steps=[1, 2, 5, 10]))
        limits = -0.05 * worst, worst * 1.06
    # Perfect is where a reader looks for it: no misses at the bottom, an F1 of 1 at the top.
    axes.set_ylim(*(reversed(limits) if panel.good else limits))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _told(1 - value if panel.good else value, panel.percent)))


def _decades(unit: float, worst: float, most: int) -> list[float]:
    steps = [unit * 10.0**power for power in range(1 + int(np.floor(np.log10(worst / unit) + 1e-9)))]
    skip = -(-len(steps) // (most - 1))
    # Where steps are left out there is no room for the one next to zero.
    chosen = steps[::-skip][::-1] if skip == 1 else steps[:0:-skip][::-1]
    return [0.0, *chosen, *([3 * chosen[-1]] if skip == 1 and 3 * chosen[-1] <= worst else [])]


def _told(value: float, percent: bool) -> str:
    return f"{value * 100 + 0.0:.6g} %" if percent else f"{value + 0.0:.6g}"


def _across(axes: Axes, courses: Sequence[Course], ticks: int = 8) -> None:
    from matplotlib.ticker import MaxNLocator

    rounds = [number for course in courses for number in (course.rounds[0], course.rounds[-1])]
    margin = max(0.02 * (max(rounds) - min(rounds)), 0.1)
    axes.set_xlim(min(rounds) - margin, max(rounds) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True, min_n_ticks=1))
