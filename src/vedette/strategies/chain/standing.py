"""Where all nodes of a chain stand: at what an exchange sent them last, by which what they change is told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vedette.message import Memory, Message, Vector, packed, unpacked

__all__ = ["LAST", "begun", "last_sent"]

LAST = "chain.last."
"""A message in an exchange's memory."""


def last_sent(ours: Memory) -> Message:
    """Return what an exchange sent all nodes last."""
    return unpacked(ours, LAST)


def begun(parts: Sequence[tuple[Memory, int]]) -> Memory:
    """Return what the exchange of a new group remembers, whose nodes were sent different things: all shall set out from the same.

    That is the mean of what they were sent, each node counting once; all else is as most of them had it. See `last_sent`.

    Parameters
    ----------
    parts
        What the exchanges of the groups that they come from remember, and how many nodes come from each.
    """
    most = max(parts, key=lambda part: part[1])[0]
    kept = {name: value for name, value in most.items() if name.startswith("chain.")}
    last = [(last_sent(memory).vectors, count) for memory, count in parts]
    layouts = {name: vector.layout for vectors, _ in last for name, vector in vectors.items()}
    everybody = sum(count for _, count in last)
    means = {}
    for name, layout in layouts.items():
        # Who was sent nothing yet stands at the first weights.
        total = sum(count / everybody * vectors[name].values.astype(np.float64) for vectors, count in last if name in vectors)
        means[name] = Vector(np.asarray(total, dtype=np.float32), layout)
    return {**kept, **packed(last_sent(most)._replace(vectors=means), LAST)}
