"""Topics: which are subscribed to, and where device and sensor stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Named", "Topics"]

KEPT = 100_000
"""Topics whose names are kept, at most."""


class Named(NamedTuple):
    """What a topic names; "" where it does not."""

    device: str
    sensor: str


class Topics:
    """Patterns such as ``"plant/{device}/{sensor}"``, beside the wildcards ``+`` and ``#``.

    Parameters
    ----------
    patterns
        Where ``{device}`` stands in several levels, the name is these with slashes between.

    Raises
    ------
    ValueError
        A pattern is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.split("/") for pattern in patterns]
        self._known: dict[str, Named | None] = {}
        for pattern, levels in zip(patterns, self._patterns, strict=True):
            for i, level in enumerate(levels):
                if level not in ("{device}", "{sensor}", "+", "#") and any(sign in level for sign in "+#{}\0"):
                    raise ValueError(f"'{level}' in the topic '{pattern}' is neither a name nor {{device}}, {{sensor}}, + or #")
                if level == "#" and i + 1 < len(levels):
                    raise ValueError(f"'#' can only be the last level of the topic '{pattern}'")
            if not pattern or levels.count("{sensor}") > 1:
                raise ValueError(f"the topic '{pattern}' is empty or has {{sensor}} twice")

    @property
    def filters(self) -> list[str]:
        """What is subscribed to."""
        return ["/".join("+" if level in ("{device}", "{sensor}") else level for level in levels) for levels in self._patterns]

    def named(self, topic: str) -> Named | None:
        """Return what a topic names by the first pattern that fits; None if none does."""
        if topic not in self._known:
            if len(self._known) >= KEPT:
                self._known.clear()
            levels = topic.split("/")
            self._known[topic] = next((found for pattern in self._patterns if (found := _fits(pattern, levels)) is not None), None)
        return self._known[topic]


def _fits(pattern: Sequence[str], levels: Sequence[str]) -> Named | None:
    open_end = pattern[-1] == "#"
    if len(levels) < len(pattern) - open_end or (len(levels) > len(pattern) and not open_end):
        return None
    device, sensor = [], ""
    for want, level in zip(pattern, levels, strict=False):
        if want == "{device}":
            device.append(level)
        elif want == "{sensor}":
            sensor = level
        elif want not in ("+", "#", level):
            return None
    return Named("/".join(device), sensor)
