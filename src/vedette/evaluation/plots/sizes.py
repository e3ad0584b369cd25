"""From few nodes to many: what becomes of each method as nodes grow in number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, logarithmic, place, svg
from vedette.evaluation.plots.looks import Look
from vedette.evaluation.plots.text import in_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Growth", "size_figure"]

PANELS = ("F1 at the end", "Rounds until it has settled", "Bytes sent by a node", "Others that see something of a node")
ABOVE = 1.14  # times the rounds there were: where it stands that something was not reached in them
APART = 0.012  # of the axis: open marks of several methods stand beside each other


class Growth(NamedTuple):
    """One method over the number of nodes; each value by that number, what is not known is absent.

    Attributes
    ----------
    method
        Whose.
    f1
        Of the last detectors.
    settled
        Rounds; infinite where it was not reached.
    sent
        Bytes a node.
    seen
        How many others see something of a node's updates, mean over nodes.
    """

    method: str
    f1: Mapping[int, float]
    settled: Mapping[int, float]
    sent: Mapping[int, float]
    seen: Mapping[int, float]


def size_figure(growths: Sequence[Growth], looks: Mapping[str, Look], rounds: int) -> str:
    """Draw four panels over the number of nodes, a line a method.

    Parameters
    ----------
    growths
        In the order to draw.
    looks
        From `styles`.
    rounds
        That there were; what was not reached in them is an open mark above.
    """
    sizes = sorted({size for each in growths for values in (each.f1, each.settled, each.sent, each.seen) for size in values})
    with drawing("sizes"):
        figure, room = canvas(2 * 256), WIDTH / 2
        for at, title in enumerate(PANELS):
            row, column = divmod(at, 2)
            axes = place(figure, column * room + 84, 30 + row * 256, room - 84 - 20, 172)
            _across(axes, sizes)
            drawn = {each.method: (each.f1, each.settled, each.sent, each.seen)[at] for each in growths}
            _upright(axes, at, [value for values in drawn.values() for value in values.values()], rounds)
            for shift, (method, values) in enumerate(drawn.items(), start=-(len(drawn) // 2)):
                aside = (sizes[-1] / sizes[0]) ** (APART * shift)
                _line(axes, values, looks[method], rounds * ABOVE, aside)
            axes.set_title(title, loc="left", fontsize=12, weight="bold")
            if row:
                axes.set_xlabel("nodes")
        return svg(figure, f"{', '.join(PANELS)}, over the number of nodes")


def _line(axes: Axes, values: Mapping[int, float], look: Look, above: float, aside: float) -> None:
    """Draw what is finite as a line with dots, and what is not as open marks, a little aside of each other."""
    reached = [(size, value) for size, value in sorted(values.items()) if isfinite(value)]
    if reached:
        x, y = zip(*reached, strict=True)
        axes.plot(
            x, y, color=look.colour, linestyle=look.linestyle, linewidth=2, marker="o", markersize=6, markeredgewidth=0, clip_on=False
        )
    missed = [size * aside for size, value in sorted(values.items()) if not isfinite(value)]
    axes.plot(missed, [above] * len(missed), "o", markersize=8, color=look.colour, markerfacecolor="none", markeredgewidth=2, clip_on=False)


def _across(axes: Axes, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.12, sizes[-1] * 1.12)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")


def _upright(axes: Axes, panel: int, values: Sequence[float], rounds: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = [value for value in values if isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if panel == 0:
        margin = 0.08 * max(high - low, 0.01)
        axes.set_ylim(max(low - margin, -0.02), min(high + margin, 1.01))
    elif panel == 1:
        ticks = [float(tick) for tick in MaxNLocator(nbins=6, integer=True).tick_values(0, rounds) if 0 <= tick <= rounds]
        missed = [ABOVE * rounds] if len(known) < len(values) else []
        axes.set_yticks([*ticks, *missed], [f"{tick:.0f}" for tick in ticks] + ["not reached"] * len(missed))
        axes.set_ylim(0, rounds * (ABOVE + 0.06 if missed else 1.05))
    elif low > 0 and (panel == 2 or high > 20 * low):
        logarithmic(axes, low / 1.3, high * 1.3)
    else:
        axes.set_ylim(0, max(high * 1.08, 1.0))
    if panel == 2:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
