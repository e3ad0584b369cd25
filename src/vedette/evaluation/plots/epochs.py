"""The loss of each epoch, method beside method, as figure 4.1 of Holdren 2022 shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import GREY, Look
from vedette.evaluation.plots.text import printable

__all__ = ["epoch_figure"]


def epoch_figure(losses: Mapping[str, Sequence[Sequence[float]]], looks: Mapping[str, Look]) -> str:
    """Draw a panel a method on common axes: each seed, their mean, and behind all but the first panel the mean of the first.

    Parameters
    ----------
    losses
        By method, [seeds, epochs].
    looks
        From `styles`.
    """
    from matplotlib.ticker import MaxNLocator

    tables = {method: np.array(runs, dtype=np.float64) for method, runs in losses.items()}
    with drawing("epochs"):
        figure, room = canvas(300), (WIDTH - 70) / len(tables)
        means = {method: np.nanmean(table, axis=0) for method, table in tables.items()}
        first, most = next(iter(means)), max(float(np.nanmax(table)) for table in tables.values())
        longest = max(len(mean) for mean in means.values())
        for column, (method, table) in enumerate(tables.items()):
            axes = place(figure, 70 + column * room, 30, room - 64, 215)
            colour = looks[method].colour
            if method != first:
                axes.plot(range(1, len(means[first]) + 1), means[first], color=GREY, linewidth=9, alpha=0.35)
            epochs = range(1, table.shape[1] + 1)
            for run in table if len(table) > 1 else ():
                axes.plot(epochs, run, color=colour, linewidth=1, alpha=0.5)
            axes.plot(epochs, means[method], color=colour, linewidth=2.5, marker="o", markersize=4)
            axes.set_title(printable(method, 40), loc="left", fontsize=12, weight="bold")
            axes.set(xlim=(0.7, max(longest, 2) + 0.3), ylim=(0, most * 1.05), xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if column == 0:
                axes.set_ylabel("training loss")
        return svg(figure, f"Training loss per epoch: {' against '.join(tables)}")
