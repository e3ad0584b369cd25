"""What a figure becomes when less leaks: a slope from the random split to the strictest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["leak_figure"]

MOST_TOLD = 2  # methods whose figures are written beside their dots
LEAST = 0.4  # of the upright axis: a small gap shall look small


def leak_figure(
    figures: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], splits: Sequence[str], looks: Mapping[str, Look]
) -> str:
    """Draw each figure under each split: a panel a figure, a line a method, a small dot a seed.

    Parameters
    ----------
    figures
        Values seed by seed, by figure, method and split; what is not defined is absent.
    splits
        From the one that leaks most.
    looks
        From `styles`.
    """
    values = [value for methods in figures.values() for held in methods.values() for seeds in held.values() for value in seeds]
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = min(low, high - LEAST)
    margin = 0.12 * (high - low)
    with drawing("leaks"):
        figure, room = canvas(300), (WIDTH - 30) / len(figures)
        for column, (name, methods) in enumerate(figures.items()):
            axes = place(figure, 60 + column * room, 36, room - 60, 220)
            told = len(methods) <= MOST_TOLD
            top = max(methods, key=lambda method: sum(sum(seeds) for seeds in methods[method].values()))
            for method in ordered(methods):
                mine = [methods[method].get(split, ()) for split in splits]
                _slope(axes, mine, looks[method], (6 if method == top else -6) if told else None)
            axes.set(xlim=(-0.6, len(splits) - 0.4), ylim=(low - margin if low - margin > 0.05 or low < 0 else 0.0, high + margin))
            axes.set_xticks(range(len(splits)), splits)
            axes.locator_params(axis="y", nbins=6)
            axes.grid(visible=False, axis="x")
            axes.set_title(name, loc="left", fontsize=12, weight="bold")
        return svg(figure, f"{', '.join(figures)} under {', '.join(splits)} splits")


def _slope(axes: Axes, values: Sequence[Sequence[float]], look: Look, told: int | None) -> None:
    """Draw one method; its figures are told so many pixels above its dots, or not at all."""
    known = [(at, seeds) for at, seeds in enumerate(values) if seeds]
    means = [fmean(seeds) for _, seeds in known]
    axes.plot([at for at, _ in known], means, color=look.colour, linestyle=look.linestyle, linewidth=2)
    for (at, seeds), mean in zip(known, means, strict=True):
        if len(seeds) > 1:
            spread = stdev(seeds)
            axes.plot([at, at], [mean - spread, mean + spread], color=look.colour, linewidth=2)
            axes.plot(
                [at + 0.1] * len(seeds), seeds, linestyle="", marker="o", markersize=4, color=look.colour, alpha=0.5, markeredgewidth=0
            )
        axes.plot([at], [mean], marker="o", markersize=9, color=look.colour)
        if told is not None:
            # Where a line that falls does not pass: above on the right, below on the left.
            right, side, align = (5, "bottom", "left") if told > 0 else (-5, "top", "right")
            axes.annotate(f"{mean:.2f}", (at, mean), (right, told), textcoords="offset points", ha=align, va=side)
