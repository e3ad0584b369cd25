"""Who holds how much: rows of each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, bare_rows, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import GREY, SKY, VERMILLION
from vedette.evaluation.plots.text import label_width, printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_HOLDINGS", "Holding", "holding_figure"]

MOST_HOLDINGS = 60


class Holding(NamedTuple):
    """How many rows a node holds: normal and anomalous ones of the training part, and test rows."""

    node: str
    normal: int
    anomalous: int
    test: int


def holding_figure(holdings: Sequence[Holding]) -> str:
    """Draw who holds how much: stacked bars, or a profile sorted by size for more than `MOST_HOLDINGS` nodes."""
    held = sorted(holdings, key=lambda holding: (-sum(holding[1:]), holding.node))
    table = np.array([holding[1:] for holding in held], dtype=np.float64)
    with drawing("holdings"):
        if len(held) > MOST_HOLDINGS:
            figure = canvas(280)
            axes = place(figure, 80, 8, WIDTH - 100, 220)
            _profile(axes, table)
        else:
            labels = [printable(holding.node, 26) for holding in held]
            left, tall = label_width(labels), 23 * len(held)
            figure = canvas(tall + 60)
            axes = place(figure, left, 8, WIDTH - left - 200, tall)
            _bars(axes, table)
            bare_rows(axes, labels, len(held))
        return svg(figure, "Rows held by each node")


def _profile(axes: Axes, table: Array) -> None:
    sums = np.cumsum(np.c_[np.zeros(len(table)), table], axis=1)
    for part, colour in enumerate((SKY, VERMILLION, GREY)):
        axes.stairs(sums[:, part + 1], np.arange(len(table) + 1), baseline=sums[:, part], fill=True, color=colour)
    axes.set(xlim=(0, len(table)), ylim=(0, max(sums[0, -1], 1) * 1.05), xlabel="nodes, the largest holder first", ylabel="rows held")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _bars(axes: Axes, table: Array) -> None:
    sums = np.cumsum(np.c_[np.zeros(len(table)), table], axis=1)
    most = max(sums[0, -1], 1)
    for part, colour in enumerate((SKY, VERMILLION, GREY)):
        axes.barh(range(len(table)), table[:, part], left=sums[:, part], height=0.72, color=colour)
    for row, (_, anomalous, _) in enumerate(table):
        axes.text(sums[row, -1] + most * 0.01, row, _said(sums[row, 2], anomalous), va="center", fontsize=11)
    axes.set(xlim=(0, most), xlabel="rows")
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _said(rows: float, anomalous: float) -> str:
    if not rows:
        return "none to train on"
    share = anomalous / rows
    return f"{rows:,.0f}, " + (f"{share * 100:.{2 if share < 0.01 else 1}f} % anomalous" if anomalous else "none anomalous")
