"""Summaries: merged in any order they are those of all rows."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vedette.data.summaries import GREATEST, Covariance, Extremes, Moments, Points, Sketch

NEAR = 2.01 * Sketch.ACCURACY  # a bin's upper edge lies at most its width above a value

cells = st.floats(-1e3, 1e3) | st.just(math.nan)
parts_of_rows = st.lists(st.integers(0, 6).flatmap(lambda rows: arrays(np.float64, (rows, 2), elements=cells)), min_size=1, max_size=5)


def test_moments_by_hand() -> None:
    moments = Moments.of(np.array([[1.0, 5.0, np.nan], [3.0, np.nan, np.inf], [8.0, 7.0, -np.inf]]))
    assert moments.count.tolist() == [3, 2, 0]
    assert moments.mean.tolist() == [4, 6, 0]
    assert moments.spread.tolist() == [9 + 1 + 16, 2, 0]
    assert moments.variance.tolist() == [26 / 3, 1, 0]


@given(parts_of_rows.flatmap(st.permutations), st.sampled_from([0.0, 1e6, -1e6]))
def test_moments_merge_to_those_of_all_rows(parts: list[np.ndarray], offset: float) -> None:
    parts = [part + offset for part in parts]
    whole = np.concatenate(parts)
    merged = Moments.merged(Moments.of(part) for part in parts)
    backwards = Moments.of(parts[-1])
    for part in parts[-2::-1]:
        backwards = Moments.of(part) + backwards
    for column in range(2):
        known = whole[~np.isnan(whole[:, column]), column]
        for moments in (merged, backwards):
            assert moments.count[column] == len(known)
            assert moments.mean[column] == pytest.approx(known.mean() if len(known) else 0, rel=1e-12, abs=1e-9)
            assert moments.variance[column] == pytest.approx(known.var() if len(known) else 0, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("summary", [Moments, Covariance])
def test_what_counts_as_so_many_rows_weighs_as_they_would(summary: type[Moments] | type[Covariance]) -> None:
    """Two rows of 0 and 4 that count as six weigh as three such pairs do."""
    pair, rows = np.array([[0.0], [4.0]]), np.array([[1.0], [2.0], [6.0]])
    found = (summary.of(rows) + summary.of(pair).as_of(6.0)).table()  # type: ignore[operator]
    np.testing.assert_allclose(found, summary.of(np.concatenate([rows, pair, pair, pair])).table())


known_cells = st.lists(
    st.integers(0, 6).flatmap(lambda rows: arrays(np.float64, (rows, 3), elements=st.floats(-1e3, 1e3))), min_size=1, max_size=5
)


@given(known_cells.flatmap(st.permutations), st.sampled_from([0.0, 1e5]))
def test_covariances_merge_to_that_of_all_rows(parts: list[np.ndarray], offset: float) -> None:
    rows = np.concatenate(parts) + offset
    merged = Covariance.merged(Covariance.from_table(Covariance.of(part + offset).table()) for part in parts)
    assert merged.count == len(rows)
    if len(rows):
        np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(merged.matrix, np.cov(rows.T, bias=True), rtol=1e-7, atol=1e-6)
    else:
        assert not merged.matrix.any()


def test_float32_rows_are_summed_in_float64() -> None:
    rows = np.full((100_000, 1), 16_777_216, dtype=np.float32)
    rows[::2] += 2
    moments = Moments.of(rows)
    assert moments.mean[0] == 16_777_217
    assert moments.variance[0] == 1


@given(parts_of_rows.flatmap(st.permutations))
def test_extremes_merge_to_those_of_all_rows(parts: list[np.ndarray]) -> None:
    merged = Extremes.merged(Extremes.of(part) for part in parts)
    whole = np.concatenate(parts)
    for column in range(2):
        known = whole[~np.isnan(whole[:, column]), column].tolist()
        assert merged.low[column] == min(known, default=math.inf)
        assert merged.high[column] == max(known, default=-math.inf)


def test_extremes_leave_out_what_is_no_measurement() -> None:
    extremes = Extremes.of(np.array([[np.nan, np.inf, 1e200, 7], [2, -3, -1, np.nan], [1, 4, -2e300, np.nan]]))
    assert extremes.low.tolist() == [1, -3, -1, 7]
    assert extremes.high.tolist() == [2, 4, -1, 7]


sizes = st.one_of(st.just(0.0), st.floats(0, 100), st.floats(-11.9, 149).map(lambda power: 10**power))


@given(st.lists(sizes, min_size=1, max_size=60), st.integers(0, 64))
def test_a_quantile_is_as_near_as_stated(values: list[float], part: int) -> None:
    share = part / 64  # exact in binary, so share * rows is exact too
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    assert exact == np.quantile(values, share, method="inverted_cdf")
    found = Sketch.of(np.array(values)).quantile(share)
    assert found >= exact * (1 - 1e-12)
    if exact <= Sketch.SMALLEST:
        assert found == Sketch.SMALLEST
    else:
        assert found == pytest.approx(exact, rel=NEAR)


@given(st.lists(st.lists(sizes, max_size=20), min_size=1, max_size=5).flatmap(st.permutations))
def test_merged_sketches_are_the_sketch_of_all_rows(parts: list[list[float]]) -> None:
    merged = Sketch.merged([Sketch.of(np.array(part)) for part in parts])
    whole = Sketch.of(np.concatenate([np.array(part, dtype=np.float64) for part in parts]))
    assert merged.bins.tolist() == whole.bins.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()


def test_sketches_of_nothing_and_of_extreme_values() -> None:
    empty = Sketch.of(np.array([]))
    assert math.isnan(empty.quantile(0.5))
    assert math.isnan(Sketch.merged([empty, empty]).quantile(0.5))
    assert Sketch.merged([empty, Sketch.of(np.array([3.0]))]).quantile(0) == pytest.approx(3, rel=NEAR)
    assert Sketch.of(np.zeros(5)).quantile(1) == Sketch.SMALLEST
    assert Sketch.of(np.array([1e-13, 5e-324])).quantile(1) == Sketch.SMALLEST
    assert Sketch.of(np.array([np.nan, 2.0, np.nan])).quantile(0) == pytest.approx(2, rel=NEAR)
    for huge in (1e300, 1.7e308, np.inf):
        assert Sketch.of(np.array([1.0, huge])).quantile(1) == pytest.approx(GREATEST, rel=NEAR)
        assert Sketch.of(np.array([1.0, huge])).quantile(0.5) == pytest.approx(1, rel=NEAR)


@pytest.mark.parametrize("kind", [Moments, Extremes, Sketch])
def test_summaries_survive_travel(kind: type[Moments | Extremes | Sketch]) -> None:
    values = np.array([0.0, 1e-20, 0.3, 1e9])
    summary = kind.of(values if kind is Sketch else values[:, None])
    table = summary.table()
    assert table.dtype == np.float64
    np.testing.assert_array_equal(kind.from_table(table).table(), table)
    assert vars(kind.from_table(table)).keys() == vars(summary).keys()
    for name, column in vars(summary).items():
        np.testing.assert_array_equal(getattr(kind.from_table(table), name), column, strict=True)


@given(parts_of_rows.flatmap(st.permutations))
def test_few_points_merge_to_those_of_all_rows(parts: list[np.ndarray]) -> None:
    merged, whole = Points.merged(Points.of(part) for part in parts), np.concatenate(parts)
    for column in range(2):
        values, counts = np.unique(whole[~np.isnan(whole[:, column]), column], return_counts=True)
        used = merged.weights[:, column] > 0
        assert merged.values[used, column].tolist() == values.tolist()
        assert merged.weights[used, column].tolist() == counts.tolist()
    assert np.array_equal(Points.from_table(merged.table()).values, merged.values)


def test_many_points_are_thinned_and_keep_ties_ends_and_ranks() -> None:
    rng = np.random.default_rng(3)
    rows = np.concatenate([rng.lognormal(0, 3, 60_000), np.full(20_000, 1.0), [1e9]])
    parts = np.split(rng.permutation(rows)[:, None], [5, 700, 30_000])
    for points in (Points.of(rows[:, None]), Points.merged([Points.of(part) for part in parts])):
        assert points.weights.sum() == len(rows)
        values, weights = points.values[:, 0], points.weights[:, 0]
        used = weights > 0
        assert values[used][0] == rows.min()
        assert values[used][-1] == 1e9
        assert weights[values == 1.0] >= 20_000
        # Ranks are as good as a step of the grid: 8 standard deviations in 257 parts.
        for value in (1e-4, 1e-2, 0.3, 5.0, 1e3, 1e5):
            share = weights[values <= value].sum() / len(rows)
            exact = (rows <= value).mean()
            assert abs(NormalDist().inv_cdf(share) - NormalDist().inv_cdf(exact)) < 0.1
