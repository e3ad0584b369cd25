"""Nodes on a circle, with their names around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vedette.evaluation.plots.looks import BLUE
from vedette.message import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["around", "name_nodes"]


def around(count: int, radius: float) -> Array:
    """Return so many places on a circle, [count, 2] in pixels from its middle, clockwise from the top."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    return radius * np.column_stack([np.cos(angles), np.sin(angles)])


def name_nodes(axes: Axes, labels: Sequence[str], at: Array, turned: bool) -> None:
    """Draw a dot a node and its name beside it, away from the middle; `turned` names stand like spokes and need less room."""
    axes.plot(at[:, 0], at[:, 1], "o", color=BLUE, markersize=9)
    for label, (x, y) in zip(labels, at.tolist(), strict=True):
        radius = math.hypot(x, y)
        # A node in the middle has its name below it.
        angle = math.atan2(y, x) if radius else -math.pi / 2
        x, y = x + 12 * math.cos(angle), y + 12 * math.sin(angle)
        right, upright = math.cos(angle) >= -1e-9, abs(math.cos(angle)) < 1e-9
        if turned and radius:
            turn = math.degrees(angle) + (0 if right else 180)
            axes.text(x, y, label, ha="left" if right else "right", va="center", rotation=turn, rotation_mode="anchor")
        else:
            side = "center" if upright else "left" if right else "right"
            axes.text(x, y, label, ha=side, va="center" if not upright else "bottom" if y > 0 else "top")
