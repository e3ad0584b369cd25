"""The answers an exchange sees, kept no larger than its channels need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.errors import DetectorMisused
from vedette.message import Array, Channel, Message, Vector
from vedette.strategies.base import View
from vedette.training.task import Answered

__all__ = ["Answers", "merged_tables"]

SUMMARIES: Mapping[str, Any] = {"moments": Moments, "covariance": Covariance, "sketch": Sketch}
"""Statistics that merge, by the name of their tables."""


def merged_tables(view: View, prefix: str, among: Collection[str] | None = None, beside: float = 0.0) -> dict[str, Array]:
    """Return, by name, the summaries that nodes sent as tables ``"prefix.moments"``, ``.covariance`` or ``.sketch``, merged.

    Parameters
    ----------
    view
        Who sent what.
    prefix
        Of the tables.
    among
        Some of the nodes; all of them unless it is said.
    beside
        As how many rows all nodes' moments or covariances count beside those of `among`.
    """
    merged = {}
    for kind, summary in SUMMARIES.items():
        name, tables = f"{prefix}.{kind}", view.tables(f"{prefix}.{kind}")
        parts = {node: summary.from_table(tables[node]) for node in sorted(tables)}
        own = [part for node, part in parts.items() if among is None or node in among]
        if own:
            merged[name] = summary.merged(own + ([summary.merged(parts.values()).as_of(beside)] if beside else [])).table()
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
        self._sums: dict[tuple[str, str], _Sum] = {}
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
                weights = self._channels[name].weights
                self._sum(name, vector.values[None], {weight: [float(_share(message, weight))] for weight in weights})
        for fact, value in message.facts.items():
            self._facts.setdefault(fact, {})[node] = value
        for table, values in message.tables.items():
            self._tables.setdefault(table, {})[node] = values
        if node in self._member_of:
            self._groups[self._member_of[node]].add(node, message)

    def add_all(self, answered: Answered) -> None:
        """Take the answers of several nodes in, as `add` does one by one; their parameters are finite."""
        nodes = answered.nodes
        for name, vector in answered.vectors.items():
            self._demand_fitting(nodes[0], name, vector)
        if self._member_of or not self._are_well(answered):
            for node, message in answered.each():
                self.add(node, message)
            return
        self._nodes += nodes
        for name, vector in answered.vectors.items():
            self._layouts[name] = vector.layout
            if self._channels[name].combine == "gather":
                self._gathered.setdefault(name, []).extend(zip(nodes, vector.values.copy(), strict=True))
            else:
                self._sum(name, vector.values, {weight: _shares(answered, weight).tolist() for weight in self._channels[name].weights})
        for fact, values in answered.facts.items():
            self._facts.setdefault(fact, {}).update(zip(nodes, values.tolist(), strict=True))

    def _are_well(self, answered: Answered) -> bool:
        """Tell whether there is no objection to any of many."""
        averaged = [self._channels[name] for name in answered.vectors if self._channels[name].combine == "mean"]
        weights = {weight for channel in averaged for weight in channel.weights}
        if any(weight and weight not in answered.facts for weight in weights):
            return False
        return all(0 < share < HEAVIEST for weight in weights for share in _shares(answered, weight).tolist())

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
            if vector.values.size and not np.isfinite(vector.values).all():
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

    def _sum(self, name: str, matrix: Array, shares: Mapping[str, Sequence[float]]) -> None:
        for weight, each in shares.items():
            self._sums.setdefault((name, weight), _Sum(matrix.shape[1])).add(matrix, each)
            self._weights[name, weight] = sum(each, start=self._weights.get((name, weight), 0.0))

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
        mean = self._sums[channel, weight].total() / self._weights[channel, weight]
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


class _Sum:
    """A weighted sum of vectors in float64, added up one after the other, so that it does not matter how many come at once.

    Those of the same share that follow each other are added up first, and multiplied then: nodes often hold equally many rows.
    """

    def __init__(self, size: int) -> None:
        self._total, self._run, self._spare = np.zeros(size), np.zeros(size), np.empty(size)
        self._share = 0.0

    def add(self, matrix: Array, shares: Sequence[float]) -> None:
        """Add rows of [nodes, parameters], each with its share."""
        if not matrix.shape[1]:
            return
        for values, share in zip(matrix, shares, strict=True):
            if share == self._share:
                np.add(self._run, values, out=self._run)
            else:
                self._settle()
                np.copyto(self._run, values)
                self._share = share

    def total(self) -> Array:
        """Return the sum, [parameters] float64."""
        self._settle()
        return self._total

    def _settle(self) -> None:
        if self._share:
            np.multiply(self._run, self._share, out=self._spare)
            np.add(self._total, self._spare, out=self._total)
            self._share = 0.0


def _share(message: Message, weight: str) -> Any:
    """Return what a node says it weighs; without a name all weigh the same."""
    return message.facts.get(weight) if weight else 1.0


def _shares(answered: Answered, weight: str) -> Array:
    return answered.facts[weight] if weight else np.ones(len(answered.nodes))
