"""Footprints: the bytes that training takes of a device, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look
from vedette.evaluation.plots.text import in_bytes, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Footprint", "footprint_figure"]

ROW, THICK = 19, 0.74  # pixels from bar to bar; of that, the bar
GROUP = 4 * ROW + 8  # pixels of a method: its name, three bars, a gap
LEFT, APART = 158, 122  # pixels for what stands before the bars of either panel
BROAD = 560  # pixels of the bars of the first panel
SHADES: tuple[dict[str, Any], ...] = ({"alpha": 0.42}, {}, {"facecolor": "none", "linewidth": 1.6})


class Bar(NamedTuple):
    """Bytes, NaN where they are not known, and how they are written."""

    size: float
    text: str


class Footprint(NamedTuple):
    """What training takes under one method.

    Attributes
    ----------
    method
        Whose.
    first, last
        A training step, with the network as it begins and as it is in the end.
    model
        The network as it is stored.
    floor
        Weights and gradients alone.
    resident
        The whole process.
    """

    method: str
    first: Bar
    last: Bar
    model: Bar
    floor: Bar
    resident: Bar


def footprint_figure(footprints: Sequence[Footprint], looks: Mapping[str, Look]) -> str:
    """Draw a group of bars a method on a logarithmic axis: a step at first and in the end and the model, beside them the process.

    Names and figures stand before the bars, so that they are read in a window too narrow for the bars as well.

    Parameters
    ----------
    footprints
        In the order to draw.
    looks
        From `styles`.
    """
    tall = GROUP * len(footprints)
    with drawing("footprints"):
        figure = canvas(30 + tall + 30)
        steps = place(figure, LEFT, 30, BROAD, tall)
        start = LEFT + BROAD + APART + 24
        whole = place(figure, start, 30, WIDTH - start - 16, tall)
        _prepare(steps, [bar.size for each in footprints for bar in (each.first, each.last, each.model, each.floor)], tall)
        _prepare(whole, [each.resident.size for each in footprints], tall)
        for axes, title, before in ((steps, "A training step, and the model", LEFT), (whole, "The whole process", APART)):
            axes.annotate(title, (0, 1), (-before, 12), "axes fraction", textcoords="offset pixels", weight="bold")
        for number, each in enumerate(footprints):
            top, colour = number * GROUP, looks[each.method].colour
            for axes, before in ((steps, LEFT), (whole, APART)):
                _write(axes, printable(each.method, 34 if axes is steps else 24), -before, top + 0.5 * ROW, weight="bold")
            for row, (name, bar) in enumerate((("step at first", each.first), ("in the end", each.last), ("model", each.model)), start=1):
                _bar(steps, name, bar, top + (row + 0.5) * ROW, colour, SHADES[row - 1], LEFT)
            if isfinite(each.floor.size):
                ends = [top + ROW * (1 + (1 - THICK) / 2), top + ROW * (3 - (1 - THICK) / 2)]
                steps.plot([each.floor.size] * 2, ends, color=INK, linewidth=2, solid_capstyle="butt")
            _bar(whole, "", each.resident, top + 1.5 * ROW, colour, {}, APART)
        return svg(figure, f"Bytes that training takes under {len(footprints)} methods")


def _bar(axes: Axes, name: str, bar: Bar, y: float, colour: str, shade: Mapping[str, Any], before: float) -> None:
    _write(axes, name, -before, y)
    _write(axes, bar.text, -8, y, ha="right")
    if isfinite(bar.size):
        low = axes.get_xlim()[0]
        axes.barh(y, bar.size - low, height=THICK * ROW, left=low, **{"facecolor": colour, "edgecolor": colour, "linewidth": 0, **shade})


def _write(axes: Axes, text: str, aside: float, y: float, **look: Any) -> None:
    """Write before the axes, so many pixels from their beginning."""
    axes.annotate(text, (0, y), (aside, 0), ("axes fraction", "data"), textcoords="offset pixels", va="center", **look)


def _prepare(axes: Axes, sizes: Sequence[float], tall: float) -> None:
    """Make a logarithmic axis from a power of ten on, with ticks people can read, above and below."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    known = [size for size in sizes if isfinite(size)]
    low, high = 10.0 ** floor(log10(min(known, default=1e3) / 1.5)), max(known, default=1e6) * 1.1
    axes.set_xscale("log")
    axes.set(xlim=(low, high), ylim=(tall, 0), yticks=[])
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < 300 * low else (1.0,), numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(length=0)
