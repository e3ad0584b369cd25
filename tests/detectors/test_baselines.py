"""Baselines: that they learn, alone in their corner of the random streams, and each row by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from conftest import correlated
from vedette.detectors.base import DETECTORS
from vedette.detectors.baselines import Baseline, DeepSvdd, Ecod, GradientBoosting, Vae
from vedette.detectors.support_vectors import SupportVectors
from vedette.errors import DataUnusable

SCALING = {"numbers": "standard"}
BRIEF = {"vae": {"epochs": 3}, "deep-svdd": {"epochs": 3}}
NAMES = sorted(name for name in DETECTORS if issubclass(DETECTORS[name], Baseline))
TRAIN, TEST = correlated(500, 6, seed=1), correlated(400, 6, seed=2, anomalies=0.2)


@pytest.mark.parametrize(("kind", "network"), [pytest.param(Vae, "model", marks=pytest.mark.slow), (DeepSvdd, "model_")])
def test_deep_baselines_learn(kind: type[Vae | DeepSvdd], network: str) -> None:
    areas = []
    for epochs in (1, 60):
        detector = kind(scaling=SCALING, epochs=epochs).fit(TRAIN, seed=1)
        # The gradient reaches every weight.
        for name, weights in getattr(detector._model, network).named_parameters():
            assert weights.grad is not None, name
            assert float(weights.grad.abs().sum()) > 0, name
        scores = detector.decision_function(TEST)
        # No collapse: scores differ from row to row, and by more than rounding.
        assert len(np.unique(scores)) > 0.95 * len(TEST)
        assert scores.std() > 0.1 * scores.mean()
        areas.append(roc_auc_score(TEST.label, scores))
    assert areas[1] > areas[0] + 0.02
    assert areas[1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_rows_beside_it_nor_on_the_call(name: str) -> None:
    train = correlated(300, 6, seed=1, anomalies=0.1)
    detector = DETECTORS[name](scaling=SCALING, **BRIEF.get(name, {})).fit(train, seed=4)
    whole = detector.decision_function(TEST)
    np.testing.assert_array_equal(detector.decision_function(TEST), whole)
    few = np.concatenate([detector.decision_function(TEST.take(slice(at, at + 7))) for at in range(0, 70, 7)])
    np.testing.assert_allclose(few, whole[:70], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_processes_own_generators_stay_as_they_were(name: str) -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    wanted = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    DETECTORS[name](scaling=SCALING, **BRIEF.get(name, {})).fit(correlated(200, 6, seed=1, anomalies=0.1), seed=4)
    assert (torch.rand(1), np.random.rand()) == wanted  # noqa: NPY002


def test_only_so_many_samples_are_looked_at() -> None:
    few = Ecod(scaling=SCALING, most=100).fit(TRAIN, seed=1)
    assert len(few._model[0]) == 100
    assert not np.array_equal(few._model[0], Ecod(scaling=SCALING, most=100).fit(TRAIN, seed=2)._model[0])


def test_tail_probabilities_by_hand() -> None:
    detector = Ecod()
    model = detector.trained(np.array([[0.0], [1.0], [2.0], [9.0]]), None, 0)  # skewed to the right
    scores = detector.scored(model, np.array([[9.0], [-1.0], [1.0], [99.0]]))
    low = -np.log(np.array([5, 1, 3, 5]) / 5)
    high = -np.log(np.array([2, 5, 4, 1]) / 5)
    np.testing.assert_allclose(scores, np.maximum(np.maximum(low, high), high))


def test_boosting_needs_labels_of_both_kinds() -> None:
    with pytest.raises(DataUnusable, match="labels"):
        GradientBoosting().fit(TRAIN.numbers)
    with pytest.raises(DataUnusable, match="both kinds"):
        GradientBoosting().fit(TRAIN.numbers, np.zeros(500))


@pytest.mark.parametrize("landmarks", [60, 5_000])
def test_a_kernel_finds_the_ring_that_no_line_can(landmarks: int) -> None:
    """Of more landmarks than rows all rows are one."""
    rng = np.random.default_rng(0)
    angle, label = rng.uniform(0, 2 * np.pi, 400), rng.integers(0, 2, 400)
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 2 * label[:, None]) + rng.normal(0, 0.1, (400, 2))
    line = SupportVectors(scaling=SCALING).fit(rows[:300], label[:300])
    ring = SupportVectors(scaling=SCALING, kernel="rbf", landmarks=landmarks).fit(rows[:300], label[:300])
    assert roc_auc_score(label[300:], line.decision_function(rows[300:])) < 0.75
    assert (ring.predict(rows[300:]) == label[300:]).mean() > 0.97
    assert ring.threshold_ == 0.5
