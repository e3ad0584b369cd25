"""Learning rates over a training, and what Adam's moments are made with."""

from __future__ import annotations

import math

__all__ = ["BETA", "BETA2", "EPSILON", "rate_at"]

BETA, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam, as torch has them."""


def rate_at(rate: float, falls: bool, done: float) -> float:
    """Return a learning rate when a share (0 to 1) of the training is done: as it is, or falling to 0 along a cosine."""
    return rate * 0.5 * (1 + math.cos(math.pi * done)) if falls else rate
