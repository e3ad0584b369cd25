"""Partitions: every row at one node, by the seed and the training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shares import PARTS, SERVICES, TEST, TRAIN, counts, rows
from vedette.data.partition import PARTITIONS, Dirichlet, Iid, Natural, Quantity
from vedette.data.table import Coded, Table
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import build


@pytest.mark.parametrize("table", [TRAIN, TEST], ids=["train", "test"])
def test_iid_shares_are_equal(table: Table) -> None:
    iid = Iid(nodes=7)
    assert iid.names(TRAIN) == [f"node-{i}" for i in range(1, 8)]
    for some in [slice(None)] if table is TEST else [TRAIN.label == 0, TRAIN.label == 1]:
        assert np.ptp(counts(iid, TRAIN, table, some)) <= 1
    assert Iid(nodes=10).names(TRAIN)[0] == "node-01"


def test_other_rows_of_a_level_follow_the_shares_of_its_training_rows() -> None:
    partition = Dirichlet(nodes=4, over="service", min_rows=20)
    for level in range(len(SERVICES)):
        normal = np.flatnonzero((TRAIN.column("service").codes == level) & (TRAIN.label == 0))
        attack = np.flatnonzero((TRAIN.column("service").codes == level) & (TRAIN.label == 1))
        test = np.flatnonzero(TEST.column("service").codes == level)
        share = counts(partition, TRAIN, TRAIN, normal) / len(normal)
        for table, some in ((TRAIN, attack), (TEST, test)):
            off = np.abs(counts(partition, TRAIN, table, some) / len(some) - share).max()
            assert off <= 1 / len(some) + 1 / len(normal)  # each share is kept to within one row


def test_quantities_follow_one_draw_for_all_rows() -> None:
    partition = Quantity(nodes=4, min_rows=20)
    train, test = counts(partition, TRAIN, TRAIN), counts(partition, TRAIN, TEST)
    assert np.abs(train / len(TRAIN) - test / len(TEST)).max() <= 2 / len(TRAIN) + 1 / len(TEST)


@pytest.mark.parametrize("name", ["quantity", "dirichlet"])
def test_small_alphas_share_unequally(name: str) -> None:
    def spread(alpha: float) -> float:
        partition = build(PARTITIONS, {"name": name, **PARTS[name], "min_rows": 1, "alpha": alpha}, "")
        return float(np.mean([np.ptp(counts(partition, TRAIN, TRAIN, seed=seed)) for seed in range(10)]))

    assert spread(1e6) < 0.05 * len(TRAIN)
    assert spread(0.2) > 0.3 * len(TRAIN)


@pytest.mark.parametrize("name", ["quantity", "dirichlet"])
def test_every_node_gets_its_fewest_normal_rows_or_none_does(name: str) -> None:
    train = rows(400, 3, [f"service-{i}" for i in range(40)])  # many small levels: what rounding takes adds up
    refused = 0
    for seed in range(30):
        partition = build(PARTITIONS, {"name": name, **PARTS[name], "alpha": 0.8, "min_rows": 45}, "")
        try:
            assert counts(partition, train, train, train.label == 0, seed).min() >= 45
        except DataUnusable:
            refused += 1
    assert refused < 30
    with pytest.raises(DataUnusable, match=rf"partition '{name}': 200 draws, none with 500 normal rows for each of 4 nodes"):
        partition.model_copy(update={"min_rows": 500}).places(train, train, "train", 0)


@pytest.mark.parametrize("name", ["iid", "quantity", "dirichlet"])
def test_no_node_stays_without_normal_training_rows(name: str) -> None:
    few = TRAIN.take(np.concatenate([np.flatnonzero(TRAIN.label == 0)[:5], np.flatnonzero(TRAIN.label == 1)]))
    settings = {"name": name, **PARTS[name]} | ({} if name == "iid" else {"min_rows": 1, "alpha": 50})
    assert counts(build(PARTITIONS, settings, ""), few, few, few.label == 0).min() >= 1
    with pytest.raises(DataUnusable, match="fewer nodes"):
        build(PARTITIONS, settings | {"nodes": 6}, "").places(few, few, "train", 0)
    with pytest.raises(DataUnusable, match="fewer nodes"):
        build(PARTITIONS, settings, "").places(few.take(few.label == 1), TEST, "test", 0)


def test_levels_never_seen_in_training_have_shares_of_their_own() -> None:
    partition = Dirichlet(nodes=4, over="service", alpha=1e6)
    strange = replace(TEST, categories=(Coded.of(["gopher"] * len(TEST)),))
    assert np.ptp(counts(partition, TRAIN, strange)) <= 0.02 * len(TEST)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(UnknownName, match="no category column 'servce'; did you mean 'service'"):
        Dirichlet(over="servce").places(TRAIN, TRAIN, "train", 0)


def test_natural_nodes_are_the_groups() -> None:
    natural = Natural()
    assert natural.names(TRAIN) == ["a", "b", "c"]
    places = natural.places(TRAIN, TEST, "test", 0)
    assert [natural.names(TRAIN)[place] for place in places] == TEST.column("group").texts()
    only = TRAIN.take(np.flatnonzero(np.array(TRAIN.column("group").texts()) != "b"))
    assert natural.names(only) == ["a", "c"]
    with pytest.raises(DataUnusable, match="node 'b' has test rows but no training rows"):
        natural.places(only, TEST, "test", 0)
    with pytest.raises(DataUnusable, match="such as 'iid'"):
        natural.names(replace(TRAIN, group=None))
    with pytest.raises(DataUnusable, match="the test rows know no devices"):
        natural.places(TRAIN, replace(TEST, group=None), "test", 0)


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"alpha": 0}, {"min_rows": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        build(PARTITIONS, {"name": "dirichlet", "over": "service", **wrong}, "")
