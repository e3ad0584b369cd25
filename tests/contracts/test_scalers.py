"""Every registered scaler of numbers: a fleet's scaler is that of all its rows, whatever the rows hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readings import FEATURES, FLOW, fit, table
from vedette.data.scaling import LIMIT, SCALERS, Scaler, Scaling
from vedette.data.table import Table, concat
from vedette.errors import DataUnusable, DetectorMisused


def normal_rank(values: Sequence[float], value: float) -> float:
    """The normal deviation below which as many values lie; the ends are 4 away, whatever their number."""
    if value in (min(values), max(values)):
        return -4.0 if value == min(values) else 4.0
    below, equal = sum(v < value for v in values), sum(v == value for v in values)
    return NormalDist().inv_cdf((below + equal / 2) / len(values))


ORACLES: dict[str, Callable[[Sequence[float], float], float]] = {
    "min-max": lambda values, value: (value - min(values)) / (max(values) - min(values)),
    "standard": lambda values, value: (value - float(np.mean(values))) / float(np.std(values)),
    "quantile": normal_rank,
    "none": lambda values, value: value,
}
"""What a training value becomes, by definition."""
WAYS = [Scaling(numbers=numbers, log=log) for numbers in SCALERS for log in (False, True)]


readings = st.floats(-1e4, 1e4) | st.just(math.nan) | st.integers(0, 3).map(float)
one_row = st.tuples(readings, readings, st.sampled_from(["on", "off", "idle", "ö"]))


def test_every_registered_scaler_has_an_oracle() -> None:
    assert set(ORACLES) == {way.numbers for way in WAYS} == set(SCALERS)


@pytest.mark.parametrize("scaling", WAYS, ids=lambda scaling: f"{scaling.numbers}{'-log' * scaling.log}")
@settings(max_examples=50)
@given(rows=st.lists(st.tuples(one_row, st.integers(0, 3)), max_size=20))
def test_a_federated_scaler_is_that_of_all_rows(scaling: Scaling, rows: list[tuple[tuple[float, float, str], int]]) -> None:
    rows = [((0.0, 5.0, "on"), 0), ((1.0, -5.0, "off"), 3), *rows]
    parts = [[row for row, node in rows if node == wanted] for wanted in range(4)]
    tables = [table([row[0] for row in part], [row[2] for row in part], [row[1] for row in part]) for part in parts]
    whole = concat(tables)
    federated, central = fit(scaling, *tables), scaling.fitted(scaling.summary(whole))
    assert federated.levels == central.levels == {"state": tuple(sorted({row[2] for row, _ in rows}))}
    assert federated.constant == central.constant == ()
    np.testing.assert_allclose(federated.transform(whole), central.transform(whole), rtol=1e-6, atol=1e-6)
    for column in range(2):
        values = [math.copysign(math.log1p(abs(v)), v) if scaling.log else v for v in whole.numbers[:, column] if not math.isnan(v)]
        scaled = federated.transform(whole)[~np.isnan(whole.numbers[:, column]), column]
        assert scaled.tolist() == pytest.approx([ORACLES[scaling.numbers](values, value) for value in values], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("numbers", sorted(set(SCALERS) - {"none"}))
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3, 1e12])
def test_a_constant_feature_becomes_zero_and_is_one_away_when_it_doubles(numbers: str, value: float) -> None:
    scaler = fit(Scaling(numbers=numbers), table([value] * 7), table([value] * 1000), table([np.nan, value, value]))
    assert scaler.constant == ("flow",)
    size = abs(value) or 1.0
    scaled = scaler.transform(table([value, value + size, value - 2 * size, np.nan]))[:, 0]
    np.testing.assert_allclose(scaled, [0, 1, -2, 0], atol=1e-6)


@pytest.mark.parametrize("numbers", SCALERS)
def test_a_feature_without_a_value_is_named(numbers: str) -> None:
    scaling = Scaling(numbers=numbers)
    summary = scaling.summary(table([1, 2], heat=[np.nan, np.inf]))
    with pytest.raises(DataUnusable, match="feature 'heat' has no value in the training rows"):
        scaling.fitted(summary)
    assert fit(scaling, table([1, 2], heat=[np.nan, np.nan]), table([1], heat=[4]), table([1], heat=[3])).constant == ()


@pytest.mark.parametrize("numbers", SCALERS)
def test_there_must_be_something_to_learn_from(numbers: str) -> None:
    scaling = Scaling(numbers=numbers)
    with pytest.raises(DataUnusable, match="every feature is constant"):
        fit(scaling, table([1, 1], ["on", "on"], [2, np.nan]))
    assert fit(scaling, table([1, 1], ["on", "off"], [2, 2])).constant == ("flow", "heat")
    with pytest.raises(DataUnusable, match="no training rows"):
        scaling.fitted(scaling.summary(table([])))
    with pytest.raises(DataUnusable, match="no node has a training row"):
        fit(scaling, table([]), table([]))


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


@pytest.mark.parametrize("numbers", SCALERS)
def test_a_missing_number_takes_the_middle(numbers: str) -> None:
    scaler = fit(Scaling(numbers=numbers), table([1, 3], heat=[-2, 4]))
    values = scaler.transform(table([2, np.nan], heat=[1, np.nan]))  # the middles of 1 … 3 and of -2 … 4 are 2 and 1
    middle = [2, 1] if numbers == "none" else SCALERS[numbers].middle
    np.testing.assert_allclose(values[0, :2], middle, atol=1e-7)
    np.testing.assert_allclose(values[1, :2], middle, atol=1e-7)
