"""Clusters: nodes that are alike learn together, each cluster a model of its own."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from vedette.errors import RecipeError
from vedette.message import Channel, Memory, Message, Vector
from vedette.settings import Settings, describe, named
from vedette.strategies.base import LINKS, STRATEGIES, Reply, Strategy, Turn, View
from vedette.strategies.chain.chained import plain, received, too_few, unheard
from vedette.strategies.chain.mask import Mask
from vedette.strategies.chain.noise import Noise
from vedette.strategies.chain.standing import begun, last_sent
from vedette.strategies.clustered_grouping import CHOSEN, CLUSTER, STARTED, AnyGrouping, ByRows
from vedette.strategies.fedavg import FedAvg
from vedette.training.accounting import Release
from vedette.training.task import Done, Work

__all__ = ["Clustered"]

log = logging.getLogger(__name__)

SUMMARISE = "summarise"
"""The phase in which nodes are grouped; in rounds without a grouping nothing is asked there, and nothing sent."""

EVERYBODY = "all"
"""The only cluster until nodes are grouped."""

MODEL = "model."
"""In the exchange's memory: each cluster's model, ``"model.CLUSTER/CHANNEL"``, where nodes are sent all of them."""


class Clustered(Strategy):
    """Group nodes that are alike, and let each group learn by another strategy as if it were alone.

    The coordinator sees what each node tells when it is grouped, and else what the strategy within sees, cluster by cluster. Nodes that
    are not heard in a grouping stay with those they were with; whoever is new waits with the largest cluster for the next one.

    With a chain each cluster has one of its own: its sum behind masks, its noise, its length to clip to; changes count from the model that
    the nodes of the cluster were sent. Nodes that come together from several clusters are sent the mean of what they had, so that all set
    out from the same. A cluster of fewer nodes than a secure sum takes is none: its nodes learn with the largest.

    What the exchange remembers of the grouping in round k (from 0) stands in `Outcome.exchanged`: ``groups.k``, the nodes of each cluster,
    as JSON, and ``silhouette.k``, where clusters were looked for.

    Parameters
    ----------
    strategy
        What each cluster does. Its rounds are those of this one.
    by
        What nodes are alike in: ``"rows"``, ``"weights"``, ``"loss"`` (IFCA) or ``"given"``, or settings of one of these
        (`vedette.strategies.clustered_grouping`).
    after
        Rounds in which all nodes learn together before they are grouped.
    every
        Rounds from one grouping to the next.
    networks
        What each cluster trains: a network of its own (``"apart"``), or all nodes the same (``"common"``), as without clusters; these then
        differ in `prior_rows` alone.
    prior_rows
        Weigh residuals in the score by what is usual in a node's cluster, where all nodes' count as so many rows (windows) beside those of
        the cluster: few, and a small cluster finds alarming what it never saw; many, and clusters are all alike. None: by what is usual
        among all. There is one threshold for all in any case.
    """

    strategy: Annotated[Strategy, *named(STRATEGIES)] = Field(default_factory=FedAvg, validate_default=True)
    by: AnyGrouping = Field(default_factory=ByRows)
    after: int = Field(default=1, ge=0)
    every: int = Field(default=5, ge=1)
    networks: Literal["apart", "common"] = "apart"
    prior_rows: float | None = Field(default=None, ge=0)

    labelled = property(lambda self: self.strategy.labelled)
    shares_rows = property(lambda self: self.strategy.shares_rows)

    @property
    def untrained(self) -> tuple[str, ...]:
        return self.strategy.untrained

    @property
    def residual_prior(self) -> float | None:
        return self.prior_rows

    @field_validator("strategy")
    @classmethod
    def _fits_within(cls, inner: Strategy, info: ValidationInfo) -> Strategy:
        name = describe(STRATEGIES, inner)["name"]
        if isinstance(inner, Clustered) or inner.relayed or inner.shards or inner.arrivals is not None:
            raise ValueError(f"'{name}' cannot be what a cluster does: take 'fedavg', 'fedprox' or another with rounds and a coordinator")
        if inner.chain or inner.privacy is not None or inner.sample < 1:
            raise ValueError(f"'{name}' within a cluster can have no sample of nodes; say its chain and its privacy budget of 'clustered'")
        return inner.model_copy(update={"rounds": info.data.get("rounds", inner.rounds)})

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        hides = next((describe(LINKS, link)["name"] for link in self.chain if isinstance(link, Mask | Noise)), None)
        if hides and self.by.compares:
            raise ValueError(
                f"by = 'weights' lays open how training moved each node's network, which '{hides}' is there to hide: take 'rows' or 'given'"
            )
        if hides and self.by.tries:
            raise ValueError(
                f"by = 'loss' lays open which model fits each node's rows, and no noise covers that; with '{hides}' take 'rows' or 'given'"
            )
        if self.chain and self.by.tries:
            raise ValueError("by = 'loss' sends nodes several models, and a chain counts from one: take 'rows', 'weights' or 'given'")
        if self.sample < 1:
            raise ValueError("nodes are grouped by what all of them tell: take sample = 1")
        if self.by.tries and not self.strategy.common:
            name = describe(STRATEGIES, self.strategy)["name"]
            raise ValueError(f"by = 'loss' compares models, and with '{name}' a cluster shares none")
        if self.prior_rows is not None and not self.strategy.common:
            name = describe(STRATEGIES, self.strategy)["name"]
            raise ValueError(f"prior_rows needs a strategy with one model for a cluster, such as 'fedavg'; with '{name}' leave it out")
        if self.networks == "common" and (self.prior_rows is None or self.by.tries):
            raise ValueError("where networks are common clusters differ in prior_rows alone: say it, and take another 'by' than 'loss'")
        if self.by.compares and not (self.after and self.strategy.channels):
            raise ValueError("by = 'weights' looks at the round before: take after = 1 or more, and a strategy that exchanges weights")
        return self

    @property
    def epochs(self) -> float:
        """Local passes over a node's rows in each round, where the strategy within counts them."""
        return float(getattr(self.strategy, "epochs", 1.0))

    @property
    def batch(self) -> int | None:
        """Rows of a local step, where the strategy within says it."""
        batch: int | None = getattr(self.strategy, "batch", None)
        return batch

    @property
    def aggregator(self) -> Settings | None:
        """How updates become one within a cluster, where the strategy within says it; a node's owner may have something against it."""
        aggregator: Settings | None = getattr(self.strategy, "aggregator", None)
        return aggregator

    @property
    def core(self) -> Strategy:
        return self.strategy.core

    def with_core(self, core: Strategy) -> Strategy:
        return self.model_copy(update={"strategy": self.strategy.with_core(core)})

    @property
    def beside(self) -> Sequence[Release]:
        return self.by.releases(self._groupings)

    @property
    def known_noise(self) -> bool:
        return super().known_noise or not getattr(self.by, "secret", True)

    def noised(self, multiplier: float, secret: bool) -> Self:
        return self.model_copy(update={"by": self.by.noised(multiplier * math.sqrt(max(self._groupings, 1)), secret)})

    @property
    def phases(self) -> tuple[str, ...]:
        return (SUMMARISE, *self.strategy.phases)

    @property
    def closing(self) -> tuple[str, ...]:
        return self.strategy.closing

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.strategy.channels

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        models = _models(turn, inbox) if self.by.tries else {}
        if turn.phase == SUMMARISE:
            return self.by.work(models) if self._regroups(turn.round) else Work()
        cluster = inbox.facts.get(CLUSTER)
        inbox = inbox._replace(facts={name: fact for name, fact in inbox.facts.items() if name != CLUSTER})
        if models:
            chosen = str(mine.get(CHOSEN)) if str(mine.get(CHOSEN)) in models else min(models)
            cluster, inbox = float(chosen), Message(models[chosen])
        work = self.strategy.work(turn, inbox, mine)
        if self.prior_rows is not None and turn.phase in self.closing and cluster is not None:
            work = work._replace(keep={**work.keep, CLUSTER: cluster})
        first = self.channels[0].name if self.by.compares else ""
        if first not in inbox.vectors:
            return work
        return work._replace(keep={**work.keep, STARTED: received(self.strategy, turn, inbox)[first].values})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase == SUMMARISE:
            return self.by.answer(turn, done, mine) if self._regroups(turn.round) else (Message(), mine)
        message, mine = self.strategy.answer(turn, done, mine)
        return message, {name: value for name, value in mine.items() if name != STARTED or turn.phase not in self.closing}

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        if turn.node:
            raise RecipeError("clusters are formed by a coordinator that hears all nodes: take topology = 'server'")
        if turn.phase == SUMMARISE:
            return self._grouped(turn, view, ours) if self._regroups(turn.round) else Reply()
        grouped, parts = _groups_of(ours), view.groups or {EVERYBODY: view}
        groups = grouped if grouped and self.networks == "apart" else {EVERYBODY: list(turn.receivers)}
        memory, replies = dict(ours), dict[str, Mapping[str, Message]]()
        for place, (cluster, members) in enumerate(groups.items()):
            if cluster not in parts:
                continue
            own = turn._replace(receivers=tuple(members), candidates=len(members) if cluster != EVERYBODY else turn.candidates)
            if place:
                # Noise that is the same in two clusters would be found out.
                own = own._replace(rng=partial(_apart, turn, place))
            go_on = self.strategy.exchange if parts[cluster].nodes else partial(unheard, self.strategy)
            reply = go_on(own, parts[cluster], _within(ours, cluster))
            if reply is None:
                continue
            if reply.memory is not None:
                memory = {name: value for name, value in memory.items() if name.partition("/")[0] != cluster}
                memory |= {f"{cluster}/{name}": value for name, value in reply.memory.items()}
            if reply.messages is not None:
                replies[cluster] = reply.messages
        if not replies:
            return Reply(None, memory)
        if self.by.tries and EVERYBODY not in groups:
            # All are sent all models; one that nobody chose stays as it was, to be tried again.
            for cluster, sent in replies.items():
                memory |= {f"{MODEL}{cluster}/{name}": vector.values for name, vector in sent["*"].vectors.items()}
            models = {name.removeprefix(MODEL): np.asarray(value) for name, value in memory.items() if name.startswith(MODEL)}
            return Reply({"*": Message(tables=models)}, memory)
        messages = {node: sent.get(node, sent.get("*", Message())) for cluster, sent in replies.items() for node in groups[cluster]}
        if self.prior_rows is not None:
            numbers = {node: float(number) for number, members in enumerate(grouped.values()) for node in members if node in messages}
            messages |= {node: _with_fact(messages[node], CLUSTER, number) for node, number in numbers.items()}
        largest = max(replies, key=lambda cluster: len(groups[cluster]))
        return Reply({"*": replies[largest].get("*", Message()), **messages}, memory)

    def _regroups(self, round: int) -> bool:
        """Tell whether nodes are grouped in a round; those that waited while the first models were made choose in the next."""
        since = round - self.after
        return since >= 0 and (since % self.every == 0 or (self.by.tries and since == 1))

    @property
    def _groupings(self) -> int:
        """How many rounds begin with a grouping."""
        return sum(map(self._regroups, range(self.rounds)))

    def _grouped(self, turn: Turn, view: View, ours: Memory) -> Reply:
        """Group the nodes; a cluster that stays as it was goes on with what the exchange remembers of it."""
        grouped = _groups_of(ours)
        nodes = sorted({*turn.receivers, *(node for members in grouped.values() for node in members)})
        before = grouped or {EVERYBODY: nodes}
        found = self.by.found(turn, view, nodes, not grouped)
        cluster_of = dict(found.cluster_of)
        if not found.others_wait:
            cluster_of |= {node: _beside(node, found.cluster_of, before) for node in nodes if node not in cluster_of}
        if self.networks == "common":
            groups = _members(cluster_of)
            return Reply(None, {**ours, **_remembered(turn.round, groups, found.silhouette)})
        groups = self._large_enough(cluster_of)
        cluster_of = {node: cluster for cluster, members in groups.items() for node in members}
        memory: dict[str, Any] = {name: value for name, value in ours.items() if name.partition("/")[0] not in before}
        for old, members in before.items():
            new = old if self.by.tries and grouped else next((cluster for cluster in groups if groups[cluster] == members), None)
            memory |= {} if new is None else {f"{new}/{name}": value for name, value in _within(ours, old).items()}
        messages = self._together(groups, before, ours, memory) if plain(self.strategy) is not self.strategy else None
        memory |= _remembered(turn.round, groups, found.silhouette)
        return Reply(messages, memory, cluster_of)

    def _large_enough(self, cluster_of: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the nodes of each cluster; with a mask those of clusters that are too small for a secure sum learn with the largest."""
        groups = _members(cluster_of)
        largest = max(groups, key=lambda cluster: len(groups[cluster]), default="")
        for cluster in [cluster for cluster in groups if cluster != largest]:
            if (reason := too_few(self.strategy, len(groups[cluster]))) is not None:
                log.warning("cluster too small", extra={"nodes": groups[cluster], "reason": reason})
                groups[largest] = sorted(groups[largest] + groups.pop(cluster))
        return groups

    def _together(
        self, groups: Mapping[str, Sequence[str]], before: Mapping[str, Sequence[str]], ours: Memory, memory: dict[str, Any]
    ) -> dict[str, Message] | None:
        """Have the nodes of each cluster set out from the same, in the exchange's memory too; return what they are sent, if it is new."""
        largest = max(before, key=lambda cluster: len(before[cluster]))
        was_in = {node: cluster for cluster, members in before.items() for node in members}
        starts, mixed = dict[str, Message](), False
        for cluster, members in groups.items():
            # Whoever is new was sent what the largest was.
            came = Counter(was_in.get(node, largest) for node in members)
            if not any(before[old] == members for old in came):
                memory |= {f"{cluster}/{name}": value for name, value in begun([(_within(ours, o), n) for o, n in came.items()]).items()}
            starts[cluster] = last_sent(_within(memory, cluster))
            mixed |= len(came) > 1
        most = max(groups, key=lambda cluster: len(groups[cluster]))
        return {"*": starts[most], **{node: starts[cluster] for cluster in groups for node in groups[cluster]}} if mixed else None


def _groups_of(ours: Memory) -> Mapping[str, list[str]]:
    """Return the nodes of each cluster, as an exchange remembers them."""
    groups: Mapping[str, list[str]] = json.loads(str(ours.get("groups", "{}")))
    return groups


def _members(cluster_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the nodes of each cluster."""
    groups: dict[str, list[str]] = {}
    for node in sorted(cluster_of):
        groups.setdefault(cluster_of[node], []).append(node)
    return groups


def _remembered(round: int, groups: Mapping[str, Sequence[str]], silhouette: float | None) -> dict[str, float | str]:
    """Return what an exchange remembers of a grouping."""
    told = json.dumps(groups, sort_keys=True)
    return {"groups": told, f"groups.{round}": told} | ({} if silhouette is None else {f"silhouette.{round}": silhouette})


def _with_fact(message: Message, name: str, fact: float) -> Message:
    """Return a message that tells one thing more."""
    return message._replace(facts={**message.facts, name: fact})


def _within(ours: Memory, cluster: str) -> Memory:
    """Return what the exchange of a cluster remembers."""
    return {name.removeprefix(f"{cluster}/"): value for name, value in ours.items() if name.startswith(f"{cluster}/")}


def _apart(turn: Turn, place: int) -> np.random.Generator:
    """Return a stream of a turn's own for a cluster."""
    return turn.rng().spawn(place)[-1]


def _models(turn: Turn, inbox: Message) -> dict[str, dict[str, Vector]]:
    """Return the models that a node was sent to choose from: cluster -> channel -> vector; none while there is one for all."""
    models: dict[str, dict[str, Vector]] = {}
    for name, values in inbox.tables.items():
        cluster, _, channel = name.partition("/")
        models.setdefault(cluster, {})[channel] = Vector(values, turn.first()[channel].vector.layout)
    return models


def _beside(node: str, cluster_of: Mapping[str, str], before: Mapping[str, Sequence[str]]) -> str:
    """Return the cluster of a node that told nothing: that of most of those it was with, else the largest."""
    with_it = next((members for members in before.values() if node in members), ())
    votes = Counter(cluster_of[other] for other in with_it if other in cluster_of) or Counter(cluster_of.values())
    return min(votes, key=lambda cluster: (-votes[cluster], cluster), default="0")
