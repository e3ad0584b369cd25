"""Baselines of the field, by scikit-learn and PyOD: bars to pass, fitted at one place or by each node alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, PrivateAttr

from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.threshold import AnyThreshold, Fixed
from vedette.errors import DataUnusable, DetectorMisused, MissingExtra
from vedette.message import Array, Memory
from vedette.seeds import stream
from vedette.training.layers import needs_torch

__all__ = [
    "Baseline",
    "DeepSvdd",
    "Ecod",
    "GradientBoosting",
    "IsolationForest",
    "KMeans",
    "Labelled",
    "LogisticRegression",
    "NearestNeighbours",
    "OneClassSvm",
    "Vae",
    "sklearn_module",
]


class Baseline(Detector):
    """Base of detectors whose model is an object of another library: it lives in this process and is never stored or sent.

    Parameters
    ----------
    most
        Samples it is fitted on at most, drawn at random.
    """

    learning: ClassVar[Literal["one-class", "supervised", "unsupervised"]] = "one-class"
    bundled: ClassVar[bool] = False

    most: PositiveInt = 20_000

    _model: Any = PrivateAttr(default=None)

    def learn(self, table: Table, memory: Memory, seed: int) -> Memory:
        samples, rng = self.samples(table, memory), stream(seed, "baseline")
        ends = samples.whole()
        if not len(ends):
            raise DataUnusable("no training rows; check the partition and the labels")
        if len(ends) > self.most:
            ends = np.sort(rng.choice(ends, self.most, replace=False))
        label = None if table.label is None else table.label[ends]
        rows, drawn = samples.take(ends).astype(np.float64), int(rng.integers(2**31))
        with _seeded(drawn):
            self._model = self.trained(rows, label, drawn)
        return memory

    def score_samples(self, samples: Array) -> Array:
        if self._model is None:
            raise DetectorMisused(f"a {type(self).__name__} cannot be restored from a state: its model is an object, fit it here")
        return np.asarray(self.scored(self._model, samples.astype(np.float64)), dtype=np.float64)

    @abstractmethod
    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        """Return the model fitted to scaled samples [rows, values] float64."""

    @abstractmethod
    def scored(self, model: Any, rows: Array) -> Array:
        """Return [rows] scores >= 0 of scaled samples, each by itself."""


class OneClassSvm(Baseline):
    """One-class support vector machine (Schölkopf et al. 2001), by scikit-learn; the score is how much support a sample lacks.

    Parameters
    ----------
    nu
        About the share of training samples left outside.
    gamma
        Width of the kernel, as scikit-learn takes it.
    """

    most: PositiveInt = 5_000
    nu: float = Field(default=0.02, gt=0, le=1)
    gamma: float | Literal["scale", "auto"] = "scale"

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        return sklearn_module("svm").OneClassSVM(nu=self.nu, gamma=self.gamma).fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        # A sample can have no more support than the sum of all weights.
        return np.asarray(model.dual_coef_.sum() - model.score_samples(rows))


class IsolationForest(Baseline):
    """Isolation forest (Liu et al. 2008), by scikit-learn.

    Parameters
    ----------
    trees
        How many.
    """

    trees: PositiveInt = 100

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        return sklearn_module("ensemble").IsolationForest(n_estimators=self.trees, random_state=seed).fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(-model.score_samples(rows))


class NearestNeighbours(Baseline):
    """Mean distance to the nearest training samples (Ramaswamy et al. 2000), by scikit-learn.

    Parameters
    ----------
    neighbours
        How many.
    """

    neighbours: PositiveInt = 5

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        return sklearn_module("neighbors").NearestNeighbors(n_neighbors=min(self.neighbours, len(rows))).fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(model.kneighbors(rows)[0].mean(axis=1))


class KMeans(Baseline):
    """Distance to the nearest of few centres, as Netdata's agents do over windows of each metric; by scikit-learn.

    Parameters
    ----------
    centres
        How many.
    """

    centres: PositiveInt = 2

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        return sklearn_module("cluster").KMeans(min(self.centres, len(rows)), n_init=4, random_state=seed).fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(model.transform(rows).min(axis=1))


class Ecod(Baseline):
    """Empirical tail probabilities of each feature, summed (Li et al. 2022, algorithm 1).

    Ours and not PyOD's, whose probabilities count the rows that are scored: there a score depends on its neighbours in the batch.
    """

    most: PositiveInt = 200_000

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        columns = np.sort(rows, axis=0)
        centred = rows - rows.mean(axis=0)
        return columns, np.sign((centred**3).mean(axis=0))

    def scored(self, model: Any, rows: Array) -> Array:
        columns, skew = model
        count = len(columns)
        left, right, skewed = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
        for place in range(columns.shape[1]):
            below = np.searchsorted(columns[:, place], rows[:, place], side="right")
            above = count - np.searchsorted(columns[:, place], rows[:, place], side="left")
            # One more, so that a value beyond all has a probability too.
            low, high = (-np.log((each + 1) / (count + 1)) for each in (below, above))
            left, right = left + low, right + high
            skewed += low if skew[place] < 0 else high
        return np.maximum(np.maximum(left, right), skewed)


class Vae(Baseline):
    """Variational autoencoder (Kingma and Welling 2014), by PyOD; the score is the squared error of its most likely reconstruction.

    PyOD's own settings leave the divergence out of the loss (``capacity = 0``) and score with fresh noise each time; here it counts as in
    the evidence bound of a Gaussian with variance 1, and no noise is drawn to score.

    Parameters
    ----------
    hidden
        Widths of the encoder's layers; the decoder's are the same from behind.
    latent
        Dimensions of the code.
    epochs
        Passes over the samples.
    """

    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=1)
    latent: PositiveInt = 4
    epochs: PositiveInt = 30

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        found = _pyod("vae").VAE(
            preprocessing=False,
            epoch_num=self.epochs,
            batch_size=max(1, min(64, len(rows))),
            random_state=seed,
            verbose=0,
            beta=2 / rows.shape[1],
            capacity=1e9,
            encoder_neuron_list=list(self.hidden),
            decoder_neuron_list=list(reversed(self.hidden)),
            latent_dim=self.latent,
            dropout_rate=0.0,
        )
        return found.fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        torch = needs_torch()
        network = model.model.eval()
        with torch.inference_mode():
            given = torch.from_numpy(rows.astype(np.float32))
            rebuilt = network.decode(network.encode(given)[0])
            return np.asarray(((rebuilt - given) ** 2).mean(dim=1).numpy())


class DeepSvdd(Baseline):
    """Deep one-class classification (Ruff et al. 2018), by PyOD; the score is the squared distance to the centre.

    With leaky units: plain ones can end all at zero, and then every score is the same.

    Parameters
    ----------
    hidden
        Widths of the layers, at least two; none has a bias.
    epochs
        Passes over the samples.
    """

    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=2)
    epochs: PositiveInt = 30

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        found = _pyod("deep_svdd").DeepSVDD(
            n_features=rows.shape[1],
            hidden_neurons=list(self.hidden),
            hidden_activation="leaky_relu",
            epochs=self.epochs,
            batch_size=64,
            dropout_rate=0.0,
            preprocessing=False,
            verbose=0,
            random_state=seed,
            learning_rate=1e-3,
        )
        return found.fit(rows)

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(model.decision_function(rows))


class Labelled(Baseline):
    """Base of baselines that learn from labels: what could be had if every anomaly came labelled.

    Parameters
    ----------
    threshold
        0.5 unless another rule is given; the score is the probability of an anomaly.
    """

    learning: ClassVar[Literal["one-class", "supervised", "unsupervised"]] = "supervised"

    most: PositiveInt = 1_000_000
    threshold: AnyThreshold = Field(default_factory=Fixed)

    def trained(self, rows: Array, label: Array | None, seed: int) -> Any:
        if label is None or len(np.unique(label)) < 2:
            raise DataUnusable(f"a {type(self).__name__} needs labelled rows of both kinds")
        return self.unfitted(seed).fit(rows, label != 0)

    @abstractmethod
    def unfitted(self, seed: int) -> Any:
        """Return the model before it has learned anything."""

    def scored(self, model: Any, rows: Array) -> Array:
        return np.asarray(model.predict_proba(rows)[:, 1])


class GradientBoosting(Labelled):
    """Boosted trees (Friedman 2001), by scikit-learn.

    Parameters
    ----------
    rounds
        Trees, one after the other.
    rate
        How much of each tree counts.
    leaves
        Most leaves of a tree.
    """

    rounds: PositiveInt = 100
    rate: float = Field(default=0.1, gt=0)
    leaves: int = Field(default=31, ge=2)

    def unfitted(self, seed: int) -> Any:
        kind = sklearn_module("ensemble").HistGradientBoostingClassifier
        return kind(max_iter=self.rounds, learning_rate=self.rate, max_leaf_nodes=self.leaves, random_state=seed)


class LogisticRegression(Labelled):
    """Logistic regression with a penalty on the squared weights, by scikit-learn.

    Parameters
    ----------
    penalty
        Weight of the penalty; the inverse of scikit-learn's ``C``.
    """

    penalty: float = Field(default=1.0, gt=0)

    def unfitted(self, seed: int) -> Any:
        return sklearn_module("linear_model").LogisticRegression(C=1 / self.penalty, max_iter=1000, random_state=seed)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let a library that draws from the process's own generators draw from a seed, and leave them as they were."""
    torch = needs_torch()
    before = np.random.get_state()  # noqa: NPY002 - PyOD draws from it
    try:
        with torch.random.fork_rng(devices=[]):
            np.random.seed(seed)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def sklearn_module(module: str) -> Any:
    """Return a module of scikit-learn.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        return import_module(f"sklearn.{module}")
    except ImportError:
        raise MissingExtra("this baseline needs scikit-learn: pip install 'vedette[train]'") from None


def _pyod(module: str) -> Any:
    try:
        return import_module(f"pyod.models.{module}")
    except ImportError:
        raise MissingExtra("this baseline needs PyOD: pip install 'vedette[baselines]'") from None
