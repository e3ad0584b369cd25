"""Who was trusted: how much of each node's updates went into what others learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from vedette.evaluation.plots.canvas import INK, WIDTH, bare_rows, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import BLUE, VERMILLION
from vedette.evaluation.plots.text import label_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Standing", "trust_figure"]

MOST_NODES = 40
COLUMNS = 3
ROW = 21  # pixels


class Standing(NamedTuple):
    """How nodes stood in one method's eyes.

    Attributes
    ----------
    title
        Of the method, and of the protocol where there are several.
    counted
        Share by node, mean over seeds; nodes whose every answer was refused are absent.
    named
        Nodes that were suspected or refused in some seed.
    attackers
        Nodes that are known to be compromised, in a drill.
    """

    title: str
    counted: Mapping[str, float]
    named: Collection[str]
    attackers: Collection[str]


def trust_figure(standings: Sequence[Standing]) -> str:
    """Draw a bar a node, the least trusted first, a panel a method; below the dashed line nodes are named.

    Parameters
    ----------
    standings
        Of more than `MOST_NODES` nodes the least trusted are drawn.
    """
    nodes = sorted({node for each in standings for node in (*each.counted, *each.named)})
    nodes.sort(key=lambda node: fmean([each.counted.get(node, 0.0) for each in standings]))
    nodes = nodes[:MOST_NODES]
    labels = [printable(node, 30) for node in nodes]
    left, tall = label_width(labels), float(ROW * len(nodes))
    columns = min(COLUMNS, len(standings))
    rows, room = -(-len(standings) // columns), (WIDTH - left) / columns
    with drawing("trust"):
        figure = canvas(rows * (tall + 78))
        for at, each in enumerate(standings):
            row, column = divmod(at, columns)
            wide = min(room, 520) - 20
            axes = place(figure, left + column * room, 28 + row * (tall + 78), wide, tall)
            # Each has a scale of its own, for a median takes a tenth of everybody and Krum all of one; and room for words at the right.
            most = max(each.counted.values(), default=1.0) or 1.0
            axes.set_xlim(0, most * wide / max(wide - 160, 60))
            _bars(axes, each, nodes)
            bare_rows(axes, labels if column == 0 else [], len(nodes))
            axes.set_title(printable(each.title, 44), loc="left", fontsize=12, weight="bold")
            axes.set_xlabel("share that counted")
        return svg(figure, "How much of each node's updates counted")


def _bars(axes: Axes, each: Standing, nodes: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    shares = [each.counted.get(node, 0.0) for node in nodes]
    axes.barh(range(len(nodes)), shares, height=0.72, color=[VERMILLION if node in each.attackers else BLUE for node in nodes])
    line = median(each.counted.values()) / 2 if each.counted else 0.0
    if each.counted:
        axes.axvline(line, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    reach = axes.get_xlim()[1]
    for row, (node, share) in enumerate(zip(nodes, shares, strict=True)):
        said = [f"{share:.2f}" if node in each.counted else "none" if node in each.named else "–"]
        said += [word for word, among in (("attacker", each.attackers), ("named", each.named)) if node in among]
        # Where the dashed line does not cross it.
        axes.text(max(share, line) + 0.012 * reach, row, ", ".join(said), va="center", fontsize=11)
    ticks = MaxNLocator(nbins=2, steps=[1, 2, 5, 10]).tick_values(0, max(shares, default=0) or 1)
    axes.set_xticks([float(tick) for tick in ticks if tick < 0.7 * reach])
    axes.xaxis.set_major_formatter("{x:g}")
