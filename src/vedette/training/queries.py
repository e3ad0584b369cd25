"""Questions a node answers about its rows, by registered name; nothing else about them ever leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from vedette.data.disclosure import Disclosure, check, membership
from vedette.data.rebalance import KSmote
from vedette.data.scaling import Scaling
from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.data.table import Table
from vedette.data.votes import centre_votes, spread_votes
from vedette.errors import DetectorMisused, TrainingDiverged
from vedette.message import Array, Memory, Message
from vedette.registry import Registry
from vedette.training.rows import BLOCK, TrainingRows
from vedette.training.task import Forward, Learnable

__all__ = ["QUERIES", "Asked", "QueryFunction"]


class Asked(NamedTuple):
    """What a query may look at: one node's raw rows, its state, and its detector's network.

    Attributes
    ----------
    rows
        Raw rows.
    memory
        The node's state, with its scaler.
    detector
        How rows are scaled and scored.
    forward
        The network that scores, on scaled rows.
    models
        Networks that the node received to try them.
    """

    rows: Table
    memory: Memory
    detector: Learnable
    forward: Forward
    models: Mapping[str, Forward] = {}

    def outputs(self) -> Iterator[tuple[Array, Array]]:
        """Yield normal samples and the network's outputs for them, chunk by chunk."""
        for inputs in self.detector.samples(self.rows.normal(), self.memory).chunks(whole=True):
            yield inputs, self.forward(inputs)


@runtime_checkable
class Summarised(Protocol):
    """A detector that is made of a summary."""

    @property
    def summary(self) -> str:
        """Of which kind."""

    def summarised(self, table: Table, memory: Memory) -> Array:
        """Summarise the normal samples of a table."""


MOST_LOSS = 1e9
"""A loss that is larger, or no number, counts as this one."""

LEAST_VARIANCE = 1e-12
"""What constant rows are said to vary by: a weight that goes by variance must not be 0."""

QueryFunction: TypeAlias = Callable[[Asked, Mapping[str, Any], np.random.Generator], Message]
QUERIES: Registry[QueryFunction] = Registry("query")


@QUERIES.register("scaling")
def scaling(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Summarise the rows as far as the scaling in `settings` needs it."""
    return Scaling(**settings).summary(asked.rows)


@QUERIES.register("votes")
def votes(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Vote on how numbers are to be scaled: [bins, number features] float64, a vote in each column.

    On how far they lie apart; or, if `settings` have ``spreads``, on where their middle is.
    """
    scaling = Scaling(**settings["scaling"])
    table = scaling.chosen(asked.rows)
    values = (
        scaling.spread(np.concatenate([chunk.numbers for chunk in table.chunks()]))
        if len(table)
        else np.zeros((0, len(table.number_features)))
    )
    spreads = settings.get("spreads")
    return Message(tables={"": spread_votes(values) if spreads is None else centre_votes(values, np.array(spreads))})


@QUERIES.register("scaled-by")
def scaled_by(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Return the scaler that follows from ``centres`` and ``spreads`` [number features] and what all know: features and levels."""
    scaling = Scaling(**settings["scaling"])
    known = scaling.summary(asked.rows.take(slice(0, 0)))
    moments = np.stack([np.ones(len(settings["centres"])), settings["centres"], np.square(settings["spreads"])])
    memory = scaling.fitted(known._replace(tables={"numbers": moments})).memory()
    return Message(
        tables={"numbers": np.asarray(memory["scaling.numbers"])},
        facts={"about": str(memory["scaling.about"])},
    )


@QUERIES.register("residuals")
def residuals(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Summarise the residuals of normal rows: ``moments`` [3, features] or ``covariance`` [features + 2, features], as `settings` say."""
    kind = str(settings["summary"])
    summary: Any = {"moments": Moments, "covariance": Covariance}[kind]
    parts = [summary.of(asked.detector.residuals(inputs, outputs)) for inputs, outputs in asked.outputs()]
    return Message(tables={kind: summary.merged(parts).table()} if parts else {})


@QUERIES.register("inputs")
def inputs(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Return ``moments`` [3, features] of normal rows as the network sees them: what is usual, for explanations."""
    samples = asked.detector.samples(asked.rows.normal(), asked.memory)
    parts = [Moments.of(chunk[:, -samples.scaler.width :].astype(np.float64)) for chunk in samples.chunks(whole=True)]
    return Message(tables={"moments": Moments.merged(parts).table()} if parts else {})


@QUERIES.register("summary")
def summary(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Summarise normal samples as a detector that learns in one step is made of: ``moments`` or ``covariance``."""
    detector = asked.detector
    if not isinstance(detector, Summarised):
        raise DetectorMisused("only detectors that learn in one step are made of a summary; train networks in rounds")
    normal = asked.rows.normal()
    return Message(tables={detector.summary: detector.summarised(normal, asked.memory)} if len(normal) else {})


@QUERIES.register("variance")
def variance(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Return the ``variance`` of all rows, scaled; its mean over the columns (Wang et al. 2021, Variance(D) of eq. 6), always above 0."""
    scaler = asked.detector.samples(asked.rows, asked.memory).scaler
    parts = [Moments.of(scaler.transform(chunk).astype(np.float64)) for chunk in asked.rows.chunks()]
    found = float(Moments.merged(parts).variance.mean()) if parts else 0.0
    return Message(facts={"variance": max(found, LEAST_VARIANCE)})


@QUERIES.register("k-smote")
def k_smote(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Make points of the rarer class (Wang et al. 2021, algorithm 1), and tell which of them may leave the node.

    Parameters
    ----------
    asked
        The node; whole windows alone are looked at, labelled as their last row.
    settings
        ``ratio``, ``samples`` and ``neighbours`` of `KSmote`; ``share``, alpha of eq. 7, 0 to 1; ``closeness``, the quantile of
        `vedette.data.disclosure.check`.
    rng
        What every draw is made with.

    Returns
    -------
    Message
        Two tables of samples, [n, width + 1] float32, the label last: all points as ``""``, for the node itself, since they may hold
        copies of real rows; and ``"shared"``, a random share alpha of them from those that give no real row away, or all of those
        where they are fewer. Facts: how many rows of the rarer class there are (``minority``), how many points were ``made``, are too
        ``close`` to a real row, are ``copies`` of one (all of them, of a single row) and are ``shared``; and the AUC of telling from the
        latter which rows they were made of (``membership``), where it can be told. Where a class is missing or nothing lacks, the tables
        are empty.
    """
    samples = asked.detector.samples(asked.rows, asked.memory)
    ends = samples.whole()
    labels = np.zeros(len(ends), dtype=np.int8) if asked.rows.label is None else asked.rows.label[ends]
    counts = np.bincount(labels, minlength=2)
    rare = int(counts.argmin())
    maker = KSmote(ratio=settings["ratio"], samples=settings["samples"], neighbours=settings["neighbours"])
    count = maker.lacking(int(counts[rare]), int(counts[1 - rare])) if counts.all() else 0

    def tried(real: Array) -> tuple[Array, Array, Disclosure]:
        made = maker.points(real, count, rng, samples.choices)
        found = check(made, real, settings["closeness"], rng)
        safe = np.flatnonzero(found.safe)
        return made, made[rng.choice(safe, min(round(settings["share"] * count), len(safe)), replace=False)], found

    real = samples.take(ends[labels == rare], keep=False)
    made, shared, found = tried(real)
    counted = {"minority": len(real), "made": len(made), "close": found.close, "copies": found.copies, "shared": len(shared)}
    facts: dict[str, float | str] = {name: float(value) for name, value in counted.items()}
    if (told := membership(real, lambda half: tried(half)[1], rng)) is not None:
        facts["membership"] = told
    tables = {name: np.column_stack([rows, np.full(len(rows), rare, dtype=np.float32)]) for name, rows in (("", made), ("shared", shared))}
    return Message(tables=tables, facts=facts)


@QUERIES.register("scores")
def scores(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Return ``moments`` [3, 1] and ``sketch`` [2, bins] of the scores of normal rows."""
    detector, memory = asked.detector, asked.memory
    samples = detector.samples(asked.rows.normal(), memory)
    values = samples.scores(lambda inputs: detector.scores(inputs, asked.forward(inputs), memory), settled=True)
    if not len(values):
        return Message()
    if not np.isfinite(values).all():
        raise TrainingDiverged(
            f"{(~np.isfinite(values)).sum()} of {len(values)} scores are not finite after training; lower the learning rate"
        )
    return Message(tables={"moments": Moments.of(values[:, None]).table(), "sketch": Sketch.of(values).table()})


@QUERIES.register("loss-of")
def loss_of(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Return the loss of every network received, by name, on the node's own rows: of classifiers the mean over both classes."""
    detector = asked.detector
    rows = TrainingRows(detector, asked.rows if detector.learning == "supervised" else asked.rows.normal(), asked.memory)
    losses = {}
    for name, forward in asked.models.items():
        sums, counts = np.zeros(2), np.zeros(2)
        for start in range(0, len(rows), BLOCK):
            inputs, labels = rows.take(np.arange(start, min(start + BLOCK, len(rows))))
            outputs = forward(inputs).astype(np.float64)
            if detector.learning == "supervised":
                # log(1 + e^z) - y z, said so that no exponent overflows.
                each = np.logaddexp(0, outputs[:, 0]) - labels * outputs[:, 0]
            else:
                gaps = np.abs(detector.residuals(inputs, outputs))
                each, labels = (gaps**2 if detector.loss == "mse" else gaps).mean(axis=1), np.zeros(len(inputs))
            kind = labels.astype(np.int64)
            sums, counts = sums + np.bincount(kind, each, 2), counts + np.bincount(kind, minlength=2)
        found = float((sums[counts > 0] / counts[counts > 0]).mean()) if len(rows) else MOST_LOSS
        losses[name] = min(found, MOST_LOSS) if np.isfinite(found) else MOST_LOSS
    return Message(facts=losses)
