"""The chain on the mesh: masked rounds in which nodes vanish, come back, join and lie, and a coordinator that dies or lies."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sites import Led, Vanished, heard, site_of, undisturbed, until

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import MessageRefused
from vedette.files import read_memory
from vedette.message import Memory, Message
from vedette.runtimes.base import plan_of
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.lead import Lead, Quorum, Task
from vedette.runtimes.mesh.learner import Learner
from vedette.strategies import FedAvg
from vedette.training import accounting
from vedette.training.task import Optimiser

DENSE = Autoencoder(hidden=(4, 2), optimiser=Optimiser(rate=0.01, batch=16))
FLEET = Fleet.of({f"n{place}": correlated(60 + place, 5, place).normal() for place in range(10)})
FOUR = ("n0", "n1", "n2", "n3")
"""One of four may vanish in a round, of three none."""
QUICK = Quorum(4, deadline=30.0, grace=0.2)


def masked(rounds: int, **more: Any) -> dict[str, Any]:
    return plan_of(DENSE, FedAvg(rounds=rounds, chain=("mask",), **more), 7)


def by_hand(
    rounds: int, away: Mapping[tuple[int, int], tuple[str, ...]], lost: tuple[int, ...] = (), names: tuple[str, ...] = FOUR, **more: Any
) -> Any:
    """Return the weights that nodes come to without a mask, some away in some rounds (by stage and round), and some rounds for nothing."""
    plan, now = plan_of(DENSE, FedAvg(rounds=rounds, **more), 7), 0.0
    lead, learners = Lead(plan, Quorum(len(names), share=0.0)), {name: Learner(plan, name, FLEET[name]) for name in names}
    for name in names:
        lead.come(name, now)
    while not lead.over:
        step, inbox = lead.course[lead.place], lead.state.inbox
        heard(lead, learners, *(name for name in names if name not in away.get((step.stage, step.round), ())))
        now = lead.deadline
        assert lead.advance(now)
        if step.stage == 1 and step.round in lost:
            lead.state.inbox = inbox
    heard(lead, learners, *names)
    return learners["n0"].memory["network.model"]


def weights(led: Led, name: str) -> Any:
    return led.learners[name].memory["network.model"]


def places(lead: Lead, round: int) -> dict[str, int]:
    """Return where the phases of a round stand in the course."""
    return {step.phase: place for place, step in enumerate(lead.course) if (step.stage, step.round, step.closing) == (1, round, False)}


def said(caplog: pytest.LogCaptureFixture, what: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == what]


def test_who_vanishes_is_in_the_sum_if_it_was_heard_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """After its keys, after its shares, after its words: each time it comes back in the next round, and takes part in the one after."""
    ends, plan = {1: "train:shares", 3: "train", 5: "train:sum"}, masked(8)
    led = Led(plan, Lead(plan, QUICK))

    def vanishes(step: Step) -> None:
        if step.stage == 1 and ends.get(step.round) == step.phase:
            del ends[step.round]
            raise Vanished

    def waits(step: Step) -> None:
        if step.stage == 1 and step.round in (2, 4, 6) and step.phase == "train:keys":
            assert "n3" not in led.lead.asked
            led.node("n3", FLEET["n3"], before=vanishes)
            until(lambda: "n3" in led.lead.present, "it never came back")

    for name in FOUR:
        led.node(name, FLEET[name], before={"n0": waits, "n3": vanishes}.get(name))
    led.end()
    expected = by_hand(8, dict.fromkeys([(1, 1), (1, 2), (1, 3), (1, 4), (1, 6)], ("n3",)))
    for name in FOUR:
        np.testing.assert_allclose(weights(led, name), expected, atol=1e-6)
    assert not ends
    assert not said(caplog, "round lost")
    assert [entry.number for entry in led.lead.state.history if entry.stage == "rounds"] == list(range(1, 9))


def test_who_joins_amid_a_round_takes_part_in_the_next() -> None:
    plan = masked(3)
    led = Led(plan, Lead(plan, QUICK))

    def invites(step: Step) -> None:
        if (step.stage, step.round, step.phase) == (1, 1, "train:shares"):
            led.node("n4", FLEET["n4"])
            until(lambda: "n4" in led.lead.present, "it never came")

    for name in FOUR:
        led.node(name, FLEET[name], before=invites if name == "n0" else None)
    led.end()
    assert all(led.asked[place] == set(FOUR) for place in places(led.lead, 1).values())
    assert all(led.asked[place] == {*FOUR, "n4"} for place in places(led.lead, 2).values())
    expected = by_hand(3, dict.fromkeys([(0, 0), (1, 0), (1, 1)], ("n4",)), names=(*FOUR, "n4"))
    for name in (*FOUR, "n4"):
        np.testing.assert_allclose(weights(led, name), expected, atol=1e-6)


def test_with_too_few_left_a_round_is_lost_and_the_next_waits_for_enough(caplog: pytest.LogCaptureFixture) -> None:
    """Of three none may vanish: all go on from where they were, and no round is spent until there are three again."""
    plan, ended = masked(4), threading.Event()
    led = Led(plan, Lead(plan, QUICK._replace(nodes=3)))

    def vanishes(step: Step) -> None:
        if (step.stage, step.round, step.phase) == (1, 1, "train"):
            ended.set()
            raise Vanished

    for name in FOUR[:3]:
        led.node(name, FLEET[name], before=vanishes if name == "n2" else None)
    until(ended.is_set, "it never came to its words")
    until(lambda: said(caplog, "too few nodes"), "nobody was missed")
    assert (led.lead.state.stage, led.lead.state.round, led.lead.asked) == (1, 2, ())
    led.node("n2", FLEET["n2"])
    led.end()
    assert [record.round for record in said(caplog, "round lost")] == [2]
    expected = by_hand(4, {}, lost=(1,), names=FOUR[:3])
    for name in FOUR[:3]:
        np.testing.assert_allclose(weights(led, name), expected, atol=1e-6)


def test_who_sends_garbage_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    plan = masked(7)
    led = Led(plan, Lead(plan, QUICK))

    def tables(**more: Any) -> Callable[[Message], Message]:
        return lambda answer: answer._replace(tables={**answer.tables, **{f"secure.{name}": table for name, table in more.items()}})

    lies: dict[tuple[int, str], Callable[[Message], Message]] = {
        (1, "train:keys"): tables(keys=np.zeros((3, 31), np.uint8)),
        # Of no order that anybody could make honestly: whoever agreed on a key with it would stop.
        (2, "train:keys"): tables(keys=np.zeros((3, 32), np.uint8)),
        (3, "train:shares"): tables(shares=np.zeros((2, 60), np.uint8)),
        (4, "train"): tables(words=np.zeros(3, np.uint64)),
        (5, "train"): lambda answer: answer._replace(facts={**answer.facts, "chain.size.more": 1.0}),
    }

    def lie(step: Step) -> None:
        lying = lies.get((step.round, step.phase)) if step.stage == 1 else None
        if lying is not None:
            led.learners["n3"].answer = lying(led.learners["n3"].answer)

    for name in FOUR:
        led.node(name, FLEET[name], after=lie if name == "n3" else None)
    led.end()
    kinds = ["keys", "keys", "shares", "words", "words"]
    named = [(record.node, record.reason) for record in said(caplog, "answer refused")]
    assert named == [("n3", f"its {kind} do not fit the secure sum") for kind in kinds]
    assert not said(caplog, "round lost")
    expected = by_hand(7, dict.fromkeys([(1, round) for round in range(1, 6)], ("n3",)))
    for name in FOUR:
        np.testing.assert_allclose(weights(led, name), expected, atol=1e-6)


def test_compressed_parameters_that_are_none_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Two at once; one says that it sends half a gigabyte."""
    chain = {"chain": ({"name": "compress", "top": 0.2},)}
    plan = plan_of(DENSE, FedAvg(rounds=2, **chain), 7)
    led = Led(plan, Lead(plan, QUICK))
    lies = {"n2": ("values", lambda table: table[:-1]), "n3": ("size", lambda table: table * 2**21)}

    def lie(name: str) -> Callable[[Step], None]:
        def after(step: Step) -> None:
            if (step.stage, step.round) == (1, 1):
                answer, (part, broken) = led.learners[name].answer, lies[name]
                table = f"chain.of.model.{part}"
                led.learners[name].answer = answer._replace(tables={**answer.tables, table: broken(answer.tables[table])})

        return after

    for name in FOUR:
        led.node(name, FLEET[name], after=lie(name) if name in lies else None)
    led.end()
    assert [record.node for record in said(caplog, "answer refused")] == ["n2", "n3"]
    expected = by_hand(2, {(1, 1): ("n2", "n3")}, **chain)
    for name in FOUR:
        np.testing.assert_array_equal(weights(led, name), expected)


class Liar(Lead):
    """A coordinator that tells one node something else in the second round, and notes what it is answered."""

    told: Callable[[Liar, int, Task | None], Task | None]

    def next_for(self, node: str, position: int) -> Task | None:
        task = super().next_for(node, position)
        return self.told(position, task) if node == "n0" else task

    def hear(self, node: str, place: int, message: Message) -> str | None:
        self.answers = {**getattr(self, "answers", {}), (node, place): message}
        return super().hear(node, place, message)


def test_a_coordinator_that_tells_nodes_different_keys_gets_no_words(caplog: pytest.LogCaptureFixture) -> None:
    plan = masked(3)
    lead = Liar(plan, QUICK)
    shares, train = (places(lead, 1)[phase] for phase in ("train:shares", "train"))

    def told(position: int, task: Task | None) -> Task | None:
        if task is None or task.place != shares:
            return task
        keys = task.inbox.tables["secure.keys"].copy()
        # Those of n1 become those that n2 made in its name.
        keys[1] = keys[2]
        return Task(shares, task.inbox._replace(tables={**task.inbox.tables, "secure.keys": keys}))

    lead.told = told
    led = Led(plan, lead)
    for name in FOUR:
        led.node(name, FLEET[name])
    led.end()
    assert {record.node for record in said(caplog, "no part in the secure sum")} == set(FOUR)
    assert not any(lead.answers[name, train].tables for name in FOUR)
    assert [record.round for record in said(caplog, "round lost")] == [2]
    expected = by_hand(3, {}, lost=(1,))
    for name in FOUR:
        np.testing.assert_allclose(weights(led, name), expected, atol=1e-6)


def test_a_coordinator_that_asks_for_both_secrets_of_a_neighbour_gets_one() -> None:
    """Who was heard is told once; asked again with another list a node goes."""
    plan = masked(3)
    lead = Liar(plan, QUICK)
    end = places(lead, 1)["train:sum"]

    def told(position: int, task: Task | None) -> Task | None:
        if position == end + 1:
            return Task(end, Message(tables={"secure.heard": np.array([0, 1, 2])}))
        return task

    lead.told = told
    led = Led(plan, lead)
    for name in FOUR:
        led.node(name, FLEET[name])
    for thread in led.all:
        until(lambda thread=thread: not thread.is_alive(), "somebody never came to an end")
    with pytest.raises(MessageRefused, match=f"asks for a step '{end}' of .*, after {end + 1}"):
        led.end()
    assert len(led.failed) == 1
    assert lead.answers["n0", end].tables["secure.revealed"].shape == (3, 16)
    assert not any(name.startswith("secure.") for name in led.learners["n0"].memory)


def test_the_members_of_a_masked_round_stay_those_of_its_first_phase(tmp_path: Path) -> None:
    """A sample of those who were there, whoever comes, goes or leads; what comes too late is left out, whatever the discount."""
    plan, names = masked(3, sample=0.5), tuple(FLEET)[:8]
    quorum = Quorum(8, deadline=10.0, grace=5.0, discount=0.5)
    lead, learners = Lead(plan, quorum, tmp_path / "state"), {name: Learner(plan, name, FLEET[name]) for name in FLEET}
    for name in names:
        lead.come(name, 0.0)
    heard(lead, learners, *names)
    assert lead.advance(0.0)
    members, others, phases = lead.asked, [name for name in names if name not in lead.asked], places(lead, 0)
    assert len(members) == 4
    for place in phases.values():
        assert (lead.place, lead.asked) == (place, members)
        if place == phases["train:keys"]:
            lead.come("n8", 0.0)
        if place == phases["train:shares"]:
            lead.go(others[0], 0.0)
            lead = Lead(plan, quorum, tmp_path / "state")
            for name in (*others, *members):
                assert lead.asked == ()
                lead.come(name, 0.0)
        if place == phases["train"]:
            lead.go(members[3], 0.0)
        staying = members if place < phases["train"] else members[:3]
        heard(lead, learners, *staying)
        assert lead.advance(0.0 if len(staying) == 4 else 6.0)
    # Its words of the first round belong to no other sum.
    for _ in ("keys", "shares"):
        assert members[3] not in lead.asked
        heard(lead, learners, *lead.asked)
        assert lead.advance(6.0)
    assert (lead.course[lead.place].round, lead.course[lead.place].phase) == (1, "train")
    assert not lead.takes(members[3], phases["train"])


def test_a_round_that_cannot_be_lost_waits_for_who_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    plan, names = masked(1), FOUR[:3]
    lead, learners = Lead(plan, Quorum(3, deadline=10.0, grace=0.0)), {name: Learner(plan, name, FLEET[name]) for name in FOUR[:3]}
    for name in names:
        lead.come(name, 0.0)
    for _ in ("prepare", "keys"):
        heard(lead, learners, *names)
        assert lead.advance(1.0)
    shares = lead.place
    lead.go("n2", 1.0)
    heard(lead, learners, "n0", "n1")
    assert not lead.advance(2.0)
    assert (lead.place, lead.asked) == (shares, ())
    assert len(said(caplog, "too few nodes")) == 1
    lead.come("n2", 3.0)
    assert lead.asked == names
    for name in ("n0", "n1"):
        assert lead.lacks(name, learners[name].position)
        assert lead.hear(name, shares, learners[name].answer) is None
    heard(lead, learners, "n2")
    assert lead.advance(4.0)
    while not lead.over:
        heard(lead, learners, *names)
        assert lead.advance(5.0)
    heard(lead, learners, *names)
    assert not said(caplog, "round lost")
    for name in names:
        np.testing.assert_allclose(learners[name].memory["network.model"], by_hand(1, {}, names=names), atol=1e-6)


def test_a_nodes_own_record_says_what_was_spent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Round by round as the coordinator's does; without dp-accounting it says once that it cannot tell."""
    detector = DENSE.model_copy(update={"scaling": Scaling(numbers="standard")})
    noise = ({"name": "clip", "norm": 1.0}, {"name": "noise", "secret": False})
    plan = plan_of(detector, FedAvg(rounds=2, chain=noise, privacy={"epsilon": 8.0}), 7)
    led = Led(plan, Lead(plan, QUICK))
    for name in FOUR:
        led.node(name, FLEET[name])
    led.end()
    spent = [entry.epsilon for entry in led.lead.state.history]
    assert spent[-1] == pytest.approx(8.0, rel=2e-3)
    for name in FOUR:
        assert [entry.epsilon for entry in led.nodes[name].history] == spent
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    accounting._accounting.cache_clear()
    node, learner = led.nodes["n0"], led.learners["n0"]
    try:
        assert [node.spent(learner, step) for step in learner.course[-2:]] == [None, None]
    finally:
        accounting._accounting.cache_clear()
    (record,) = said(caplog, "cannot tell what privacy was spent")
    assert "needs dp-accounting" in record.reason


@pytest.mark.slow
def test_whoever_is_killed_between_two_phases_of_a_masked_round_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """A node, then the coordinator, each with SIGKILL and begun again at once; mutual TLS. Of three nodes none may be missed."""
    chain = "--set", "strategy.rounds=30", "--set", 'strategy.chain=["mask"]'

    def killed(who: str, state: Path, is_amid: Callable[[Memory, Mapping[str, Any]], bool], again: Callable[[], None]) -> None:
        for _ in range(20):
            before = state.stat().st_mtime_ns
            until(lambda before=before: state.stat().st_mtime_ns != before, f"{who} never went on: {site.log(who)[-1500:]}")
            site.kill(who)
            found = is_amid(*read_memory(state))
            again()
            if found:
                return
        pytest.fail(f"{who} was never between two phases")

    with site_of(tmp_path) as site:
        site.lead("--grace", "60", *chain)
        site.reaches("coordinator", "rounds: round 3 of")
        secrets, leads = tmp_path / "pump-2" / "node.state", tmp_path / "coordinator" / "coordinator.state"
        until(lambda: any(name.endswith("secure.proofs") for name in read_memory(leads)[0]), "nobody signed its keys")
        killed("pump-2", secrets, lambda memory, _: any(name.endswith("secure.seeds") for name in memory), lambda: site.node("pump-2"))
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        killed("coordinator", leads, lambda _, about: about["phase"] > 0, lambda: site.coordinator("--grace", "60", *chain))
        site.alike(undisturbed(*chain))
        assert "round lost" not in site.log("coordinator")
