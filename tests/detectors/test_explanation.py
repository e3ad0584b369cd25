"""Explanations name what was changed, in its own units; what cannot be taken apart says so."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import correlated, with_category
from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.detectors import Autoencoder, Detector, LstmAutoencoder, Pca, VarianceDistance
from vedette.detectors.base import DETECTORS
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.explanation import explain
from vedette.detectors.mlp import Mlp
from vedette.errors import DetectorMisused
from vedette.metrics.rootcause import hit_rate, ndcg
from vedette.training.task import Optimiser

SCALING = {"numbers": "standard"}
NETWORK = {"epochs": 30, "scaling": SCALING, "optimiser": Optimiser(rate=0.01, batch=32)}
EXPLAINED: dict[str, Detector] = {
    "q": Pca(share=0.9, scaling=SCALING),
    "combined over windows": Pca(share=0.9, scaling=SCALING, statistic="combined", window=3),
    "t2": Pca(share=0.999, scaling=SCALING, statistic="t2"),
    "distance": VarianceDistance(scaling=SCALING),
    **{residual: Autoencoder(hidden=(3,), residual=residual, **NETWORK) for residual in ("absolute", "squared", "variance", "mahalanobis")},
    "over windows": Autoencoder(hidden=(6,), window=3, residual="variance", **NETWORK),
    "lstm": LstmAutoencoder(window=2, hidden=(24,), residual="variance", **NETWORK),
}
TRAIN = correlated(600, 6, seed=1)


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_feature_that_is_off_is_named_with_what_was_expected(name: str) -> None:
    detector = EXPLAINED[name].model_copy().fit(TRAIN, seed=1)
    clean = correlated(200, 6, seed=2)
    wrong = clean.numbers.copy()
    wrong[100:, 4] += 8.0
    table = Table(clean.features, wrong)
    found = explain(detector, table)
    assert found.shares.shape == found.expected.shape == found.seen.shape == (200, 6)
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    assert (found.shares >= 0).all()
    np.testing.assert_array_equal(found.seen, wrong)
    late = slice(103, None)  # whole windows of wrong rows
    assert (found.shares[late].argmax(axis=1) == 4).mean() > (0.95 if name not in ("t2", "lstm") else 0.7)
    if name != "distance":
        # What was expected of it is nearer to the truth than what was read, and follows the other features.
        gap = np.abs(found.expected[late, 4] - clean.numbers[late, 4])
        assert np.median(gap) < 6
    row = 103 + int(np.flatnonzero(found.shares[late].argmax(axis=1) == 4)[0])
    assert found.said(row)[0].startswith("s4 ")
    assert " bar where " in found.said(row)[0]


def test_shares_are_the_parts_of_the_score() -> None:
    detector = Pca(share=0.9, scaling=SCALING).fit(TRAIN)
    parts, _ = detector.contributions(detector.scaler.transform(TRAIN))
    np.testing.assert_allclose(parts.sum(axis=1) / 6, detector.decision_function(TRAIN), rtol=1e-6)
    for residual in ("absolute", "squared", "variance", "mahalanobis"):
        network = Autoencoder(hidden=(3,), residual=residual, **{**NETWORK, "epochs": 2}).fit(TRAIN)
        parts, _ = network.contributions(network.scaler.transform(TRAIN))
        np.testing.assert_allclose(parts.sum(axis=1) / 6, network.decision_function(TRAIN), rtol=1e-4)


@pytest.mark.parametrize("numbers", ["min-max", "standard", "quantile"])
@pytest.mark.parametrize("log", [False, True])
def test_categories_and_gaps_belong_to_their_feature_and_units_come_back(numbers: str, log: bool) -> None:
    train = with_category(TRAIN, 3)
    gappy = train.numbers.copy()
    gappy[::7, 2] = np.nan
    table = Table(train.features, gappy, train.categories)
    scaling = Scaling(numbers=numbers, log=log, missing="mask")
    detector = VarianceDistance(scaling=scaling).fit(table)
    found = explain(detector, table)
    assert found.shares.shape == (600, 7)
    assert np.isnan(found.expected[:, 6]).all()
    assert np.isnan(found.seen[::7, 2]).all()
    back = detector.scaler.undo(detector.scaler.transform(table))
    known = ~np.isnan(gappy)
    np.testing.assert_allclose(back[:, :6][known], gappy[known], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["isolation-forest", "knn", "gradient-boosting"])
def test_what_cannot_be_taken_apart_says_so(name: str) -> None:
    train = correlated(200, 6, seed=1, anomalies=0.2)
    with pytest.raises(DetectorMisused, match="cannot tell which features"):
        explain(DETECTORS[name](scaling=SCALING).fit(train), train)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("kind", [Mlp, DualNetwork])
def test_classifiers_name_the_reading_that_gives_an_anomaly_away(kind: type[Mlp | DualNetwork], window: int) -> None:
    """Anomalies differ in one reading alone: occlusion names it, and says what is usual."""
    rng = np.random.default_rng(0)
    label = (rng.random(600) < 0.3).astype(np.int8)
    x = rng.normal(5, 1, size=(600, 4))
    x[:, 2] += 6 * label
    small = {"channels": (8, 8, 8), "convolve": "time" if window > 1 else "features", "reduction": 4, "slots": 4}
    settings = {"scaling": SCALING, "epochs": 8, "optimiser": Optimiser(rate=0.01, batch=32), "window": window}
    detector = kind(**settings, **(small if kind is DualNetwork else {})).fit(Table.from_array(x, label), seed=1)
    found = explain(detector, Table.from_array(x), np.flatnonzero(label)[20:60])
    assert (found.shares.argmax(axis=1) == 2).mean() > 0.9
    np.testing.assert_allclose(found.expected[0], 5, atol=0.2)


def test_root_cause_metrics_by_hand() -> None:
    shares = np.array([0.1, 0.5, 0.2, 0.15, 0.05])  # order: 1, 2, 3, 0, 4
    assert hit_rate(shares, [1, 3]) == 0.5
    assert hit_rate(shares, [1, 3], percent=150) == 1.0
    assert ndcg(shares, [1]) == 1.0
    assert ndcg(shares, [2]) == pytest.approx(1 / np.log2(3))
    assert ndcg(shares, [1, 3]) == pytest.approx((1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)))
    assert ndcg(shares, [4], first=3) == 0.0


@pytest.mark.parametrize("name", ["q", "combined over windows", "mahalanobis", "lstm"])
@pytest.mark.slow
def test_some_rows_are_explained_as_among_all(name: str) -> None:
    detector = EXPLAINED[name].model_copy().fit(TRAIN, seed=1)
    at = np.array([1500, 3, 0, 77])
    rows = correlated(2000, 6, seed=5)
    whole, some = explain(detector, rows), explain(detector, rows, at)
    for every, chosen in zip(whole[1:], some[1:], strict=True):
        np.testing.assert_allclose(chosen, every[at], rtol=1e-5, atol=1e-6)
    assert explain(detector, rows, np.zeros(0, dtype=int)).shares.shape == (0, 6)
