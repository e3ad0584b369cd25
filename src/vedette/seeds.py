"""The seed tree: run -> round -> node, so that no result depends on the order of nodes or on workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, repeat
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

__all__ = ["seed_of", "stream", "streams"]


def seed_of(*path: int | str) -> int:
    """Return the 64-bit seed at one place of the seed tree.

    Parameters
    ----------
    path
        The way from the root: ``seed_of(7, "round", 3, "node", "pump-2")``.
    """
    return int.from_bytes(hashlib.sha256(_text(path).encode()).digest()[:8], "big")


def stream(*path: int | str) -> np.random.Generator:
    """Return the random stream at one place of the seed tree (see `seed_of`)."""
    return np.random.default_rng(seed_of(*path))


def streams(before: Sequence[int | str], names: Iterable[str], after: Sequence[int | str]) -> list[np.random.Generator]:
    """Return ``stream(*before, name, *after)`` of many names, in a third of the time."""
    begun, end = hashlib.sha256(f"{_text(before)}/str:".encode()), f"/{_text(after)}"
    digests = bytearray()
    for name in names:
        one = begun.copy()
        one.update(f"{name}{end}".encode())
        digests += one.digest()[:8]
    states = _states(np.frombuffer(digests, dtype=">u8"))
    # NumPy's stubs know of no seed sequences but its own.
    return [np.random.Generator(np.random.PCG64(_Known(state))) for state in states]  # type: ignore[arg-type]


def _text(path: Sequence[int | str]) -> str:
    return "/".join(f"{type(part).__name__}:{part}" for part in path)


class _Known(ISeedSequence):
    """Gives what was worked out before."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return self.state


A, MULTIPLY_A, B, MULTIPLY_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
"""Of `numpy.random.SeedSequence`."""


def _states(seeds: Any) -> Any:
    """Return ``SeedSequence(seed).generate_state(4, uint64)`` of many seeds, [seeds, 4]."""

    def hashed(values: Any, constants: Sequence[int], multiplier: int) -> Any:
        """Hash rows of words [rows, seeds], each with a constant of its own."""
        column = np.array(constants, dtype=np.uint32)[:, None]
        values = values ^ column
        values *= column * np.uint32(multiplier)
        values ^= values >> np.uint32(16)
        return values

    chain = accumulate(repeat(MULTIPLY_A, 15), _times, initial=A)
    words = np.zeros((4, len(seeds)), dtype=np.uint32)
    words[0], words[1] = seeds & 0xFFFFFFFF, seeds >> 32
    pool = hashed(words, list(islice(chain, 4)), MULTIPLY_A)
    for source in range(4):
        others = [place for place in range(4) if place != source]
        mixed = MIX_LEFT * pool[others] - MIX_RIGHT * hashed(pool[source], list(islice(chain, 3)), MULTIPLY_A)
        pool[others] = mixed ^ (mixed >> np.uint32(16))
    found = hashed(pool[np.arange(8) % 4], list(accumulate(repeat(MULTIPLY_B, 7), _times, initial=B)), MULTIPLY_B)
    return np.ascontiguousarray(found.T).astype("<u4").view("<u8").astype(np.uint64)


def _times(one: int, other: int) -> int:
    return one * other & 0xFFFFFFFF
