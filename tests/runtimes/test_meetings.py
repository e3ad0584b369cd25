"""Who hears whom in a run, what travels there, and what compromised nodes know; and runs that are ended early, for a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.classical import Pca
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.mlp import Mlp
from vedette.message import Memory, Message, Vector
from vedette.runtimes.base import Outcome, Round, digest, plan_of
from vedette.runtimes.checkpoint import load_state
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers, Hearing, Meeting, meetings
from vedette.runtimes.topology import EdgeFile, Full, Ring, Server, Star, Topology
from vedette.seeds import stream
from vedette.strategies.attacks import ATTACKS, ALittleIsEnough, Attack, Nan
from vedette.strategies.base import STRATEGIES, Strategy, Turn
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.merge import Merge
from vedette.strategies.mtad_fl import MtadFl
from vedette.strategies.prepare import Prepare
from vedette.training.layout import layout_of
from vedette.training.task import Done, Optimiser

ABCD = ("a", "b", "c", "d")
DETECTOR = Autoencoder(hidden=(3,), residual="variance", scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))
CLASSIFIER = Mlp(hidden=(4,), batch_norm=True, scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))


@pytest.fixture(scope="module")
def four() -> Fleet:
    """Four nodes of different size, shape and scale, a fifth of the rows anomalous."""
    return Fleet.of({name: correlated(60 + 30 * i, 4, seed=i, anomalies=0.2, nodes_shift=0.5 * i) for i, name in enumerate(ABCD)})


@pytest.fixture
def islands(tmp_path: Path) -> EdgeFile:
    """Two pairs that never hear of each other."""
    (tmp_path / "edges.csv").write_text("a,b\nc,d\n")
    return EdgeFile(path=tmp_path / "edges.csv")


def turn(phase: str = "train", receivers: tuple[str, ...] = ABCD) -> Turn:
    return Turn(0, phase, receivers, {}, partial(stream, 0))


def sent(value: float) -> Message:
    return Message({"model": Vector(np.full(10, value, dtype=np.float32), "sixteen letters.")}, facts={"rows": 1.0})


def ran(strategy: Strategy, fleet: Fleet, topology: Topology, detector: Any = DETECTOR, attackers: Attackers | None = None) -> Outcome:
    fleet = fleet if detector.learning == "supervised" else fleet.map(lambda table: table.normal())
    return LocalRuntime(fleet).run(plan_of(detector, strategy, 7, topology, attackers))


def same(one: Memory, other: Memory) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


# Who meets.


def test_a_coordinator_hears_all_a_peer_its_neighbours(islands: EdgeFile) -> None:
    assert meetings(Server(), FedAvg(), ABCD, 0, 7) == {"*": Meeting(ABCD, ABCD)}
    assert meetings(Ring(), FedAvg(), ABCD, 0, 7) == {
        "a": Meeting(("a", "b", "d"), ("a",)),
        "b": Meeting(("a", "b", "c"), ("b",)),
        "c": Meeting(("b", "c", "d"), ("c",)),
        "d": Meeting(("a", "c", "d"), ("d",)),
    }
    assert meetings(Full(), FedAvg(), ABCD, 0, 7) == {node: Meeting(ABCD, (node,)) for node in ABCD}
    star = meetings(Star(), FedAvg(), ABCD, 0, 7)
    assert [star[node].members for node in ABCD] == [ABCD, ("a", "b"), ("a", "c"), ("a", "d")]
    pairs = meetings(islands, FedAvg(), ABCD, 0, 7)
    assert [pairs[node].members for node in ABCD] == [("a", "b"), ("a", "b"), ("c", "d"), ("c", "d")]


@pytest.mark.parametrize("strategy", [Prepare(), Calibrate(), Merge()])
def test_what_is_passed_on_reaches_all_that_are_connected(strategy: Strategy, islands: EdgeFile) -> None:
    assert meetings(Ring(), strategy, ABCD, 0, 7) == {"a": Meeting(ABCD, ABCD)}
    assert meetings(islands, strategy, ABCD, 0, 7) == {"a": Meeting(("a", "b"), ("a", "b")), "c": Meeting(("c", "d"), ("c", "d"))}


def test_neighbours_change_between_rounds_where_it_is_said() -> None:
    nodes = [f"n{i}" for i in range(9)]

    def found(topology: Topology, round: int) -> dict[str, Meeting]:
        return meetings(topology, FedAvg(), nodes, round, 7)

    assert found(Ring(), 0) == found(Ring(), 5)
    changing = Ring(every=2)
    assert found(changing, 0) == found(changing, 1) != found(changing, 2) == found(changing, 3)
    assert all(len(meeting.members) == 3 for meeting in found(changing, 2).values())


def test_a_star_whose_hub_moves_has_each_node_for_a_hub_once() -> None:
    rounds = [meetings(Star(every=1), FedAvg(), ABCD, round, 7) for round in range(4)]
    hubs = [[node for node, meeting in found.items() if len(meeting.members) == 4] for found in rounds]
    assert sorted(hubs) == [["a"], ["b"], ["c"], ["d"]]
    # The others hear that hub and themselves.
    for found, (hub,) in zip(rounds, hubs, strict=True):
        assert all(set(meeting.members) == {node, hub} for node, meeting in found.items() if node != hub)


# What travels.


def heard(topology: Topology, strategy: Strategy, attackers: Attackers | None = None) -> Hearing:
    found = meetings(topology, strategy, ABCD, 0, 7)
    hearing = Hearing(strategy, found, {}, attackers or Attackers())
    for number, node in enumerate(ABCD):
        hearing.hear(node, sent(number))
    return hearing


class Relayed(FedAvg):
    """Averaging that is passed on."""

    relayed: ClassVar[bool] = True


def test_an_answer_counts_once_for_each_that_hears_it(islands: EdgeFile) -> None:
    # Ten numbers of 4 bytes, 16 letters of layout, the name "rows" and its number: 40 + 16 + 4 + 8 = 68 bytes, from four nodes.
    assert heard(Server(), FedAvg()).sent == 4 * 68
    assert heard(Ring(), FedAvg()).sent == 4 * 2 * 68
    assert heard(Full(), FedAvg()).sent == 4 * 3 * 68
    assert heard(islands, FedAvg()).sent == 4 * 68
    # The hub's is heard by three, each other one by the hub.
    assert heard(Star(), FedAvg()).sent == (3 + 3) * 68
    assert heard(Ring(), Relayed()).sent == 4 * 3 * 68
    assert heard(islands, Relayed()).sent == 4 * 68


def test_traffic_of_a_run_on_a_ring(four: Fleet) -> None:
    """Gossip with three facts (rows, merges, variance) among four peers: model and norms, each heard by two neighbours."""
    outcome = ran(GossipFedAvg(rounds=2, epochs=1), four, Ring(), CLASSIFIER)
    layout = layout_of(CLASSIFIER.networks(4)["model"])
    # 4 x 4 + 4 of dense1, 2 x 4 of norm1 and 2 x 4 buffers, 4 + 1 of the output.
    assert (layout.part(holds="weights").size, layout.part(holds="buffers").size) == (20 + 8 + 5, 8)
    answer = 4 * (33 + 8) + 2 * 16 + (4 + 8) + (6 + 8) + (8 + 8)
    assert [(entry.sent, entry.received) for entry in outcome.history if entry.stage == "rounds"] == [(4 * 2 * answer, 0)] * 2
    # A coordinator is sent each once, and answers those that merge: all of them in the last round.
    central = ran(GossipFedAvg(rounds=2, epochs=1), four, Server(), CLASSIFIER)
    (last,) = (entry for entry in central.history if (entry.stage, entry.number) == ("rounds", 2))
    assert (last.sent, last.received) == (4 * answer, 4 * (4 * (33 + 8) + 2 * 16))


# What all come to, and who does not.


@pytest.mark.parametrize("topology", [Ring(), Star(), Full()], ids=["ring", "star", "full"])
def test_scaling_and_threshold_are_those_a_coordinator_would_have_found(topology: Topology, four: Fleet) -> None:
    """They are passed on, so that all peers come to the same, to the bit; nothing is trained here."""
    central, peers = (ran(FedAvg(rounds=0), four, each) for each in (Server(), topology))
    for node in four:
        assert same(peers.memories[node], central.memories[node])
    one, other = (DETECTOR.restored(peers.memories[node]) for node in ("a", "c"))
    assert one.threshold_ == other.threshold_
    assert one.scaler.memory().keys() == other.scaler.memory().keys()


def test_what_learns_in_one_step_is_learned_on_a_ring_as_at_one_place(four: Fleet) -> None:
    detector = Pca(scaling=Scaling(numbers="standard"))
    outcome = ran(Merge(), four, Ring(), detector)
    central = detector.model_copy().fit(four.map(lambda table: table.normal()).pooled())
    for node in four:
        fitted = detector.restored(outcome.memories[node])
        np.testing.assert_allclose(fitted.decision_function(four[node]), central.decision_function(four[node]), rtol=1e-6)
        assert fitted.threshold_ == pytest.approx(central.threshold_, rel=0.02)
        assert same(outcome.memories[node], ran(Merge(), four, Server(), detector).memories[node])


@pytest.mark.parametrize(
    ("strategy", "detector"),
    [(FedAvg(rounds=2), DETECTOR), (GossipFedAvg(rounds=2, epochs=1, reputation=True), CLASSIFIER), (Merge(), Pca())],
    ids=["fedavg", "gossip", "merge"],
)
def test_islands_are_federations_of_their_own(strategy: Strategy, detector: Any, four: Fleet, islands: EdgeFile) -> None:
    """Scaling, weights and threshold of each pair are those it would have if the other pair did not exist, to the bit."""
    together = ran(strategy, four, islands, detector)
    for pair in (("a", "b"), ("c", "d")):
        apart = ran(strategy, Fleet(pair, four.__getitem__), Server(), detector)
        for node in pair:
            assert same(together.memories[node], apart.memories[node])
    scalers = [detector.restored(together.memories[node]).scaler.transform(four["a"]) for node in ABCD]
    assert np.array_equal(scalers[0], scalers[1])
    assert np.array_equal(scalers[2], scalers[3])
    assert not np.allclose(scalers[0], scalers[2], atol=0.1)


def test_a_strategy_that_answers_all_tells_each_peer_its_own_part(four: Fleet) -> None:
    """MTAD-FL's exchange says what every node it heard gets; of that a peer takes its own: its nearest among its neighbours."""
    detector = DualNetwork(channels=(4, 6, 4), reduction=2, slots=4, scaling=Scaling(numbers="standard"), optimiser=Optimiser(batch=32))
    outcome = ran(MtadFl(rounds=2, epochs=1), four, Ring(), detector)
    exchanged = outcome.exchanged["rounds"]
    assert set(exchanged) == set(ABCD)
    assert exchanged["b"]["nodes"] == '["a", "b", "c"]'
    for node in four:
        assert np.isfinite(detector.restored(outcome.memories[node]).decision_function(four[node])).all()
        # What a peer remembers is about those it heard.
        assert np.shape(exchanged[node]["distances.1"]) == (3, 3)


# Compromised nodes.


def test_attackers_know_all_honest_answers_not_only_those_they_hear() -> None:
    """On a ring of five, c hears b and d; with z = 0 it sends the mean of a, b, d and e all the same."""
    nodes = (*ABCD, "e")
    values = {"a": 1.0, "b": 2.0, "c": 77.0, "d": 4.0, "e": 9.0}
    found = meetings(Ring(), FedAvg(aggregator="median"), nodes, 0, 7)
    hearing = Hearing(FedAvg(aggregator="median"), found, {}, Attackers(nodes=("c",), attack=ALittleIsEnough(z=0.0)))
    for node in nodes:
        hearing.hear(node, sent(values[node]))
    views = {who: view for who, _, view in hearing.views(turn(receivers=nodes), {})}
    seen = {who: dict(zip(view.each("model")[0], view.each("model")[1][:, 0].tolist(), strict=True)) for who, view in views.items()}
    assert seen["b"] == {"a": 1, "b": 2, "c": 4}
    assert seen["d"] == {"c": 4, "d": 4, "e": 9}
    assert seen["a"] == {"a": 1, "b": 2, "e": 9}


class Probe(Attack):
    """Plays by the rules, and writes down what it was told."""

    told: ClassVar[dict[tuple[int, str, str], tuple[Message, Message, int, int]]] = {}

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        self.told[turn.round, turn.phase, turn.node] = own, received, len(honest), among
        return own


class Watched(GossipFedAvg):
    """Writes down what nodes set out from."""

    starts: ClassVar[dict[tuple[int, str], Mapping[str, Any]]] = {}

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        if turn.phase == "train":
            self.starts[turn.round, turn.node] = done.vectors
        return super().answer(turn, done, mine)


@pytest.fixture
def probes() -> Iterator[None]:
    ATTACKS.register("probe")(Probe)
    STRATEGIES.register("watched")(Watched)
    Probe.told.clear()
    Watched.starts.clear()
    yield
    ATTACKS._entries.pop("probe")
    STRATEGIES._entries.pop("watched")


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize("topology", [Server(), Ring()], ids=["server", "ring"])
def test_attackers_are_told_where_their_weights_set_out_from(topology: Topology, four: Fleet) -> None:
    """The first ones, their own where they did not merge, and what they made of what they were given by reputation."""
    attackers = Attackers(nodes=("b", "c"), attack=Probe())
    honest = ran(Watched(rounds=2, epochs=1, merging=0.0), four, topology, CLASSIFIER)
    watched = ran(Watched(rounds=2, epochs=1, merging=0.0), four, topology, CLASSIFIER, attackers)
    # Who plays by the rules changes nothing, and being looked at neither.
    assert all(same(honest.memories[node], watched.memories[node]) for node in four)
    assert set(Probe.told) == {(number, "train", node) for number in (0, 1) for node in "bc"}
    assert {(heard, among) for _, _, heard, among in Probe.told.values()} == {(2, 2)}
    first = [Probe.told[0, "train", node][1].vectors["model"] for node in "bc"]
    assert np.array_equal(first[0].values, first[1].values)
    assert np.abs(first[0].values).max() > 0
    for channel in ("model", "norms"):
        _, second, _, _ = Probe.told[1, "train", "c"]
        assert np.array_equal(second.vectors[channel].values, Watched.starts[0, "c"][channel].values)
        assert not np.array_equal(second.vectors[channel].values, Watched.starts[1, "c"][channel].values)
    Probe.told.clear()
    ran(Watched(rounds=2, epochs=1, merging=1.0, reputation=True), four, topology, CLASSIFIER, attackers)
    assert set(Probe.told[1, "train", "c"][1].vectors) == {"model", "norms"}
    # In other phases nothing is trained.
    assert Probe.told[1, "judge", "c"][1] == Message()


@pytest.mark.parametrize("topology", [Ring(), Server()], ids=["ring", "server"])
@pytest.mark.parametrize("strategy", [FedAvg(rounds=2), GossipFedAvg(rounds=2, epochs=1, merging=1.0)], ids=["fedavg", "gossip"])
def test_a_refused_answer_is_named_and_the_run_goes_on(topology: Topology, strategy: Strategy, four: Fleet) -> None:
    outcome = ran(strategy, four, topology, CLASSIFIER, Attackers(nodes=("c",), attack=Nan()))
    said = {"c": "node 'c' sends parameters that are not finite on channel 'model'"}
    assert [entry.refused for entry in outcome.history] == [{}, said, said, {}]
    for node in four:
        assert np.isfinite(outcome.memories[node]["network.model"]).all()


def test_a_peer_that_hears_nothing_it_can_use_goes_on_with_what_it_has() -> None:
    """On a ring of five a, b and e send no numbers: a hears nobody else; it learns as if it were alone, c and d together with nobody."""
    fleet = Fleet.of({node: correlated(60, 4, seed=i, anomalies=0.2) for i, node in enumerate("abcde")})
    own = CLASSIFIER.model_copy(
        update={"scaling": Scaling(numbers="standard", fit="local"), "optimiser": Optimiser(name="sgd", rate=0.05, batch=32)}
    )
    outcome = ran(FedAvg(rounds=3), fleet, Ring(), own, Attackers(nodes=("a", "b", "e"), attack=Nan()))
    assert set(outcome.history[1].refused) == {"a", "b", "e"}
    alone = ran(FedAvg(rounds=3), Fleet(("a",), fleet.__getitem__), Server(), own)
    assert np.array_equal(outcome.memories["a"]["network.model"], alone.memories["a"]["network.model"])
    together = ran(FedAvg(rounds=3), Fleet(("c", "d"), fleet.__getitem__), Server(), own)
    # c hears b, c and d; of these c and d count, and so for d.
    for node in "cd":
        assert np.array_equal(outcome.memories[node]["network.model"], together.memories[node]["network.model"])


class LateNan(Nan):
    """Plays by the rules in the first round."""

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        return super().forged(turn, own, received, honest, among) if turn.round else own


@pytest.mark.usefixtures("probes")
def test_a_peer_that_hears_nothing_any_more_does_not_go_back_to_what_it_heard(tmp_path: Path) -> None:
    """What came in the first round is not taken for what came in the second, in which all that a hears is refused."""
    ATTACKS.register("late-nan")(LateNan)
    fleet = Fleet.of({node: correlated(60, 4, seed=i, anomalies=0.2) for i, node in enumerate("abcde")})
    plan = plan_of(CLASSIFIER, FedAvg(rounds=3), 7, Ring(), Attackers(nodes=("a", "b", "e"), attack=LateNan()))
    came: list[set[str]] = []

    def look(entry: Round, ended: Any) -> None:
        if entry.stage == "rounds":
            inbox = load_state(tmp_path / "state", digest(plan)).inbox
            came.append({node for node, message in inbox.items() if message.vectors})

    try:
        LocalRuntime(fleet, checkpoint=tmp_path / "state").run(plan, look)
    finally:
        ATTACKS._entries.pop("late-nan")
    # b and e still hear one honest neighbour each.
    assert came == [set("abcde"), set("bcde"), set("bcde")]


# Ended for a look.


@pytest.mark.parametrize("topology", [Ring(), Server()], ids=["ring", "server"])
@pytest.mark.parametrize("strategy", [FedAvg(rounds=3), GossipFedAvg(rounds=3, epochs=1, merging=1.0)], ids=["fedavg", "gossip"])
def test_a_look_shows_what_a_shorter_run_gives_and_changes_nothing(strategy: Strategy, topology: Topology, four: Fleet) -> None:
    looks: dict[int, Mapping[str, Memory]] = {}
    plan = plan_of(CLASSIFIER, strategy, 7, topology)

    def look(entry: Round, ended: Any) -> None:
        if entry.stage == "rounds":
            looks[entry.number] = ended()
            # Looked at twice it is the same.
            assert same(ended()["a"], looks[entry.number]["a"])

    seen = LocalRuntime(four).run(plan, look)
    unseen = LocalRuntime(four).run(plan)
    assert seen.history == unseen.history
    assert all(same(seen.memories[node], unseen.memories[node]) for node in four)
    for number, memories in looks.items():
        shorter = ran(strategy.model_copy(update={"rounds": number}), four, topology, CLASSIFIER)
        assert all(same(memories[node], shorter.memories[node]) for node in four)
        assert 0 < CLASSIFIER.restored(memories["a"]).threshold_ < 1
    assert not same(looks[1]["a"], looks[2]["a"])


def test_a_look_shows_nodes_that_did_not_merge_with_their_own_weights(four: Fleet) -> None:
    """A run of one round would have let all merge; looked at after one of three, those that did not call for it stand as they are."""
    looks: list[Mapping[str, Memory]] = []

    def look(entry: Round, ended: Any) -> None:
        if (entry.stage, entry.number) == ("rounds", 1):
            looks.append(ended())

    LocalRuntime(four).run(plan_of(CLASSIFIER, GossipFedAvg(rounds=3, epochs=1, merging=0.5), 7, Full()), look)
    all_merged = ran(GossipFedAvg(rounds=1, epochs=1), four, Full(), CLASSIFIER)
    merged = [node for node in four if np.array_equal(looks[0][node]["network.model"], all_merged.memories[node]["network.model"])]
    assert 0 < len(merged) < 4
    others = [looks[0][node]["network.model"] for node in four if node not in merged]
    assert len({np.asarray(each).tobytes() for each in others}) == len(others)


def test_a_resumed_run_tells_of_its_last_round_once_more(four: Fleet, tmp_path: Path) -> None:
    """Whoever was told of it may have been killed before it could do anything about it."""
    plan = plan_of(CLASSIFIER, FedAvg(rounds=3), 7, Ring())
    whole: dict[int, Mapping[str, Memory]] = {}

    def look(entry: Round, ended: Any) -> None:
        if entry.stage == "rounds":
            whole[entry.number] = ended()

    LocalRuntime(four).run(plan, look)

    def die(entry: Round, ended: Any) -> None:
        if (entry.stage, entry.number) == ("rounds", 2):
            raise StopIteration

    with pytest.raises(StopIteration):
        LocalRuntime(four, checkpoint=tmp_path / "state").run(plan, die)
    told: list[tuple[str, int]] = []

    def again(entry: Round, ended: Any) -> None:
        told.append((entry.stage, entry.number))
        if entry.stage == "rounds":
            assert all(same(memory, whole[entry.number][node]) for node, memory in ended().items())

    LocalRuntime(four, checkpoint=tmp_path / "state", resume=True).run(plan, again)
    assert told == [("rounds", 2), ("rounds", 3), ("calibrate", 1)]
    # What is done is done.
    told.clear()
    LocalRuntime(four, checkpoint=tmp_path / "state", resume=True).run(plan, again)
    assert told == []
