"""Partitions: every row at one node, by the seed and the training rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.partition import PARTITIONS, Dirichlet, Iid, Natural, Partition, Quantity
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import build, describe

SERVICES = ["dns", "ftp", "http", "smtp", "ssh"]
PARTS: dict[str, dict[str, Any]] = {
    "natural": {},
    "iid": {"nodes": 4},
    "quantity": {"nodes": 4, "min_rows": 20},
    "dirichlet": {"nodes": 4, "min_rows": 20, "over": "service"},
}


def rows(count: int, seed: int, services: list[str] = SERVICES) -> Table:
    """Rows of a network: a number that is the row's own, a service, a label that depends on it, a device."""
    rng = np.random.default_rng(seed)
    service = rng.choice(services, count, p=np.arange(1, len(services) + 1) / sum(range(1, len(services) + 1)))
    attack = rng.random(count) < np.where(service == services[0], 0.6, 0.2)
    return Table(
        (Feature("row"), Feature("service", "category")),
        np.arange(count, dtype=np.float64)[:, None],
        (Coded.of(service.tolist()),),
        label=attack.astype(np.int8),
        kind=Coded.of(np.where(attack, "attack", "normal").tolist()),
        group=Coded.of(rng.choice(["b", "a", "c"], count).tolist()),
    )


TRAIN, TEST = rows(1000, 1), rows(600, 2)


@pytest.fixture(params=PARTS)
def partition(request: pytest.FixtureRequest) -> Partition:
    return build(PARTITIONS, {"name": request.param, **PARTS[request.param]}, "[partition]")


def counts(partition: Partition, train: Table, table: Table, rows: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    places = partition.places(train, table, "train" if table is train else "test", seed)
    return np.bincount(places if rows is None else places[rows], minlength=len(partition.names(train)))


def test_every_registered_partition_is_tried() -> None:
    assert set(PARTS) == set(PARTITIONS)


def test_each_row_is_placed_exactly_once(partition: Partition) -> None:
    names = partition.names(TRAIN)
    assert len(set(names)) == len(names)
    for part, table in (("train", TRAIN), ("test", TEST), ("none", TEST.take(slice(0, 0)))):
        places = partition.places(TRAIN, table, part, 0)
        assert places.shape == (len(table),)
        assert places.dtype == np.int64
        pooled = Fleet.from_places(table, places, names).pooled()
        assert sorted(pooled.numbers[:, 0]) == list(range(len(table)))


def test_places_depend_on_the_seed_and_nothing_else(partition: Partition) -> None:
    def places(seed: int) -> list[list[int]]:
        return [partition.places(TRAIN, table, part, seed).tolist() for part, table in (("train", TRAIN), ("test", TEST))]

    assert places(0) == places(0)
    if not isinstance(partition, Natural):
        assert all(one != other for one, other in zip(places(0), places(1), strict=True))
    else:
        assert places(0) == places(1)


def test_how_much_a_node_gets_does_not_depend_on_the_order_of_rows(partition: Partition) -> None:
    shuffled, deck = TRAIN.take(np.random.default_rng(0).permutation(len(TRAIN))), np.random.default_rng(1).permutation(len(TEST))
    assert counts(partition, shuffled, shuffled).tolist() == counts(partition, TRAIN, TRAIN).tolist()
    assert counts(partition, shuffled, TEST.take(deck)).tolist() == counts(partition, TRAIN, TEST).tolist()


def test_labels_of_other_rows_are_not_looked_at(partition: Partition) -> None:
    clean = partition.places(TRAIN, TEST, "test", 0)
    flipped = (1 - TEST.label).astype(np.int8)  # type: ignore[operator]
    for label in (flipped, np.zeros_like(flipped), np.ones_like(flipped), None):
        np.testing.assert_array_equal(partition.places(TRAIN, replace(TEST, label=label), "test", 0), clean)
    poisoned = replace(TEST, kind=Coded.of([f"?{i}" for i in range(len(TEST))]))
    np.testing.assert_array_equal(partition.places(TRAIN, poisoned, "test", 0), clean)


def test_shares_are_drawn_from_the_training_rows_alone(partition: Partition) -> None:
    """Levels that only other rows have, known to the training table since it was split off, must not move anything."""
    service = TRAIN.column("service")
    wider = replace(TRAIN, categories=(Coded(service.codes + 1, ("aaa", *service.levels, "zzz")),))
    np.testing.assert_array_equal(partition.places(wider, wider, "train", 0), partition.places(TRAIN, TRAIN, "train", 0))
    np.testing.assert_array_equal(partition.places(wider, TEST, "test", 0), partition.places(TRAIN, TEST, "test", 0))


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


def test_settings(partition: Partition) -> None:
    assert build(PARTITIONS, describe(PARTITIONS, partition), "") == partition
    for wrong in ({"nodes": 0}, {"alpha": 0}, {"min_rows": 0}):
        with pytest.raises(RecipeError):
            build(PARTITIONS, {"name": "dirichlet", "over": "service", **wrong}, "")
