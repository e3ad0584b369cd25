"""Gossip: who merges, by which weights, and whom a node trusts; worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.mlp import Mlp
from vedette.message import Memory, Message, Vector
from vedette.runtimes.base import Outcome, digest, plan_of
from vedette.runtimes.checkpoint import load_state
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import Ring, Server, Topology
from vedette.seeds import stream
from vedette.strategies.attacks import Scaled
from vedette.strategies.base import STRATEGIES, Reply, Turn, View
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.view import Answers
from vedette.training.task import Done, Optimiser, Work

DETECTOR = Mlp(hidden=(4,), batch_norm=True, scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))
RING = {"a": ("a", "b", "d"), "b": ("a", "b", "c"), "c": ("b", "c", "d"), "d": ("a", "c", "d")}
"""Whom each of four nodes on a ring hears."""


def turn(phase: str = "train", number: int = 0, receivers: tuple[str, ...] = ("a", "b", "c"), node: str = "") -> Turn:
    return Turn(number, phase, receivers, {}, partial(stream, 0, number, node), node)


def vector(values: list[float], layout: str = "x") -> Vector:
    return Vector(np.array(values, dtype=np.float32), layout)


def sent(model: list[float], norms: list[float], rows: float, variance: float, merges: float = 1.0) -> Message:
    facts = {"rows": rows, "variance": variance, "merges": merges}
    return Message({"model": vector(model), "norms": vector(norms, "y")}, facts=facts)


def answers(strategy: GossipFedAvg, messages: Mapping[str, Message]) -> Answers:
    view = Answers(strategy.channels)
    for node, message in messages.items():
        view.add(node, message)
    return view


THREE = {"a": sent([1, 0], [10], 10, 1), "b": sent([0, 1], [20], 30, 3), "c": sent([2, 2], [30], 60, 4)}


@pytest.mark.parametrize(
    ("share", "model", "norms"),
    [
        # Shares of the variance: 1/8, 3/8, 4/8; of the rows: 0.1, 0.3, 0.6. So p = 0.8 * [0.125, 0.375, 0.5] + 0.2 * [0.1, 0.3, 0.6]
        # = [0.12, 0.36, 0.52]; [0.12 + 2 * 0.52, 0.36 + 2 * 0.52]; 1.2 + 7.2 + 15.6.
        (0.8, [1.16, 1.4], [24.0]),
        # By rows alone: [0.1 + 1.2, 0.3 + 1.2]; 1 + 6 + 18.
        (0.0, [1.3, 1.5], [25.0]),
        # By variance alone: [0.125 + 1, 0.375 + 1]; 1.25 + 7.5 + 15.
        (1.0, [1.125, 1.375], [23.75]),
    ],
)
def test_a_merge_is_weighted_by_variance_and_rows(share: float, model: list[float], norms: list[float]) -> None:
    """Equation 6, for weights and for batch-norm statistics."""
    strategy = GossipFedAvg(variance=share)
    messages = strategy.exchange(turn(), answers(strategy, THREE), {}).messages
    assert messages is not None
    assert set(messages) == {"a", "b", "c"}
    for message in messages.values():
        assert message.vectors["model"].values == pytest.approx(model)
        assert message.vectors["norms"].values == pytest.approx(norms)
        assert {name: each.layout for name, each in message.vectors.items()} == {"model": "x", "norms": "y"}


def test_two_nodes_by_hand() -> None:
    # Variance 0.5 and 1.5, rows 300 and 100, lambda 0.8: p = [0.8 * 0.25 + 0.2 * 0.75, …] = [0.35, 0.65].
    strategy = GossipFedAvg()
    messages = strategy.exchange(turn(), answers(strategy, {"a": sent([0], [1], 300, 0.5), "b": sent([1], [3], 100, 1.5)}), {}).messages
    assert messages is not None
    assert messages["a"].vectors["model"].values == pytest.approx([0.65])
    assert messages["a"].vectors["norms"].values == pytest.approx([2.3])


def test_what_does_not_weigh_is_not_asked() -> None:
    done = Done({"model": vector([1])}, Message(facts={"rows": 5.0}))
    assert not GossipFedAvg(variance=0).work(turn(), Message(), {}).queries
    assert set(GossipFedAvg(variance=0).answer(turn(), done, {})[0].facts) == {"rows", "merges"}
    assert GossipFedAvg(variance=0).channels[0].weights == ("rows",)
    assert GossipFedAvg(variance=1).channels[0].weights == ("variance",)
    assert [query.name for query in GossipFedAvg().work(turn(), Message(), {}).queries.values()] == ["variance"]
    # Not even of those who lie about it.
    strategy = GossipFedAvg(variance=0)
    reply = strategy.exchange(turn(), answers(strategy, {**THREE, "c": sent([2, 2], [30], 60, float("nan"))}), {})
    assert reply.messages is not None
    assert reply.messages["a"].vectors["model"].values == pytest.approx([1.3, 1.5])


def test_only_those_that_call_for_it_merge() -> None:
    strategy = GossipFedAvg()
    view = answers(strategy, {**THREE, "b": sent([0, 1], [20], 30, 3, merges=0.0)})
    reply = strategy.exchange(turn(), view, {})
    assert reply.messages is not None
    assert set(reply.messages) == {"a", "c"}
    # Those that do not call for it are merged all the same.
    assert reply.messages["a"].vectors["model"].values == pytest.approx([1.16, 1.4])
    # A peer answers nobody but itself, and whoever was refused gets nothing.
    assert strategy.exchange(turn(receivers=("b",)), view, {}) == Reply({})
    mine = strategy.exchange(turn(receivers=("c",)), view, {}).messages
    assert mine is not None
    assert set(mine) == {"c"}
    assert strategy.exchange(turn(receivers=("liar",)), view, {}) == Reply({})


def test_a_node_calls_for_a_merge_as_often_as_it_is_said_and_in_the_end() -> None:
    def calls(merging: float, number: int, node: str) -> float:
        done = Done({}, Message(facts={"rows": 5.0, "data.variance": 1.0}))
        return float(GossipFedAvg(merging=merging, rounds=100).answer(turn(number=number, node=node), done, {})[0].facts["merges"])

    told = [calls(0.3, number, node) for number in range(99) for node in "abcdefghij"]
    # 990 tosses: 297 expected, standard deviation sqrt(990 * 0.21) = 14.4; four of them are 58.
    assert 239 < sum(told) < 355
    assert told == [calls(0.3, number, node) for number in range(99) for node in "abcdefghij"]
    assert {calls(0.0, number, "a") for number in range(99)} == {0.0}
    assert {calls(1.0, number, "a") for number in range(99)} == {1.0}
    assert calls(0.0, 99, "a") == 1.0


# What happens in a run.


class Watched(GossipFedAvg):
    """Writes down what nodes set out from, what they were after training, and what the exchange gave them."""

    starts: ClassVar[dict[tuple[int, str], Mapping[str, object]]] = {}
    trained: ClassVar[dict[tuple[int, str], Message]] = {}
    given: ClassVar[dict[tuple[int, str], Message]] = {}

    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        work = super().work(turn, inbox, mine)
        if turn.phase == "train":
            self.starts[turn.round, turn.node] = work.tasks[0].start
        return work

    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        message, mine = super().answer(turn, done, mine)
        if turn.phase == "train":
            self.trained[turn.round, turn.node] = message
        return message, mine

    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        reply = super().exchange(turn, view, ours)
        if turn.phase == "train":
            self.given.update({(turn.round, node): message for node, message in (reply.messages or {}).items()})
        return reply


@pytest.fixture
def watched() -> Iterator[type[Watched]]:
    STRATEGIES.register("watched")(Watched)
    for log in (Watched.starts, Watched.trained, Watched.given):
        log.clear()
    yield Watched
    STRATEGIES._entries.pop("watched")


@pytest.fixture(scope="module")
def four() -> Fleet:
    """Four nodes of different size, a fifth of the rows anomalous."""
    return Fleet.of({name: correlated(60 + 40 * i, 4, seed=i, anomalies=0.2, nodes_shift=0.2 * i) for i, name in enumerate("abcd")})


def test_peers_merge_what_all_were_before_any_merged(watched: type[Watched], four: Fleet) -> None:
    """On a ring, round by round: eq. 6 over the neighbours' networks as training left them, though others of them merged too."""
    LocalRuntime(four).run(plan_of(DETECTOR, watched(rounds=4, epochs=1, merging=0.5), 3, Ring()))
    called = {at for at, message in watched.trained.items() if message.facts["merges"]}
    assert called == set(watched.given)
    assert {(3, node) for node in RING} <= called
    assert 0 < len([at for at in called if at[0] < 3]) < 12
    for number, node in called:
        heard = {peer: watched.trained[number, peer] for peer in RING[node]}
        total = {fact: sum(float(each.facts[fact]) for each in heard.values()) for fact in ("rows", "variance")}
        for channel in ("model", "norms"):
            wanted = sum(
                (0.8 * float(each.facts["variance"]) / total["variance"] + 0.2 * float(each.facts["rows"]) / total["rows"])
                * each.vectors[channel].values.astype(np.float64)
                for each in heard.values()
            )
            np.testing.assert_allclose(watched.given[number, node].vectors[channel].values, wanted, rtol=1e-5, atol=1e-7)
    for (number, node), start in watched.starts.items():
        # Who merged sets out from that, who did not from what it is.
        assert start == (watched.given[number - 1, node].vectors if (number - 1, node) in called else {})


def test_who_does_not_merge_goes_on_from_its_own_weights(watched: type[Watched], four: Fleet, tmp_path: Path) -> None:
    plan = plan_of(DETECTOR, watched(rounds=3, epochs=1, merging=0.5), 3, Ring())
    whole = LocalRuntime(four).run(plan)
    callers = {node for number, node in watched.given if number == 0}
    assert 0 < len(callers) < 4
    untouched = {node: watched.trained[1, node].vectors["model"].values for node in RING if node not in callers}

    def stop(entry: object, ended: object) -> None:
        if (entry.stage, entry.number) == ("rounds", 1):
            raise StopIteration

    with pytest.raises(StopIteration):
        LocalRuntime(four, checkpoint=tmp_path / "state").run(plan, stop)
    kept = load_state(tmp_path / "state", digest(plan))
    assert {node for node, message in kept.inbox.items() if message.vectors} == callers
    watched.trained.clear()
    resumed = LocalRuntime(four, checkpoint=tmp_path / "state", resume=True).run(plan)
    assert (0, "a") not in watched.trained
    for node, values in untouched.items():
        assert kept.inbox[node] == Message()
        # One epoch on from its own weights, as in the run that was not broken off.
        assert np.array_equal(watched.trained[1, node].vectors["model"].values, values)
    for node in RING:
        assert np.array_equal(resumed.memories[node]["network.model"], whole.memories[node]["network.model"])


def test_without_merging_nodes_learn_alone_until_the_last_round(watched: type[Watched], four: Fleet) -> None:
    LocalRuntime(four).run(plan_of(DETECTOR, watched(rounds=3, epochs=1, merging=0.0), 3, Ring()))
    assert set(watched.given) == {(2, node) for node in RING}
    alone = {node: watched.trained[2, node] for node in RING}
    watched.trained.clear()
    # Who its neighbours are and what they do makes no difference then.
    LocalRuntime(Fleet(("a", "b"), four.__getitem__)).run(
        plan_of(DETECTOR.model_copy(update={"scaling": Scaling(numbers="standard", fit="local")}), watched(rounds=3, merging=0.0), 3)
    )
    fewer = dict(watched.trained)
    watched.trained.clear()
    LocalRuntime(four).run(
        plan_of(DETECTOR.model_copy(update={"scaling": Scaling(numbers="standard", fit="local")}), watched(rounds=3, merging=0.0), 3)
    )
    assert np.array_equal(fewer[2, "a"].vectors["model"].values, watched.trained[2, "a"].vectors["model"].values)
    assert not np.array_equal(alone["a"].vectors["model"].values, alone["b"].vectors["model"].values)


# Reputation.


def tried(**models: list[float]) -> Message:
    """Three networks as a node with reputation receives them; batch-norm statistics are their weights, doubled."""
    return Message(
        {f"model@{node}": vector(values) for node, values in models.items()}
        | {f"norms@{node}": vector([2 * value for value in values], "y") for node, values in models.items()}
    )


def test_a_merge_by_reputation_is_weighted_by_the_inverse_of_the_loss() -> None:
    strategy, received = GossipFedAvg(reputation=True), tried(a=[3.0], b=[6.0], c=[1e6])
    # The median is 0.5: c is left out; a and b count 1 / 0.5 = 2 and 1 / 0.25 = 4, that is a third and two thirds.
    mine = {"loss@a": 0.5, "loss@b": 0.25, "loss@c": 1e9}
    for phase in ("train", "adopt"):
        (task,) = strategy.work(turn(phase), received, mine).tasks
        assert task.start["model"].values == pytest.approx([5.0])
        assert task.start["norms"].values == pytest.approx([10.0])
        assert (task.start["model"].layout, task.start["norms"].layout) == ("x", "y")
    # Whose loss is nothing at all does not count infinitely: a millionth is the least, 1e6 against 1 / 0.5.
    (task,) = strategy.work(turn(), received, {"loss@a": 0.5, "loss@b": 0.0, "loss@c": 0.5}).tasks
    assert task.start["model"].values == pytest.approx([(2 * 3 + 1e6 * 6 + 2 * 1e6) / (1e6 + 4)])
    # Of two the better one alone: the other is above the median, which lies between them.
    (task,) = strategy.work(turn(), tried(a=[3.0], b=[6.0]), {"loss@a": 0.5, "loss@b": 0.4}).tasks
    assert task.start["model"].values == pytest.approx([6.0])
    # Whoever received nothing goes on from its own.
    assert strategy.work(turn(), Message(), {}).tasks[0].start == {}


def test_a_node_tries_what_it_received_and_forgets_what_it_thought_before() -> None:
    strategy = GossipFedAvg(reputation=True)
    assert strategy.phases == ("train", "judge")
    work = strategy.work(turn("judge"), tried(a=[3.0], b=[6.0]), {})
    assert {node: sorted(parts) for node, parts in work.models.items()} == {"a": ["model", "norms"], "b": ["model", "norms"]}
    assert work.queries["judged"].name == "loss-of"
    assert strategy.work(turn("judge"), Message(), {}) == Work()
    done = Done({}, Message(facts={"rows": 9.0, "judged.a": 0.5, "judged.b@home": 2.0}))
    message, mine = strategy.answer(turn("judge"), done, {"loss@gone": 1.0, "kept": 3.0})
    assert message == Message(facts={"loss@a": 0.5, "loss@b@home": 2.0})
    assert mine == {"kept": 3.0, "loss@a": 0.5, "loss@b@home": 2.0}
    assert strategy.answer(turn("adopt"), done, mine) == (Message(), {"kept": 3.0})


def test_who_merges_gets_the_networks_of_all_by_name() -> None:
    strategy = GossipFedAvg(reputation=True, variance=0)
    reply = strategy.exchange(turn(), answers(strategy, {**THREE, "b": sent([0, 1], [20], 30, 3, merges=0.0)}), {})
    assert reply.messages is not None
    assert set(reply.messages) == {"a", "c"}
    received = {name: each.values.tolist() for name, each in reply.messages["c"].vectors.items()}
    assert received == {
        "model@a": [1, 0], "model@b": [0, 1], "model@c": [2, 2], "norms@a": [10], "norms@b": [20], "norms@c": [30]
    }  # fmt: skip


def test_what_judges_thought_is_kept_and_a_peer_keeps_its_own_judgement() -> None:
    strategy = GossipFedAvg(reputation=True)
    view = Answers(strategy.channels)
    # By a: median 0.5 over each loss is 1, 2 (counts as 1) and 0.005. By b: median 0.1 over each is 1, 0.25 and 1.
    view.add("a", Message(facts={"loss@a": 0.5, "loss@b": 0.25, "loss@c": 100.0}))
    view.add("b", Message(facts={"loss@a": 0.1, "loss@b": 0.4, "loss@c": 0.1}))
    # c did not merge, and so tried nobody.
    view.add("c", Message())
    ours = {"counted.a": 1.0, "turns.a": 1.0}
    kept = strategy.exchange(turn("judge"), view, ours)
    assert kept.messages is None
    wanted = {"counted.a": 2.0, "turns.a": 2.0, "counted.b": 0.625, "turns.b": 1.0, "counted.c": 0.5025, "turns.c": 1.0}
    assert kept.memory == pytest.approx(wanted)
    peer = strategy.exchange(turn("judge", node="a", receivers=("a",)), view, {})
    assert peer.memory == {"counted.a": 1.0, "turns.a": 1.0, "counted.b": 1.0, "turns.b": 1.0, "counted.c": 0.005, "turns.c": 1.0}
    assert strategy.exchange(turn("judge", node="c", receivers=("c",)), view, ours).memory == ours


def counted(outcome: Outcome, node: str, without: str) -> list[float]:
    """How much a node counted with each that carried the exchange out."""
    told = [memory for who, memory in outcome.exchanged["rounds"].items() if who != without and f"turns.{node}" in memory]
    return [float(memory[f"counted.{node}"]) / float(memory[f"turns.{node}"]) for memory in told]


@pytest.mark.parametrize("topology", [Ring(), Server()], ids=["ring", "server"])
def test_broken_weights_count_for_nothing_by_reputation(topology: Topology, four: Fleet) -> None:
    attackers = Attackers(nodes=("c",), attack=Scaled(factor=1000.0))

    def ran(reputation: bool) -> Outcome:
        strategy = GossipFedAvg(rounds=3, epochs=2, merging=1.0, reputation=reputation)
        return LocalRuntime(four).run(plan_of(DETECTOR, strategy, 3, topology, attackers))

    cautious, trusting = ran(True), ran(False)
    if topology.central:
        # The attacker judges too, but on its rows its network does no better. Of four networks each judge takes two.
        assert counted(cautious, "c", "")[0] < 1e-3
        assert min(counted(cautious, node, "")[0] for node in "abd") > 0
    else:
        # a does not hear c; b and d, between c and an honest node, leave it out in every round.
        assert max(counted(cautious, "c", "c")) < 1e-3
        assert min(sum(counted(cautious, node, "c")) for node in "abd") > 0.5
    largest = {
        name: max(float(np.abs(outcome.memories[node]["network.model"]).max()) for node in "bd")
        for name, outcome in (("cautious", cautious), ("trusting", trusting))
    }
    assert largest["cautious"] < 10 < 100 < largest["trusting"]
