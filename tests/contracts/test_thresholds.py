"""Every registered threshold rule against its definition, on the scores of one node or of many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from conftest import correlated
from vedette.data.scaling import Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.detectors.classical import VarianceDistance
from vedette.detectors.threshold import THRESHOLDS, Threshold
from vedette.errors import RecipeError
from vedette.settings import build, describe

NAMES = sorted(THRESHOLDS)
SETTINGS: dict[str, dict[str, float]] = {"mean-std": {"k": 1.5}, "quantile": {"q": 0.95}, "fixed": {"score": 0.7}}
WRONG: dict[str, dict[str, object]] = {"mean-std": {"k": "many"}, "quantile": {"q": 1}, "fixed": {"score": -1}}


def mean_std(scores: list[float]) -> float:
    mean = sum(scores) / len(scores)
    return mean + 1.5 * math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))


def quantile(scores: list[float]) -> float:
    return sorted(scores)[math.ceil(0.95 * len(scores)) - 1]


ORACLES: dict[str, Callable[[list[float]], float]] = {"mean-std": mean_std, "quantile": quantile, "fixed": lambda scores: 0.7}
ACCURACY = {"quantile": 2.01 * Sketch.ACCURACY}


def built(name: str, **settings: object) -> Threshold:
    return build(THRESHOLDS, {"name": name, **SETTINGS.get(name, {}), **settings}, "test")


def value(rule: Threshold, *parts: np.ndarray) -> float:
    """Return the threshold of the scores of several nodes, as they travel."""
    moments = [Moments.from_table(Moments.of(part[:, None]).table()) for part in parts]
    sketches = [Sketch.from_table(Sketch.of(part).table()) for part in parts]
    return rule.value(Moments.merged(moments), Sketch.merged(sketches))


def test_every_registered_rule_has_an_oracle() -> None:
    assert set(ORACLES) == set(WRONG) == set(NAMES) == set(THRESHOLDS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 19, 20, 21, 500])
def test_every_rule_is_its_definition_however_the_rows_are_shared_out(name: str, rows: int) -> None:
    scores = np.random.default_rng(rows).gamma(2, 0.3, rows)
    expected = pytest.approx(ORACLES[name](scores.tolist()), rel=ACCURACY.get(name, 1e-9) + 1e-12)
    assert value(built(name), scores) == expected
    for nodes in (1, 2, 7):
        assert value(built(name), *np.array_split(scores[::-1], min(nodes, rows))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_equal_scores_are_their_own_threshold_or_above(name: str) -> None:
    assert value(built(name), np.full(50, 0.5)) >= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_node_that_sets_its_own_looks_at_its_own_scores(name: str) -> None:
    """What a node holds after a federation: summaries of all nodes, and its own beside them."""
    table = correlated(300, 4, seed=3)
    rng = np.random.default_rng(0)
    fleet, own = rng.gamma(2, 0.5, 400), rng.gamma(2, 0.1, 100)
    memory: dict[str, np.ndarray] = {}
    for prefix, scores in (("", fleet), ("own.", own)):
        memory |= {f"{prefix}scores.moments": Moments.of(scores[:, None]).table(), f"{prefix}scores.sketch": Sketch.of(scores).table()}
    for fit, scores in (("federated", fleet), ("local", own)):
        detector = VarianceDistance(scaling=Scaling(numbers="standard"), threshold=built(name, fit=fit)).fit(table)
        detector.restore({**detector.memory, **memory})
        assert detector.threshold_ == pytest.approx(ORACLES[name](scores.tolist()), rel=ACCURACY.get(name, 1e-9) + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_set_by_the_normal_training_rows_of_a_detector(name: str) -> None:
    train = correlated(500, 6, seed=1, anomalies=0.15)
    detector = VarianceDistance(scaling=Scaling(numbers="standard"), threshold=built(name)).fit(train)
    scores = detector.decision_function(train.normal())
    assert detector.threshold_ == pytest.approx(ORACLES[name](scores.tolist()), rel=ACCURACY.get(name, 1e-9) + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json_and_impossible_ones_are_said(name: str) -> None:
    rule = built(name, fit="local")
    assert build(THRESHOLDS, json.loads(json.dumps(describe(THRESHOLDS, rule))), "test") == rule
    for wrong in (WRONG[name], {"fit": "both"}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            built(name, **wrong)


@pytest.mark.parametrize("distinct", [1, 2, 8, 400])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_a_quantile_keeps_its_promise_among_ties(distinct: int, q: float) -> None:
    """No more than 1 - q of the calibration rows lie above it, however many scores are equal, zeros included."""
    scores = np.random.default_rng(distinct).integers(0, distinct, 400) / 7
    assert (scores > value(built("quantile", q=q), scores)).mean() <= 1 - q + 1e-12
