"""Every registered partition: each row at one node, by the seed and the training rows alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shares import PARTS, TEST, TRAIN, counts
from vedette.data.fleet import Fleet
from vedette.data.partition import PARTITIONS, Counts, Natural, Partition
from vedette.data.table import Coded
from vedette.settings import build, describe

NAMES = sorted(PARTITIONS)


@pytest.fixture(params=NAMES)
def partition(request: pytest.FixtureRequest) -> Partition:
    return build(PARTITIONS, {"name": request.param, **PARTS.get(request.param, {})}, "[partition]")


def test_its_name_is_what_it_is_registered_under(partition: Partition, request: pytest.FixtureRequest) -> None:
    assert describe(PARTITIONS, partition)["name"] == partition.by == request.node.callspec.params["partition"]


def test_each_row_is_placed_once(partition: Partition) -> None:
    names = partition.names(TRAIN)
    assert len(set(names)) == len(names)
    for part, table in (("train", TRAIN), ("test", TEST), ("none", TEST.take(slice(0, 0)))):
        places = partition.places(TRAIN, table, part, 0)
        assert places.shape == (len(table),)
        assert places.dtype == np.int64
        pooled = Fleet.from_places(table, places, names).pooled()
        held = sorted(pooled.numbers[:, 0])
        if isinstance(partition, Counts):  # what nobody wants belongs to no node
            assert len(set(held)) == len(held) == (places >= 0).sum()
        else:
            assert held == list(range(len(table)))


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


def test_settings_survive_json(partition: Partition) -> None:
    assert build(PARTITIONS, json.loads(json.dumps(describe(PARTITIONS, partition))), "") == partition
