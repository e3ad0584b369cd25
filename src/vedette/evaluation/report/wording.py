"""Numbers in words that people read."""

from __future__ import annotations

from math import isfinite

__all__ = ["duration", "figure", "percentage", "volume"]


def figure(value: float, digits: int, percent: bool = False) -> str:
    """Write a figure of a table, rounded, with a true minus sign and no "−0"."""
    return f"{round(value * 100 if percent else value, digits) + 0.0:.{digits}f}".replace("-", "−")


def percentage(share: float) -> str:
    """Write a share for people: ``93.1 %``, with a second digit where it is nearly nothing or nearly all."""
    return f"{share * 100:.{2 if 0 < share < 0.01 or 0.99 < share < 1 else 1}f} %"


def duration(seconds: float | None) -> str:
    """Write seconds for people: ``850 ms``, ``12.3 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None or not isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def volume(size: float | None) -> str:
    """Write bytes for people, in powers of 1,000: ``3.4 MB``."""
    if size is None or not isfinite(size):
        return "–"
    unit = next((unit for unit in range(4) if size < 999.5 * 1000**unit), 4)
    return f"{size / 1000**unit:.{1 if unit else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[unit]}"
