"""Every registered re-balancing method: counts as asked, nothing made of the common class, the same seed the same rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import correlated
from vedette.data.rebalance import REBALANCERS, Balanced, Rebalancer, Smote
from vedette.detectors.mlp import Mlp
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import build, describe
from vedette.training.rows import TrainingRows

NAMES = sorted(REBALANCERS)
WORKING = [name for name in NAMES if name != "none"]
ROWS = np.random.default_rng(0).normal(size=(220, 3)).astype(np.float32)
LABELS = (np.arange(220) % 11 == 0).astype(np.int8)  # 20 of 220


def made(name: str, **settings: float) -> Rebalancer:
    return build(REBALANCERS, {"name": name, **settings}, "test")


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counted(balanced: Balanced, labels: np.ndarray = LABELS) -> list[int]:
    return np.bincount(np.concatenate([labels[balanced.keep], balanced.extra[:, -1].astype(int)]), minlength=2).tolist()


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 200), (0.5, 200), (0.2, 200)])
def test_the_rarer_class_has_the_ratio_asked_for(name: str, ratio: float, kept: int) -> None:
    normal, anomalous = counted(made(name, ratio=ratio).balanced(ROWS, LABELS, seeded()))
    assert anomalous == pytest.approx(ratio * normal, abs=1)
    if name == "under-sampling":
        assert anomalous == 20
    else:
        assert normal == kept


@pytest.mark.parametrize("name", WORKING)
def test_it_does_not_matter_which_class_is_rare(name: str) -> None:
    turned = (1 - LABELS).astype(np.int8)
    assert counted(made(name).balanced(ROWS, turned, seeded()), turned)[::-1] == counted(made(name).balanced(ROWS, LABELS, seeded()))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_balanced_stays_as_it_is(name: str) -> None:
    for labels, ratio in ((LABELS, 0.1), (np.arange(220) % 2, 1.0)):
        balanced = made(name, ratio=ratio).balanced(ROWS, labels, seeded())
        assert balanced.keep.tolist() == list(range(220))
        assert balanced.extra.shape == (0, 4)


@pytest.mark.parametrize("name", WORKING)
def test_draws_are_those_of_the_generator(name: str) -> None:
    one, two, other = (made(name).balanced(ROWS, LABELS, seeded(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_rows_is_said(name: str) -> None:
    with pytest.raises(DataUnusable, match="no anomalous training row"):
        made(name).balanced(ROWS, np.zeros(220), seeded())
    with pytest.raises(DataUnusable, match="no normal training row"):
        made(name).balanced(ROWS, np.ones(220), seeded())


def test_over_sampling_repeats_and_makes_nothing() -> None:
    balanced = made("over-sampling").balanced(ROWS, LABELS, seeded())
    assert not len(balanced.extra)
    assert set(range(220)) <= set(balanced.keep.tolist())
    assert np.bincount(balanced.keep)[LABELS == 0].max() == 1


def test_synthetic_points_lie_between_two_of_their_class() -> None:
    extra = made("smote", neighbours=3).balanced(ROWS, LABELS, seeded()).extra
    assert extra.dtype == np.float32
    assert (extra[:, -1] == 1).all()
    rare = ROWS[LABELS == 1].astype(np.float64)
    for point in extra[:40, :-1].astype(np.float64):
        detour = np.linalg.norm(point - rare[:, None], axis=2) + np.linalg.norm(point - rare[None], axis=2)
        straight = np.linalg.norm(rare[:, None] - rare[None], axis=2)
        np.fill_diagonal(detour, np.inf)
        assert (detour - straight).min() < 1e-4


def test_few_rows_of_a_class_are_enough() -> None:
    for few in (1, 2, 3):
        labels = np.zeros(220, dtype=np.int8)
        labels[:few] = 1
        normal, anomalous = counted(made("smote").balanced(ROWS, labels, seeded()), labels)
        assert (normal, anomalous) == (220 - few, 220 - few)


@pytest.mark.parametrize("wrong", [{"ratio": 0}, {"ratio": 1.5}, {"name": "smote", "neighbours": 0}, {"name": "smot"}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((RecipeError, UnknownName)):
        build(REBALANCERS, {"name": "over-sampling", **wrong}, "test")


def test_settings_survive_json() -> None:
    for name in NAMES:
        assert build(REBALANCERS, json.loads(json.dumps(describe(REBALANCERS, made(name)))), "") == made(name)


def test_a_classifier_trains_on_balanced_rows() -> None:
    table = correlated(400, 4, seed=1, anomalies=0.05)
    detector = Mlp(rebalance=Smote(), epochs=3).fit(table)
    rows = TrainingRows(detector, table, detector.memory, rng=seeded())
    _, labels = rows.take(np.arange(len(rows)))
    assert np.bincount(labels.astype(int)).tolist() == [int((table.label == 0).sum())] * 2
    plain = Mlp(epochs=3).fit(table)
    anomalous = table.take(np.flatnonzero(table.label == 1))
    assert detector.decision_function(anomalous).mean() > plain.decision_function(anomalous).mean()
