"""ROC and precision-recall curves: those of scikit-learn, thinned; the dot is where the threshold was set."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from vedette.evaluation.plots import Tradeoff, styles, tradeoff_figure


@pytest.mark.parametrize("rows", [10, 5_000])
@pytest.mark.parametrize("ties", [False, True])
def test_curves_are_those_of_scikit_learn(rows: int, ties: bool) -> None:
    rng = np.random.default_rng(rows)
    label = (rng.random(rows) < 0.3).astype(np.int8)
    label[:2] = (0, 1)
    score = rng.normal(size=rows) + label
    score = np.round(score) if ties else score
    flagged = score >= np.median(score)
    found = Tradeoff.of("m", label, score, flagged)
    assert found is not None
    assert len(found.fpr) <= 240
    fpr, recall, _ = roc_curve(label, score, drop_intermediate=False)
    for x, y in zip(found.fpr, found.recall, strict=True):
        assert np.min(np.hypot(fpr - x, recall - y)) < 1e-12
    area = np.trapezoid(np.append(0, found.recall), np.append(0, found.fpr))
    assert area == pytest.approx(roc_auc_score(label, score), abs=0.01 if not ties else 1e-9)
    precision, at, _ = precision_recall_curve(label, score)
    for x, y in zip(found.recall, found.precision, strict=True):
        assert np.min(np.hypot(at - x, precision - y)) < 1e-12
    assert found.chosen == pytest.approx((flagged[label == 0].mean(), flagged[label == 1].mean(), label[flagged].mean()))


@pytest.mark.parametrize("label", [np.zeros(5), np.ones(5)])
def test_one_class_has_no_curve(label: np.ndarray) -> None:
    assert Tradeoff.of("m", label, np.arange(5.0), np.zeros(5, dtype=bool)) is None


def test_they_are_drawn_side_by_side() -> None:
    label, rng = np.arange(300) % 5 == 0, np.random.default_rng(0)
    drawn = [
        Tradeoff.of(name, label, rng.normal(size=300) + k * label, np.zeros(300, dtype=bool)) for k, name in enumerate(("pca", "federated"))
    ]
    text = tradeoff_figure([each for each in drawn if each is not None], 0.2, styles(["pca", "federated"]))
    assert text.startswith("<svg")
    assert "found, share" in text
    assert "precision, share" in text
    assert len(text) < 60_000
