"""Gossip: no server; now and then a node merges its network with those of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import numpy as np
from pydantic import Field

from vedette.message import Channel, Memory, Message, Query, Vector
from vedette.strategies.aggregation import AnyAggregator, Mean, tallied
from vedette.strategies.base import Reply, Strategy, Turn, View
from vedette.training.task import Done, Task, Work

__all__ = ["GossipFedAvg"]

MERGED = ("model", "norms")
LOSS = "loss@"
LEAST_LOSS = 1e-6
"""A smaller loss counts as this one."""


class GossipFedAvg(Strategy):
    """Federated averaging among peers (Wang et al. 2021, algorithm 2, without its synthetic points).

    Every node trains on its own rows; then those that call for it merge their network with their neighbours' (eqs. 5 and 6), all from
    what networks were before any merged, so that the order does not matter. The others go on with their own. In the last round all merge.

    Parameters
    ----------
    epochs
        Local passes over a node's rows in each round (local-E).
    batch
        Rows a local step; the detector's own number if absent.
    merging
        How likely a node calls for a merge after a round.
    variance
        How much of a node's weight in a merge goes by the variance of its rows, the rest by their number (lambda of eq. 6).
    aggregator
        Name of an aggregator, or its settings. Those that see each network (all but ``"mean"``) count all nodes the same, because a node
        may lie about its rows.
    reputation
        Whether each node tries its neighbours' networks on its own rows before it merges, instead of asking what rows they have: those
        that do worse there than the median are left out, the others are weighted by the inverse of their loss. Instead of an aggregator.
    """

    rounds: int = Field(default=15, ge=0)
    epochs: float = Field(default=5.0, gt=0)
    batch: int | None = Field(default=None, ge=1)
    merging: float = Field(default=0.5, ge=0, le=1)
    variance: float = Field(default=0.8, ge=0, le=1)
    aggregator: AnyAggregator = Field(default_factory=Mean)
    reputation: bool = False

    @property
    def phases(self) -> tuple[str, ...]:
        return ("train", "judge") if self.reputation else ("train",)

    @property
    def closing(self) -> tuple[str, ...]:
        return ("adopt",)

    @property
    def channels(self) -> tuple[Channel, ...]:
        gathers, weights = self.reputation or self.aggregator.gathers, tuple(self.by)
        combine = Channel("model", combine="gather" if gathers else "mean", weights=weights)
        return (combine, combine._replace(name="norms", holds="buffers"))

    @property
    def by(self) -> dict[str, float]:
        """What weights a node in a merge, and how much each counts."""
        return {name: share for name, share in (("variance", self.variance), ("rows", 1 - self.variance)) if share}

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        if turn.phase == "judge":
            return Work(queries={"judged": Query("loss-of")}, models=_shown(inbox)) if inbox.vectors else Work()
        start = self._start(inbox, mine)
        if turn.phase == "adopt":
            return Work(tasks=(Task(start=start, epochs=0.0),))
        queries = {"data": Query("variance")} if self.variance else {}
        return Work(tasks=(Task(start=start, epochs=self.epochs, batch=self.batch, span=self.span(turn)),), queries=queries)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        said = done.answers.facts
        if turn.phase == "judge":
            losses = {f"{LOSS}{name.removeprefix('judged.')}": fact for name, fact in said.items() if name.startswith("judged.")}
            others = {name: value for name, value in mine.items() if not name.startswith(LOSS)}
            return Message(facts=losses), {**others, **losses}
        if turn.phase == "adopt":
            # What it thought of others is of no use after the last merge, and nobody's business.
            return Message(), {name: value for name, value in mine.items() if not name.startswith(LOSS)}
        # The node itself decides, so that it is all the same who carries the exchange out.
        merges = turn.round + 1 >= self.rounds or turn.rng().random() < self.merging
        facts = {"rows": said["rows"], "merges": float(merges)} | ({"variance": said["data.variance"]} if self.variance else {})
        return Message(vectors=done.vectors, facts=facts), mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if turn.phase == "judge":
            # Nodes merge by themselves what they tried; what they thought of each other is kept: a coordinator keeps what all thought, a
            # peer what it thought itself, for it merges by no other judgement.
            return Reply(memory=tallied(ours, _counted(view, turn.node)))
        wants = view.facts("merges")
        merging = [node for node in turn.receivers if wants.get(node)]
        if not merging:
            return Reply({})
        if self.reputation:
            return Reply(dict.fromkeys(merging, self._all_of(view)))
        combined = self.aggregator.combined(view, MERGED, self.by)
        return Reply({node: Message(vectors=combined.vectors) for node in merging}, tallied(ours, combined.counted))

    def _all_of(self, view: View) -> Message:
        """Return the networks of all."""
        vectors = {}
        for channel in MERGED:
            for node, values in zip(*view.each(channel), strict=True):
                vectors[f"{channel}@{node}"] = Vector(values, view.layout(channel))
        return Message(vectors)

    def _start(self, inbox: Message, mine: Memory) -> Mapping[str, Vector]:
        """Return what training goes on from: what was merged, or the merge of what was tried."""
        if not self.reputation or not inbox.vectors:
            return inbox.vectors
        models = _shown(inbox)
        parts = _parts({node: float(mine[f"{LOSS}{node}"]) for node in models})
        merged = {}
        for channel in MERGED:
            values = sum(parts[node] * models[node][channel].values.astype(np.float64) for node in sorted(models))
            merged[channel] = Vector(np.asarray(values, dtype=np.float32), next(iter(models.values()))[channel].layout)
        return merged


def _shown(inbox: Message) -> dict[str, dict[str, Vector]]:
    """Return the networks that a node received, by whose they are."""
    models: dict[str, dict[str, Vector]] = {}
    for name, vector in inbox.vectors.items():
        channel, _, node = name.partition("@")
        models.setdefault(node, {})[channel] = vector
    return models


def _parts(losses: Mapping[str, float]) -> dict[str, float]:
    """Return each node's part in a merge: by the inverse of its loss, nothing where that is above the median."""
    middle = median(losses.values())
    raw = {node: 1 / max(loss, LEAST_LOSS) if loss <= middle else 0.0 for node, loss in losses.items()}
    return {node: value / sum(raw.values()) for node, value in raw.items()}


def _counted(view: View, peer: str = "") -> dict[str, float]:
    """Return how well each node did with those that tried it, or with one peer: the median loss over its own, 1 at most."""
    counted: dict[str, list[float]] = {}
    judges = {name.removeprefix(LOSS): view.facts(name) for name in view.told(LOSS)}
    for judge in sorted({judge for found in judges.values() for judge in found if peer in ("", judge)}):
        losses = {node: float(found[judge]) for node, found in judges.items() if judge in found}
        middle = median(losses.values())
        for node, loss in losses.items():
            counted.setdefault(node, []).append(min(1.0, max(middle, LEAST_LOSS) / max(loss, LEAST_LOSS)))
    return {node: float(np.mean(parts)) for node, parts in sorted(counted.items())}
