"""Clipping: no node moves the average by more than a stated length."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from vedette.message import Memory, Message
from vedette.strategies.base import Turn, View
from vedette.strategies.chain.link import Around, Link

__all__ = ["BELOW", "Clip"]

BOUND, BELOW = "chain.clip", "chain.below"
"""The length that holds; whether what a node has changed was shorter."""


class Clip(Link):
    """Shorten what a node has changed to a length at most, all its channels together (McMahan et al. 2018, algorithm 1).

    Parameters
    ----------
    norm
        The length (L2); if it adapts, the first one.
    quantile
        Share of the nodes whose changes shall not be clipped: the length follows it from round to round (Andrew et al. 2021, algorithm 1),
        for which every node tells whether its own were shorter. None: the length stays.
    rate
        How fast it follows.
    """

    norm: float = Field(default=1.0, gt=0)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    rate: float = Field(default=0.2, gt=0)

    def bound(self, memory: Memory) -> float:
        """Return the length that holds in this round, by the memory of a node or of the exchange."""
        return float(memory.get(BOUND, self.norm))

    def shortened(self, message: Message, memory: Memory) -> tuple[Message, bool]:
        """Return a message whose changes are no longer than they may be, and whether they were not before."""
        bound = self.bound(memory)
        length = math.sqrt(sum(float(np.sum(vector.values.astype(np.float64) ** 2)) for vector in message.vectors.values()))
        if length <= bound:
            return message, True
        # Rounding to float32 must not make it longer than was promised.
        share = bound / length * (1 - 1e-6)
        vectors = {n: v._replace(values=(v.values * share).astype(np.float32)) for n, v in message.vectors.items()}
        return message._replace(vectors=vectors), False

    def outgoing(self, turn: Turn, message: Message, mine: Memory, around: Around) -> tuple[Message, Memory]:
        message, below = self.shortened(message, mine)
        if self.quantile is not None:
            message = message._replace(facts={**message.facts, BELOW: float(below)})
        return message, mine

    def told(self, turn: Turn, view: View, ours: Memory, around: Around) -> dict[str, float]:
        if self.quantile is None:
            return {}
        below = [float(said) >= 0.5 for said in view.facts(BELOW).values()]
        counted = sum(below) + sum(link.on_count(turn) for link in around.links)
        share = min(max(counted / max(len(below), 1), 0.0), 1.0)
        return {BOUND: self.bound(ours) * math.exp(-self.rate * (share - self.quantile))}
