"""Who holds how much of what: rows of each node, by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, bare_rows, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import GREEN, GREY, SKY, VERMILLION
from vedette.evaluation.plots.text import label_width, printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_HOLDINGS", "Holding", "class_figure", "holding_figure"]

MOST_HOLDINGS, MOST_CLASSES = 60, 16


class Holding(NamedTuple):
    """How many rows a node holds: normal and anomalous ones of the training part, test rows, and training rows by class."""

    node: str
    normal: int
    anomalous: int
    test: int
    classes: Mapping[str, int] = {}


def holding_figure(holdings: Sequence[Holding]) -> str:
    """Draw who holds how much: stacked bars, or a profile sorted by size for more than `MOST_HOLDINGS` nodes."""
    held = sorted(holdings, key=lambda holding: (-sum(holding[1:4]), holding.node))
    table = np.array([holding[1:4] for holding in held], dtype=np.float64)
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


def class_figure(holdings: Sequence[Holding]) -> str | None:
    """Draw what each node holds: a row a node, a column a class, the darker the larger the class' share of the node's rows.

    More than `MOST_HOLDINGS` nodes are drawn in bundles of those that hold alike; None where there is but one class.
    """
    totals = Counter[str]()
    for holding in holdings:
        totals.update(holding.classes)
    classes = [name for name, _ in sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))]
    if len(classes) < 2 or len(holdings) < 2:
        return None
    shown = classes if len(classes) <= MOST_CLASSES else classes[: MOST_CLASSES - 1]
    rows = np.array([[holding.classes.get(name, 0) for name in classes] for holding in holdings], dtype=np.float64)
    if len(shown) < len(classes):
        rows = np.c_[rows[:, : len(shown)], rows[:, len(shown) :].sum(axis=1)]
        shown = [*shown, f"{len(classes) - len(shown)} rarer ones"]
    shares = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    # Nodes that hold the same most of all stand together.
    order = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
    labels = [printable(holdings[place].node, 26) for place in order]
    shares = shares[order]
    if len(holdings) > MOST_HOLDINGS:
        bundles = np.array_split(np.arange(len(holdings)), MOST_HOLDINGS)
        shares, labels = np.stack([shares[bundle].mean(axis=0) for bundle in bundles]), []
    with drawing("classes"):
        tall = (18 if labels else 6) * len(shares)
        left = label_width(labels) if labels else 80
        names = [printable(name, 20) for name in shown]
        top = 0.72 * label_width(names) + 12  # they stand at an angle of 45 degrees
        figure = canvas(tall + top + 8)
        axes = place(figure, left, top, min(WIDTH - left - 20, 60 * len(shown)), tall)
        _cells(axes, shares)
        axes.set_xticks(np.arange(len(shown)) + 0.5, names, rotation=45, ha="left", fontsize=11)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        if labels:
            axes.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize=11)
        else:
            axes.set_yticks([])
            axes.set_ylabel(f"{len(holdings):,} nodes, in bundles")
        return svg(figure, "Share of each class in the training rows of each node")


def _cells(axes: Axes, shares: Array) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    rows, columns = shares.shape
    corners = np.array([[0, 0], [0.96, 0], [0.96, 0.92], [0, 0.92]])
    at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 1, 2)
    # A trace of colour tells a few rows from none.
    strength = np.where(shares > 0, 0.06 + 0.94 * shares, 0.0).ravel()
    kept = strength > 0
    colours = np.c_[np.tile(to_rgb(GREEN), (int(kept.sum()), 1)), strength[kept]]
    axes.add_collection(PolyCollection((at + corners)[kept], facecolors=colours, linewidths=0))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


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
