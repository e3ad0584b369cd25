"""Times as others read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["clock", "rfc3339"]

LAST = 253402300799.0
"""The end of the year 9999, behind which no date can be written."""


def rfc3339(seconds: float) -> str:
    """Say seconds since 1970 as ``2026-11-22T00:35:00.123456Z``; clocks that went astray are held to the years 1970 to 9999."""
    return _date(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock(seconds: float) -> str:
    """Say seconds since 1970 for people, to the second: ``2026-11-22 00:35:00Z``; held like those of `rfc3339`."""
    return f"{_date(seconds):%Y-%m-%d %H:%M:%SZ}"


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), LAST), UTC)
