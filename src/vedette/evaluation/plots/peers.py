"""What nodes have in common: how far their weights are apart, and who took over whose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.circle import around, name_nodes
from vedette.evaluation.plots.looks import BLUE, VERMILLION
from vedette.evaluation.plots.text import label_width, printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_PEERS", "peer_figure"]

MOST_PEERS = 40
BESIDE = 12
"""Nodes up to which both pictures stand beside each other."""
WRITTEN = 8
"""Nodes up to which distances stand in the cells."""


def peer_figure(nodes: Sequence[str], distances: Array, received: Array) -> str:
    """Draw the distances of one round as a heat map, and beside it an arrow from each node to those that took over its weights.

    Parameters
    ----------
    nodes
        At most `MOST_PEERS` names.
    distances
        [nodes, nodes] of the last round; infinite or NaN: nothing in common.
    received
        [nodes, nodes], the share of the rounds in which the node of a row got weights of the node of a column.
    """
    labels = [printable(node, 22) for node in nodes]
    left, side = label_width(labels), min(max(30 * len(nodes), 260), 560)
    # Beside each other where there is room for both, else below each other.
    below = len(nodes) > BESIDE
    start, top = (0.0, side + left + 50) if below else (left + side + 30, 28.0)
    wide, tall = WIDTH - start, 620.0 if below else side + left
    with drawing("peers"):
        figure = canvas(top + tall + 10)
        map_axes, graph = place(figure, left, 28, side, side), place(figure, start, top, wide, tall)
        _heat_map(map_axes, labels, distances)
        map_axes.set_title("Distance between weights, last round", loc="left", fontsize=12, weight="bold")
        _arrows(graph, labels, received, wide, tall, min((wide - 2 * left) / 2, tall / 2 - (left if below else 30)))
        graph.set_title("Whose weights went where", loc="left", fontsize=12, weight="bold")
        return svg(figure, f"Distances between the weights of {len(nodes)} nodes, and who took over whose")


def _heat_map(axes: Axes, labels: Sequence[str], distances: Array) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    shown = np.where(np.isfinite(distances), distances, np.nan)
    np.fill_diagonal(shown, np.nan)
    known = shown[~np.isnan(shown)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    # The nearer, the stronger: the page's own background shows through where nodes are far apart.
    colours = LinearSegmentedColormap.from_list("near", [to_rgba(BLUE, 0.95), to_rgba(BLUE, 0.06)])
    edges = np.arange(len(labels) + 1) - 0.5
    axes.pcolormesh(edges, edges, shown, cmap=colours, vmin=low, vmax=high if high > low else low + 1, linewidth=0)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5))
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    if len(labels) <= WRITTEN:
        for row, column in np.argwhere(~np.isnan(shown)):
            strong = shown[row, column] < low + 0.45 * (high - low)
            axes.text(column, row, f"{shown[row, column]:.3g}", ha="center", va="center", color="white" if strong else INK)


def _arrows(axes: Axes, labels: Sequence[str], received: Array, wide: float, tall: float, radius: float) -> None:
    """Draw nodes on a circle of so many pixels, in the middle of axes of so many."""
    at = around(len(labels), radius)
    for taker, giver in np.argwhere(received > 0):
        often = float(received[taker, giver])
        look = {"arrowstyle": "-|>,head_length=0.6,head_width=0.3", "connectionstyle": "arc3,rad=0.12", "shrinkA": 7, "shrinkB": 7}
        drawn = {**look, "color": VERMILLION, "linewidth": 0.8 + 2.4 * often, "alpha": 0.35 + 0.65 * often}
        axes.annotate("", xy=at[taker], xytext=at[giver], arrowprops=drawn)
    name_nodes(axes, labels, at, turned=len(labels) > BESIDE)
    axes.set(xlim=(-wide / 2, wide / 2), ylim=(-tall / 2, tall / 2))
    axes.axis("off")
