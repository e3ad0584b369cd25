"""Devices that nothing is heard of any more."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vedette.message import Array

__all__ = ["Silence"]

LONGEST = 5
"""Devices that are named."""


class Silence:
    """Knows when devices were heard of last, by this machine's clock: what a device says of the time may be anything.

    Parameters
    ----------
    after
        Seconds without a reading after which a device counts as silent.
    known
        Devices that there are already: they were heard of when this began, for before nobody listened.
    """

    def __init__(self, after: float, known: int) -> None:
        self.after, self._heard = after, np.full(known, time.monotonic())

    def hear(self, devices: Array, known: int) -> None:
        """Note that some devices [n] sent a reading, of so many that are known."""
        now = time.monotonic()
        if known > len(self._heard):
            self._heard = np.concatenate([self._heard, np.full(known - len(self._heard), now)])
        self._heard[devices] = now

    def found(self, names: Sequence[str]) -> tuple[int, list[tuple[str, float]]]:
        """Return how many devices are silent, and those that have been longest, with their seconds; may be asked by any thread."""
        passed = time.monotonic() - self._heard
        silent = np.flatnonzero(passed > self.after)
        longest = silent[np.argsort(-passed[silent], kind="stable")[:LONGEST]].tolist()
        return len(silent), [(names[place], float(passed[place])) for place in longest]
