"""What robust aggregators are for, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.errors import DetectorMisused
from vedette.message import Channel, Message, Vector
from vedette.strategies.aggregation import AGGREGATORS, Median, TrimmedMean, tallied
from vedette.strategies.krum import Krum, MultiKrum
from vedette.strategies.similarity import squared_distances
from vedette.strategies.view import Answers


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum"])
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


def test_krum_is_no_medoid() -> None:
    """Five nodes on a line, f = 1: the two nearest others count. With all others 2 would win, being in the middle."""
    line = np.array([[0.0], [2.0], [5.0], [6.0], [9.0]])
    # Scores: 0: 4 + 25; 2: 4 + 9; 5: 1 + 9; 6: 1 + 9; 9: 9 + 16. Nodes 2 and 3 tie, the first wins.
    assert Krum(attackers=1).ranked(line).tolist() == [2]
    assert Krum(attackers=1)(line, np.ones(5)).tolist() == [5.0]
    assert MultiKrum(attackers=1, m=5).ranked(line).tolist() == [2, 3, 1, 4, 0]
    # m = n - f = 4: all but 0.
    assert MultiKrum(attackers=1)(line, np.ones(5)).tolist() == [22 / 4]
    assert MultiKrum(attackers=1, m=3)(line, np.ones(5)).tolist() == [pytest.approx(13 / 3)]
    # f = 9 of five nodes is more than can be withstood: one is; of two nodes both count.
    assert Krum(attackers=9)(line, np.ones(5)).tolist() == [5.0]
    assert Krum()(line[:2], np.ones(2)).tolist() == [1.0]
    assert Krum()(line[1:2], np.ones(1)).tolist() == [2.0]


def test_krum_ties_go_by_the_order_of_nodes_whatever_rounding_says() -> None:
    # Eight nodes evenly on a circle, far from 0: every score is the same, though sums are rounded differently.
    angles = np.arange(8) * np.pi / 4
    circle = np.column_stack([np.cos(angles), np.sin(angles)]) + np.array([1 / 3, 100 / 7])
    assert Krum().ranked(circle).tolist() == [0]
    assert MultiKrum(m=8).ranked(circle).tolist() == list(range(8))


def test_squares_decide_where_distances_would_not() -> None:
    # Seven nodes, f = 2, three nearest. At 0: squares 4 + 4 + 4 = 12, distances 6. At 7 along z: squares 0.02 + 25, distances 5.2.
    nodes = np.array([[0.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0], [0, 0, 7.0], [0.1, 0, 7.0], [-0.1, 0, 7.0]])
    apart = np.sort(np.sqrt(((nodes[:, None] - nodes[None]) ** 2).sum(axis=2)), axis=1)
    assert apart[:, 1:4].sum(axis=1).argmin() == 4
    assert Krum(attackers=2).ranked(nodes).tolist() == [0]


@settings(deadline=None, max_examples=60)
@given(
    nodes=st.integers(1, 14),
    parameters=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    shift=st.sampled_from([0.0, 1e4]),
    spread=st.sampled_from([1.0, 1e-6]),
    far=st.sampled_from([0.0, 1e8, 3e38]),
)
def test_squared_distances_are_right_to_a_millionth(nodes, parameters, seed, shift, spread, far) -> None:
    """Also of nodes that agree to the last bits, far from all others, and seen from afar: each pair by itself, in float64."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, parameters)) + shift
    matrix = (centres[rng.integers(0, 3, nodes)] + rng.normal(0, spread, (nodes, parameters))).astype(np.float32)
    matrix[0] += np.float32(far)
    matrix[-1] = matrix[nodes // 2]
    found = squared_distances(matrix)
    rows = matrix.astype(np.float64)
    wanted = np.array([[((one - other) ** 2).sum() for other in rows] for one in rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert np.array_equal(found, found.T)


def test_clusters_within_clusters_are_told_apart() -> None:
    """Pairs 1e-3 apart, 10 from other pairs, in groups 1e6 apart: no single origin sees them all."""
    pairs = np.array([[group * 1e6 + pair * 10.0 + one * 1e-3] for group in (0, 1, 5) for pair in (0, 1, 3) for one in (0, 1)])
    rows = np.hstack([pairs, -pairs, np.ones_like(pairs)])
    wanted = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(rows), wanted, rtol=1e-6)


def test_counted_is_the_share_of_coordinates() -> None:
    matrix = np.array([[0, 5, 1, 1], [1, 4, 2, 1], [2, 3, 3, 7], [3, 9, 4, 8]], dtype=np.float32)
    # Of four the two middle ones: 1 and 2 | 4 and 5 | 2 and 3 | 1 and 7; the tied 1 counts twice.
    found, counted = Median().joined([matrix])
    assert found[0].tolist() == [1.5, 4.5, 2.5, 4.0]
    assert counted.tolist() == [0.5, 1.0, 0.75, 0.0]
    # Of three the middle one is what one at each end leaves: 1 | 4 | 2 | 1.
    found, counted = TrimmedMean().joined([matrix[:3], 10 * matrix[:3, :1]])
    assert [part.tolist() for part in found] == [[1.0, 4.0, 2.0, 1.0], [10.0]]
    assert counted.tolist() == [0.25, 1.0, 0.0]


def test_a_tally_goes_on_from_the_rounds_before() -> None:
    first = tallied({"model": np.ones(3)}, {"a": 1.0, "b": 0.25})
    assert first == {"counted.a": 1.0, "turns.a": 1.0, "counted.b": 0.25, "turns.b": 1.0}
    second = tallied({**first, "velocity": np.ones(3)}, {"b": 0.5, "c": 0.0})
    assert second == {"counted.a": 1.0, "turns.a": 1.0, "counted.b": 0.75, "turns.b": 2.0, "counted.c": 0.0, "turns.c": 1.0}
    assert tallied({}, {}) == {}


def test_nodes_that_share_no_channels_cannot_be_joined() -> None:
    view = Answers([Channel("model", combine="gather"), Channel("norms", combine="gather")])
    for node, channel in (("a", "model"), ("b", "norms")):
        view.add(node, Message(vectors={channel: Vector(np.ones(1, dtype=np.float32), "x")}))
    with pytest.raises(DetectorMisused, match="no node sends all of the channels model, norms"):
        Median().combined(view, ("model", "norms"))
