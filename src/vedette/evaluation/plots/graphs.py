"""Who is whose neighbour: graphs of peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.circle import around, name_nodes
from vedette.evaluation.plots.looks import GREY
from vedette.evaluation.plots.text import label_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Graph", "graph_figure"]

FEW = 12
"""Nodes up to which names stand level around a circle."""
MOST_LABELS = 20
"""Letters of a name where several graphs share the width of the page."""


class Graph(NamedTuple):
    """A graph of peers: its title, and who is joined to whom."""

    title: str
    edges: Sequence[tuple[str, str]]


def graph_figure(graphs: Sequence[Graph]) -> str:
    """Draw each graph with its nodes on a circle, a hub in the middle of it.

    Parameters
    ----------
    graphs
        Of at most `MOST_PEERS` nodes each.
    """
    columns = min(len(graphs), 3)
    rows, room = -(-len(graphs) // columns), WIDTH / columns
    lone = len(graphs) == 1
    labels = [{node: printable(node, 40 if lone else MOST_LABELS) for node in _walk(_neighbours(graph.edges))} for graph in graphs]
    wide = max(label_width(each.values()) for each in labels)
    most = max(len(each) for each in labels)
    many = most > FEW
    # Level names need room beside the circle, turned ones all around it.
    named = not many or lone
    radius = min(room / 2 - (wide + 20 if named else 14), min(60.0 + 12 * most, 190.0) if lone else 125.0)
    if radius < 60:
        named, radius = False, min(room / 2 - 14, 125.0)
    tall = 2 * radius + 2 * ((wide + 14 if many else 34) if named else 16)
    with drawing("graphs"):
        figure = canvas(rows * (tall + 44))
        for at, (graph, names) in enumerate(zip(graphs, labels, strict=True)):
            row, column = divmod(at, columns)
            axes = place(figure, column * room, 30 + row * (tall + 44), room - 10, tall)
            axes.set(xlim=(5 - room / 2, room / 2 - 5), ylim=(-tall / 2, tall / 2))
            _draw(axes, graph, names if named else dict.fromkeys(names, ""), radius, many)
            axes.set_title(printable(graph.title, 44), loc="left", fontsize=12, weight="bold")
            axes.axis("off")
        return svg(figure, f"Who is whose neighbour: {', '.join(graph.title for graph in graphs)}")


def _draw(axes: Axes, graph: Graph, names: Mapping[str, str], radius: float, turned: bool) -> None:
    from matplotlib.collections import LineCollection

    order = list(names)
    near = _neighbours(graph.edges)
    hub = next((node for node in order if len(near[node]) == len(order) - 1 and len(graph.edges) == len(order) - 1 > 2), None)
    rim = [node for node in order if node != hub]
    at = dict(zip(rim, around(len(rim), radius), strict=True))
    if hub is not None:
        at[hub] = np.zeros(2)
    faint = min(1.0, 0.35 + 12 / max(len(graph.edges), 1))
    lines = [(at[one], at[other]) for one, other in graph.edges]
    axes.add_collection(LineCollection(lines, colors=GREY, linewidths=1.4, alpha=faint, zorder=1))
    name_nodes(axes, [names[node] for node in at], np.stack(list(at.values())), turned)


def _neighbours(edges: Sequence[tuple[str, str]]) -> dict[str, set[str]]:
    near: dict[str, set[str]] = {}
    for one, other in edges:
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    return near


def _walk(near: Mapping[str, set[str]]) -> list[str]:
    """Order nodes so that neighbours stand together and a ring becomes a circle: go on to who knows most of those already placed."""
    left, order = sorted(near), list[str]()
    while left:
        placed = set(order)
        beside = [node for node in left if order and node in near[order[-1]]] or left
        order.append(max(beside, key=lambda node: len(near[node] & placed)))
        left.remove(order[-1])
    return order
