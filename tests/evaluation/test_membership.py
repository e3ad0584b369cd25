"""Membership attacks: they find what they should, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import DataUnusable
from vedette.evaluation.membership import attacked, control, federated, fitted, try_membership
from vedette.metrics.ranking import ranking
from vedette.strategies.fedavg import FedAvg
from vedette.training.task import Optimiser


def numbered(rows: int, nodes: int = 1) -> Fleet:
    """Nodes whose rows are numbers that are nobody else's."""
    return Fleet.of({f"n{i}": Table.from_array(np.arange(rows)[:, None] + 1000.0 * i) for i in range(nodes)})


def by_heart(loss: float):
    """A training that knows its rows: they lose less, the others 1; and each row has a difficulty of its own, far larger than that."""

    def train(fleet: Fleet, seed: int):
        known = set(fleet.pooled().numbers[:, 0].tolist())
        return lambda node, table: np.array([(loss if x in known else 1.0) * np.exp(3 * np.sin(x * x)) for x in table.numbers[:, 0]])

    return train


def test_the_auc_is_how_often_a_member_is_known_better():
    """1 < 2, 1 < 3, 2 = 2, 2 < 3: three and a half of four."""
    found = attacked(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    assert found.auc == 3.5 / 4
    rng = np.random.default_rng(0)
    members, outsiders = rng.integers(0, 50, 300), rng.integers(5, 60, 200)
    label = np.repeat([1, 0], [300, 200])
    assert attacked(members, outsiders).auc == pytest.approx(ranking(label, -np.concatenate([members, outsiders]))["auc_roc"])


def test_nothing_is_found_in_random_losses_and_the_interval_covers_it():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(40):
        found = attacked(rng.normal(size=200), rng.normal(size=200), seed=seed, draws=200)
        assert abs(found.auc - 0.5) < 0.15
        covered += found.low <= 0.5 <= found.high
        # Hanley and McNeil 1982: a standard error of sqrt((2 * 200 + 1) / (12 * 200 * 200)) = 0.0289.
        assert 0.08 < found.high - found.low < 0.15
    assert covered >= 34


@pytest.mark.parametrize("level", ["row", "node"])
def test_calibration_takes_away_how_hard_each_row_is(level):
    """Members lose half of what they would: by loss hardly seen, against models without them perfectly."""
    fleet = numbered(60) if level == "row" else numbered(5, nodes=40)
    loss, calibrated = try_membership(by_heart(0.5), fleet, seed=3, level=level)
    assert (loss.attack, calibrated.attack, loss.level) == ("loss", "calibrated", level)
    assert loss.members == loss.outsiders == (30 if level == "row" else 20)
    assert loss.auc < 0.9
    assert calibrated.auc == calibrated.low == calibrated.high == 1.0
    for found in try_membership(by_heart(1.0), fleet, seed=3, level=level):
        assert found.low <= 0.5 <= found.high
    assert [found.attack for found in try_membership(by_heart(0.5), fleet, seed=3, level=level, shadows=0)] == ["loss"]


def test_every_row_is_missing_from_every_other_model_and_halves_are_halves():
    seen = []

    def train(fleet: Fleet, seed: int):
        seen.append({node: set(fleet[node].numbers[:, 0].tolist()) for node in fleet})
        return lambda node, table: np.ones(len(table))

    fleet = numbered(12, nodes=3)
    try_membership(train, fleet, seed=1, shadows=4, block=3)
    assert len(seen) == 5
    for node in fleet:
        rows = set(fleet[node].numbers[:, 0].tolist())
        assert [len(model[node]) for model in seen] == [6] * 5
        assert seen[1][node] | seen[2][node] == seen[3][node] | seen[4][node] == rows
        assert all(len({x % 1000 // 3 for x in model[node]}) == 2 for model in seen)
    seen.clear()
    try_membership(train, fleet, seed=1, level="node", shadows=2)
    assert len(seen[0]) == 1
    assert set(seen[1]) | set(seen[2]) == set(fleet)
    assert not set(seen[1]) & set(seen[2])


def test_only_normal_rows_are_asked_about_and_no_label_is_read():
    table = correlated(60, 4, seed=2, anomalies=0.3)
    asked = []

    def train(fleet: Fleet, seed: int):
        assert not np.any(fleet.pooled().label)
        return lambda node, table: (asked.append(len(table)), np.ones(len(table)))[1]

    try_membership(train, Fleet.of({"a": table}), shadows=0)
    assert sum(asked) == len(table.normal())


@pytest.mark.slow
def test_an_overfitted_model_is_found_out_and_the_same_seed_finds_the_same():
    fleet = Fleet.of({f"n{i}": correlated(300, 12, seed=i) for i in range(2)})
    found = control(fleet, seed=5, rows=40, nodes=4, epochs=200)
    assert all(each.auc >= 0.7 and each.low > 0.55 and each.members == each.outsiders == 40 for each in found)
    nodes = control(fleet, seed=5, level="node", rows=40, nodes=10, epochs=100)
    assert all(each.auc >= 0.7 and each.members == each.outsiders == 5 for each in nodes)
    brief = [control(fleet, seed=seed, rows=10, nodes=2, epochs=5) for seed in (5, 5, 6)]
    assert brief[0] == brief[1] != brief[2]


def test_a_model_of_many_rows_that_learns_little_is_not():
    fleet = Fleet.of({"a": correlated(2000, 6, seed=1)})
    plain = Autoencoder(hidden=(3,), epochs=3, optimiser=Optimiser(rate=0.01))
    for found in try_membership(fitted(plain), fleet, seed=2, shadows=2):
        assert abs(found.auc - 0.5) < 0.04
        assert found.low <= 0.5 <= found.high


def test_a_federation_can_be_attacked_as_a_whole():
    fleet = Fleet.of({f"n{i}": correlated(60, 4, seed=i) for i in range(6)})
    train = federated(Autoencoder(hidden=(3,), scaling={"fit": "federated"}), FedAvg(rounds=2))
    for level, count in (("row", 180), ("node", 3)):
        (found,) = try_membership(train, fleet, seed=1, level=level, shadows=0)
        assert (found.members, found.outsiders) == (count, count)


def test_what_cannot_be_told_apart_is_said():
    with pytest.raises(DataUnusable, match="members and outsiders"):
        attacked(np.ones(3), np.ones(0))
    with pytest.raises(DataUnusable, match="too few nodes"):
        try_membership(by_heart(1.0), numbered(10), level="node")
    with pytest.raises(DataUnusable, match="too few rows"):
        try_membership(by_heart(1.0), numbered(1))
