"""Topologies: edges counted by hand, whole, both ways, and the same for the same seed and period."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import DataBroken, DataMissing, RecipeError
from vedette.runtimes.base import plan_of
from vedette.runtimes.topology import TOPOLOGIES, Geometric, Regular, Ring, Server, SmallWorld, Star, Topology, components, seen_by
from vedette.settings import build, describe
from vedette.strategies.fedavg import FedAvg

FIVE = ["e", "d", "c", "b", "a"]
RANDOM = ("geometric", "regular", "small-world")


def nodes_of(count: int) -> list[str]:
    return [f"pump {i}" for i in range(count)]


def made(name: str, folder: Path, nodes: list[str], **settings: Any) -> Topology:
    """One of each kind; the file holds a chain."""
    if name == "file":
        chain = folder / f"chain-{len(nodes)}.csv"
        chain.write_text("\n".join(f"{one},{other}" for one, other in pairwise(nodes)))
        settings["path"] = str(chain)
    return build(TOPOLOGIES, {"name": name, **settings}, "[topology]")


def edges(neighbours: dict[str, tuple[str, ...]]) -> set[tuple[str, str]]:
    return {(one, other) for one, others in neighbours.items() for other in others if one < other}


@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 50])
@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_every_kind_joins_all_nodes_both_ways(name: str, count: int, every: int, tmp_path: Path) -> None:
    nodes = nodes_of(count)
    topology = made(name, tmp_path, nodes, every=every)
    for round in (0, 5):
        near = topology.neighbours(nodes, round, 7)
        assert list(near) == nodes
        assert components(near) == [tuple(sorted(nodes))]
        for node, others in near.items():
            assert node not in others
            assert list(others) == sorted(set(others))
            assert all(node in near[other] for other in others)
    assert describe(TOPOLOGIES, topology)["name"] == name
    assert topology.central == (name == "server")


def test_edges_are_as_counted_by_hand() -> None:
    def found(name: str, **settings: Any) -> set[tuple[str, str]]:
        return edges(build(TOPOLOGIES, {"name": name, **settings}, "").neighbours(FIVE, 3, 0))

    assert found("full") == found("server") == set(combinations("abcde", 2))
    assert found("ring") == {("d", "e"), ("c", "d"), ("b", "c"), ("a", "b"), ("a", "e")}
    assert found("star") == {("a", "e"), ("b", "e"), ("c", "e"), ("d", "e")}
    assert found("small-world", degree=2, rewired=0) == found("ring")
    assert found("geometric", radius=1.5) == set(combinations("abcde", 2))  # the square's diagonal is shorter


@pytest.mark.parametrize(
    ("count", "degree", "neighbours"), [(10, 4, 4), (10, 3, 3), (9, 3, 4), (3, 4, 2), (4, 9, 3), (50, 48, 48), (5, 3, 4)]
)
def test_regular_graphs_have_one_degree(count: int, degree: int, neighbours: int) -> None:
    near = Regular(degree=degree).neighbours(nodes_of(count), 0, 1)
    assert {len(others) for others in near.values()} == {neighbours}


def test_small_worlds_move_some_edges_of_a_ring() -> None:
    nodes = nodes_of(50)
    ring, moved = (edges(SmallWorld(rewired=share).neighbours(nodes, 0, 1)) for share in (0, 0.3))
    assert len(ring) == len(moved) == 50 * 4 / 2
    assert 0 < len(moved - ring) < 60  # 30 of 100 expected
    assert edges(SmallWorld(degree=4).neighbours(FIVE, 0, 1)) == set(combinations("abcde", 2))
    with pytest.raises(RecipeError, match="multiple of 2"):
        build(TOPOLOGIES, {"name": "small-world", "degree": 3}, "[topology]")


@pytest.mark.parametrize("name", sorted(set(TOPOLOGIES) - {"file"}))
def test_a_graph_changes_with_its_period_and_the_seed(name: str, tmp_path: Path) -> None:
    nodes = nodes_of(20)
    still, varying = made(name, tmp_path, nodes), made(name, tmp_path, nodes, every=3)
    drawn = [varying.neighbours(nodes, round, 5) for round in range(12)]
    assert drawn == [varying.neighbours(nodes, round, 5) for round in range(12)]
    assert all(still.neighbours(nodes, round, 5) == still.neighbours(nodes, 0, 5) for round in (1, 40))
    assert all(drawn[round] == drawn[round - round % 3] for round in range(12))
    assert all((drawn[round] != drawn[round - 3]) == (name not in ("full", "server")) for round in range(3, 12, 3))
    assert (still.neighbours(nodes, 0, 5) != still.neighbours(nodes, 0, 6)) == (name in RANDOM)


def test_graphs_do_not_depend_on_the_process(tmp_path: Path) -> None:
    code = "from vedette.runtimes.topology import *; print(Regular(every=1).neighbours([f'pump {i}' for i in range(9)], 4, 2))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {str(Regular(every=1).neighbours(nodes_of(9), 4, 2))}


def test_each_node_is_the_hub_before_one_is_it_again() -> None:
    star = Star(every=2)
    hubs = [next(node for node, others in star.neighbours(FIVE, round, 0).items() if len(others) == 4) for round in range(20)]
    assert hubs[::2] == hubs[1::2]
    assert sorted(hubs[:10:2]) == sorted(FIVE)
    assert hubs[:10] == hubs[10:]


def test_graphs_that_never_hold_together_are_refused() -> None:
    with pytest.raises(RecipeError, match="1,000 graphs drawn, none joins all 30 nodes; take a larger 'radius'"):
        Geometric(radius=0.01).neighbours(nodes_of(30), 0, 0)


def test_a_file_says_who_is_whose_neighbour(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    text = '\ufeff# two islands\r\n\r\npump one, "pump, two"\r\n"pump, two",pump one\r\n  # the other\r\n"#3",4\r\n4,5\r\n'
    file.write_bytes(text.encode())
    nodes = ["pump one", "pump, two", "#3", "4", "5"]
    near = build(TOPOLOGIES, {"name": "file", "path": str(file), "every": 1}, "").neighbours(nodes, 9, 0)
    assert near == {"pump one": ("pump, two",), "pump, two": ("pump one",), "#3": ("4",), "4": ("#3", "5"), "5": ("4",)}
    assert components(near) == [("#3", "4", "5"), ("pump one", "pump, two")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n\n# c\nb,cc\n", "edges.csv:4: no node is called 'cc'; did you mean 'c'?"),
        ("pump,b\n", "edges.csv:1: no node is called 'pump'"),
        ("a,b\nc,c\n", "edges.csv:2: 'c' is no neighbour of itself"),
        ("a,b,c\n", "edges.csv:1: an edge is two names, 'node,node', and here stands 'a,b,c'"),
        ("a b\n", "edges.csv:1: an edge is two names"),
        ("a,b\na,\n", "edges.csv:2: an edge is two names"),
        ('a,b\n"a,c\n', "edges.csv:2: this is no CSV"),
        ("a,b\n", "edges.csv: node 'c' has no neighbour"),
        ("", "edges.csv: node 'a' has no neighbour"),
        ("a,\xff\n", "edges.csv cannot be read as a text file of edges"),
    ],
)
def test_files_that_say_something_impossible_are_refused(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_bytes(text.encode("latin-1"))
    topology = build(TOPOLOGIES, {"name": "file", "path": str(tmp_path / "edges.csv")}, "")
    with pytest.raises(DataBroken) as error:
        topology.neighbours(["a", "b", "c"], 0, 0)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="there is no such file of edges"):
        build(TOPOLOGIES, {"name": "file", "path": str(tmp_path / "none.csv")}, "").neighbours(["a", "b"], 0, 0)
    with pytest.raises(DataBroken, match="cannot be read as a text file"):
        build(TOPOLOGIES, {"name": "file", "path": str(tmp_path)}, "").neighbours(["a", "b"], 0, 0)


def test_who_saw_something_of_a_node_is_counted_over_the_run() -> None:
    assert seen_by(Ring(), FIVE, 100, 0) == dict.fromkeys(FIVE, 2)
    assert seen_by(Star(), FIVE, 100, 0) == {"e": 4, "d": 1, "c": 1, "b": 1, "a": 1}
    assert seen_by(Server(), FIVE, 100, 0) == dict.fromkeys(FIVE, 1)
    assert seen_by(Server(), FIVE, 0, 0) == seen_by(Ring(every=2), FIVE, 0, 0) == seen_by(Ring(), FIVE, 0, 0) == dict.fromkeys(FIVE, 0)
    # Two hubs in four rounds of two: each sees all, and the others are seen by both.
    hubs = {node for round in (0, 2) for node, others in Star(every=2).neighbours(FIVE, round, 0).items() if len(others) == 4}
    assert len(hubs) == 2
    assert seen_by(Star(every=2), FIVE, 4, 0) == {node: 4 if node in hubs else 2 for node in FIVE}
    # Three rounds of the second period are cut short: its graph counts, a third one does not.
    rings = [Ring(every=4).neighbours(nodes_of(9), round, 0) for round in (0, 4, 8)]
    expected = {node: len({*rings[0][node], *rings[1][node]}) for node in nodes_of(9)}
    assert seen_by(Ring(every=4), nodes_of(9), 7, 0) == expected
    assert expected != {node: len({*rings[0][node], *rings[1][node], *rings[2][node]}) for node in nodes_of(9)}


def test_islands_are_told_apart() -> None:
    assert components({"c": ("a",), "a": ("c",), "b": (), "e": ("d",), "d": ("e",)}) == [("a", "c"), ("b",), ("d", "e")]


def test_no_graph_library_is_loaded_before_it_is_needed() -> None:
    code = "import sys, vedette.runtimes.topology; print('networkx' in sys.modules, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == ["False", "False"]


def test_a_plan_holds_what_the_file_said(tmp_path: Path) -> None:
    """Whoever joins has no such file, and a run is not resumed with another graph under the same name."""
    file = tmp_path / "edges.csv"
    file.write_text("a,b\nb,c\n")
    plan = plan_of(Autoencoder(), FedAvg(), 1, build(TOPOLOGIES, {"name": "file", "path": str(file)}, ""))
    assert plan["topology"]["edges"] == [["a", "b"], ["b", "c"]]
    file.unlink()
    there = build(TOPOLOGIES, json.loads(json.dumps(plan["topology"])), "")
    assert there.neighbours(["a", "b", "c"], 0, 0) == {"a": ("b",), "b": ("a", "c"), "c": ("b",)}
