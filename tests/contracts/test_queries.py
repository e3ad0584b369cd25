"""Every registered query: what it says of a node's rows, and that it says nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import probes  # noqa: F401 - registers a probe query
import pytest

from conftest import correlated, with_category
from vedette.data.scaling import Scaling
from vedette.data.summaries import Covariance, Sketch
from vedette.data.table import Coded, Feature, Table, concat
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.classical import Pca
from vedette.detectors.mlp import Mlp
from vedette.errors import TrainingDiverged
from vedette.message import Array, Message, bytes_of
from vedette.training.queries import QUERIES, Asked
from vedette.training.task import Optimiser

NAMES = sorted(QUERIES)
SETTINGS: dict[str, dict[str, Any]] = {
    "k-smote": {"ratio": 1.0, "samples": 15, "neighbours": 20, "share": 0.5, "closeness": 0.05},
    "probe-noisy-rows": {"rows": 9},
    "residuals": {"summary": "moments"},
    "scaled-by": {"scaling": Scaling(numbers="standard").model_dump(mode="json"), "centres": [0.5] * 4, "spreads": [2.0] * 4},
    "scaling": Scaling(numbers="standard").model_dump(mode="json"),
    "votes": {"scaling": Scaling(numbers="standard").model_dump(mode="json")},
}
HIDES = ["inputs", "loss-of", "residuals", "scaled-by", "scaling", "scores", "summary", "variance", "votes"]
"""Those that answer with statistics of bounded size; all others send rows, made-up or real, and must say so in their name here."""
SHARES = ["k-smote", "probe-noisy-rows"]
DETECTOR = Autoencoder(hidden=(3,), scaling=Scaling(numbers="standard"), epochs=2, optimiser=Optimiser(rate=0.01, batch=64))


@pytest.fixture(scope="module")
def fitted() -> Autoencoder:
    return DETECTOR.model_copy().fit(correlated(300, 4, seed=1), seed=2)


def said(name: str, fitted: Autoencoder, rows: Table, seed: int = 0) -> Message:
    detector = Pca(scaling=DETECTOR.scaling) if name == "summary" else fitted
    forward = fitted.network().forward
    asked = Asked(rows, fitted.memory, detector, forward, {"own": forward, "none": np.zeros_like})
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


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_statistics_are_those_of_the_rows_over_all_chunks(name: str, fitted: Autoencoder) -> None:
    rows = correlated(70_000, 4, seed=7)  # more than the 65,536 rows, or the 16,384, that are looked at together
    message, expected = said(name, fitted, rows), ORACLES[name](fitted, rows)
    assert message.tables.keys() == expected.keys()
    for key, table in expected.items():
        np.testing.assert_allclose(message.tables[key], table, rtol=1e-5, atol=1e-9)
    assert next(iter(message.tables.values())).flat[0] == 70_000


def test_levels_are_told_with_where_they_first_stand(fitted: Autoencoder) -> None:
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


def test_variance_is_the_mean_over_columns_of_all_rows_scaled(fitted: Autoencoder) -> None:
    rows = correlated(70_000, 4, seed=7, anomalies=0.2)  # more than the 65,536 rows that are looked at together
    facts = said("variance", fitted, rows).facts
    assert facts == {"variance": pytest.approx(fitted.scaler.transform(rows).astype(np.float64).var(axis=0).mean(), rel=1e-9)}


def test_variance_by_hand() -> None:
    table = Table((Feature("a"), Feature("b")), np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]))
    detector = Pca(scaling=Scaling(numbers="min-max"), window=2).fit(table)
    rows = Table(table.features, np.array([[0.0, 0.0], [4.0, 10.0], [2.0, 20.0]]))
    asked = Asked(rows, detector.memory, detector, lambda inputs: inputs)
    # Scaled 0, 1, 0.5 and 0, 0.25, 0.5: variances 1/6 and 1/24; each row counts once, however many windows it stands in.
    assert QUERIES["variance"](asked, {}, np.random.default_rng(0)).facts["variance"] == pytest.approx((1 / 6 + 1 / 24) / 2)


def test_variance_of_constant_rows_is_above_0_and_tiny(fitted: Autoencoder) -> None:
    rows = correlated(50, 4, seed=1)
    same = Table(rows.features, np.ones((50, 4)))
    for table in (same, rows.take(slice(0, 1)), rows.take(slice(0, 0))):
        assert 0 < float(said("variance", fitted, table).facts["variance"]) < 1e-6


def labelled(rows: Table, anomalies: int) -> Table:
    """The same rows, evenly spread ones of them anomalous."""
    label = np.zeros(len(rows), dtype=np.int8)
    label[np.linspace(0, len(rows) - 1, anomalies).astype(int)] = 1
    return Table(rows.features, rows.numbers, rows.categories, label=label, group=rows.group)


def rows_of(table: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(table, dtype=np.float32)}


class TestKSmote:
    @pytest.mark.parametrize("rare", [0, 1])
    def test_makes_what_lacks_of_the_rarer_class_and_shares_a_part(self, fitted: Autoencoder, rare: int) -> None:
        rows = labelled(correlated(300, 4, seed=3), 60 if rare else 240)
        message = said("k-smote", fitted, rows)
        assert message.tables.keys() == {"", "shared"}
        made, shared = message.tables[""], message.tables["shared"]
        assert made.dtype == shared.dtype == np.float32
        assert made.shape == (180, 5)
        assert shared.shape == (90, 5)  # half of 180
        assert (made[:, -1] == rare).all()
        assert (shared[:, -1] == rare).all()
        assert rows_of(shared) < rows_of(made)
        assert len(rows_of(shared)) == 90
        facts = message.facts
        assert (facts["minority"], facts["made"], facts["shared"], facts["copies"]) == (60, 180, 90, 0)
        assert 0 <= float(facts["close"]) <= 90
        assert 0.3 < float(facts["membership"]) <= 1

    @pytest.mark.parametrize("closeness", [0.0, 0.05, 1.0])
    @pytest.mark.parametrize("anomalies", [2, 5, 30])
    def test_no_answer_holds_a_real_row_or_one_too_near(self, fitted: Autoencoder, closeness: float, anomalies: int) -> None:
        rows = labelled(correlated(200, 4, seed=4), anomalies)
        settings = {**SETTINGS["k-smote"], "closeness": closeness, "share": 1.0}
        asked = Asked(rows, fitted.memory, fitted, fitted.network().forward)
        message = QUERIES["k-smote"](asked, settings, np.random.default_rng(1))
        scaled = fitted.scaler.transform(rows)
        for table in message.tables.values():
            assert not rows_of(table[:, :-1]) & rows_of(scaled)
        real = scaled[rows.label == 1].astype(np.float64)
        apart = np.linalg.norm(real[:, None] - real, axis=2)
        np.fill_diagonal(apart, np.inf)
        least = np.quantile(apart.min(axis=1), closeness)
        nearest = {key: np.linalg.norm(t[:, None, :-1] - real, axis=2).min(axis=1) for key, t in message.tables.items()}
        assert (nearest["shared"] >= least - 1e-9).all()
        # With all of them asked for, all that are far enough are shared.
        assert message.facts["close"] == (nearest[""] < least).sum()
        assert message.facts["shared"] == len(nearest["shared"]) == message.facts["made"] - message.facts["close"]

    @pytest.mark.parametrize("repeated", [1, 6])
    def test_copies_of_a_single_row_stay_where_they_are(self, fitted: Autoencoder, repeated: int) -> None:
        rows = labelled(correlated(100, 4, seed=5), 1)
        bad = rows.take(np.flatnonzero(rows.label == 1))
        rows = concat([rows.normal(), *[bad] * repeated])
        message = said("k-smote", fitted, rows)
        made = 99 - repeated
        assert rows_of(message.tables[""][:, :-1]) == rows_of(fitted.scaler.transform(bad))
        assert message.tables["shared"].shape == (0, 5)
        assert message.facts == {"minority": repeated, "made": made, "close": made, "copies": made, "shared": 0}

    @pytest.mark.parametrize(("anomalies", "minority"), [(0, 0), (40, 0), (20, 20), (None, 0)])
    def test_where_nothing_lacks_nothing_is_made(self, fitted: Autoencoder, anomalies: int | None, minority: int) -> None:
        rows = correlated(40, 4, seed=6)
        rows = Table(rows.features, rows.numbers) if anomalies is None else labelled(rows, anomalies)
        message = said("k-smote", fitted, rows)
        assert [table.shape for table in message.tables.values()] == [(0, 5), (0, 5)]
        assert message.facts == {"minority": minority, "made": 0, "close": 0, "copies": 0, "shared": 0}

    def test_few_rows_leave_membership_open(self, fitted: Autoencoder) -> None:
        assert "membership" not in said("k-smote", fitted, labelled(correlated(100, 4, seed=5), 3)).facts

    def test_whole_windows_count_as_their_last_row(self) -> None:
        rows = labelled(with_category(correlated(90, 3, seed=8), 1), 30)
        # Three recordings of 30 rows: the first two rows of each have no whole window.
        rows = Table(
            rows.features,
            rows.numbers,
            rows.categories,
            label=rows.label,
            group=Coded(np.repeat(np.arange(3), 30).astype(np.int32), tuple("abc")),
        )
        detector = Mlp(window=3, epochs=1, scaling=Scaling(numbers="standard")).fit(rows)
        asked = Asked(rows, detector.memory, detector, detector.network().forward)
        message = QUERIES["k-smote"](asked, {**SETTINGS["k-smote"], "closeness": 0.0}, np.random.default_rng(0))
        whole = np.arange(90) % 30 >= 2
        anomalous = int(rows.label[whole].sum())
        made = message.tables[""]
        assert message.facts["minority"] == anomalous < 30
        assert made.shape == (whole.sum() - 2 * anomalous, 3 * 7 + 1)
        # Each row of a window has its lamp: one of three, or the unseen.
        lamps = made[:, :-1].reshape(-1, 3, 7)[..., 3:]
        assert set(np.unique(lamps)) == {0, 1}
        assert (lamps.sum(axis=2) == 1).all()
        taken = detector.samples(rows, detector.memory).take(np.flatnonzero(whole & (rows.label == 1)))
        numbers = np.r_[0:3, 7:10, 14:17]
        assert (made[:, numbers] >= taken[:, numbers].min(axis=0) - 1e-5).all()
        assert (made[:, numbers] <= taken[:, numbers].max(axis=0) + 1e-5).all()


def test_networks_that_were_received_are_tried_on_normal_rows(fitted: Autoencoder) -> None:
    rows = correlated(300, 4, seed=6, anomalies=0.3)
    scaled = fitted.samples(rows.normal(), fitted.memory).all()
    broken = Asked(rows, fitted.memory, fitted, fitted.network().forward, {"zero": np.zeros_like, "nan": lambda rows: rows * np.nan})
    losses = QUERIES["loss-of"](broken, {}, np.random.default_rng(0)).facts
    gaps = np.abs(fitted.residuals(scaled, np.zeros_like(scaled)))
    assert losses["zero"] == pytest.approx(float((gaps**2 if fitted.loss == "mse" else gaps).mean()))
    assert losses["nan"] == 1e9


def test_classes_count_the_same_in_the_loss_of_a_classifier() -> None:
    """Nine normal rows and one anomalous, both certain and wrong for the anomaly: who always says normal gets no credit for its number."""
    table = correlated(10, 4, seed=6)
    table = Table(table.features, table.numbers, label=np.array([0] * 9 + [1], dtype=np.int8))
    detector = Mlp(hidden=(3,), epochs=0).fit(table)

    def always(logit: float) -> Callable[[Array], Array]:
        return lambda rows: np.full((len(rows), 1), logit, dtype=np.float32)

    asked = Asked(table, detector.memory, detector, always(0), {"normal": always(-5), "coin": always(0)})
    losses = QUERIES["loss-of"](asked, {}, np.random.default_rng(0)).facts
    assert losses["coin"] == pytest.approx(np.log(2))
    assert losses["normal"] == pytest.approx((np.log1p(np.exp(-5)) + np.log1p(np.exp(5))) / 2)
