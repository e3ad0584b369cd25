"""Fleets: tables made when asked for, in no order but that of the names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.errors import DataUnusable


def table(*rows: float) -> Table:
    return Table.from_array(np.array(rows, dtype=np.float64)[:, None])


def rows(table: Table) -> list[float]:
    return table.numbers[:, 0].tolist()


def test_only_the_tables_asked_for_are_made() -> None:
    made: list[str] = []

    def make(node: str) -> Table:
        made.append(node)
        return table(float(node.removeprefix("pump-")))

    fleet = Fleet([f"pump-{i}" for i in range(100_000)], make)
    doubled = fleet.map(lambda table: Table.from_array(2 * table.numbers))
    assert len(fleet) == len(doubled) == 100_000
    assert "pump-99999" in fleet
    assert "pump-100000" not in fleet
    assert next(iter(fleet)) == "pump-0"
    assert made == []
    assert rows(fleet["pump-77"]) == [77]
    assert rows(doubled["pump-31"]) == [62]
    assert made == ["pump-77", "pump-31"]


def test_nodes_are_sorted_and_known() -> None:
    fleet = Fleet.of({"b": table(2), "a": table(1), "c": table(3)})
    assert fleet.nodes == tuple(fleet) == ("a", "b", "c")
    assert rows(fleet.pooled()) == [1, 2, 3]
    with pytest.raises(KeyError):
        fleet["d"]


def test_impossible_fleets_are_refused() -> None:
    with pytest.raises(DataUnusable, match="at least one node"):
        Fleet([], lambda node: table())
    with pytest.raises(DataUnusable, match="same id"):
        Fleet(["a", "b", "a"], lambda node: table())


@given(st.lists(st.integers(0, 3), max_size=20))
def test_each_row_stands_once_at_its_place_in_the_old_order(places: list[int]) -> None:
    nodes = ["d", "b", "a", "c"]
    fleet = Fleet.from_places(table(*range(len(places))), np.array(places, dtype=np.int64), nodes)
    for at, node in enumerate(nodes):
        assert rows(fleet[node]) == [row for row, place in enumerate(places) if place == at]
    assert sorted(rows(fleet.pooled())) == list(range(len(places)))
