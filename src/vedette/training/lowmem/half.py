"""16-bit numbers to 32 bits and back, by whole-number arithmetic: NumPy's own casts take up to 60 times as long where numbers are tiny."""

from __future__ import annotations

import sys

import numpy as np

from vedette.message import Array

__all__ = ["draw", "narrow", "widen"]

UP, DOWN = np.float32(2.0**112), np.float32(2.0**-112)
"""Between the exponents of the two formats; tiny numbers need no care of their own, because float32 has such too."""

CUT = 13
"""Bits of a float32's fraction that 16 bits have no room for."""

KEPT, SIGN, SIZE = np.int32(-0x70002000), np.int16(-0x8000), np.int32(0x7FFFFFFF)
"""What is kept of a widened number: sign, 5 bits of exponent, 10 of fraction; the sign of a 16-bit number; and the size of a float32."""

HALF, INFINITE = np.int32(1 << (CUT - 1)), np.int32(0x7C00)

UPPER = int(sys.byteorder == "little")
"""Which half of a float32's memory holds its sign."""


def widen(half: Array, into: Array) -> None:
    """Write 16-bit numbers into float32; what is not finite becomes 65536 or more."""
    bits = into.view(np.int32)
    np.copyto(bits, half.view(np.int16))
    np.left_shift(bits, CUT, out=bits)
    np.bitwise_and(bits, KEPT, out=bits)
    np.multiply(into, UP, out=into)


def narrow(values: Array, into: Array, chance: Array | None = None) -> bool:
    """Round float32 to 16 bits.

    Parameters
    ----------
    values
        What is rounded, float32, each row contiguous; spoilt.
    into
        Of the same shape, 16 bits.
    chance
        From `draw`: whether a number goes up or down is left to chance, in proportion to what is cut off (stochastic rounding); None: to
        the nearest, from the middle away from 0.

    Returns
    -------
    bool
        Whether all fitted; those that did not became infinite.
    """
    np.multiply(values, DOWN, out=values)
    bits, ends, found = values.view(np.int32), values.view(np.int16), into.view(np.int16)
    np.bitwise_and(ends[..., UPPER::2], SIGN, out=found)
    np.bitwise_and(bits, SIZE, out=bits)
    np.add(bits, HALF if chance is None else chance, out=bits)
    np.right_shift(bits, CUT, out=bits)
    fits = bool(bits.max() < INFINITE)
    if not fits:
        np.minimum(bits, INFINITE, out=bits)
    np.bitwise_or(found, ends[..., 1 - UPPER :: 2], out=found)
    return fits


def draw(rng: np.random.Generator, into: Array) -> Array:
    """Fill float32, each row contiguous, with random numbers for `narrow`; return them, int32, in the same memory."""
    for row in np.atleast_2d(into):
        rng.random(dtype=np.float32, out=row)
    # Numbers from 1 to 2 have one exponent, and equally likely fractions; their upper bits are taken.
    np.add(into, 1, out=into)
    bits = into.view(np.int32)
    np.right_shift(bits, 23 - CUT, out=bits)
    np.bitwise_and(bits, np.int32((1 << CUT) - 1), out=bits)
    return bits
