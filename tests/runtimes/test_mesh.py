"""Federations on the mesh, over real Zenoh sessions: as on one machine to the last bit, whoever is killed, stopped or lies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sites import NAMES, Led, Site, Threads, alike, heard, port, session_of, site_of, undisturbed, until

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import CheckpointError, RecipeError
from vedette.message import Message, Vector
from vedette.runtimes.base import digest, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.mesh.coordinator import REFUSED
from vedette.runtimes.mesh.lead import Lead, Quorum
from vedette.runtimes.mesh.learner import Learner
from vedette.runtimes.mesh.node import Node
from vedette.runtimes.mesh.peer import Peer
from vedette.runtimes.mesh.rules import alive, key
from vedette.runtimes.mesh.wire import Header, encode
from vedette.runtimes.topology import Full, Ring
from vedette.strategies import Clustered, FedAvg, FedProx, MtadFl
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.training.task import Optimiser

STEPS = Optimiser(rate=0.01, batch=16)
DENSE = Autoencoder(hidden=(4, 2), optimiser=STEPS)
MIXED = Mlp(hidden=(4,), optimiser=STEPS)
DUAL = DualNetwork(channels=(4, 6, 4), reduction=2, slots=4, optimiser=STEPS)
STANDARD = DENSE.model_copy(update={"scaling": Scaling(numbers="standard")})
RECURRENT = LstmAutoencoder(window=Window(size=4, across=True), hidden=(4,), residual="mahalanobis", optimiser=STEPS)
OWN = DENSE.model_copy(update={"scaling": Scaling(fit="local")})
FLEET = Fleet.of({f"n{place}": correlated(60 + place, 5, place, anomalies=0.2) for place in range(5)})


def rows_for(detector: Any) -> Fleet:
    return FLEET if detector.learning == "supervised" else FLEET.map(lambda table: table.normal())


def led(plan: Any, fleet: Fleet, **about: Any) -> Led:
    """Run a federation with a coordinator to its end; all nodes come at once."""
    found = Led(plan, Lead(plan, Quorum(len(fleet))), **about)
    for name in fleet:
        found.node(name, fleet[name])
    found.end()
    return found


def test_a_node_that_finds_nobody_says_so_and_asks_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("vedette.runtimes.mesh.node.SILENT", 0.05)
    session = session_of("n0", port(), first=True)
    node, threads = Node(session, "n0", "hub", "plant"), Threads()
    threads.begin(node._asked, "join", None)
    try:
        until(lambda: len(caplog.records) > 1, "it looked for the coordinator without a word")
    finally:
        node.stopped.set()
        threads.end()
        session.close()
    assert {record.message for record in caplog.records} == {"nobody replies"}
    assert vars(caplog.records[0])["node"] == "hub"
    assert vars(caplog.records[0])["run"] == "plant"
    assert "--connect" in vars(caplog.records[0])["reason"]


@pytest.mark.parametrize(
    ("detector", "strategy"),
    [
        (DENSE, FedAvg(rounds=3)),
        (DENSE, FedProx(rounds=2, mu=0.1)),
        (MIXED, FedAvg(rounds=3, sample=0.5)),
        (DUAL, MtadFl(rounds=2, epochs=1)),
        (OWN, FedAvg(rounds=2)),
        (RECURRENT, Clustered(rounds=2, by={"name": "rows", "clusters": 2}, strategy=FedAvg(momentum=0.5))),
        (DENSE, FedAvg(rounds=2, momentum=0.5, chain=({"name": "compress", "top": 0.2},))),
        (DENSE, FedAvg(rounds=2, chain=("mask",))),
        (DENSE, FedAvg(rounds=3, sample=0.8, chain=("mask",))),
        (STANDARD, FedAvg(rounds=2, chain=("clip", {"name": "noise", "secret": False}), privacy={"epsilon": 8})),
        (STANDARD, FedAvg(rounds=2, chain=("clip", {"name": "noise", "secret": False, "added": "shares"}, "mask"), privacy={"epsilon": 8})),
    ],
    ids=[
        "fedavg",
        "fedprox",
        "sampled",
        "mtad-fl",
        "own-scaling",
        "fed-lstm",
        "compressed",
        "masked",
        "masked-sampled",
        "private",
        "private-masked",
    ],
)
def test_with_a_coordinator_all_come_to_what_one_machine_comes_to(detector: Any, strategy: Any) -> None:
    fleet, plan = rows_for(detector), plan_of(detector, strategy, 7)
    found = led(plan, fleet)
    expected = LocalRuntime(fleet).run(plan)
    for name in fleet:
        alike(expected.memories[name], found.learners[name].memory)
    assert [(entry.sent, entry.epsilon) for entry in found.lead.state.history] == [
        (entry.sent, entry.epsilon) for entry in expected.history
    ]


def test_what_nodes_are_sent_may_be_half_as_long() -> None:
    """Rounded to 11 bits on the way; what a node changed counts from what it was sent."""
    plan, fleet = plan_of(DENSE, FedAvg(rounds=3, chain=("clip",)), 7), rows_for(DENSE)
    found = led(plan, fleet, precision="float16")
    for name, memory in LocalRuntime(fleet).run(plan).memories.items():
        here, there = (np.asarray(each["network.model"]) for each in (memory, found.learners[name].memory))
        np.testing.assert_allclose(there, here, atol=5e-3)
        np.testing.assert_array_equal(there, found.learners["n0"].memory["network.model"])
        assert not np.array_equal(there, here)


@pytest.mark.slow
def test_fifty_that_come_at_once() -> None:
    fleet = Fleet.of({f"n{place:02}": correlated(60, 5, place).normal() for place in range(50)})
    plan = plan_of(DENSE, FedAvg(rounds=2), 7)
    found = led(plan, fleet)
    expected = LocalRuntime(fleet).run(plan)
    for name in fleet:
        alike(expected.memories[name], found.learners[name].memory)


@pytest.mark.parametrize(
    ("detector", "strategy", "topology"),
    [
        (DENSE, GossipFedAvg(rounds=3), Full()),
        (DENSE, GossipFedAvg(rounds=3), Ring()),
        (MIXED, P2pkSmote(rounds=2), Full()),
        (DUAL, MtadFl(rounds=2, epochs=1), Full()),
        (OWN, GossipFedAvg(rounds=2), Full()),
    ],
    ids=["gossip-fedavg", "ring", "p2pk-smote", "mtad-fl", "own-scaling"],
)
def test_among_peers_too(detector: Any, strategy: Any, topology: Any) -> None:
    fleet, plan, at, threads = rows_for(detector), plan_of(detector, strategy, 7, topology), port(), Threads()
    learners = {name: Learner(plan, name, FLEET[name]) for name in fleet}

    def learn(name: str) -> None:
        session = session_of(name, at, first=name == "n0")
        Peer(plan, learners[name], session, "fleet", list(fleet), Quorum(5)).carry_out()
        session.close()

    for name in fleet:
        threads.begin(learn, name)
    threads.end()
    expected = LocalRuntime(fleet).run(plan)
    for name in fleet:
        alike(expected.memories[name], learners[name].memory)


# Messages that are none.


def test_a_node_that_lies_is_refused_and_spoils_nothing() -> None:
    """A liar takes part like any other node up to the rounds; there it sends what is none, and the others never notice."""
    plan, replies = plan_of(DENSE, FedAvg(rounds=2), 7), list[tuple[str, bytes]]()
    found, liar = Led(plan, Lead(plan, Quorum(3, share=0.5, grace=0.2)), most_bytes=1 << 20), "n2"

    def lie() -> None:
        session, mark = session_of(liar, found.at, coordinator="coordinator"), digest(plan)
        token = session.liveliness().declare_token(alive("fleet", liar))
        node, learner = Node(session, liar, "coordinator", "fleet"), Learner(plan, liar, FLEET[liar])
        told = -1
        while learner.position < 3:
            answers = told < learner.answered == learner.position - 1
            topic, told = (f"answer/{mark}/{learner.answered}" if answers else f"ask/{mark}/{learner.position}"), learner.answered
            what, payload = node._asked(topic, node._answer(learner, mark) if answers else None)
            assert what != REFUSED, payload
            if what.isdecimal():
                node._take(learner, mark, what, payload)
        step, place, message = learner.course[learner.answered], learner.answered, learner.answer
        assert step.stage == 1
        good = Header(run=mark, stage="rounds", round=step.round, phase=step.phase, kind="answer", node=liar)
        vector = message.vectors["model"]
        lies = [
            b"",
            b"no message at all",
            encode(good, message)[:-3],
            encode(good, message) + bytes(1 << 20),
            encode(good.model_copy(update={"node": "n0"}), message),
            encode(good.model_copy(update={"round": 7}), message),
            encode(good, message._replace(vectors={**message.vectors, "model": Vector(vector.values[:-1], vector.layout)})),
            encode(good, message._replace(vectors={**message.vectors, "more": vector})),
            encode(good, message).replace(vector.values.tobytes(), np.full_like(vector.values, np.nan).tobytes()),
        ]
        for lie in lies:
            for reply in session.get(key("fleet", "coordinator", liar, f"answer/{mark}/{place}"), payload=lie, timeout=10):
                replies.append((reply.ok.attachment.to_string(), reply.ok.payload.to_bytes()))
        token.undeclare()
        session.close()

    for name in ("n0", "n1"):
        found.node(name, FLEET[name])
    found.begin(lie)
    found.end()
    learners = found.learners
    assert [what for what, _ in replies] == [REFUSED] * 9
    assert all(reason for _, reason in replies)
    assert np.isfinite(np.asarray(learners["n0"].memory["network.model"])).all()
    np.testing.assert_array_equal(learners["n0"].memory["network.model"], learners["n1"].memory["network.model"])
    assert {entry.of for entry in found.lead.state.history if entry.stage == "rounds"} == {2}


def test_an_answer_that_looks_well_and_is_not_ends_no_exchange() -> None:
    """Names of levels that are no JSON: every check of the wire lets them pass."""
    plan = plan_of(DENSE, FedAvg(rounds=1), 7)
    lead, learners = Lead(plan, Quorum(3)), {name: Learner(plan, name, FLEET[name]) for name in ("n0", "n1", "n2")}
    for name in learners:
        lead.come(name, 0.0)
    for name, learner in learners.items():
        task = lead.next_for(name, 0)
        assert task is not None
        learner.take(*task)
        answer = learner.answer if name != "n1" else learner.answer._replace(facts={**learner.answer.facts, "levels": "no JSON"})
        assert lead.hear(name, 0, answer) is None
    assert lead.advance(0.0)
    assert set(lead.state.history[0].refused) == {"n1"}
    assert "n1" in lead.asked


def test_a_phase_ends_with_a_quorum_at_its_deadline_and_late_answers_are_left_out(tmp_path: Path) -> None:
    plan, names = plan_of(DENSE, FedAvg(rounds=3), 7), ("n0", "n1", "n2")
    lead, learners = Lead(plan, Quorum(3, deadline=10.0, grace=5.0), tmp_path / "state"), {n: Learner(plan, n, FLEET[n]) for n in names}
    for name in names:
        assert not lead.asked
        lead.come(name, 0.0)
    heard(lead, learners, "n0")
    assert not lead.advance(9.0), "two of three must answer"
    assert not lead.advance(11.0)
    heard(lead, learners, "n1")
    assert not lead.advance(12.0), "n2 is there, and has time until the new deadline"
    assert lead.advance(22.0)
    late = learners["n2"]
    late.take(0, Message())
    assert "came late" in str(lead.hear("n2", 0, late.answer))
    # It goes on with what it missed: the scaling that the others agreed on.
    task = lead.next_for("n2", late.position)
    assert task is not None
    assert lead.course[task.place].closing
    heard(lead, learners, *names)
    lead.go("n2", 23.0)
    assert lead.advance(23.0)
    assert "n2" in lead.asked, "it may be on its way back"
    heard(lead, learners, "n0", "n1")
    assert not lead.advance(24.0)
    assert lead.advance(29.0), "it was waited for long enough"
    assert lead.asked == ("n0", "n1")
    # Who leads next waits for all there were, and then goes on with enough of them.
    after = Lead(plan, Quorum(3, deadline=10.0), tmp_path / "state")
    assert after.place == lead.place
    for name in ("n0", "n1"):
        after.come(name, 100.0)
    assert not after.advance(105.0)
    assert not after.asked
    after.advance(110.0)
    assert after.asked == ("n0", "n1")


@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_a_late_answer_is_left_out_or_weighs_less(discount: float) -> None:
    plan, names = plan_of(DENSE, FedAvg(rounds=3), 7), ("n0", "n1", "n2")
    lead = Lead(plan, Quorum(3, deadline=10.0, discount=discount))
    learners = {name: Learner(plan, name, FLEET[name]) for name in names}
    for name in names:
        lead.come(name, 0.0)
    heard(lead, learners, *names)
    assert lead.advance(0.0)
    # n2 works on the first round, but is heard in the second only; the others are heard in both.
    slow, task = learners["n2"], lead.next_for("n2", 1)
    while task is not None and slow.take(*task).closing:
        task = lead.next_for("n2", slow.position)
    heard(lead, learners, "n0", "n1")
    assert lead.advance(11.0)
    heard(lead, learners, "n0", "n1")
    assert lead.takes("n2", slow.answered) == bool(discount)
    refused = lead.hear("n2", slow.answered, slow.answer)
    assert (refused is None) == bool(discount)
    assert not lead.advance(13.0), "it is there, and may still answer what is asked now"
    assert lead.advance(22.0)
    # Who is begun again says its last answer once more, and is counted once.
    assert lead.hear("n0", learners["n0"].answered, learners["n0"].answer) is None
    assert not lead.takes("n0", learners["n0"].answered)
    weights = np.array([learners[name].answer.facts["rows"] for name in names]) * (1.0, 1.0, discount)
    answers = np.stack([learners[name].answer.vectors["model"].values for name in names]).astype(np.float64)
    np.testing.assert_allclose(lead.state.inbox["*"].vectors["model"].values, weights @ answers / weights.sum(), rtol=1e-6)


def test_a_state_of_another_node_or_run_is_refused(tmp_path: Path) -> None:
    plan, rows = plan_of(DENSE, FedAvg(rounds=1), 7), FLEET["n0"].normal()
    learner = Learner(plan, "n0", rows, checkpoint=tmp_path / "state")
    learner.take(0, Message())
    again = Learner(plan, "n0", rows, checkpoint=tmp_path / "state")
    assert (again.position, again.answered) == (1, 0)
    assert again.answer.tables.keys() == learner.answer.tables.keys()
    with pytest.raises(CheckpointError, match="belongs to another node than 'n1'"):
        Learner(plan, "n1", rows, checkpoint=tmp_path / "state")
    with pytest.raises(CheckpointError, match="other settings"):
        Learner(plan_of(DENSE, FedAvg(rounds=2), 7), "n0", rows, checkpoint=tmp_path / "state")
    with pytest.raises(RecipeError, match="was asked for step 0 of"):
        again.take(0, Message())


# Real processes, mutual TLS, real signals.

LONG = ("--set", "strategy.rounds=100")
GOSSIP = ("--grace", "60", "--set", 'strategy={name="gossip-fedavg",rounds=60}', "--set", 'topology.name="full"')


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_of(tmp_path) as found:
        yield found


def test_whoever_is_killed_and_comes_back_ends_as_if_nothing_had_happened(site: Site) -> None:
    """A node, then the coordinator, each with SIGKILL amid the rounds, each begun again by the same command; mutual TLS."""
    site.coordinator("--grace", "60", *LONG)
    for name in NAMES:
        site.node(name)
    site.reaches("coordinator", "rounds: round 10 of")
    site.kill("pump-2")
    site.reaches("coordinator", "node is gone: node pump-2")
    site.node("pump-2")
    site.reaches("coordinator", "rounds: round 30 of")
    site.kill("coordinator")
    site.coordinator("--grace", "60", *LONG)
    site.alike(undisturbed(*LONG))


@pytest.mark.slow
def test_a_node_that_is_stopped_is_left_out_and_comes_back(site: Site) -> None:
    site.coordinator("--deadline", "2", *LONG)
    for name in NAMES:
        site.node(name)
    site.reaches("coordinator", "rounds: round 10 of")
    site.signal("pump-3", signal.SIGSTOP)
    site.reaches("coordinator", "deadline over: missing pump-3")
    site.signal("pump-3", signal.SIGCONT)
    site.alike()


@pytest.mark.slow
def test_a_peer_that_is_killed_and_comes_back_ends_as_if_nothing_had_happened(site: Site) -> None:
    for name in NAMES:
        site.peer(name, *GOSSIP)
    site.reaches("pump-1", "rounds: round 10 of")
    site.kill("pump-3")
    site.reaches("pump-1", "peer is gone: node pump-3")
    site.peer("pump-3", *GOSSIP)
    site.alike(undisturbed(*GOSSIP[2:]))


def test_what_a_nodes_owner_does_not_allow_is_refused_aloud(site: Site, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('strategies = ["local"]\n')
    site.coordinator(*LONG)
    site.node("pump-1", "--policy", str(policy))
    assert site.running["pump-1"].wait(60) == 2
    assert "node 'pump-1' does not take part" in site.log("pump-1")
    assert "fedavg" in site.log("pump-1")
    site.reaches("coordinator", "node takes no part: node pump-1, reason node 'pump-1' does not take part")
