"""P2PK-SMOTE: whose points come, how many, what they are good for, and what never leaves a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Feature, Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.bundle import save_bundle
from vedette.detectors.classical import Pca
from vedette.detectors.mlp import Mlp
from vedette.errors import DataUnusable, RecipeError
from vedette.evaluation.methods import restored
from vedette.files import read_memory
from vedette.message import Array, Memory, Message, Vector
from vedette.runtimes.base import digest, plan_of
from vedette.runtimes.checkpoint import load_state
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Full, Ring
from vedette.seeds import stream
from vedette.strategies.base import STRATEGIES, Reply, Turn, View
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.strategies.view import Answers
from vedette.training.task import Done, Optimiser, Work

DETECTOR = Mlp(hidden=(16,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))
FEATURES = tuple(Feature(f"s{i}") for i in range(3))


def turn(phase: str = "train", number: int = 0, receivers: tuple[str, ...] = ("a", "b", "c"), node: str = "") -> Turn:
    return Turn(number, phase, receivers, {}, partial(stream, 0, number, node), node)


def points(*values: float) -> Array:
    """Points of two columns and the label, each told by its first value."""
    return np.array([[value, 0.0, 1.0] for value in values], dtype=np.float32).reshape(-1, 3)


def sent(made: Array, merges: float = 1.0) -> Message:
    one = Vector(np.ones(1, dtype=np.float32), "x")
    return Message({"model": one, "norms": one}, {"synthetic": made}, {"rows": 1.0, "variance": 1.0, "merges": merges})


def table(seed: int, normal: int, anomalies: int, family: int = 0) -> Table:
    """Normal rows around 0; anomalies 8 away from it along one axis, their family."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(normal + anomalies, 3))
    rows[normal:, family] += 8
    return Table(FEATURES, rows, label=np.repeat([0, 1], [normal, anomalies]).astype(np.int8))


def test_others_points_come_and_never_ones_own() -> None:
    strategy = P2pkSmote()
    view = Answers(strategy.channels)
    for node, message in {"a": sent(points(1, 2)), "b": sent(points(3)), "c": sent(points(), 0.0), "d": sent(points())}.items():
        view.add(node, message)
    messages = strategy.exchange(turn(receivers=("a", "b", "c", "d")), view, {}).messages
    assert messages is not None
    given = {node: message.tables["received"][:, 0].tolist() for node, message in messages.items()}
    # c does not merge: it gets nothing (algorithm 2, lines 12 to 16).
    assert given == {"a": [3], "b": [1, 2], "d": [1, 2, 3]}
    assert all(message.tables.keys() == {"received"} and message.vectors.keys() == {"model", "norms"} for message in messages.values())
    # Where the others have none to give, none come.
    alone = Answers(strategy.channels)
    alone.add("a", sent(points(1, 2)))
    alone.add("c", sent(points()))
    reply = strategy.exchange(turn(receivers=("a",)), alone, {}).messages
    assert reply is not None
    assert not reply["a"].tables


@pytest.mark.parametrize(
    "forged", [np.ones((2, 7)), np.ones(3), np.ones((2, 3), dtype=np.int64), np.full((2, 3), 5.0)], ids=["wide", "flat", "whole", "label"]
)
def test_what_is_no_table_of_points_is_left_out(forged: Array) -> None:
    strategy = P2pkSmote()
    view = Answers(strategy.channels)
    for node, message in {"a": sent(points(1, 2)), "b": sent(forged), "c": sent(points(3))}.items():
        view.add(node, message)
    messages = strategy.exchange(turn(), view, {}).messages
    assert messages is not None
    assert messages["a"].tables["received"][:, 0].tolist() == [3]
    assert messages["c"].tables["received"][:, 0].tolist() == [1, 2]


def test_what_came_is_kept_up_to_a_number() -> None:
    mine: Memory = {"received": points(1, 2, 3)}
    inbox = Message(tables={"received": points(4, 5)})
    work = P2pkSmote().work(turn(), inbox, mine)
    assert work.keep["received"][:, 0].tolist() == [1, 2, 3, 4, 5]
    assert work.tables["received"] is work.keep["received"]
    assert work.tasks[0].extra == ("synthetic", "received")
    # The points a node makes are asked for before it trains, and its own query for the variance stays.
    assert {query.name for query in work.queries.values()} == {"k-smote", "variance"}
    few = P2pkSmote(most_received=4)
    kept = few.work(turn(node="a"), inbox, mine).keep["received"][:, 0].tolist()
    assert len(kept) == 4
    assert kept == sorted(set(kept))
    assert set(kept) < {1, 2, 3, 4, 5}
    assert kept == few.work(turn(node="a"), inbox, mine).keep["received"][:, 0].tolist()
    # Not always the same ones, and none twice.
    drawn = {tuple(few.work(turn(node=node), inbox, mine).keep["received"][:, 0].tolist()) for node in "abcdefgh"}
    assert len(drawn) > 1
    nothing = P2pkSmote().work(turn(), Message(), {})
    assert (dict(nothing.keep), nothing.tasks[0].extra) == ({}, ("synthetic",))
    last = P2pkSmote().work(turn("adopt"), inbox, mine)
    assert (dict(last.keep), last.tasks[0].extra, last.tasks[0].epochs) == ({}, (), 0)


def test_counts_add_up_and_only_shared_points_are_sent() -> None:
    facts = {"made": 30.0, "close": 4.0, "copies": 1.0, "shared": 3.0, "minority": 10.0, "membership": 0.5}
    said = {"rows": 50.0, "data.variance": 1.0, **{f"synthetic.{name}": value for name, value in facts.items()}}
    done = Done({}, Message(tables={"synthetic": points(*range(30)), "synthetic.shared": points(7, 8, 9)}, facts=said))
    strategy, mine = P2pkSmote(), dict[str, object]({"received": points(1)})
    for _ in range(3):
        message, mine = strategy.answer(turn(), done, mine)
        # All points may hold copies of real rows; how many rows of the rarer class there are is nobody's business either.
        assert message.tables.keys() == {"synthetic"}
        assert message.tables["synthetic"][:, 0].tolist() == [7, 8, 9]
        assert message.facts == {"rows": 50.0, "variance": 1.0, "merges": message.facts["merges"]}
    assert {name: value for name, value in mine.items() if name != "received"} == {
        "own.sharing.made": 90.0,
        "own.sharing.close": 12.0,
        "own.sharing.shared": 9.0,
        "own.sharing.minority": 10.0,
        "own.sharing.membership": 0.5,
    }
    # After the last round nobody's points stay.
    assert "received" not in strategy.answer(turn("adopt"), done, mine)[1]


class Watched(P2pkSmote):
    """Writes down what nodes send, what they are given, and what they know of their points."""

    shared: ClassVar[dict[tuple[int, str], Array]] = {}
    facts: ClassVar[dict[tuple[int, str], Mapping[str, float | str]]] = {}
    given: ClassVar[dict[tuple[int, str], Array]] = {}
    kept: ClassVar[dict[tuple[int, str], Array]] = {}

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        work = super().work(turn, inbox, mine)
        if "received" in work.tables:
            self.kept[turn.round, turn.node] = work.tables["received"]
        return work

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        message, mine = super().answer(turn, done, mine)
        if turn.phase == "train":
            self.shared[turn.round, turn.node] = message.tables["synthetic"]
            self.facts[turn.round, turn.node] = done.answers.facts
        return message, mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        reply = super().exchange(turn, view, ours)
        self.given.update({(turn.round, node): each.tables["received"] for node, each in (reply.messages or {}).items() if each.tables})
        return reply


class PointsAlone(P2pkSmote):
    """Shares points, but no weights: what a node knows of others it knows from their points."""

    def _start(self, inbox: Message, mine: Memory) -> Mapping[str, Vector]:
        return {}


@pytest.fixture(autouse=True)
def probes() -> Iterator[None]:
    STRATEGIES.register("watched")(Watched)
    STRATEGIES.register("points-alone")(PointsAlone)
    for log in (Watched.shared, Watched.facts, Watched.given, Watched.kept):
        log.clear()
    yield
    for name in ("watched", "points-alone"):
        STRATEGIES._entries.pop(name)


def rows_of(points: Array) -> set[bytes]:
    return {row.tobytes() for row in points}


def test_points_travel_round_by_round(tmp_path: Path) -> None:
    """Four nodes on a ring, 40 normal rows and 10 anomalies each: 30 points are made up, and 0.1 of them, 3, shared with each side.

    Where fewer than three are far enough from all real rows, those.
    """
    fleet = Fleet.of({name: table(i, 40, 10) for i, name in enumerate("abcd")})
    strategy = Watched(rounds=4, epochs=1, merging=1.0, closeness=0.0, samples=5, neighbours=3)
    plan = plan_of(DETECTOR, strategy, 7, Ring())
    held: dict[int, dict[str, Memory]] = {}

    def look(entry: object, ended: object) -> None:
        if entry.stage == "rounds":
            held[entry.number] = dict(load_state(tmp_path / "state", digest(plan)).memories)

    outcome = LocalRuntime(fleet, checkpoint=tmp_path / "state").run(plan, look)
    near = {"a": "bd", "b": "ac", "c": "bd", "d": "ac"}
    for number in range(4):
        for node, others in near.items():
            close = Watched.facts[number, node]["synthetic.close"]
            assert len(Watched.shared[number, node]) == min(3, 30 - float(close))
            assert np.array_equal(Watched.given[number, node], np.concatenate([Watched.shared[number, peer] for peer in others]))
            # What came in each round before is all there to train on, and in the checkpoint, and none of it is its own.
            if number:
                came = np.concatenate([Watched.given[before, node] for before in range(number)])
                assert np.array_equal(Watched.kept[number, node], came)
                assert np.array_equal(held[number + 1][node]["received"], came)
                own = rows_of(np.concatenate([Watched.shared[before, node] for before in range(4)]))
                assert not rows_of(came) & own
    assert (0, "a") not in Watched.kept
    # Points are new in each round.
    every = np.concatenate(list(Watched.shared.values()))
    assert len(rows_of(every)) == len(every) > 40
    for node in fleet:
        memory = outcome.memories[node]
        assert (memory["own.sharing.made"], memory["own.sharing.minority"]) == (120, 10)
        assert memory["own.sharing.shared"] == sum(len(Watched.shared[number, node]) for number in range(4))
        close = sum(float(Watched.facts[number, node]["synthetic.close"]) for number in range(4))
        assert memory["own.sharing.close"] == close
        # No node's real row ever travels, nor what was given by others in what is left in the end.
        real = np.column_stack([DETECTOR.samples(fleet[node], memory).all(), fleet[node].label]).astype(np.float32)
        assert not rows_of(real) & rows_of(np.concatenate([Watched.shared[number, node] for number in range(4)]))
        assert "received" not in memory


def test_nothing_is_shared_that_is_too_close() -> None:
    """As many points as before are made; the nearer ones, by whatever is said to be too near, are held back and counted."""
    fleet = Fleet.of({name: table(i, 60, 8) for i, name in enumerate("ab")})
    held = {}
    for closeness in (0.0, 1.0):
        strategy = P2pkSmote(rounds=2, epochs=1, closeness=closeness, share=1.0, samples=8, neighbours=2)
        memory = LocalRuntime(fleet).run(plan_of(DETECTOR, strategy, 7, Full())).memories["a"]
        made, close, shared = (float(memory[f"own.sharing.{name}"]) for name in ("made", "close", "shared"))
        # 60 - 8 = 52 a round; with a share of all of them every point is either shared or too close.
        assert made == 104
        assert close + shared == 104
        held[closeness] = close
    assert held[0.0] < held[1.0]


def test_a_single_row_of_the_rarer_class_stays_at_home() -> None:
    """Points around one row are copies of it: none leaves."""
    fleet = Fleet.of({"a": table(0, 30, 1), "b": table(1, 30, 10)})
    memories = LocalRuntime(fleet).run(plan_of(DETECTOR, P2pkSmote(rounds=2, epochs=1, share=1.0), 7, Full())).memories
    assert [memories["a"][f"own.sharing.{name}"] for name in ("made", "close", "shared", "minority")] == [58, 58, 0, 1]


def test_where_normal_rows_are_rarer_they_are_shared_as_such() -> None:
    """Scenario 3: of a, normal rows are rare, of b anomalies."""
    fleet = Fleet.of({"a": table(0, 10, 50), "b": table(1, 50, 10)})
    LocalRuntime(fleet).run(plan_of(DETECTOR, Watched(rounds=1, epochs=1, share=0.5, closeness=0.0), 7, Full()))
    assert Watched.shared[0, "a"][:, -1].tolist() == [0.0] * 20
    assert Watched.shared[0, "b"][:, -1].tolist() == [1.0] * 20
    # And they lie where that class lies: anomalies are 8 off, in units of the standard deviation of all about 2.
    family = {node: float(Watched.shared[0, node][:, 0].mean()) for node in fleet}
    assert family["b"] - family["a"] > 1.5
    # A class that is missing cannot be made up, and a node that is balanced needs nothing.
    Watched.shared.clear()
    fleet = Fleet.of({"a": table(0, 30, 0), "b": table(1, 30, 30), "c": table(1, 30, 10)})
    outcome = LocalRuntime(fleet).run(plan_of(DETECTOR, Watched(rounds=1, epochs=1), 7, Full()))
    assert [len(Watched.shared[0, node]) for node in "abc"] == [0, 0, 2]
    assert [outcome.memories[node]["own.sharing.made"] for node in "abc"] == [0, 0, 20]
    assert {node: len(found) for (_, node), found in Watched.given.items()} == {"a": 2, "b": 2}


def test_a_node_learns_a_family_of_anomalies_from_points_it_is_given() -> None:
    """One family each. Without others' weights, and without their points, a node misses what it has never seen; points are enough."""
    fleet = Fleet.of({"a": table(0, 200, 20, family=0), "b": table(1, 200, 20, family=1)})
    strange = {node: table(9, 0, 100, family=other) for node, other in (("a", 1), ("b", 0))}
    normal = table(8, 300, 0)
    found = {}
    for share in (0.0, 0.5):
        plan = plan_of(DETECTOR, PointsAlone(rounds=5, epochs=5, merging=1.0, share=share), 7, Full())
        outcome = LocalRuntime(fleet).run(plan)
        detectors = {node: DETECTOR.restored(outcome.memories[node]) for node in fleet}
        found[share] = [float(detectors[node].predict(strange[node]).mean()) for node in fleet]
        assert max(float(each.predict(normal).mean()) for each in detectors.values()) < 0.05
        assert min(float(detectors[node].predict(table(7, 0, 100, family=i)).mean()) for i, node in enumerate("ab")) > 0.95
    assert max(found[0.0]) < 0.3
    assert min(found[0.5]) > 0.95


def test_the_shared_half_is_all_that_tells_it_from_gossip() -> None:
    """Without sharing and with nothing lacking it is gossip, to the bit."""
    fleet = Fleet.of({name: table(i, 20, 20) for i, name in enumerate("abc")})
    memories = [
        LocalRuntime(fleet).run(plan_of(DETECTOR, kind(rounds=2, epochs=1), 7, Ring())).memories for kind in (GossipFedAvg, P2pkSmote)
    ]
    for node in fleet:
        assert np.array_equal(memories[0][node]["network.model"], memories[1][node]["network.model"])


def test_detectors_hold_nothing_of_others_and_equal_ones_are_the_same(tmp_path: Path) -> None:
    """All merge in the last round: on a full graph all nodes have one detector, whatever each of them shared."""
    fleet = Fleet.of({"a": table(0, 40, 10), "b": table(1, 40, 5), "c": table(2, 40, 20)})
    for reputation in (False, True):
        strategy = P2pkSmote(rounds=3, epochs=1, merging=1.0, reputation=reputation)
        outcome = LocalRuntime(fleet).run(plan_of(DETECTOR, strategy, 7, Full()))
        # Nodes made different numbers of points …
        assert [outcome.memories[node]["own.sharing.made"] for node in fleet] == [90, 105, 60]
        assert all(not name.startswith(("received", "loss@")) for memory in outcome.memories.values() for name in memory)
        detectors = restored(DETECTOR, outcome.memories)
        if not reputation:
            # … and have the same detector all the same.
            assert len({id(detector) for detector in detectors.values()}) == 1
        save_bundle(detectors["b"], tmp_path / str(reputation))
        kept, _ = read_memory(tmp_path / str(reputation) / "weights.safetensors")
        assert not [name for name in kept if name.startswith(("received", "loss@"))]


def test_what_cannot_be_done_is_refused_with_what_to_do_about_it() -> None:
    own = DETECTOR.model_copy(update={"scaling": Scaling(numbers="standard", fit="local")})
    with pytest.raises(RecipeError) as said:
        plan_of(own, P2pkSmote(), 0)
    assert str(said.value) == "strategy 'p2pk-smote' shares scaled rows: all nodes must scale alike (detector.scaling.fit = 'federated')"
    with pytest.raises(RecipeError) as said:
        plan_of(Autoencoder(), P2pkSmote(), 0)
    assert str(said.value) == "strategy 'p2pk-smote' is for detectors that learn from labels, such as 'mlp'; 'autoencoder' does not"
    with pytest.raises(RecipeError, match="detector 'pca' learns in one step: take the strategy 'merge'"):
        plan_of(Pca(), P2pkSmote(), 0)
    # Without points there is nothing to refuse.
    assert plan_of(own, GossipFedAvg(), 0)["stages"]
    assert plan_of(Autoencoder(), GossipFedAvg(), 0)["stages"]


def test_rows_without_labels_are_refused_by_node() -> None:
    fleet = Fleet.of({"a": table(0, 40, 10), "b": replace(table(1, 40, 10), label=None)})
    with pytest.raises(DataUnusable, match=r"node 'b', round 1: .*labels"):
        LocalRuntime(fleet).run(plan_of(DETECTOR, P2pkSmote(rounds=1), 7, Full()))
