"""The seed tree: run -> round -> node, so that no result depends on the order of nodes or on workers."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["seed_of", "stream"]


def seed_of(*path: int | str) -> int:
    """Return the 64-bit seed at one place of the seed tree.

    Parameters
    ----------
    path
        The way from the root: ``seed_of(7, "round", 3, "node", "pump-2")``.
    """
    text = "/".join(f"{type(part).__name__}:{part}" for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stream(*path: int | str) -> np.random.Generator:
    """Return the random stream at one place of the seed tree (see `seed_of`)."""
    return np.random.default_rng(seed_of(*path))
