"""Protocols side by side: what each method misses under each, and what becomes of it as nodes grow in number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette.evaluation.plots.canvas import INK, WIDTH, canvas, drawing, place, svg
from vedette.evaluation.plots.looks import VERMILLION
from vedette.evaluation.plots.text import label_width, printable
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HeatMap", "heat_figure"]

ROW, NARROW, BROAD = 26.0, 42.0, 80.0  # pixels of a cell


class HeatMap(NamedTuple):
    """Shares to be written in cells: a title, and [rows, columns] from 0 to 1; NaN is not known."""

    title: str
    values: Array


def heat_figure(maps: Sequence[HeatMap], rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw tables of shares, in percent: the stronger the colour, the larger.

    Parameters
    ----------
    maps
        Beside each other where there is room, else below each other.
    rows, columns
        Names, the same in all.
    """
    labels = [printable(name, 26) for name in rows]
    names = [printable(name, 22) for name in columns]
    left, top = label_width(labels), 0.6 * label_width(names) + 6  # the names stand at an angle of 45 degrees
    slack = top  # the last name leans out to the right
    beside = left + len(maps) * (NARROW * len(columns) + slack) <= WIDTH
    room = (WIDTH - left) / (len(maps) if beside else 1)
    cell = min((room - slack) / len(columns), BROAD)
    tall = ROW * len(rows)
    high = top + 30 + tall + 16
    with drawing("protocols"):
        figure = canvas(high * (1 if beside else len(maps)))
        for at, each in enumerate(maps):
            x, y = (left + at * room, 0.0) if beside else (left, at * high)
            axes = place(figure, x, y + 30 + top, cell * len(columns), tall)
            _cells(axes, each.values)
            axes.text(0, 1 + (top + 8) / tall, each.title, transform=axes.transAxes, va="bottom", weight="bold")
            axes.set_xticks(np.arange(len(columns)) + 0.4, names, rotation=45, ha="left", fontsize=11, rotation_mode="anchor")
            axes.xaxis.tick_top()
            axes.set_yticks(np.arange(len(rows)) + 0.45, labels if at == 0 or not beside else [""] * len(rows), fontsize=12)
            axes.tick_params(length=0)
        return svg(figure, f"{' and '.join(each.title for each in maps)}: {len(rows)} methods under {len(columns)} protocols")


def _cells(axes: Axes, values: Array) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    rows, columns = values.shape
    corners = np.array([[0, 0], [0.96, 0], [0.96, 0.92], [0, 0.92]])
    at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 1, 2)
    known = np.isfinite(values).ravel()
    # A root, so that a thousandth and a hundredth are told apart too.
    strength = 0.04 + 0.9 * np.clip(values.ravel()[known], 0, 1) ** 0.4
    colours = np.c_[np.tile(to_rgb(VERMILLION), (int(known.sum()), 1)), strength]
    axes.add_collection(PolyCollection((at + corners)[known], facecolors=colours, linewidths=0))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    for row, column in np.ndindex(values.shape):
        share = float(values[row, column])
        strong = np.isfinite(share) and share > 0.5
        axes.text(column + 0.48, row + 0.47, _said(share), ha="center", va="center", fontsize=12, color="white" if strong else INK)


def _said(share: float) -> str:
    digits = 0 if share == 0 or share >= 0.9995 else 2 if share < 0.0995 else 1
    return f"{share * 100:.{digits}f}" if np.isfinite(share) else "–"
