"""Every registered threshold rule against its definition, on the scores of one node or of many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, genpareto

from conftest import correlated
from vedette.data.scaling import Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.detectors.classical import VarianceDistance
from vedette.detectors.threshold import THRESHOLDS, Conformal, Threshold
from vedette.errors import DataUnusable, RecipeError
from vedette.settings import build, describe

NAMES = sorted(THRESHOLDS)
SETTINGS: dict[str, dict[str, float]] = {
    "mean-std": {"k": 1.5},
    "quantile": {"q": 0.95},
    "conformal": {"rate": 0.1},
    "pot": {"rate": 0.01, "start": 0.5},
    "fixed": {"score": 0.7},
}
WRONG: dict[str, dict[str, object]] = {
    "mean-std": {"k": "many"},
    "quantile": {"q": 0},
    "conformal": {"rate": 0},
    "pot": {"start": 1},
    "fixed": {"score": -1},
}
LEAST = {"conformal": 9, "pot": 20}
"""Rows below which a rule says that it cannot keep its promise."""


def mean_std(scores: list[float]) -> float:
    mean = sum(scores) / len(scores)
    return mean + 1.5 * math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))


def quantile(scores: list[float]) -> float:
    return sorted(scores)[math.ceil(0.95 * len(scores)) - 1]


def conformal(scores: list[float]) -> float:
    return sorted(scores)[math.ceil(0.9 * (len(scores) + 1)) - 1]


def tail(scores: list[float]) -> float:
    begin = sorted(scores)[math.ceil(0.5 * len(scores)) - 1]
    excess = np.array([score - begin for score in scores if score > begin])

    def unlikely(parameters: np.ndarray) -> float:
        shape, scale = parameters
        inside = 1 + shape * excess / scale
        if scale <= 0 or not -0.5 < shape < 0.9 or (inside <= 0).any():
            return 1e18
        return len(excess) * math.log(scale) + (1 / shape + 1) * float(np.log(inside).sum())

    starts = [(shape, scale * excess.mean()) for shape in (-0.4, -0.1, 0.1, 0.4) for scale in (0.7, 1.3)]
    shape, scale = min((minimize(unlikely, start, method="Nelder-Mead") for start in starts), key=lambda found: found.fun).x
    return begin + scale / shape * ((0.01 * len(scores) / len(excess)) ** -shape - 1)


ORACLES: dict[str, Callable[[list[float]], float]] = {
    "mean-std": mean_std,
    "quantile": quantile,
    "conformal": conformal,
    "pot": tail,
    "fixed": lambda scores: 0.7,
}
ACCURACY = {"quantile": 2.01 * Sketch.ACCURACY, "conformal": 2.01 * Sketch.ACCURACY, "pot": 0.03}


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
    if rows < LEAST.get(name, 0):
        with pytest.raises(DataUnusable, match="calibration rows"):
            value(built(name), scores)
        return
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


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_says_what_it_promises(name: str) -> None:
    assert "(" in built(name).says
    assert built(name).says.endswith(")")


def test_a_conformal_bound_keeps_its_rate_on_average_and_a_surer_one_nearly_always() -> None:
    rng, rates = np.random.default_rng(5), {None: [], 0.95: []}
    for _ in range(400):
        scores = rng.exponential(size=300)
        for confidence, found in rates.items():
            found.append(math.exp(-value(built("conformal", rate=0.05, confidence=confidence), scores)))  # the rate of new rows, exactly
    assert 0.044 < np.mean(rates[None]) <= 0.0505
    assert (np.array(rates[None]) > 0.05).mean() > 0.3
    assert (np.array(rates[0.95]) > 0.05).mean() <= 0.07


@pytest.mark.parametrize(("rows", "rate", "confidence"), [(59, 0.05, 0.95), (500, 0.05, 0.9), (10_000, 0.001, 0.99), (100_000, 0.01, 0.95)])
def test_a_sure_bound_is_the_binomial_tolerance_bound(rows: int, rate: float, confidence: float) -> None:
    rule = Conformal(rate=rate, confidence=confidence)
    above = rule.above(rows)
    assert binom.cdf(above, rows, rate) <= 1 - confidence < binom.cdf(above + 1, rows, rate)


def test_too_few_rows_for_a_promise_are_said_with_how_many_would_do() -> None:
    with pytest.raises(DataUnusable, match=r"0\.001 cannot be promised by 300 calibration rows; about 1024 would do"):
        value(built("conformal", rate=0.001), np.arange(300.0))
    with pytest.raises(DataUnusable, match="500 would do"):
        value(built("pot", start=0.98), np.arange(300.0))


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_a_fitted_tail_reaches_beyond_the_rows(shape: float) -> None:
    far = []
    for seed in range(20):
        scores = 1 + genpareto.rvs(shape, scale=0.5, size=5000, random_state=seed)
        far.append(value(built("pot", rate=1e-5, start=0.9), scores))
    assert np.median(far) == pytest.approx(1 + genpareto.ppf(1 - 1e-5, shape, scale=0.5), rel=0.25)


def test_a_threshold_is_worked_out_once_for_a_state_and_anew_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, train = [], correlated(600, 4, seed=3)
    kept = Conformal.value
    monkeypatch.setattr(Conformal, "value", lambda self, *args: (calls.append(1), kept(self, *args))[1])
    detector = VarianceDistance(scaling=Scaling(numbers="standard"), threshold=Conformal(rate=0.1)).fit(train)
    first = detector.threshold_
    for _ in range(5):
        detector.predict(train)
    assert len(calls) == 1
    assert detector.calibrated(correlated(50, 4, seed=9)).threshold_ != first
    assert detector.model_copy(update={"threshold": Conformal(rate=0.3)}).threshold_ < detector.threshold_
