"""Scaling: a fleet's scaler is that of all its rows, whatever the rows hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.data.scaling import ENCODERS, LIMIT, SCALERS, Scaler, Scaling
from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import DataUnusable, DetectorMisused, UnknownName

FLOW, STATE, HEAT = Feature("flow"), Feature("state", "category"), Feature("heat", unit="°C")
FEATURES = (FLOW, STATE, HEAT)
WAYS = [Scaling(numbers=numbers, log=log) for numbers in SCALERS for log in (False, True)]


def table(flow: list[float], state: list[str] | None = None, heat: list[float] | None = None) -> Table:
    numbers = np.array([flow, heat if heat is not None else range(len(flow))], dtype=np.float64).T.reshape(-1, 2)
    return Table(FEATURES, numbers, (Coded.of(state if state is not None else ["on"] * len(flow)),))


def fit(scaling: Scaling, *parts: Table) -> Scaler:
    summaries = {f"node-{i}": scaling.summary(part) for i, part in enumerate(parts)}
    return scaling.fitted(scaling.merged(summaries), parts[0].features)


readings = st.floats(-1e4, 1e4) | st.just(math.nan) | st.integers(0, 3).map(float)
one_row = st.tuples(readings, readings, st.sampled_from(["on", "off", "idle", "ö"]))


@pytest.mark.parametrize("scaling", WAYS, ids=lambda scaling: f"{scaling.numbers}{'-log' * scaling.log}")
@settings(max_examples=50)
@given(rows=st.lists(st.tuples(one_row, st.integers(0, 3)), max_size=20))
def test_a_federated_scaler_is_that_of_all_rows(scaling: Scaling, rows: list[tuple[tuple[float, float, str], int]]) -> None:
    rows = [((0.0, 5.0, "on"), 0), ((1.0, -5.0, "off"), 3), *rows]
    parts = [[row for row, node in rows if node == wanted] for wanted in range(4)]
    tables = [table([row[0] for row in part], [row[2] for row in part], [row[1] for row in part]) for part in parts]
    whole = concat(tables)
    federated, central = fit(scaling, *tables), scaling.fitted(scaling.summary(whole), FEATURES)
    assert federated.levels == central.levels == {"state": tuple(sorted({row[2] for row, _ in rows}))}
    assert federated.constant == central.constant == ()
    np.testing.assert_allclose(federated.transform(whole), central.transform(whole), rtol=1e-6, atol=1e-6)
    for column in range(2):
        values = [math.copysign(math.log1p(abs(v)), v) if scaling.log else v for v in whole.numbers[:, column] if not math.isnan(v)]
        shift, scale = (min(values), max(values) - min(values)) if scaling.numbers == "min-max" else (np.mean(values), np.std(values))
        assert federated.shift[column] == pytest.approx(shift, rel=1e-9, abs=1e-9)
        assert federated.scale[column] == pytest.approx(scale, rel=1e-9)


def test_min_max_by_hand() -> None:
    scaler = fit(Scaling(), table([0, 4], ["off", "on"], [10, np.nan]), table([2], ["on"], [30]))
    assert scaler.names == ["flow", "heat", "state=off", "state=on", "state=?"]
    assert scaler.width == 5
    scaled = scaler.transform(table([1, 8, np.nan], ["on", "off", "broken"], [10, np.nan, 50]))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[0.25, 0, 0, 1, 0], [2, 0.5, 1, 0, 0], [0.5, 2, 0, 0, 1]]


def test_standard_and_ordinal_by_hand() -> None:
    scaler = fit(Scaling(numbers="standard", categories="ordinal"), table([1, 3, 5, 7], ["c", "a", "b", "a"], [0, 0, 2, 2]))
    assert scaler.names == ["flow", "heat", "state"]
    scaled = scaler.transform(table([4, 4 + math.sqrt(5), np.nan], ["b", "never seen", "c"], [3, np.nan, 1]))
    np.testing.assert_allclose(scaled, [[0, 2, 0.5], [1, 0, 1.5], [0, 0, 1]], atol=1e-6)


def test_one_level_only() -> None:
    scaler = fit(Scaling(categories="ordinal"), table([0, 1], ["on", "on"]))
    assert scaler.transform(table([0, 0], ["on", "off"]))[:, 2].tolist() == [0, 1]


@pytest.mark.parametrize("numbers", SCALERS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3, 1e12])
def test_a_constant_feature_becomes_zero_and_screams_when_it_moves(numbers: str, value: float) -> None:
    scaler = fit(Scaling(numbers=numbers), table([value] * 7), table([value] * 1000), table([np.nan, value, value]))
    assert scaler.constant == ("flow",)
    scaled = scaler.transform(table([value, value + 5, value - 5, np.nan]))[:, 0]
    np.testing.assert_allclose(scaled, [0, 5, -5, 0], atol=1e-3)


@pytest.mark.parametrize("numbers", SCALERS)
def test_a_feature_without_a_value_is_named(numbers: str) -> None:
    scaling = Scaling(numbers=numbers)
    summary = scaling.summary(table([1, 2], heat=[np.nan, np.inf]))
    with pytest.raises(DataUnusable, match=r"feature 'heat' has no value in the training rows \(node pump-3\)"):
        scaling.fitted(summary, FEATURES, "node pump-3")
    assert fit(scaling, table([1, 2], heat=[np.nan, np.nan]), table([1], heat=[4]), table([1], heat=[3])).constant == ()


@pytest.mark.parametrize("numbers", SCALERS)
def test_there_must_be_something_to_learn_from(numbers: str) -> None:
    scaling = Scaling(numbers=numbers)
    with pytest.raises(DataUnusable, match="every feature is constant"):
        fit(scaling, table([1, 1], ["on", "on"], [2, np.nan]))
    assert fit(scaling, table([1, 1], ["on", "off"], [2, 2])).constant == ("flow", "heat")
    with pytest.raises(DataUnusable, match=r"no training rows \(node a\)"):
        scaling.fitted(scaling.summary(table([])), FEATURES, "node a")
    with pytest.raises(DataUnusable, match="no node has a training row"):
        fit(scaling, table([]), table([]))


def test_a_node_without_rows_changes_nothing() -> None:
    some = table([1, 2, 4], ["a", "b", "a"])
    assert fit(Scaling(), table([]), some).memory()["scaling.about"] == fit(Scaling(), some).memory()["scaling.about"]


@pytest.mark.parametrize("scaling", [*WAYS, Scaling(categories="ordinal")], ids=str)
def test_a_scaler_survives_travel(scaling: Scaling) -> None:
    rows = table([1.5, -2, np.nan, 1e5], ["on", "ö", "", "on"], [3, 3, 3, 3])
    scaler = fit(scaling, rows)
    memory = scaler.memory()
    assert all(isinstance(value, str | np.ndarray) for value in memory.values())
    again = Scaler.from_memory(memory)
    assert (again.scaling, again.features, again.levels, again.constant) == (scaling, FEATURES, scaler.levels, ("heat",))
    assert again.names == scaler.names
    np.testing.assert_array_equal(again.transform(rows), scaler.transform(rows), strict=True)
    with pytest.raises(DetectorMisused, match="fit the detector first"):
        Scaler.from_memory({})


ABSURD = [np.inf, -np.inf, 1e308, -1.7e308, np.nan, 5e-324, 1e149, -0.0, 3e38, -1e30]


@pytest.mark.parametrize("scaling", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_absurd_readings_stay_finite(scaling: Scaling, dtype: type[np.floating[Any]]) -> None:
    def rows(values: list[float]) -> Table:
        with np.errstate(over="ignore"):
            column = np.array(values).astype(dtype)
        return Table((FLOW,), column[:, None])

    usual = rows([1, 2, 3, 4])
    for scaler in (fit(scaling, usual), fit(scaling, usual, rows(ABSURD)), fit(scaling, rows(ABSURD))):
        scaled = scaler.transform(rows(ABSURD))
        assert scaled.dtype == np.float32
        assert np.isfinite(scaled).all()
        assert np.abs(scaled).max() <= LIMIT
    scaled = fit(scaling, usual, rows([np.inf, -np.inf, np.nan])).transform(rows([np.inf, -np.inf, 1, 4]))
    assert scaled[:2, 0].tolist() == [LIMIT, -LIMIT]
    np.testing.assert_array_equal(scaled, fit(scaling, usual).transform(rows([np.inf, -np.inf, 1, 4])))


def test_other_features_are_refused() -> None:
    scaler = fit(Scaling(), table([1, 2]))
    with pytest.raises(DetectorMisused, match=r"lack feature 'state' \(3 features were trained on, 2 given\)"):
        scaler.transform(table([1]).select(["flow", "heat"]))
    with pytest.raises(DetectorMisused, match="in another order"):
        scaler.transform(table([1]).select(["heat", "state", "flow"]))
    with pytest.raises(DetectorMisused, match="of another kind"):
        scaler.transform(Table((FLOW, Feature("state"), HEAT), np.zeros((1, 3))))


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown scaler 'minmax'; did you mean 'min-max'"):
        Scaling(numbers="minmax")
    with pytest.raises(UnknownName, match="unknown encoder"):
        Scaling(categories="hash")
    assert set(ENCODERS) == {"one-hot", "ordinal"}
