"""Every registered query: what it says of a node's rows, and that it says nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import probes  # noqa: F401 - registers a probe query
import pytest

from conftest import correlated
from vedette.data.scaling import Scaling
from vedette.data.summaries import Covariance, Sketch
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.classical import Pca
from vedette.errors import TrainingDiverged
from vedette.message import Message, bytes_of
from vedette.training.queries import QUERIES, Asked
from vedette.training.task import Optimiser

NAMES = sorted(QUERIES)
SETTINGS: dict[str, dict[str, Any]] = {
    "probe-noisy-rows": {"rows": 9},
    "residuals": {"summary": "moments"},
    "scaling": Scaling(numbers="standard").model_dump(mode="json"),
}
HIDES = ["inputs", "residuals", "scaling", "scores", "summary"]
"""Those that answer with statistics of bounded size; all others send rows, made-up or real, and must say so in their name here."""
SHARES = ["probe-noisy-rows"]
DETECTOR = Autoencoder(hidden=(3,), scaling=Scaling(numbers="standard"), epochs=2, optimiser=Optimiser(rate=0.01, batch=64))


@pytest.fixture(scope="module")
def fitted() -> Autoencoder:
    return DETECTOR.model_copy().fit(correlated(300, 4, seed=1), seed=2)


def said(name: str, fitted: Autoencoder, rows: Table, seed: int = 0) -> Message:
    detector = Pca(scaling=DETECTOR.scaling) if name == "summary" else fitted
    asked = Asked(rows, fitted.memory, detector, fitted.network().forward)
    return QUERIES[name](asked, SETTINGS.get(name, {}), np.random.default_rng(seed))


def same(one: Message, other: Message) -> bool:
    tables = one.tables.keys() == other.tables.keys() and all(np.array_equal(one.tables[key], other.tables[key]) for key in one.tables)
    return tables and one.facts == other.facts and not one.vectors and not other.vectors


def test_every_registered_query_is_tried() -> None:
    assert set(NAMES) == set(QUERIES) == {*HIDES, *SHARES}


@pytest.mark.parametrize("name", NAMES)
class TestEveryQuery:
    def test_says_arrays_numbers_and_text(self, name: str, fitted: Autoencoder) -> None:
        message = said(name, fitted, correlated(200, 4, seed=3, anomalies=0.1))
        assert message.tables or message.facts
        assert not message.vectors
        for table in message.tables.values():
            assert table.dtype in (np.float32, np.float64)
            assert np.isfinite(table).all()
        assert all(isinstance(fact, float | str) for fact in message.facts.values())

    def test_is_pure_and_repeatable(self, name: str, fitted: Autoencoder) -> None:
        rows = correlated(200, 4, seed=3, anomalies=0.1)
        before, memory = rows.numbers.copy(), {key: np.array(value) for key, value in fitted.memory.items()}
        assert same(said(name, fitted, rows), said(name, fitted, rows))
        assert np.array_equal(rows.numbers, before)
        assert all(np.array_equal(memory[key], value) for key, value in fitted.memory.items())

    def test_answers_without_a_normal_row(self, name: str, fitted: Autoencoder) -> None:
        rows = correlated(20, 4, seed=3)
        bad = Table(rows.features, rows.numbers, label=np.ones(20, dtype=np.int8))
        for message in (said(name, fitted, bad), said(name, fitted, rows.take(slice(0, 0)))):
            assert isinstance(message, Message)


@pytest.mark.parametrize("name", HIDES)
def test_statistics_do_not_grow_with_the_rows(name: str, fitted: Autoencoder) -> None:
    few, many = (bytes_of(said(name, fitted, correlated(rows, 4, seed=5))) for rows in (2_000, 40_000))
    assert many < 5 * few  # of twenty times the rows: more bins of the same range are used


@pytest.mark.parametrize("name", ["residuals", "scores"])
def test_anomalous_rows_leave_no_trace_in_thresholds(name: str, fitted: Autoencoder) -> None:
    rows = correlated(300, 4, seed=6, anomalies=0.3)
    assert rows.label is not None
    wild = rows.numbers.copy()
    wild[rows.label == 1] = 1e5
    assert same(said(name, fitted, Table(rows.features, wild, label=rows.label)), said(name, fitted, rows))


Oracle = Callable[[Autoencoder, Table], Mapping[str, np.ndarray]]


def residuals(fitted: Autoencoder, rows: Table) -> Mapping[str, np.ndarray]:
    inputs = fitted.scaler.transform(rows)
    gap = (fitted.network().forward(inputs) - inputs).astype(np.float64)
    return {"moments": np.stack([np.full(4, len(rows)), gap.mean(axis=0), ((gap - gap.mean(axis=0)) ** 2).sum(axis=0)])}


def scores(fitted: Autoencoder, rows: Table) -> Mapping[str, np.ndarray]:
    found = fitted.decision_function(rows)
    moments = np.array([[len(rows)], [found.mean()], [((found - found.mean()) ** 2).sum()]])
    return {"moments": moments, "sketch": Sketch.of(found).table()}


def scaling(fitted: Autoencoder, rows: Table) -> Mapping[str, np.ndarray]:
    x = rows.numbers
    return {"numbers": np.stack([np.full(4, len(rows)), x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).sum(axis=0)])}


def summary(fitted: Autoencoder, rows: Table) -> Mapping[str, np.ndarray]:
    inputs = fitted.scaler.transform(rows).astype(np.float64)
    products = np.cov(inputs.T, bias=True) * len(rows)
    return {"covariance": np.concatenate([np.full((1, 4), len(rows)), inputs.mean(axis=0)[None], products])}


def usual(fitted: Autoencoder, rows: Table) -> dict[str, np.ndarray]:
    scaled = fitted.scaler.transform(rows.normal()).astype(np.float64)
    return {"moments": np.stack([np.full(4, len(scaled)), scaled.mean(axis=0), ((scaled - scaled.mean(axis=0)) ** 2).sum(axis=0)])}


ORACLES: dict[str, Oracle] = {"inputs": usual, "residuals": residuals, "scaling": scaling, "scores": scores, "summary": summary}


@pytest.mark.parametrize("name", HIDES)
def test_statistics_are_those_of_the_rows_over_all_chunks(name: str, fitted: Autoencoder) -> None:
    rows = correlated(70_000, 4, seed=7)  # more than the 65,536 rows, or the 16,384, that are looked at together
    message, expected = said(name, fitted, rows), ORACLES[name](fitted, rows)
    assert message.tables.keys() == expected.keys()
    for key, table in expected.items():
        np.testing.assert_allclose(message.tables[key], table, rtol=1e-5, atol=1e-9)
    assert next(iter(message.tables.values())).flat[0] == 70_000


def test_levels_are_told_with_where_they_first_stand(fitted: Autoencoder) -> None:
    from conftest import with_category

    rows = with_category(correlated(50, 4, seed=8), 1)
    texts = rows.column("lamp").texts()
    counted = json.loads(str(said("scaling", fitted, rows).facts["levels"]))
    assert counted == {"lamp": {level: texts.index(level) for level in set(texts)}}


def test_scores_that_are_no_numbers_are_said(fitted: Autoencoder) -> None:
    rows = correlated(20, 4, seed=9)
    asked = Asked(rows, fitted.memory, fitted, lambda inputs: np.full_like(inputs, np.nan))
    with pytest.raises(TrainingDiverged, match="20 of 20 scores are not finite"):
        QUERIES["scores"](asked, {}, np.random.default_rng(0))


def test_residuals_may_be_summarised_with_what_goes_together(fitted: Autoencoder) -> None:
    rows = correlated(700, 4, seed=4, anomalies=0.1)
    asked = Asked(rows, fitted.memory, fitted, fitted.network().forward)
    tables = QUERIES["residuals"](asked, {"summary": "covariance"}, np.random.default_rng(0)).tables
    summary = Covariance.from_table(tables["covariance"])
    gaps = np.concatenate([fitted.residuals(inputs, outputs) for inputs, outputs in asked.outputs()])
    assert summary.count == len(gaps) == (rows.label == 0).sum()
    np.testing.assert_allclose(summary.matrix, np.cov(gaps.T, bias=True), rtol=1e-6, atol=1e-9)
