"""What privacy had cost after each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vedette.evaluation.plots.canvas import WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import Look

__all__ = ["spent_figure"]


def spent_figure(spent: Mapping[str, Sequence[float]], looks: Mapping[str, Look]) -> str:
    """Draw epsilon after each step of a run, a line a method.

    Parameters
    ----------
    spent
        By method: after the scaling, each round, the threshold.
    looks
        From `styles`.
    """
    from matplotlib.ticker import MaxNLocator

    with drawing("spent"):
        figure = canvas(230)
        axes = place(figure, 70, 12, WIDTH - 100, 165)
        for method, values in spent.items():
            axes.plot(range(1, len(values) + 1), values, color=looks[method].colour, linestyle=looks[method].linestyle, linewidth=2)
        most = max(max(values) for values in spent.values())
        axes.set(xlim=(0.5, None), ylim=(0, most * 1.08), xlabel="step: scaling, rounds, threshold", ylabel="epsilon")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return svg(figure, f"Epsilon after each step: {', '.join(spent)}")
