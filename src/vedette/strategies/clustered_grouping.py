"""Groupings: which nodes are alike, by what they tell of themselves."""

from __future__ import annotations

import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from vedette.data.summaries import Moments
from vedette.errors import MissingExtra, RecipeError
from vedette.message import Array, Memory, Message, Query, Vector
from vedette.seeds import seed_of, stream
from vedette.settings import Settings
from vedette.strategies.base import Turn, View
from vedette.training.accounting import Release
from vedette.training.task import Done, Task, Work

__all__ = ["CHOSEN", "CLUSTER", "STARTED", "AnyGrouping", "ByLoss", "ByRows", "ByWeights", "Found", "Given", "Grouping", "clusters_of"]

STARTED, CHOSEN = "clustered.started", "clustered.chosen"
"""In a node's memory: where its network set out from, and the cluster it chose."""

CLUSTER = "clustered.cluster"
"""What a node is told, keeps and tells again where residuals are weighed cluster by cluster: its cluster's number."""

SUMMARY = "summary"
"""What a node tells of itself: a table, one vector."""

REACH = 3.0
"""Scaled values beyond this count as this in a summary, so that its length is bounded."""

LEAST = 0.25
"""With a mean silhouette below this there is no structure to speak of (Kaufman and Rousseeuw 1990, chapter 2, table 4)."""


class Found(NamedTuple):
    """What came of a grouping.

    Attributes
    ----------
    cluster_of
        Node -> cluster, of those of whom it can be told.
    silhouette
        Mean over the nodes (Rousseeuw 1987), -1 to 1; None where clusters were not looked for, or there is one.
    others_wait
        Whether all other nodes belong to no cluster before the next grouping.
    """

    cluster_of: Mapping[str, str]
    silhouette: float | None = None
    others_wait: bool = False


class Grouping(Settings, ABC):
    """Base of groupings: what a node is asked for, what it tells, and what the exchange makes of it."""

    tries: ClassVar[bool] = False
    """Whether nodes are sent all clusters' models, and each chooses."""
    compares: ClassVar[bool] = False
    """Whether nodes are compared by what training made of their networks the round before."""

    def work(self, models: Mapping[str, Mapping[str, Vector]]) -> Work:
        """Say what a node is asked, given the models that it was sent, by cluster."""
        return Work()

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        """Say what a node tells and keeps."""
        return Message(), mine

    def releases(self, times: int) -> Sequence[Release]:
        """Return what nodes tell in so many groupings, with the noise that is on it; 0: none."""
        return [Release(0.0, times)] if times else []

    def noised(self, multiplier: float, secret: bool) -> Self:
        """Return the grouping with noise of a standard deviation on what nodes tell, unless it says how much, where noise can be had."""
        return self

    @abstractmethod
    def found(self, turn: Turn, view: View, nodes: Sequence[str], first: bool) -> Found:
        """Group nodes; `first`: for the first time."""


class ByLikeness(Grouping):
    """Base of groupings by k-means over one vector a node.

    Parameters
    ----------
    clusters
        How many; None: as many as have the best silhouette, or one if that is below 0.25.
    most
        How many at most, where it is not said.
    """

    clusters: int | None = Field(default=None, ge=1)
    most: int = Field(default=5, ge=2)

    def found(self, turn: Turn, view: View, nodes: Sequence[str], first: bool) -> Found:
        tables = view.tables(SUMMARY)
        if not tables:
            return Found({})
        matrix = self.placed(np.stack([np.asarray(tables[node], dtype=np.float64) for node in sorted(tables)]))
        labels, silhouette = clusters_of(matrix, self.clusters, self.most, seed_of(turn.seed, "clusters", turn.round) % 2**32)
        return Found({node: str(label) for node, label in zip(sorted(tables), labels.tolist(), strict=True)}, silhouette)

    def placed(self, matrix: Array) -> Array:
        """Return [nodes, numbers] as distances are measured."""
        return matrix


class ByRows(ByLikeness):
    """By the mean and the spread of each scaled column of a node's normal rows: of a one-hot level, how frequent it is.

    It takes a scaling common to all nodes (``scaling.fit = "federated"``).

    Parameters
    ----------
    noise
        Standard deviation of the noise that a node adds to each number of what it tells, a vector of length 1 at most. Under a privacy
        budget 0 is as little as the share for grouping allows (`vedette.strategies.budget.Privacy`).
    secret
        Whether noise is drawn from the operating system, as it must be to hide anything, or from the run's seed, to repeat experiments.
    """

    name: Literal["rows"] = "rows"
    noise: float = Field(default=0.0, ge=0)
    secret: bool = True

    def releases(self, times: int) -> Sequence[Release]:
        return [Release(self.noise, times)] if times else []

    def noised(self, multiplier: float, secret: bool) -> Self:
        return self if self.noise else self.model_copy(update={"noise": multiplier, "secret": secret})

    def work(self, models: Mapping[str, Mapping[str, Vector]]) -> Work:
        return Work(queries={SUMMARY: Query("inputs")})

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if f"{SUMMARY}.moments" not in done.answers.tables:
            # Without a normal row there is nothing to tell.
            return Message(), mine
        moments = Moments.from_table(done.answers.tables[f"{SUMMARY}.moments"])
        values = np.concatenate([moments.mean, np.sqrt(moments.variance)])
        values = np.clip(values, -REACH, REACH) / (REACH * math.sqrt(len(values)))
        if self.noise:
            rng = np.random.default_rng(secrets.randbits(256)) if self.secret else turn.rng()
            values = values + rng.normal(0.0, self.noise, len(values))
        return Message(tables={SUMMARY: values}), mine


class ByWeights(ByLikeness):
    """By the direction in which training moved a node's network in the round before (Sattler et al. 2020, eq. 8): cosines of updates."""

    compares: ClassVar[bool] = True

    name: Literal["weights"] = "weights"

    def work(self, models: Mapping[str, Mapping[str, Vector]]) -> Work:
        return Work(tasks=(Task(epochs=0.0),))

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        name = next(iter(done.vectors))
        set_out = np.asarray(mine[STARTED]) if STARTED in mine else turn.first()[name].vector.values
        return Message(tables={SUMMARY: done.vectors[name].values - set_out}), mine

    def placed(self, matrix: Array) -> Array:
        # Between vectors of length 1 the squared distance is twice one minus the cosine.
        return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12))


class ByLoss(Grouping):
    """By the model that has the least loss on a node's rows, of those of all clusters (IFCA, Ghosh et al. 2020, algorithm 1, option II).

    The first models are those of nodes drawn at random: averages over groups would be too much alike, and one of them best for all.

    Parameters
    ----------
    clusters
        How many.
    """

    tries: ClassVar[bool] = True

    name: Literal["loss"] = "loss"
    clusters: int = Field(default=3, ge=1)

    def work(self, models: Mapping[str, Mapping[str, Vector]]) -> Work:
        return Work(queries={SUMMARY: Query("loss-of")} if models else {}, models=models)

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        losses = {name.removeprefix(f"{SUMMARY}."): float(done.answers.facts[name]) for name in done.answers.facts if SUMMARY in name}
        if not losses:
            return Message(), mine
        chosen = min(sorted(losses), key=losses.__getitem__)
        return Message(facts={"cluster": float(chosen)}), {**mine, CHOSEN: chosen}

    def found(self, turn: Turn, view: View, nodes: Sequence[str], first: bool) -> Found:
        clusters = {float(number): str(number) for number in range(self.clusters)}
        if first:
            drawn = stream(turn.seed, "clusters", turn.round).permutation(len(nodes))[: self.clusters].tolist()
            return Found({nodes[place]: cluster for place, cluster in zip(drawn, clusters.values(), strict=False)}, others_wait=True)
        told = view.facts("cluster")
        return Found({node: clusters[float(told[node])] for node in told if told[node] in clusters})


class Given(Grouping):
    """By names: groups that are known, such as an oracle to compare with.

    Parameters
    ----------
    clusters
        Cluster -> ids of nodes, or globs over them: ``{"valves" = ["valve*"], "other" = ["*"]}``; a node belongs to the first that fits.
    """

    name: Literal["given"] = "given"
    clusters: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], tuple[str, ...]] = Field(min_length=1)

    def releases(self, times: int) -> Sequence[Release]:
        return []

    def found(self, turn: Turn, view: View, nodes: Sequence[str], first: bool) -> Found:
        return Found({node: self._of(node) for node in nodes})

    def _of(self, node: str) -> str:
        for cluster, globs in self.clusters.items():
            if any(fnmatchcase(node, glob) for glob in globs):
                return cluster
        raise RecipeError(f"clusters: node '{node}' is in none of {', '.join(self.clusters)}; name it, or add a last one for \"*\"")


AnyGrouping: TypeAlias = Annotated[
    ByRows | ByWeights | ByLoss | Given,
    Field(discriminator="name"),
    BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given),
]
"""A grouping, by its name or as settings with a name."""


def clusters_of(matrix: Array, clusters: int | None, most: int, seed: int) -> tuple[Array, float | None]:
    """Group vectors by k-means (k-means++, Arthur and Vassilvitskii 2007).

    Parameters
    ----------
    matrix
        [nodes, numbers] float64.
    clusters
        How many, or fewer where vectors are the same; None: see `ByLikeness`.
    most
        How many at most.
    seed
        Of the draws, 32 bits.

    Returns
    -------
    tuple
        [nodes] int, the cluster of each, and the mean silhouette; None with one cluster, or with no two nodes in one.

    Raises
    ------
    MissingExtra
        scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError:
        raise MissingExtra("clusters need scikit-learn: pip install 'vedette[train]'") from None
    distinct = len(np.unique(matrix, axis=0))
    tried = range(2, min(most, distinct, len(matrix) - 1) + 1) if clusters is None else [min(clusters, distinct)]
    best: tuple[Array, float | None] = (np.zeros(len(matrix), dtype=np.int64), None)
    for number in tried:
        labels = KMeans(number, n_init=10, random_state=seed).fit_predict(matrix)
        found = float(silhouette_score(matrix, labels)) if 1 < number < len(matrix) else None
        if clusters is not None or (found is not None and found >= max(LEAST, best[1] or LEAST)):
            best = (labels, found)
    # Numbers of clusters follow the order of nodes, not that in which k-means found them.
    names: dict[int, int] = {}
    return np.array([names.setdefault(label, len(names)) for label in best[0].tolist()]), best[1]
