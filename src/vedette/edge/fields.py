"""Fields of what was parsed: by a path into nested objects, and as a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["Key", "dig", "seconds"]

LATEST = 1e11
"""Seconds since 1970 that are no time any more (the year 5138)."""


class Key:
    """Where a field stands: a key, or keys with dots between them. Empty: nowhere.

    Attributes
    ----------
    name
        As it was written.
    parts
        The keys, where there are several.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts = tuple(name.split(".")) if "." in name else ()

    def __bool__(self) -> bool:
        return bool(self.name)


def dig(value: Any, path: Key) -> Any:
    """Return what stands at a path; None if nothing does. A key that holds dots itself comes first."""
    if not path or not isinstance(value, Mapping):
        return None
    if path.name in value or not path.parts:
        return value.get(path.name)
    for part in path.parts:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def seconds(value: Any, unit: float = 1.0) -> float | None:
    """Return a time as seconds since 1970; None if it is none.

    Parameters
    ----------
    value
        A number, text that holds one, ISO 8601 text, or a `datetime`; UTC where these do not say.
    unit
        Seconds in one unit of a number.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An integer may be larger than any float.
    return float(value) * unit if -LATEST / unit < value < LATEST / unit else None
