"""Deviations from the beginning of a recording, and rows that hold those before them."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.baseline import Baseline
from vedette.data.lags import lagged
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataUnusable


def table(numbers: np.ndarray, groups: str) -> Table:
    features = tuple(Feature(f"x{place}", unit="bar") for place in range(numbers.shape[1]))
    return Table(features, numbers, group=Coded.of(list(groups)))


def test_each_recording_is_told_from_its_own_beginning():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(100, 2, (50, 2)), rng.normal(-7, 0.1, (40, 2))])
    found = Baseline(rows=20).applied(table(numbers, "a" * 50 + "b" * 40))
    for rows in (slice(0, 50), slice(50, 90)):
        begun, later = numbers[rows][:20], numbers[rows][20:]
        np.testing.assert_allclose(found.numbers[rows][20:], (later - begun.mean(axis=0)) / begun.std(axis=0), rtol=1e-9)
    assert [feature.unit for feature in found.features] == ["σ", "σ"]
    units = Baseline(rows=20, divide=False).applied(table(numbers, "a" * 50 + "b" * 40))
    np.testing.assert_allclose(units.numbers[30], numbers[30] - numbers[:20].mean(axis=0))
    assert units.features[0].unit == "bar"


@pytest.mark.parametrize("cut", [1, 5, 19, 20, 21, 45])
def test_the_beginning_itself_looks_back_only(cut):
    numbers = np.random.default_rng(1).normal(5, 1, (60, 3))
    whole = Baseline(rows=20).applied(table(numbers, "a" * 60)).numbers
    np.testing.assert_allclose(Baseline(rows=20).applied(table(numbers[:cut], "a" * cut)).numbers, whole[:cut])


def test_flat_and_missing_readings_stay_finite_and_missing():
    numbers = np.full((30, 2), 32.0)
    numbers[:, 1] = np.nan
    numbers[25, 0] = 33.0
    found = Baseline(rows=10).applied(table(numbers, "a" * 30)).numbers
    assert found[:25, 0].tolist() == [0.0] * 25
    assert found[25, 0] == pytest.approx(1 / 0.032)
    assert np.isnan(found[:, 1]).all()


def test_lagged_rows_hold_those_before_them_oldest_first():
    numbers = np.arange(12.0).reshape(6, 2)
    found = lagged(table(numbers, "aaabbb"), 3)
    assert [feature.name for feature in found.features] == ["x0 (-2)", "x1 (-2)", "x0 (-1)", "x1 (-1)", "x0", "x1"]
    assert found.numbers[2].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.numbers[0].tolist() == [0, 1] * 3
    # A recording begins anew: nothing of the one before.
    assert found.numbers[3].tolist() == [6, 7] * 3
    assert lagged(table(numbers, "aaabbb"), 1).numbers.tolist() == numbers.tolist()


def test_text_cannot_be_lagged():
    words = Table((Feature("w", "category"),), np.zeros((3, 0)), (Coded.of(["a", "b", "a"]),))
    with pytest.raises(DataUnusable, match="'w'"):
        lagged(words, 2)
