"""Node by node: one measure of every node, under each method."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, bare_rows, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import VERMILLION, Look
from vedette.evaluation.plots.text import label_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_BARS", "node_figure"]

MOST_BARS = 40
COLUMNS = 5


def node_figure(scores: Mapping[str, Mapping[str, float]], floor: Mapping[str, float], looks: Mapping[str, Look], name: str) -> str:
    """Draw one measure per node and method: bars for few nodes, a distribution for more than `MOST_BARS`.

    Parameters
    ----------
    scores
        Value in [0, 1] by method, then node; the first method sorts the nodes.
    floor
        What flagging everything scores, by node; a tick on each bar. May be empty.
    looks
        From `styles`.
    name
        What the measure is called.
    """
    nodes = sorted(set(itertools.chain.from_iterable(scores.values())))
    first = next(iter(scores.values()))
    nodes.sort(key=lambda node: first.get(node, np.inf))
    with drawing("nodes"):
        if len(nodes) > MOST_BARS:
            return svg(_distributions(scores, floor, looks, name), f"Distribution of {name} over {len(nodes)} nodes")
        labels = [printable(node, 26) for node in nodes]
        rows, tall, left = -(-len(scores) // COLUMNS), 21 * len(nodes), label_width(labels)
        columns = -(-len(scores) // rows)
        figure, wide = canvas(rows * (tall + 75)), (WIDTH - left) / columns
        for index, (method, values) in enumerate(scores.items()):
            row, column = divmod(index, columns)
            axes = place(figure, left + wide * column, 28 + row * (tall + 75), min(wide, 500) - 16, tall)
            ticks = [floor.get(node, np.nan) for node in nodes]
            _bars(axes, [values.get(node, np.nan) for node in nodes], ticks, looks[method].colour)
            bare_rows(axes, labels if column == 0 else [], len(nodes))
            axes.set_title(printable(method, 26), loc="left", fontsize=12, weight="bold")
            axes.set_xlabel(name)
        return svg(figure, f"{name} of each node under each method")


def _bars(axes: Axes, values: Sequence[float], ticks: Sequence[float], colour: str) -> None:
    axes.barh(range(len(values)), np.nan_to_num(values), height=0.72, color=colour)
    axes.plot(ticks, range(len(ticks)), "|", color=INK, markersize=13, markeredgewidth=2)
    for row, (value, right) in enumerate(zip(values, np.fmax(np.nan_to_num(values), ticks), strict=True)):
        axes.text(max(np.nan_to_num(right), 0) + 0.035, row, f"{value:.2f}" if np.isfinite(value) else "none", va="center", fontsize=11)
    axes.set(xlim=(0, 1.27), xticks=[0, 0.5, 1])


def _distributions(scores: Mapping[str, Mapping[str, float]], floor: Mapping[str, float], looks: Mapping[str, Look], name: str) -> Figure:
    tall = 62
    figure = canvas(tall * len(scores) + 60)
    left = label_width(printable(method, 26) for method in scores) + 36
    for row, (method, by_node) in enumerate(scores.items()):
        axes = place(figure, left, 10 + row * tall, WIDTH - left - 20, tall - 8)
        values = np.clip(np.fromiter(by_node.values(), dtype=np.float64), 0, 1)
        counts, edges = np.histogram(values, bins=50, range=(0, 1))
        axes.stairs(counts, edges, fill=True, color=looks[method].colour)
        axes.axvline(float(np.median(values)), color=INK, linewidth=2)
        if floor:
            axes.axvline(float(np.median(list(floor.values()))), color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.plot([values.min()], [0], "^", color=VERMILLION, markersize=9, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, int(counts.max()) * 1.1), yticks=[int(counts.max())])
        axes.text(-45 / (WIDTH - left - 20), 0.5, printable(method, 26), ha="right", va="center", transform=axes.transAxes)
        axes.tick_params(labelbottom=row == len(scores) - 1, labelsize=11)
    axes.set_xlabel(f"{name} of a node (height: number of nodes)")
    return figure
