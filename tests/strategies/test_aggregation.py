"""Aggregators against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.message import Channel, Message, Vector
from vedette.strategies.aggregation import AGGREGATORS, Aggregator, TrimmedMean
from vedette.strategies.view import Answers


def brute(name: str, matrix: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """One coordinate after the other, in plain Python."""
    found = []
    for column in matrix.T.astype(float):
        values = sorted(column)
        if name == "mean":
            found.append(sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights))
        elif name == "median":
            half = len(values) // 2
            found.append(values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2)
        else:
            cut = int(share * len(values))
            kept = values[cut : len(values) - cut]
            found.append(sum(kept) / len(kept))
    return np.array(found)


def built(name: str) -> Aggregator:
    return TrimmedMean(share=0.2) if name == "trimmed-mean" else AGGREGATORS[name]()


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
@settings(deadline=None, max_examples=40)
@given(nodes=st.integers(1, 9), parameters=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_aggregator_is_its_definition(name, nodes, parameters, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(nodes, parameters)) * 10.0 ** rng.integers(-3, 4)
    weights = rng.integers(1, 1000, nodes).astype(float)
    aggregator = built(name)
    assert np.allclose(aggregator(matrix, weights), brute(name, matrix, weights, 0.2), rtol=1e-12)
    order = rng.permutation(nodes)
    assert np.allclose(aggregator(matrix[order], weights[order]), aggregator(matrix, weights), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_every_aggregator_keeps_what_all_agree_on(name):
    same = np.tile(np.array([1.5, -2.0, 0.0]), (5, 1))
    assert np.allclose(built(name)(same, np.arange(1.0, 6.0)), same[0], rtol=1e-15)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_over_a_view_it_is_the_same_as_over_the_matrix(name):
    aggregator = built(name)
    view = Answers([Channel("model", combine="gather" if aggregator.gathers else "mean")])
    rng = np.random.default_rng(0)
    matrix, rows = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(1, 50, 6).astype(float)
    for number in (3, 1, 5, 0, 2, 4):
        view.add(f"n{number}", Message(vectors={"model": Vector(matrix[number], "x")}, facts={"rows": rows[number]}))
    assert np.allclose(aggregator.combined(view, "model").values, brute(name, matrix, rows, 0.2), rtol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_robust_aggregators_resist_one_wild_node(name):
    honest = np.random.default_rng(1).normal(size=(9, 3))
    wild = np.vstack([honest, [[1e6, -1e6, 1e6]]])
    assert np.abs(built(name)(wild, np.ones(10))).max() < 3
    assert np.abs(built("mean")(wild, np.ones(10))).min() > 1e4
