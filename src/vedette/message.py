"""What parties hold and what travels between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

__all__ = ["Array", "Channel", "Memory", "Message", "Query", "Vector", "bytes_of", "packed", "unpacked"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Memory: TypeAlias = Mapping[str, "Array | float | str"]
"""One party's state: arrays, numbers and text by name; the checkpoint format of every runtime."""


class Vector(NamedTuple):
    """Parameters of (a part of) a network.

    Attributes
    ----------
    values
        [parameters] float32.
    layout
        Hash of the names, shapes and kinds that `values` holds, in order.
    """

    values: Array
    layout: str


class Query(NamedTuple):
    """A question to a node's rows, by registered name."""

    name: str
    settings: Mapping[str, Any] = {}


class Message(NamedTuple):
    """All that ever travels.

    Attributes
    ----------
    vectors
        Parameters by channel.
    tables
        Arrays by name: rows [n, features + 1] with the label last, or statistics.
    facts
        Numbers and text by name: rows, loss, variance …
    """

    vectors: Mapping[str, Vector] = {}
    tables: Mapping[str, Array] = {}
    facts: Mapping[str, float | str] = {}


class Channel(NamedTuple):
    """A part of a network that is exchanged.

    Attributes
    ----------
    name
        The key in `Message.vectors`.
    role
        The network of the detector it belongs to; "" is the one that scores.
    part
        Glob over layer names: ``"conv*"``. Layouts must agree on the part, never on the whole model.
    combine
        ``"mean"`` streams and can be masked; ``"gather"`` lets the exchange see each node.
    weights
        Facts that may weight the mean; "" for equal weights.
    holds
        Trained ``"weights"``, batch-norm statistics (``"buffers"``), or both (``"all"``).
    """

    name: str
    role: str = ""
    part: str = "*"
    combine: Literal["mean", "gather"] = "mean"
    weights: tuple[str, ...] = ("rows",)
    holds: Literal["weights", "buffers", "all"] = "weights"


def bytes_of(message: Message) -> int:
    """Count the payload bytes of a message: arrays as they are, facts as text."""
    count = 0
    for vector in message.vectors.values():
        count += vector.values.nbytes + len(vector.layout)
    for table in message.tables.values():
        count += table.nbytes
    for key, value in message.facts.items():
        count += len(key.encode()) + (len(value.encode()) if isinstance(value, str) else 8)
    return count


def packed(message: Message, prefix: str = "") -> dict[str, Array | float | str]:
    """Return a message as part of a memory, its names behind a prefix."""
    found: dict[str, Array | float | str] = {}
    for name, vector in message.vectors.items():
        found |= {f"{prefix}vector/{name}": vector.values, f"{prefix}layout/{name}": vector.layout}
    found |= {f"{prefix}table/{name}": table for name, table in message.tables.items()}
    return found | {f"{prefix}fact/{name}": fact for name, fact in message.facts.items()}


def unpacked(memory: Memory, prefix: str = "") -> Message:
    """Inverse of `packed`; what does not begin with the prefix is left alone."""
    kinds: dict[str, dict[str, Any]] = {"vector": {}, "layout": {}, "table": {}, "fact": {}}
    for key, value in memory.items():
        if key.startswith(prefix):
            kind, _, name = key.removeprefix(prefix).partition("/")
            kinds[kind][name] = value
    vectors = {name: Vector(np.asarray(values), kinds["layout"][name]) for name, values in kinds["vector"].items()}
    return Message(vectors, kinds["table"], kinds["fact"])
