"""What was not as it should be, counted by kind and logged now and then."""

from __future__ import annotations

import logging
import time
from collections import Counter

__all__ = ["Counts"]

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines in the log about the same kind."""


class Counts(Counter[str]):
    """A counter of what was wrong with what came in, by kind (docs/live-sources.md)."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def add(self, kind: str, example: object = "", count: int = 1) -> None:
        """Count something; of each kind the first in a minute is logged.

        Parameters
        ----------
        kind
            ``"garbage"``, ``"missing-field"``, ``"duplicate"``…
        example
            What was seen, for the log; it is cut.
        count
            How often.
        """
        self[kind] += count
        now = time.monotonic()
        if now - self._told.get(kind, -EVERY) >= EVERY:
            self._told[kind] = now
            log.warning("readings are not as they should be", extra={"kind": kind, "count": self[kind], "example": repr(example)[:80]})
