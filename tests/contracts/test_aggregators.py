"""Every registered aggregator against brute force in float64."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.message import Channel, Message, Vector
from vedette.settings import build, describe
from vedette.strategies.aggregation import AGGREGATORS, Aggregator
from vedette.strategies.base import STRATEGIES
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.view import Answers


def mean(values: list[float], weights: list[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def median(values: list[float], weights: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def trimmed_mean(values: list[float], weights: list[float]) -> float:
    # A fifth at each end, rounded down, but at least one of three or more.
    cut = {1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}[len(values)]
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


NAMES = sorted(AGGREGATORS)
SETTINGS: dict[str, dict[str, float]] = {"trimmed-mean": {"share": 0.2}}
ORACLES = {"mean": mean, "median": median, "trimmed-mean": trimmed_mean}
"""What becomes of one coordinate, in plain Python."""


def brute(name: str, matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.array([ORACLES[name](column, weights.tolist()) for column in matrix.T.astype(float).tolist()])


def built(name: str) -> Aggregator:
    return AGGREGATORS[name](**SETTINGS.get(name, {}))


def test_every_registered_aggregator_has_an_oracle() -> None:
    assert set(ORACLES) == set(NAMES) == set(AGGREGATORS)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(nodes=st.integers(1, 9), parameters=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_aggregator_is_its_definition(name: str, nodes: int, parameters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(nodes, parameters)) * 10.0 ** rng.integers(-3, 4)
    weights = rng.integers(1, 1000, nodes).astype(float)
    aggregator = built(name)
    assert np.allclose(aggregator(matrix, weights), brute(name, matrix, weights), rtol=1e-12)
    before = matrix.copy(), weights.copy()
    order = rng.permutation(nodes)
    assert np.allclose(aggregator(matrix[order], weights[order]), aggregator(matrix, weights), rtol=1e-12)
    assert np.array_equal(matrix, before[0])
    assert np.array_equal(weights, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_aggregator_keeps_what_all_agree_on(name: str) -> None:
    same = np.tile(np.array([1.5, -2.0, 0.0]), (5, 1))
    assert np.allclose(built(name)(same, np.arange(1.0, 6.0)), same[0], rtol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_over_a_view_it_is_the_same_as_over_the_matrix(name: str) -> None:
    aggregator = built(name)
    view = Answers([Channel("model", combine="gather" if aggregator.gathers else "mean")])
    rng = np.random.default_rng(0)
    matrix, rows = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(1, 50, 6).astype(float)
    for number in (3, 1, 5, 0, 2, 4):
        view.add(f"n{number}", Message(vectors={"model": Vector(matrix[number], "x")}, facts={"rows": rows[number]}))
    assert np.allclose(aggregator.combined(view, "model").values, brute(name, matrix, rows), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name: str) -> None:
    assert build(AGGREGATORS, json.loads(json.dumps(describe(AGGREGATORS, built(name)))), "test") == built(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_fedavg_takes_it_and_opens_its_channels_no_further_than_needed(name: str) -> None:
    strategy = build(STRATEGIES, {"name": "fedavg", "aggregator": {"name": name, **SETTINGS.get(name, {})}}, "test")
    assert isinstance(strategy, FedAvg)
    assert strategy.aggregator == built(name)
    assert {channel.combine for channel in strategy.channels} == {"gather" if built(name).gathers else "mean"}
