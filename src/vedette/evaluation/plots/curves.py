"""How training went: the loss per round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, logarithmic, place, svg
from vedette.evaluation.plots.looks import Look, ordered
from vedette.evaluation.plots.text import printable
from vedette.evaluation.plots.thinning import banded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "loss_figure"]

BINS = 200


class Curve(NamedTuple):
    """Training loss per round of one method and seed, the mean over nodes."""

    method: str
    protocol: str
    seed: int
    loss: Sequence[float]


def loss_figure(curves: Sequence[Curve], looks: Mapping[str, Look]) -> str:
    """Draw the loss per round: the mean over seeds as a line, lowest to highest seed as a band; one panel a protocol."""
    from matplotlib.ticker import MaxNLocator

    with drawing("loss"):
        figure = canvas(300)
        protocols = sorted({curve.protocol for curve in curves})
        room = (WIDTH - 70) / len(protocols)
        values = np.concatenate([np.asarray(curve.loss, dtype=np.float64) for curve in curves])
        values = values[np.isfinite(values)]
        for column, protocol in enumerate(protocols):
            axes = place(figure, 70 + column * room, 30, room - 30, 215)
            mine = [curve for curve in curves if curve.protocol == protocol]
            for method in ordered(curve.method for curve in mine):
                _line(axes, [curve.loss for curve in mine if curve.method == method], looks[method])
            axes.set_title(f"{printable(protocol, 30)} protocol", loc="left", fontsize=12)
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(values) and values.min() > 0 and values.max() > 20 * values.min():
                logarithmic(axes, values.min() / 1.2, values.max() * 1.2)
            elif len(values):
                axes.set_ylim(min(0.0, values.min() * 1.05), max(values.max() * 1.05, 1e-12))
            if column == 0:
                axes.set_ylabel("training loss, mean over nodes")
        return svg(figure, "Training loss per round of each method")


def _line(axes: Axes, losses: Sequence[Sequence[float]], look: Look) -> None:
    table = np.full((len(losses), max(map(len, losses))), np.nan)
    for row, loss in zip(table, losses, strict=True):
        row[: len(loss)] = loss
    table[~np.isfinite(table)] = np.nan
    starts, mean, low, high = banded(table, BINS)
    axes.fill_between(starts + 1, low, high, color=look.colour, alpha=0.22, linewidth=0)
    axes.plot(starts + 1, mean, color=look.colour, linestyle=look.linestyle, linewidth=2, marker="o" if len(starts) < 3 else "")
