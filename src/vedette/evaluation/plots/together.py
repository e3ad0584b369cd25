"""Who learned together with whom, grouping by grouping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vedette.evaluation.plots.canvas import WIDTH, bare_rows, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import palette
from vedette.evaluation.plots.text import label_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Grouped", "together_figure"]

MOST_NODES = 40
MOST_GROUPINGS = 12
ROW = 18  # pixels
CELL = 64


class Grouped(NamedTuple):
    """The clusters of one method.

    Attributes
    ----------
    method
        Whose.
    nodes
        Their ids.
    groupings
        Each with its ``round`` (from 0), ``clusters`` (cluster -> nodes) and ``silhouette``, which may be None.
    """

    method: str
    nodes: Sequence[str]
    groupings: Sequence[Mapping[str, Any]]


def together_figure(found: Sequence[Grouped]) -> str:
    """Draw a panel a method, a row a node, a column a grouping: nodes of one colour in a column learned together.

    Parameters
    ----------
    found
        Of more than forty nodes the first are drawn, of more than twelve groupings the last.
    """
    nodes = sorted({node for each in found for node in each.nodes})[:MOST_NODES]
    labels = [printable(node, 30) for node in nodes]
    left, tall = label_width(labels), float(ROW * len(nodes))
    widths = [CELL * min(len(each.groupings), MOST_GROUPINGS) for each in found]
    rows: list[list[int]] = [[]]
    for place_of, width in enumerate(widths):
        if rows[-1] and left + sum(widths[at] + 60 for at in rows[-1]) + width > WIDTH:
            rows.append([])
        rows[-1].append(place_of)
    with drawing("together"):
        figure = canvas(len(rows) * (tall + 92))
        for row, panels in enumerate(rows):
            across = left
            for at in panels:
                axes = place(figure, across, 30 + row * (tall + 92), widths[at], tall)
                _panel(axes, found[at], nodes)
                bare_rows(axes, labels if at == panels[0] else [], len(nodes))
                across += widths[at] + 60
        return svg(figure, "Which nodes learned together")


def _panel(axes: Axes, each: Grouped, nodes: Sequence[str]) -> None:
    groupings = each.groupings[-MOST_GROUPINGS:]
    clusters = sorted({cluster for grouping in groupings for cluster in grouping["clusters"]})
    colours = {cluster: look.colour for cluster, look in zip(clusters, palette(len(clusters)), strict=True)}
    for column, grouping in enumerate(groupings):
        of = {node: cluster for cluster, members in grouping["clusters"].items() for node in members}
        for row, node in enumerate(nodes):
            if node in of:
                axes.barh(row, 0.94, left=column - 0.47, height=0.86, color=colours[of[node]])
                axes.text(column, row, printable(of[node], 6), ha="center", va="center_baseline", fontsize=11, color="white")
    axes.set_xlim(-0.5, len(groupings) - 0.5)
    axes.set_xticks(range(len(groupings)), [_told(grouping) for grouping in groupings])
    axes.grid(visible=False)
    axes.set_title(printable(each.method, 30), loc="left", fontsize=12, weight="bold")
    axes.set_xlabel("round, and silhouette")


def _told(grouping: Mapping[str, Any]) -> str:
    silhouette = grouping["silhouette"]
    return f"{grouping['round'] + 1}\n{'–' if silhouette is None else f'{silhouette:.2f}'}"
