"""Text in figures and pages: users' made harmless to lay out, how wide it is, and bytes at the ticks of an axis."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable

__all__ = ["in_bytes", "label_width", "printable"]


def printable(text: object, cells: int = 200) -> str:
    """Make a user's text harmless to lay out: no control or direction characters, at most `cells` columns wide."""
    shown, width = "", 0
    for sign in itertools.islice(str(text), 4 * cells):
        sign = " " if sign in "\n\t\r" else "\ufffd" if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Cn"} else sign
        width += _cells(sign)
        if width > cells:
            return shown[:-1] + "…"
        shown += sign
    return shown


def label_width(labels: Iterable[str]) -> float:
    """Return the room in pixels that the widest label of a figure needs, with a gap after it."""
    return 7.7 * max(map(_cells, labels)) + 14


def in_bytes(value: float) -> str:
    """Write a round number of bytes in powers of 1,000, no digit more than it has: ``30 kB``."""
    unit = next((unit for unit in range(4) if value < 999.5 * 1000**unit), 4)
    return f"{value / 1000**unit:g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
