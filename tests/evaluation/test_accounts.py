"""Who was trusted, what was shared, and who could see what; counted by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.mlp import Mlp
from vedette.errors import RecipeError
from vedette.evaluation.accounts import network, sharing, trust
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.plots import MOST_PEERS
from vedette.evaluation.recipe import load_recipe
from vedette.message import Memory
from vedette.runtimes.base import Outcome, Round, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import Full, Ring, Server, Star
from vedette.strategies.attacks import LabelFlip, Scaled
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.krum import MultiKrum
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.training.task import Optimiser

ATTACKERS = Attackers(nodes=("x",), attack=LabelFlip())


def outcome(exchanged: Mapping[str, Memory], refused: Mapping[str, str] | None = None) -> Outcome:
    return Outcome({}, [Round("rounds", 1, 1, None, 0, 0, refused or {})], {"prepare": {"*": {"counted.b": 9.0}}, "rounds": exchanged})


def tally(**counted: tuple[float, float]) -> dict[str, float]:
    return {f"{what}.{node}": value for node, pair in counted.items() for what, value in zip(("counted", "turns"), pair, strict=True)}


def test_trust_is_what_each_counted_of_the_turns_it_took() -> None:
    told = trust(outcome({"*": tally(a=(4, 4), b=(3, 4), c=(2, 4), x=(0, 2)) | {"velocity": 1.0}}), ATTACKERS)
    # Median of 1, 0.75, 0.5 and 0 is 0.625; half of it 0.3125: x alone counted for less.
    assert told == {
        "counted": {"a": 1.0, "b": 0.75, "c": 0.5, "x": 0.0}, "refused": {}, "suspected": ["x"], "attackers": ["x"]
    }  # fmt: skip


def test_what_compromised_nodes_think_of_others_is_left_out() -> None:
    judges = {"a": tally(a=(2, 2), b=(1, 2), x=(0, 2)), "b": tally(a=(1, 1), b=(1, 1), x=(1, 1)), "x": tally(a=(0, 9), b=(0, 9), x=(9, 9))}
    told = trust(outcome(judges), ATTACKERS)
    assert told is not None
    # a: (2 + 1) of 3 turns, b: (1 + 1) of 3, x: (0 + 1) of 3; median 2/3, half of it 1/3, and x does not count for less than that.
    assert told["counted"] == pytest.approx({"a": 1.0, "b": 2 / 3, "x": 1 / 3})
    assert told["suspected"] == []
    everybody = trust(outcome(judges), Attackers())
    assert everybody is not None
    # With x's own: a 3/12, b 2/12, x 10/12; median 3/12, half of it 0.125, nobody is suspected.
    assert everybody["counted"] == pytest.approx({"a": 0.25, "b": 2 / 12, "x": 10 / 12})


def test_whoever_was_refused_is_suspected_with_the_reason() -> None:
    told = trust(outcome({"*": tally(a=(1, 1), b=(1, 1))}, {"x": "node 'x' sends …"}), ATTACKERS)
    assert told is not None
    assert (told["suspected"], told["refused"]) == (["x"], {"x": "node 'x' sends …"})
    # Where all others counted by rule, there is that alone to tell.
    alone = trust(outcome({}, {"x": "why"}), ATTACKERS)
    assert alone == {"counted": {}, "refused": {"x": "why"}, "suspected": ["x"], "attackers": ["x"]}
    assert trust(outcome({"*": {"velocity": 1.0}}), ATTACKERS) is None


DETECTOR = Mlp(hidden=(4,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))


@pytest.mark.parametrize("reputation", [False, True])
def test_a_run_names_who_exaggerates(reputation: bool) -> None:
    """Five alike on a full graph: Multi-Krum keeps four of five in every round, reputation the better half."""
    fleet = Fleet.of({node: correlated(150, 4, seed=i, anomalies=0.3) for i, node in enumerate("abcdx")})
    strategy = GossipFedAvg(rounds=3, epochs=2, merging=1.0, aggregator=MultiKrum(attackers=1), reputation=reputation)
    attackers = Attackers(nodes=("x",), attack=Scaled(factor=1000.0))
    told = trust(LocalRuntime(fleet).run(plan_of(DETECTOR, strategy, 7, Full(), attackers)), attackers)
    assert told is not None
    assert told["counted"]["x"] < 1e-3
    assert told["suspected"] == ["x"]
    if not reputation:
        assert told == {
            "counted": {"a": 1, "b": 1, "c": 1, "d": 1, "x": 0}, "refused": {}, "suspected": ["x"], "attackers": ["x"]
        }  # fmt: skip


def test_sharing_is_told_by_node_where_points_are_shared() -> None:
    memories: dict[str, Memory] = {
        "a": {"own.sharing.made": 120.0, "own.sharing.shared": 12.0, "own.scores.sketch": 1.0, "network.model": 2.0},
        "b": {"network.model": 2.0},
    }
    assert sharing(Outcome(memories, [])) == {"a": {"made": 120.0, "shared": 12.0}}
    assert sharing(Outcome({"b": {}}, [])) == {}


def test_sharing_of_a_run_is_what_its_nodes_lacked() -> None:
    label = {"a": np.repeat([0, 1], [40, 10]), "b": np.repeat([0, 1], [40, 35])}
    fleet = Fleet.of({node: replace(correlated(len(said), 4, seed=1), label=said.astype(np.int8)) for node, said in label.items()})
    told = sharing(LocalRuntime(fleet).run(plan_of(DETECTOR, P2pkSmote(rounds=3, epochs=1), 7, Ring())))
    assert {node: (facts["made"], facts["minority"]) for node, facts in told.items()} == {"a": (3 * 30, 10), "b": (3 * 5, 35)}
    assert all(0 <= facts["shared"] <= facts["made"] - facts["close"] for facts in told.values())


def test_a_ring_of_four_by_hand() -> None:
    history = [Round("prepare", 1, 1, None, 10, 0), Round("rounds", 1, 2, 0.5, 100, 0), Round("rounds", 2, 2, 0.5, 100, 7)]
    found = network(Ring(), ["a", "b", "c", "d"], 2, 0, Outcome({}, history))
    assert found == {
        "name": "ring",
        "nodes": 4,
        "edges": 4,
        "graph": [["a", "b"], ["a", "d"], ["b", "c"], ["c", "d"]],
        "seen_by": {"mean": 2.0, "most": 2},
        "bytes": 217,
    }
    star = network(Star(), ["a", "b", "c", "d"], 2, 0, Outcome({}, history))
    assert star is not None
    # The hub is seen by three, each other one by the hub.
    assert (star["edges"], star["seen_by"]) == (3, {"mean": 1.5, "most": 3})
    # A hub that changes place has shown itself to all, and each leaf to both hubs: 3, 3, 2, 2.
    moving = network(Star(every=1), ["a", "b", "c", "d"], 2, 0, Outcome({}, history))
    assert moving is not None
    assert moving["seen_by"] == {"mean": 2.5, "most": 3}


def test_where_nobody_has_a_neighbour_there_is_no_network() -> None:
    assert network(Server(), ["a", "b"], 2, 0, Outcome({}, [])) is None
    assert network(Ring(), ["a"], 2, 0, Outcome({}, [])) is None
    # Peers that train alone have neighbours, but tell them nothing.
    assert network(Ring(), ["a", "b"], 2, 0, Outcome({}, [Round("rounds", 1, 1, 0.5, 0, 0)])) is None
    many = network(Ring(), [f"n{i:04}" for i in range(MOST_PEERS + 1)], 2, 0, Outcome({}, [Round("rounds", 1, 1, 0.5, 7, 0)]))
    assert many is not None
    assert (many["graph"], many["edges"]) == (None, MOST_PEERS + 1)


def test_an_unknown_attacker_is_said_with_the_nearest_name() -> None:
    size = ["data.train_hours=2", "data.test_hours=2", "data.nodes=3", "methods=['federated']"]
    recipe = load_recipe("demo", changes=[*size, "attackers.nodes=['nobody']"])
    names = list(recipe.partition.names(recipe.data.load(None).tables["train"]))
    mistyped = f"{names[1]}x"
    with pytest.raises(RecipeError) as said:
        Experiment(load_recipe("demo", changes=[*size, f"attackers.nodes=['{mistyped}']"])).run()
    assert str(said.value) == f"attackers.nodes: there is no node '{mistyped}'; did you mean '{names[1]}'?"
