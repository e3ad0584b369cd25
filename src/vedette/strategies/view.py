"""The answers an exchange sees, kept no larger than its channels need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.errors import DetectorMisused
from vedette.message import Array, Channel, Message, Vector
from vedette.strategies.base import View

__all__ = ["Answers", "merged_tables"]

SUMMARIES: Mapping[str, Any] = {"moments": Moments, "covariance": Covariance, "sketch": Sketch}
"""Statistics that merge, by the name of their tables."""


def merged_tables(view: View, prefix: str) -> dict[str, Array]:
    """Return, by name, the summaries that nodes sent as tables ``"prefix.moments"``, ``.covariance`` or ``.sketch``, merged."""
    merged = {}
    for kind, summary in SUMMARIES.items():
        tables = view.tables(f"{prefix}.{kind}")
        if tables:
            merged[f"{prefix}.{kind}"] = summary.merged([summary.from_table(tables[node]) for node in sorted(tables)]).table()
    return merged


HEAVIEST = 1e200
"""A weight beyond this is no count and no variance, and sums of what it weights would not be finite."""

OPEN = frozenset({"numbers"})
"""Tables in which infinite values have a meaning: extremes of columns that nobody has seen, and points that there are not."""


class Answers:
    """Collects the answers of one phase; mean channels are summed as they come, in float64.

    Add them in the order of node ids, so that rounding does not depend on who was faster. An answer that would spoil those of all others
    is refused: it is left out as a whole, so that one compromised node cannot end the run.

    Parameters
    ----------
    channels
        Of the strategy.
    groups
        Node -> group, from the last reply.

    Attributes
    ----------
    refused
        Node -> why its answer was left out.
    """

    def __init__(self, channels: Sequence[Channel], groups: Mapping[str, str] | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._channels = {channel.name: channel for channel in channels}
        self._member_of = dict(groups or {})
        self._groups = {group: Answers(channels) for group in sorted(set(self._member_of.values()))}
        self._nodes: list[str] = []
        self._sums: dict[tuple[str, str], Array] = {}
        self._weights: dict[tuple[str, str], float] = {}
        self._gathered: dict[str, list[tuple[str, Array]]] = {}
        self._layouts: dict[str, str] = {}
        self._facts: dict[str, dict[str, float | str]] = {}
        self._tables: dict[str, dict[str, Array]] = {}

    def add(self, node: str, message: Message) -> None:
        """Take a node's answer in, or refuse it: parameters or tables that are not finite, a weight that is no positive finite number.

        Raises
        ------
        DetectorMisused
            It differs from the others as settings make it: on a channel that the strategy does not have, or in layout.
        """
        for name, vector in message.vectors.items():
            self._demand_fitting(node, name, vector)
        reason = self._objection(message)
        if reason:
            self._refuse(node, f"node '{node}' {reason}")
            return
        self._nodes.append(node)
        for name, vector in message.vectors.items():
            self._layouts[name] = vector.layout
            if self._channels[name].combine == "gather":
                self._gathered.setdefault(name, []).append((node, vector.values))
            else:
                self._sum(name, vector, message)
        for fact, value in message.facts.items():
            self._facts.setdefault(fact, {})[node] = value
        for table, values in message.tables.items():
            self._tables.setdefault(table, {})[node] = values
        if node in self._member_of:
            self._groups[self._member_of[node]].add(node, message)

    def _refuse(self, node: str, reason: str) -> None:
        self.refused[node] = reason
        if node in self._member_of:
            self._groups[self._member_of[node]]._refuse(node, reason)

    def _demand_fitting(self, node: str, name: str, vector: Vector) -> None:
        """Stop where settings, not a node's ill will, keep answers apart."""
        if name not in self._channels:
            raise DetectorMisused(f"node '{node}' sends on channel '{name}', which the strategy does not have")
        if self._layouts.get(name, vector.layout) != vector.layout:
            raise DetectorMisused(
                f"node '{node}' sends parameters of another layout on channel '{name}' than the others; "
                "with scaling.fit = 'local' one-hot categories differ from node to node: use 'federated'"
            )

    def _objection(self, message: Message) -> str | None:
        """Say why an answer would spoil those of all others, or None; nothing of it has been taken in yet."""
        for name, vector in message.vectors.items():
            if not np.isfinite(vector.values).all():
                return f"sends parameters that are not finite on channel '{name}'"
            # Who is gathered is not weighted here, so what it says of itself does not matter.
            for weight in self._channels[name].weights if self._channels[name].combine == "mean" else ():
                share = _share(message, weight)
                if not isinstance(share, float | int) or not 0 < share < HEAVIEST:
                    return f"sends no positive number '{weight}' to weight channel '{name}' by (got {share!r:.40})"
        for name, table in message.tables.items():
            if table.dtype.kind != "f":
                continue
            spoilt = np.isnan(table) if name in OPEN else ~np.isfinite(table)
            if np.any(spoilt):
                return f"sends a table '{name}' with values that are not finite"
        return None

    def _sum(self, name: str, vector: Vector, message: Message) -> None:
        values = vector.values.astype(np.float64)
        for weight in self._channels[name].weights:
            at, share = (name, weight), float(_share(message, weight))
            self._sums[at] = self._sums[at] + share * values if at in self._sums else share * values
            self._weights[at] = self._weights.get(at, 0.0) + share

    @property
    def nodes(self) -> Sequence[str]:
        """Who answered, sorted."""
        return sorted(self._nodes)

    @property
    def groups(self) -> Mapping[str, View]:
        """Views of the groups formed by the last reply."""
        return self._groups

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        """Return the mean of a channel, weighted by one of the channel's weights."""
        if not self._weights.get((channel, weight)):
            self._demand_any()
            raise DetectorMisused(f"no answer carries channel '{channel}', or the channel does not declare the weight '{weight}'")
        mean = self._sums[channel, weight] / self._weights[channel, weight]
        return Vector(mean.astype(np.float32), self._layouts[channel])

    def each(self, channel: str) -> tuple[Sequence[str], Array]:
        """Return nodes and [nodes, parameters] float32 of a channel that is gathered."""
        if self._channels[channel].combine != "gather":
            raise DetectorMisused(f"channel '{channel}' is averaged, not gathered: the exchange cannot see each node's parameters")
        pairs = sorted(self._gathered.get(channel, []), key=lambda pair: pair[0])
        if not pairs:
            self._demand_any()
            raise DetectorMisused(f"no answer carries channel '{channel}'")
        return [node for node, _ in pairs], np.stack([values for _, values in pairs])

    def _demand_any(self) -> None:
        if self.refused and not self._nodes:
            raise DetectorMisused(f"every answer was refused; the first: {next(iter(self.refused.values()))}")

    def layout(self, channel: str) -> str:
        """Return the layout of a channel's vectors."""
        return self._layouts[channel]

    def facts(self, name: str) -> Mapping[str, float | str]:
        """Return one fact of every node that told it."""
        return self._facts.get(name, {})

    def told(self, prefix: str) -> Sequence[str]:
        """Return the names of the facts that begin like this, sorted."""
        return sorted(name for name in self._facts if name.startswith(prefix))

    def tables(self, name: str) -> Mapping[str, Array]:
        """Return one table of every node that sent it."""
        return self._tables.get(name, {})


def _share(message: Message, weight: str) -> Any:
    """Return what a node says it weighs; without a name all weigh the same."""
    return message.facts.get(weight) if weight else 1.0
