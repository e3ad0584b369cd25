"""What is bought at what price: ROC and precision-recall curves, with the threshold that was set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look, ordered
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Tradeoff", "tradeoff_figure"]

POINTS = 240


class Tradeoff(NamedTuple):
    """What one method finds and raises falsely, threshold by threshold, on all nodes' rows together.

    Attributes
    ----------
    method
        Its name.
    fpr, recall, precision
        [points] each, from the highest threshold to the lowest.
    chosen
        The three at the threshold that was set.
    """

    method: str
    fpr: Array
    recall: Array
    precision: Array
    chosen: tuple[float, float, float]

    @classmethod
    def of(cls, method: str, label: Array, score: Array, flagged: Array) -> Tradeoff | None:
        """Return the curve of scores [rows] that compare with each other; None where there is only one class."""
        truth = np.asarray(label) != 0
        if truth.all() or not truth.any():
            return None
        order = np.argsort(-score, kind="stable")
        last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # rows of equal scores come together
        found = np.cumsum(truth[order])[last].astype(np.float64)
        raised = last + 1.0
        false = raised - found
        # Evenly along the curve, not along the thresholds: most of them lie among normal rows.
        along = found / truth.sum() + false / (~truth).sum()
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], POINTS)).clip(0, len(last) - 1))
        rates = (int((truth & flagged).sum()), int((~truth & flagged).sum()))
        chosen = rates[1] / (~truth).sum(), rates[0] / truth.sum(), rates[0] / max(sum(rates), 1)
        fpr, recall, precision = false[kept] / (~truth).sum(), found[kept] / truth.sum(), found[kept] / raised[kept]
        return cls(method, fpr, recall, precision, (float(chosen[0]), float(chosen[1]), float(chosen[2])))


def tradeoff_figure(tradeoffs: Sequence[Tradeoff], share: float, looks: Mapping[str, Look]) -> str:
    """Draw the ROC and the precision-recall curves side by side; a dot marks each threshold that was set.

    Parameters
    ----------
    tradeoffs
        Of each method, one seed.
    share
        Of anomalous rows: what guessing's precision is.
    looks
        Colours and dashes.
    """
    with drawing("tradeoffs"):
        figure = canvas(430)
        room = WIDTH / 2
        roc, pr = (place(figure, 60 + column * room, 30, room - 100, 340) for column in range(2))
        roc.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
        pr.axhline(share, color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
        by_method = {each.method: each for each in tradeoffs}
        for method in ordered(by_method):
            each, look = by_method[method], looks[method]
            fpr, recall, precision = each.chosen
            _draw(roc, np.append(0.0, each.fpr), np.append(0.0, each.recall), fpr, recall, look)
            _draw(pr, np.append(0.0, each.recall), np.append(each.precision[0], each.precision), recall, precision, look)
        titles = ("False alarms against found (ROC)", "Found against precision")
        for axes, title, x, y in ((roc, titles[0], "false alarms", "found"), (pr, titles[1], "found", "precision")):
            axes.set_title(title, loc="left", fontsize=12)
            axes.set_xlabel(f"{x}, share")
            axes.set_ylabel(f"{y}, share")
            axes.set_xlim(-0.01, 1.01)
            axes.set_ylim(-0.02, 1.02)
        return svg(figure, "ROC and precision-recall curves of each method")


def _draw(axes: Axes, x: Array, y: Array, at: float, height: float, look: Look) -> None:
    axes.plot(x, y, color=look.colour, linestyle=look.linestyle, linewidth=1.8)
    axes.plot([at], [height], marker="o", color=look.colour, markersize=7, markeredgecolor="white", markeredgewidth=1)
