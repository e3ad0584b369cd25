"""Every registered aggregator against brute force in float64."""

from __future__ import annotations

import json
from collections.abc import Callable

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

Rows = list[list[float]]
Found = tuple[list[float], list[float] | None]
"""The result, and what share of each node is in it; None where nodes are not told apart."""


def mean(rows: Rows, weights: list[float]) -> Found:
    total = sum(weights)
    return [sum(w * v for w, v in zip(weights, column, strict=True)) / total for column in zip(*rows, strict=True)], None


def within(rows: Rows, kept: Callable[[list[float]], list[float]]) -> Found:
    """The mean of what is kept of each column, and how often each node lies between the smallest and the largest of that."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    spans = [kept(sorted(column)) for column in columns]
    inside = [sum(min(span) <= value <= max(span) for value, span in zip(row, spans, strict=True)) / len(row) for row in rows]
    return [sum(span) / len(span) for span in spans], inside


def median(rows: Rows, weights: list[float]) -> Found:
    half = len(rows) // 2
    return within(rows, lambda ordered: [ordered[half]] if len(ordered) % 2 else ordered[half - 1 : half + 1])


def trimmed_mean(rows: Rows, weights: list[float]) -> Found:
    # A fifth at each end, rounded down, but at least one of three or more.
    cut = {1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}[len(rows)]
    return within(rows, lambda ordered: ordered[cut : len(ordered) - cut])


def ranked(rows: Rows, attackers: int) -> list[int]:
    """Places from the smallest sum of squared distances to the n - f - 2 nearest others to the largest."""
    scores = []
    for i, one in enumerate(rows):
        far = sorted(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for j, other in enumerate(rows) if j != i)
        scores.append(sum(far[: len(rows) - attackers - 2]))
    # Two nodes that are each other's nearest score the same: the first of them wins, whatever rounding says.
    return sorted(range(len(rows)), key=lambda i: (float(f"{scores[i]:.6e}"), i))


def of(rows: Rows, places: list[int]) -> Found:
    chosen = [rows[place] for place in places]
    return [sum(column) / len(chosen) for column in zip(*chosen, strict=True)], [float(i in places) for i in range(len(rows))]


# f = 2 is asked for: it takes seven nodes, five withstand one, fewer none; of one or two all count.
WITHSTOOD = {3: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 2, 9: 2}


def krum(rows: Rows, weights: list[float]) -> Found:
    return of(rows, [0, 1][: len(rows)] if len(rows) < 3 else ranked(rows, WITHSTOOD[len(rows)])[:1])


def multi_krum(rows: Rows, weights: list[float]) -> Found:
    attackers = 0 if len(rows) < 3 else WITHSTOOD[len(rows)]
    return of(rows, [0, 1][: len(rows)] if len(rows) < 3 else ranked(rows, attackers)[: len(rows) - attackers])


NAMES = sorted(AGGREGATORS)
GATHERING = sorted(name for name in AGGREGATORS if AGGREGATORS[name].gathers)
SETTINGS: dict[str, dict[str, float]] = {"trimmed-mean": {"share": 0.2}, "krum": {"attackers": 2}, "multi-krum": {"attackers": 2}}
ORACLES = {"mean": mean, "median": median, "trimmed-mean": trimmed_mean, "krum": krum, "multi-krum": multi_krum}
"""What becomes of [nodes, parameters], in plain Python."""


def brute(name: str, matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.array(ORACLES[name](matrix.astype(float).tolist(), weights.tolist())[0])


def built(name: str) -> Aggregator:
    return AGGREGATORS[name](**SETTINGS.get(name, {}))


def seen(aggregator: Aggregator, matrices: dict[str, np.ndarray], facts: dict[str, np.ndarray]) -> Answers:
    """The answers of nodes n0, n1 … that send a row of each matrix."""
    combine = "gather" if aggregator.gathers else "mean"
    view = Answers([Channel(channel, combine=combine, weights=tuple(facts)) for channel in matrices])
    for number in range(len(next(iter(matrices.values())))):
        vectors = {channel: Vector(matrix[number], channel) for channel, matrix in matrices.items()}
        view.add(f"n{number}", Message(vectors=vectors, facts={fact: float(values[number]) for fact, values in facts.items()}))
    return view


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
    found = aggregator(matrix, weights)
    assert np.allclose(found, brute(name, matrix, weights), rtol=1e-12)
    before = matrix.copy(), weights.copy()
    order = rng.permutation(nodes)
    turned = aggregator(matrix[order], weights[order])
    # Krum's ties go by the order of nodes, and the two nearest of three or four tie by themselves.
    assert np.allclose(turned, brute(name, matrix[order], weights[order]) if "krum" in name else found, rtol=1e-12)
    assert np.array_equal(matrix, before[0])
    assert np.array_equal(weights, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_aggregator_keeps_what_all_agree_on(name: str) -> None:
    same = np.tile(np.array([1.5, -2.0, 0.0]), (5, 1))
    assert np.allclose(built(name)(same, np.arange(1.0, 6.0)), same[0], rtol=1e-15)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 6, 7, 9])
def test_over_a_view_it_is_the_same_as_over_the_matrix_and_tells_who_counted(name: str, nodes: int) -> None:
    rng = np.random.default_rng(nodes)
    # Few distinct values, so that some are tied.
    matrix, rows = rng.integers(0, 4, (nodes, 40)).astype(np.float32), rng.integers(1, 50, nodes).astype(float)
    aggregator = built(name)
    combined = aggregator.combined(seen(aggregator, {"model": matrix}, {"rows": rows}))
    values, counted = ORACLES[name](matrix.astype(float).tolist(), rows.tolist())
    np.testing.assert_allclose(combined.vectors["model"].values, values, rtol=1e-6)
    assert (combined.vectors["model"].values.dtype, combined.vectors["model"].layout) == (np.float32, "model")
    assert combined.counted == ({} if counted is None else pytest.approx({f"n{i}": share for i, share in enumerate(counted)}))


@pytest.mark.parametrize("name", NAMES)
def test_further_channels_come_from_the_same_nodes(name: str) -> None:
    rng = np.random.default_rng(4)
    model, norms, rows = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32), np.arange(1.0, 8.0)
    aggregator = built(name)
    combined = aggregator.combined(seen(aggregator, {"model": model, "norms": norms}, {"rows": rows}), ("model", "norms"))
    if "krum" in name:
        # Chosen on the first channel alone, from which the second would choose others.
        chosen = [i for i in range(7) if combined.counted[f"n{i}"]]
        assert chosen == sorted(ranked(model.tolist(), 2)[: len(chosen)])
        assert chosen != sorted(ranked(norms.tolist(), 2)[: len(chosen)])
        np.testing.assert_allclose(combined.vectors["norms"].values, norms[chosen].mean(axis=0, dtype=float), rtol=1e-6)
    else:
        np.testing.assert_allclose(combined.vectors["norms"].values, brute(name, norms, rows), rtol=1e-6)
    np.testing.assert_allclose(combined.vectors["model"].values, brute(name, model, rows), rtol=1e-6)
    alone = aggregator.combined(seen(aggregator, {"model": model}, {"rows": rows}))
    assert combined.counted == alone.counted


@pytest.mark.parametrize("name", NAMES)
def test_facts_weight_a_mean_and_nothing_else(name: str) -> None:
    """Eq. 6 of Wang et al. 2021: p_k = 0.8 var_k / sum var + 0.2 rows_k / sum rows."""
    rng = np.random.default_rng(5)
    matrix, rows, variance = rng.normal(size=(7, 6)).astype(np.float32), np.arange(1.0, 8.0), rng.uniform(0.1, 3, 7)
    aggregator, by = built(name), {"variance": 0.8, "rows": 0.2}
    combined = aggregator.combined(seen(aggregator, {"model": matrix}, {"rows": rows, "variance": variance}), by=by)
    weights = 0.8 * variance / variance.sum() + 0.2 * rows / rows.sum()
    np.testing.assert_allclose(combined.vectors["model"].values, brute(name, matrix, weights), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", GATHERING)
def test_what_nodes_say_of_themselves_is_not_even_read(name: str) -> None:
    matrix = np.random.default_rng(7).normal(size=(7, 5)).astype(np.float32)
    aggregator = built(name)
    view = Answers([Channel("model", combine="gather"), Channel("norms", combine="gather")])
    lies: list[dict[str, float | str]] = [{}, {"rows": float("nan")}, {"rows": "many"}, {"rows": -1.0}, {"rows": 1e300}, {}, {}]
    for number, facts in enumerate(lies):
        vectors = {"model": Vector(matrix[number], "x"), "norms": Vector(matrix[number, :1], "y")}
        view.add(f"n{number}", Message(vectors=vectors, facts=facts))
    # Who leaves one channel out takes part in none, and does not shift the others' rows.
    view.add("m", Message(vectors={"model": Vector(np.full(5, 9, dtype=np.float32), "x")}))
    combined = aggregator.combined(view, ("model", "norms"), {"variance": 1.0})
    np.testing.assert_allclose(combined.vectors["model"].values, brute(name, matrix, np.ones(7)), rtol=1e-6)
    assert sorted(combined.counted) == [f"n{number}" for number in range(7)]


@pytest.mark.parametrize("name", NAMES)
def test_blocks_make_no_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, weights = np.random.default_rng(0).normal(size=(8, 101)).astype(np.float32), np.arange(1.0, 9.0)
    whole = built(name)(matrix, weights)
    monkeypatch.setattr("vedette.strategies.aggregation.CELLS", 8 * 13)
    monkeypatch.setattr("vedette.strategies.similarity.BLOCK", 17)
    np.testing.assert_allclose(built(name)(matrix, weights), whole, rtol=1e-12)
    np.testing.assert_allclose(whole, brute(name, matrix, weights), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name: str) -> None:
    assert build(AGGREGATORS, json.loads(json.dumps(describe(AGGREGATORS, built(name)))), "test") == built(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_fedavg_takes_it_and_opens_its_channels_no_further_than_needed(name: str) -> None:
    strategy = build(STRATEGIES, {"name": "fedavg", "aggregator": {"name": name, **SETTINGS.get(name, {})}}, "test")
    assert isinstance(strategy, FedAvg)
    assert strategy.aggregator == built(name)
    assert {channel.combine for channel in strategy.channels} == {"gather" if built(name).gathers else "mean"}
