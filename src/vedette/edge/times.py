"""Times as others read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["rfc3339"]

LAST = 253402300799.0
"""The end of the year 9999, behind which no date can be written."""


def rfc3339(seconds: float) -> str:
    """Say seconds since 1970 as ``2026-11-22T00:35:00.123456Z``; clocks that went astray are held to the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), LAST), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
