"""What a detector is: scaling + model + threshold, with PyOD's contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, PrivateAttr

from vedette.data.scaling import Scaler, Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.data.table import Table
from vedette.data.windows import AnyWindow, Samples, Window
from vedette.detectors.threshold import AnyThreshold, Quantile
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array, Memory
from vedette.registry import Registry
from vedette.settings import Settings

__all__ = ["DETECTORS", "Detector"]

T = TypeVar("T")

SCALERS_KEPT = 256
"""Scalers of nodes that are kept ready."""

DETECTORS: Registry[type[Detector]] = Registry(
    "detector",
    {
        "autoencoder": "vedette.detectors.autoencoder:Autoencoder",
        "lstm-autoencoder": "vedette.detectors.lstm:LstmAutoencoder",
        "deep-svdd": "vedette.detectors.baselines:DeepSvdd",
        "ecod": "vedette.detectors.baselines:Ecod",
        "gradient-boosting": "vedette.detectors.baselines:GradientBoosting",
        "isolation-forest": "vedette.detectors.baselines:IsolationForest",
        "k-means": "vedette.detectors.baselines:KMeans",
        "knn": "vedette.detectors.baselines:NearestNeighbours",
        "logistic-regression": "vedette.detectors.baselines:LogisticRegression",
        "mlp": "vedette.detectors.mlp:Mlp",
        "ocsvm": "vedette.detectors.baselines:OneClassSvm",
        "pca": "vedette.detectors.classical:Pca",
        "vae": "vedette.detectors.baselines:Vae",
        "svm": "vedette.detectors.support_vectors:SupportVectors",
        "se-ea-edn": "vedette.detectors.dual_network:DualNetwork",
        "variance-distance": "vedette.detectors.classical:VarianceDistance",
    },
)


class Detector(Settings, ABC):
    """Base of all detectors: the fields are settings, what was learned is a state (`memory`) beside them.

    Parameters
    ----------
    scaling
        How raw rows become what the model sees.
    window
        How many rows it sees at once; a number, or the settings of a `Window`.
    threshold
        The rule for the threshold, applied to the scores of training rows.

    Attributes
    ----------
    learning
        ``"one-class"`` learns from normal rows, ``"supervised"`` from labels, ``"unsupervised"`` from anything.
    multivariate
        Whether it takes several features.
    causal_delay
        Rows it must wait for before it can score one.
    bundled
        Whether it can be stored and scored by the base install; models of other libraries cannot.
    threshold_
        After `fit`: rows that score above it are anomalies.
    decision_scores_, labels_
        After `fit`: scores and predictions of the training rows.
    """

    learning: ClassVar[Literal["one-class", "supervised", "unsupervised"]]
    multivariate: ClassVar[bool] = True
    causal_delay: ClassVar[int] = 0
    bundled: ClassVar[bool] = True

    scaling: Scaling = Scaling()
    window: AnyWindow = Window()
    threshold: AnyThreshold = Field(default_factory=Quantile)

    _memory: Memory | None = PrivateAttr(default=None)
    _scaler: Scaler | None = PrivateAttr(default=None)
    _training_scores: Array | None = PrivateAttr(default=None)
    _scalers: dict[int, tuple[Any, Scaler]] = PrivateAttr(default_factory=dict)
    _derived: dict[str, tuple[object, int, Any]] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        """Return the memory with the model learned from a table of training rows; the scaler is in it already."""

    @abstractmethod
    def score_samples(self, samples: Array) -> Array:
        """Return [samples] float64 >= 0 of samples [samples, window size × scaled features] float32."""

    def contributions(self, samples: Array) -> tuple[Array, Array]:
        """Return how much each scaled column adds to the score, and what the last row of each window should have been.

        Parameters
        ----------
        samples
            [samples, window size × scaled features] float32.

        Returns
        -------
        tuple of Array
            [samples, scaled features] each, float64.

        Raises
        ------
        DetectorMisused
            Its score cannot be taken apart.
        """
        raise DetectorMisused(f"a {type(self).__name__} cannot tell which features a score comes from")

    def per_feature(self, values: Array) -> Array:
        """Sum [samples, n × scaled features] over the n rows: [samples, scaled features]."""
        return np.asarray(values.reshape(len(values), -1, self.scaler.width).sum(axis=1))

    def fit(self, x: Array | Table, y: Array | None = None, seed: int = 0) -> Self:
        """Learn from one table.

        Parameters
        ----------
        x
            [rows, features] of numbers, or a table. One-class detectors leave out rows labelled 1.
        y
            [rows] of 0 and 1; supervised detectors need it.
        seed
            For first weights and the order of rows.

        Raises
        ------
        DataUnusable
            No rows, no labels where they are needed, features without values or without any variation.
        """
        table = _table(x, y)
        if self.learning == "supervised" and table.label is None:
            raise DataUnusable("a supervised detector needs labels: fit(x, y)")
        train = table.normal() if self.learning == "one-class" else table
        scaler = self.scaling.fitted(self.scaling.summary(train))
        self.restore(self.learn(train, dict(scaler.memory()), seed))
        scores = self.raw_scores(table)
        if train is table:
            samples = self.samples(table, self.memory)
            self._summarise(scores[samples.whole()] if self.window.average == 1 else samples.scores(self.score_samples, settled=True))
        else:
            self.calibrated(train)
        self._training_scores = scores
        return self

    def calibrated(self, table: Table) -> Self:
        """Set the threshold by the scores of the normal rows of a table.

        Raises
        ------
        DetectorMisused
            Not fitted yet.
        """
        return self._summarise(self.samples(table.normal(), self.memory).scores(self.score_samples, settled=True))

    def _summarise(self, normal: Array) -> Self:
        scores = {"scores.moments": Moments.of(normal[:, None]).table(), "scores.sketch": Sketch.of(normal).table()}
        return self.restore({**self.memory, **scores, **{f"own.{key}": table for key, table in scores.items()}})

    def raw_scores(self, table: Table) -> Array:
        """Return the scores [rows] float64 of a table, scaled and scored chunk by chunk, each row by its window."""
        return self.samples(table, self.memory).scores(self.score_samples)

    def samples(self, table: Table, memory: Memory) -> Samples:
        """Return raw rows as the model sees them, by the scaler in a memory."""
        return Samples(self._scaler_in(memory), self.window, table)

    def _scaler_in(self, memory: Memory) -> Scaler:
        """Return the scaler in a memory; nodes that scale alike have the same arrays in theirs, so it is read once for all."""
        if self._scaler is not None and memory is self._memory:
            return self._scaler
        source = memory.get("scaling.numbers")
        found = self._scalers.get(id(source))
        if found is None or found[0] is not source:
            while len(self._scalers) >= SCALERS_KEPT:
                self._scalers.pop(next(iter(self._scalers)))
            found = self._scalers[id(source)] = source, Scaler.from_memory(memory)
        return found[1]

    def derived(self, name: str, source: Any, make: Callable[[Any], T]) -> T:
        """Return what is made of a part of a memory, made once for as long as that part is the same object."""
        kept = self._derived.get(name)
        # A copy with other settings shares what its original kept.
        if kept is None or kept[0] is not source or kept[1] != id(self):
            kept = self._derived[name] = source, id(self), make(source)
        made: T = kept[2]
        return made

    def decision_function(self, x: Array | Table) -> Array:
        """Score rows: [rows, features] or a table -> [rows] float64, higher = more anomalous.

        Raises
        ------
        DetectorMisused
            Not fitted yet, or rows with other features.
        """
        if isinstance(x, Table):
            return self.raw_scores(x)
        scaler = self.scaler
        if any(feature.kind == "category" for feature in scaler.features):
            raise DetectorMisused("this detector was fitted on categories too: pass a Table, not an array")
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != len(scaler.features):
            raise DetectorMisused(f"expected rows [rows, {len(scaler.features)}], got an array of shape {x.shape}")
        return self.raw_scores(Table(scaler.features, x))

    def predict(self, x: Array | Table) -> Array:
        """Say which rows are anomalies: [rows] int, 1 where the score is above `threshold_`."""
        return (self.decision_function(x) > self.threshold_).astype(np.int64)

    @property
    def windowed(self) -> bool:
        """Whether it looks at several rows at once."""
        return self.window.size > 1

    @property
    def memory(self) -> Memory:
        """All that was learned, as arrays, numbers and text."""
        if self._memory is None:
            raise DetectorMisused("this detector is not fitted yet: call fit, or federate it")
        return self._memory

    @property
    def scaler(self) -> Scaler:
        """The fitted scaling."""
        self.memory  # noqa: B018 - says so if there is nothing yet
        assert self._scaler is not None
        return self._scaler

    @property
    def threshold_(self) -> float:
        """A row that scores above it is an anomaly."""
        # A tail is not fitted anew for each row of a live source.
        sketch = self.memory.get(f"{self._whose}scores.sketch")
        return self.derived("threshold", sketch, lambda _: self.threshold.value(*self.calibration_scores))

    @property
    def calibration_scores(self) -> tuple[Moments, Sketch]:
        """Moments and quantiles of the scores that the threshold is set by.

        Raises
        ------
        DetectorMisused
            Not fitted or not calibrated yet.
        """
        if f"{self._whose}scores.sketch" not in self.memory:
            raise DetectorMisused("this detector is not calibrated: it saw no normal row to set a threshold by")
        moments, sketch = (np.asarray(self.memory[f"{self._whose}scores.{name}"]) for name in ("moments", "sketch"))
        return Moments.from_table(moments), Sketch.from_table(sketch)

    @property
    def _whose(self) -> str:
        return "own." if self.threshold.fit == "local" else ""

    @property
    def decision_scores_(self) -> Array:
        """Scores of the rows `fit` was given."""
        if self._training_scores is None:
            raise DetectorMisused("no training scores: this detector was restored or federated, not fitted here")
        return self._training_scores

    @property
    def labels_(self) -> Array:
        """Predictions for the rows `fit` was given."""
        return (self.decision_scores_ > self.threshold_).astype(np.int64)

    def restore(self, memory: Memory) -> Self:
        """Take over a state, such as a node's after a federation."""
        self._scaler = Scaler.from_memory(memory)
        self._memory = memory
        self._training_scores = None
        self._derived = {}
        return self

    def restored(self, memory: Memory) -> Self:
        """Return a detector of the same settings with a state."""
        return self.model_copy().restore(memory)


def _table(x: Array | Table, y: Array | None) -> Table:
    if not isinstance(x, Table):
        return Table.from_array(x, y)
    if y is None:
        return x
    fields: Mapping[str, Any] = {**x.__dict__, "label": np.asarray(y).astype(np.int8)}
    return Table(**fields)
