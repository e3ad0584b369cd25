"""Runs side by side: where each stands, seed by seed, and how far from the first, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import GREY, Look
from vedette.evaluation.plots.text import label_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Contrast", "contrast_figure"]

ROW, BETWEEN = 19, 12  # pixels: a run, and the room between two methods
MOST_DOTS = 60
ALL_DOTS = 6000  # of a figure: more runs and methods leave fewer to each


class Contrast(NamedTuple):
    """One figure of one method in one run.

    Attributes
    ----------
    method, run
        Whose.
    values
        Seed by seed.
    gaps
        Less that of the first run, pair by pair; None for the first run itself.
    """

    method: str
    run: str
    values: Sequence[float]
    gaps: Sequence[float] | None


def contrast_figure(contrasts: Sequence[Contrast], looks: Mapping[str, Look], name: str, floor: float | None) -> str:
    """Draw a row a run under each method: on the left the figure, on the right the difference to the first run.

    Parameters
    ----------
    contrasts
        Those of a method together, in the order to draw.
    looks
        By run.
    name
        What the figure is called.
    floor
        What flagging everything scores, or None.
    """
    heights, methods = _rows(contrasts)
    tall = heights[-1] + ROW
    labels = {method: printable(method, 26) for method in methods}
    left = label_width(labels.values())
    room = (WIDTH - left) / 2
    dots = max(8, min(MOST_DOTS, ALL_DOTS // max(len(contrasts), 1)))
    with drawing("contrasts"):
        figure = canvas(tall + 76)
        stand = place(figure, left, 30, room - 40, tall)
        apart = place(figure, left + room, 30, room - 20, tall)
        for height, each in zip(heights, contrasts, strict=True):
            colour = looks[each.run].colour
            _dots(stand, each.values, height, colour, dots)
            if each.gaps is not None:
                _dots(apart, each.gaps, height, colour, dots)
                if not len(each.gaps):
                    apart.text(0, height, " no pairs", va="center", fontsize=11)
        if floor is not None:
            stand.axvline(floor, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
        apart.axvline(0, color=INK, linewidth=1.2, zorder=1)
        low, high = apart.get_xlim()
        reach = max(abs(low), abs(high), 0.01)
        apart.set_xlim(-reach, reach)
        if stand.get_xlim()[1] - stand.get_xlim()[0] < 0.05:
            middle = sum(stand.get_xlim()) / 2
            stand.set_xlim(middle - 0.025, middle + 0.025)
        first = printable(contrasts[0].run, 32)
        for axes, title in ((stand, f"{name}: mean and seeds"), (apart, f"difference to {first}: mean and pairs")):
            axes.set(ylim=(tall - ROW * 0.4, -ROW * 0.6), yticks=[])
            axes.set_title(title, loc="left", fontsize=12, weight="bold")
            axes.locator_params(axis="x", nbins=6)
            axes.set_xlabel(name if axes is stand else f"{name}, more or less")
        stand.set_yticks(list(methods.values()), [labels[method] for method in methods])
        stand.grid(visible=False, axis="y")
        stand.tick_params(axis="y", length=0)
        return svg(figure, f"{name} of each method in each run, and differences to {first}")


def _rows(contrasts: Sequence[Contrast]) -> tuple[list[float], dict[str, float]]:
    """Return where each stands, in pixels from the top, and the middle of each method."""
    heights: list[float] = []
    for before, each in zip([None, *contrasts[:-1]], contrasts, strict=True):
        step = 0 if before is None else ROW if before.method == each.method else ROW + BETWEEN
        heights.append(heights[-1] + step if heights else 0.0)
    of = {each.method: [h for h, other in zip(heights, contrasts, strict=True) if other.method == each.method] for each in contrasts}
    return heights, {method: (min(mine) + max(mine)) / 2 for method, mine in of.items()}


def _dots(axes: Axes, values: Sequence[float], height: float, colour: str, most: int) -> None:
    """Draw the mean with its deviation, and each value, or some of very many evenly from the lowest to the highest, below it."""
    if not len(values):
        return
    shown = np.sort(np.asarray(values, dtype=np.float64))
    if len(shown) > most:
        shown = shown[np.linspace(0, len(shown) - 1, most).round().astype(np.int64)]
    mean = fmean(values)
    if len(values) > 1:
        spread = stdev(values)
        axes.plot([mean - spread, mean + spread], [height, height], color=colour, linewidth=2.5)
        axes.plot(shown, [height + 6.5] * len(shown), linestyle="", marker="o", markersize=4.5, color=colour, alpha=0.6, markeredgewidth=0)
    axes.plot([mean], [height], marker="o", markersize=8.5, color=colour)
