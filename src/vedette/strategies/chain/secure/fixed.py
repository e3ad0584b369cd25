"""Fixed point: how numbers become words that are added modulo 2^32 or 2^64, and how a sum of them becomes a weighted mean.

Of n summands each may be as large as m = (2^(bits-1) - 1) // n steps (at most 2^53, which float64 counts exactly), so that no sum leaves
[-2^(bits-1), 2^(bits-1)) and none overflows. A value v of a channel with limit r and a weight w of at most W become

    round(m w v / (W r))  and, as one word more,  round(m w / W),

so the step of a value that counts in full is r / m: 4.7e-9 r for 20 nodes and 32 bits, 2.3e-7 r for 500. Each word is off by half a step at
most, and a sum of words by nothing: the sum of w v / W is off by n r / (2 m).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from vedette.errors import MessageRefused, RecipeError
from vedette.message import Array

__all__ = ["Fixed"]


class Fixed(NamedTuple):
    """How numbers become words.

    Attributes
    ----------
    limits
        The largest size of a value, by channel. Who has a larger one clips it before.
    summands
        Most nodes that a sum can have.
    bits
        Of a word: 32 or 64.
    heaviest
        The largest weight.
    """

    limits: Mapping[str, float]
    summands: int
    bits: Literal[32, 64] = 32
    heaviest: float = 1.0

    @property
    def most(self) -> int:
        """The largest size of a summand, in steps (m)."""
        return min(((1 << (self.bits - 1)) - 1) // self.summands, 1 << 53)

    def words(self, vectors: Mapping[str, Array], weight: float = 1.0) -> Array:
        """Return [values of all channels + 1] uint32 or uint64: channels by name, then the weight.

        Raises
        ------
        RecipeError
            A value or the weight is beyond its limit, or no number: nothing is cut off in silence.
        """
        if not 0 < weight <= self.heaviest:
            raise RecipeError(f"a weight of {weight:g} does not fit a secure sum whose weights are above 0 and at most {self.heaviest:g}")
        part = weight / self.heaviest
        parts = []
        for name, limit in sorted(self.limits.items()):
            values = vectors[name].astype(np.float64)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= limit:
                raise RecipeError(
                    f"channel '{name}' has a value of size {largest:g}, and the secure sum takes {limit:g} at most; clip it before, "
                    "or raise the limit"
                )
            parts.append(np.rint(values / limit * (part * self.most)))
        parts.append(np.array([np.rint(part * self.most)]))
        return np.concatenate(parts).astype(f"i{self.bits // 8}").view(f"u{self.bits // 8}")

    def means(self, words: Array, sizes: Mapping[str, int]) -> tuple[dict[str, Array], float]:
        """Return the weighted means by channel, float64, and the sum of the weights.

        Parameters
        ----------
        words
            A sum of what `words` gave.
        sizes
            Values by channel.

        Raises
        ------
        MessageRefused
            It is no such sum: another number of words, or weights that sum to nothing.
        """
        sums = words.view(f"i{self.bits // 8}").astype(np.float64)
        if len(sums) != sum(sizes.values()) + 1 or sums[-1] <= 0:
            raise MessageRefused(
                f"the secure sum has {len(sums)} words and weights of {sums[-1] / self.most:g} in all, which is no weighted mean"
            )
        means, at = {}, 0
        for name, limit in sorted(self.limits.items()):
            means[name] = sums[at : at + sizes[name]] / sums[-1] * limit
            at += sizes[name]
        return means, float(sums[-1]) / self.most * self.heaviest
