"""Questions a node answers about its rows, by registered name; nothing else about them ever leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from vedette.data.scaling import Scaling
from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.data.table import Table
from vedette.errors import DetectorMisused, TrainingDiverged
from vedette.message import Array, Memory, Message
from vedette.registry import Registry
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
    """

    rows: Table
    memory: Memory
    detector: Learnable
    forward: Forward

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


QueryFunction: TypeAlias = Callable[[Asked, Mapping[str, Any], np.random.Generator], Message]
QUERIES: Registry[QueryFunction] = Registry("query")


@QUERIES.register("scaling")
def scaling(asked: Asked, settings: Mapping[str, Any], rng: np.random.Generator) -> Message:
    """Summarise the rows as far as the scaling in `settings` needs it."""
    return Scaling(**settings).summary(asked.rows)


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
