"""What robust aggregators are for."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.strategies.aggregation import AGGREGATORS, TrimmedMean


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_robust_aggregators_resist_one_wild_node(name):
    honest = np.random.default_rng(1).normal(size=(9, 3))
    wild = np.vstack([honest, [[1e6, -1e6, 1e6]]])
    assert np.abs(AGGREGATORS[name]()(wild, np.ones(10))).max() < 3
    assert np.abs(AGGREGATORS["mean"]()(wild, np.ones(10))).min() > 1e4


def test_a_trimmed_mean_leaves_out_as_many_at_each_end() -> None:
    # 0.4 of five are two at each end: the middle one remains. 0.19 of five is less than one, but one is the least.
    values = np.array([[5.0], [1.0], [100.0], [2.0], [-7.0]])
    assert TrimmedMean(share=0.4)(values, np.ones(5)).tolist() == [2.0]
    assert TrimmedMean(share=0.19)(values, np.ones(5)).tolist() == [pytest.approx(8 / 3)]
    assert TrimmedMean(share=0)(values, np.ones(5)).tolist() == [pytest.approx(101 / 5)]
    # 0.29 * 100 is 28.999…: 29 of 100 attackers are left out all the same.
    crowd = np.concatenate([np.zeros(71), np.full(29, 1e6)])[:, None]
    assert TrimmedMean(share=0.29)(crowd, np.ones(100)).tolist() == [0.0]
