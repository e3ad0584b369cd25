"""Scaling: a fleet's scaler is that of all its rows, whatever the rows hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from readings import FLOW, HEAT, fit, table
from vedette.data.scaling import ENCODERS, Scaler, Scaling
from vedette.data.table import Feature, Table
from vedette.errors import DataUnusable, DetectorMisused, UnknownName


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


def test_a_node_without_rows_changes_nothing() -> None:
    some = table([1, 2, 4], ["a", "b", "a"])
    assert fit(Scaling(), table([]), some).memory()["scaling.about"] == fit(Scaling(), some).memory()["scaling.about"]


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


def test_a_mask_tells_where_a_number_is_missing() -> None:
    """Of the features of which any node's training value was missing, and of those alone."""
    parts = [table([1, 3], heat=[5, 6]), table([2, np.nan], heat=[7, 8])]
    scaler = fit(Scaling(missing="mask"), *parts)
    assert (scaler.masked, scaler.names[-1], scaler.width) == (("flow",), "flow missing", len(scaler.names))
    scaled = scaler.transform(table([np.nan, 2], heat=[np.nan, 5]))
    assert scaled[:, -1].tolist() == [1, 0]
    assert scaled[:, 0].tolist() == [0.5, 0.5]
    again = Scaler.from_memory(scaler.memory())
    assert np.array_equal(again.transform(parts[1]), scaler.transform(parts[1]))
    assert fit(Scaling(), *parts).width == scaler.width - 1


@pytest.mark.parametrize("missing", ["middle", "mask"])
@pytest.mark.parametrize("numbers", ["min-max", "standard", "quantile"])
def test_features_without_a_value_are_left_out_where_that_is_asked_for(numbers: str, missing: str) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[:, 1], x[3, 0] = np.nan, np.nan
    rows = Table.from_array(x)
    with pytest.raises(DataUnusable, match="'x1' has no value"):
        fit(Scaling(numbers=numbers), rows)
    scaler = fit(Scaling(numbers=numbers, missing=missing, empty="left-out"), rows)
    assert scaler.names == ["x0", "x2", *(["x0 missing"] if missing == "mask" else [])]
    scaled = scaler.transform(rows)
    assert scaled.shape == (20, scaler.width)
    assert scaler.owners.tolist()[:2] == [0, 2]
    np.testing.assert_allclose(scaler.undo(scaled)[4:, [0, 2]], x[4:, [0, 2]], atol=1e-5)
    assert np.isnan(scaler.undo(scaled)[:, 1]).all()
    assert np.array_equal(Scaler.from_memory(scaler.memory()).transform(rows), scaled)


def test_only_the_features_asked_for_are_looked_at() -> None:
    rows = Table.from_array(np.random.default_rng(0).normal(size=(20, 3)))
    scaler = fit(Scaling(features=("x2", "x0")), rows)
    assert scaler.names == ["x2", "x0"]
    moved = Table.from_array(rows.numbers * [1, 100, 1])
    assert np.array_equal(scaler.transform(moved), scaler.transform(rows))
    with pytest.raises(UnknownName, match="'x9'"):
        fit(Scaling(features=("x9",)), rows)
