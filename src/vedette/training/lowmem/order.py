"""The order in which rows are visited: at random, each once a pass, without a list of their numbers."""

from __future__ import annotations

import numpy as np

from vedette.message import Array

__all__ = ["Scattered"]

ROUNDS = 4


class Scattered:
    """A random permutation of 0 … rows - 1 that is worked out place by place, in memory that does not grow with the rows.

    A Feistel network over the next power of four, walked along its cycles until a number is a row (Black and Rogaway 2002).

    Parameters
    ----------
    rows
        How many.
    rng
        Draws the keys.
    """

    def __init__(self, rows: int, rng: np.random.Generator) -> None:
        self.rows = rows
        self._half = max(1, (max(rows - 1, 1).bit_length() + 1) // 2)
        self._keys = [int(key) for key in rng.integers(1, 2**32, ROUNDS)]

    def __len__(self) -> int:
        return self.rows

    def take(self, start: int, stop: int) -> Array:
        """Return the rows at places `start` to `stop` of the order, [stop - start] int64."""
        at = self._walked(np.arange(start, stop, dtype=np.uint64))
        while (out := at >= self.rows).any():
            at[out] = self._walked(at[out])
        return at.astype(np.int64)

    def _walked(self, at: Array) -> Array:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = at >> half, at & mask
        for key in self._keys:
            mixed = right + np.uint64(key)
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            mixed >>= np.uint64(32)
            mixed &= mask
            mixed ^= left
            left, right = right, mixed
        return (left << half) | right
