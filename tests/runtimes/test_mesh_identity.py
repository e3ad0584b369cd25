"""Keys of a secure sum, signed by the devices' certificates: a coordinator that puts others in their place gets nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sites import Led

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.detectors.autoencoder import Autoencoder
from vedette.message import Array, Memory, Message
from vedette.runtimes.base import digest, plan_of
from vedette.runtimes.mesh import keys
from vedette.runtimes.mesh.identity import DeviceIdentity
from vedette.runtimes.mesh.lead import Lead, Quorum, Task
from vedette.runtimes.mesh.learner import Learner
from vedette.strategies import FedAvg
from vedette.strategies.base import Turn
from vedette.strategies.chain import secure
from vedette.strategies.chain.proofs import proven, stacked
from vedette.training.task import Optimiser

DENSE = Autoencoder(hidden=(4, 2), optimiser=Optimiser(rate=0.01, batch=16))
NAMES = ("n0", "n1", "n2", "n3")
FLEET = Fleet.of({name: correlated(60 + place, 5, place).normal() for place, name in enumerate(NAMES)})
PLAN = plan_of(DENSE, FedAvg(rounds=2, chain=("mask",)), 7)
ASSUMED = secure.Assumed(0.3, 0.01, False)
SEED = "7 0 train"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    keys.init(folder)
    keys.add(folder, ["coordinator", *NAMES])
    return folder / "devices"


def identity_of(fleet: Path, name: str) -> DeviceIdentity:
    return DeviceIdentity(fleet / name, digest(PLAN), "coordinator")


class Attack:
    """A coordinator that shows a node nobody but parties of its own making, and takes their steps."""

    def __init__(self, victim: Learner, plan: Any = PLAN) -> None:
        self.victim, self.others = victim, NAMES[1:]
        self.at = {step.phase: place for place, step in enumerate(victim.course) if (step.stage, step.round) == (1, 0)}
        scaling, ours = Lead(plan, Quorum(1)), dict[str, Memory]()
        scaling.come("n0", 0.0)
        victim.take(0, Message())
        scaling.hear("n0", 0, victim.answer)
        assert scaling.advance(0.0)
        task = scaling.next_for("n0", 1)
        assert task is not None
        victim.take(*task)
        self.mine = ours

    def rolled(self, **proofs: Array) -> Message:
        """Return a roll of the victim and false others, or what they are worth to it."""
        self.victim.take(self.at["train:keys"], Message())
        said = dict[str, Message]()
        for name in self.others:
            said[name], self.mine[name] = secure.advertise(name, {})
        tables = {name: np.asarray(message.tables["secure.keys"]) for name, message in {**said, "n0": self.victim.answer}.items()}
        roll, self.ours = secure.introduced(tables, {}, SEED, ASSUMED)
        return roll._replace(tables={**roll.tables, "secure.proofs": stacked(NAMES, proofs)}) if proofs else roll

    def words(self, roll: Message) -> Array:
        """Return the sum of what all sent, that of the others being nothing."""
        self.victim.take(self.at["train:shares"], roll)
        shares = {"n0": np.asarray(self.victim.answer.tables["secure.shares"])}
        for name in self.others:
            message, self.mine[name] = secure.share(roll, self.mine[name], SEED, ASSUMED)
            shares[name] = np.asarray(message.tables["secure.shares"])
        parcels, self.ours = secure.routed(shares, self.ours)
        self.victim.take(self.at["train"], parcels["n0"])
        words = {"n0": np.asarray(self.victim.answer.tables["secure.words"])}
        self.facts = self.victim.answer.facts
        nothing = np.zeros_like(words["n0"])
        for name in self.others:
            message, self.mine[name] = secure.masked(parcels[name], self.mine[name], nothing)
            words[name] = np.asarray(message.tables["secure.words"])
        heard, self.ours = secure.summed(words, self.ours, len(nothing), 64)
        self.victim.take(self.at["train:sum"], heard)
        parts = {"n0": np.asarray(self.victim.answer.tables["secure.revealed"])}
        parts |= {name: np.asarray(secure.revealed(heard, self.mine[name])[0].tables["secure.revealed"]) for name in self.others}
        return secure.unmasked(parts, self.ours)[0]


def test_without_certificates_a_coordinator_that_makes_up_all_others_reads_what_a_node_sends() -> None:
    """What the signatures are for: among strangers the sum of one node is what it sent."""
    attack = Attack(Learner(PLAN, "n0", FLEET["n0"]))
    total = attack.words(attack.rolled())
    sizes = {name.removeprefix("chain.size."): int(float(said)) for name, said in attack.facts.items() if "size" in name}
    found, rows = secure.Fixed(dict.fromkeys(sizes, 64.0), 4, 64, 1e6).means(total, sizes)
    clear = plan_of(DENSE, FedAvg(rounds=2, chain=({"name": "clip", "norm": 1e6},)), 7)
    victim = Learner(clear, "n0", FLEET["n0"])
    victim.take(Attack(victim, clear).at["train"], Message())
    assert rows == pytest.approx(len(FLEET["n0"]), rel=1e-3)
    np.testing.assert_allclose(found["model"], victim.answer.vectors["model"].values, atol=1e-4)


def test_with_certificates_it_gets_nothing(fleet: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not without proofs, not by the coordinator's own certificate, and not by what a node signed in another round."""
    own, others = identity_of(fleet, "n0"), {name: identity_of(fleet, name) for name in ("coordinator", "n1")}

    def said(name: str, by: str, round: int = 0) -> Array:
        turn = Turn(round, "train", NAMES, {}, np.random.default_rng, name, 7, identity=others[by])
        message, _ = secure.advertise(name, {})
        return np.asarray(proven(turn, message).tables["secure.proofs"])

    for proofs, reason in (
        ({}, "the secure sum's roll does not prove whose keys it has"),
        ({"n0": np.zeros(2, np.uint8)}, "the keys that the secure sum's roll gives for node 'n0' are not its own: there is no certificate"),
        ("own", "gives for node 'n1' are not its own: there is no certificate with them"),
        ("coordinator", "gives for node 'n1' are not its own: their certificate is that of 'coordinator'"),
        ("n1", "gives for node 'n1' are not its own: its certificate did not sign them"),
    ):
        attack = Attack(Learner(PLAN, "n0", FLEET["n0"], identity=own))
        roll = attack.rolled(**(proofs if isinstance(proofs, dict) else {}))
        if isinstance(proofs, str):
            shown = {"n0": np.asarray(attack.victim.answer.tables["secure.proofs"])}
            shown |= {} if proofs == "own" else {"n1": said("n1", proofs)}
            roll = roll._replace(tables={**roll.tables, "secure.proofs": stacked(NAMES, shown)})
        attack.victim.take(attack.at["train:shares"], roll)
        assert attack.victim.answer == Message()
        (record,) = (record for record in caplog.records if record.getMessage() == "no part in the secure sum")
        assert reason in record.reason  # type: ignore[attr-defined]
        caplog.clear()


def test_proofs_hold_for_one_device_one_run_and_as_long_as_it_is_in_the_fleet(fleet: Path, tmp_path: Path) -> None:
    n0, n1 = identity_of(fleet, "n0"), identity_of(fleet, "n1")
    proof = n1.proof(b"mine")
    assert n0.objection("n1", b"mine", proof) is None
    assert n0.objection("n1", b"yours", proof) == "its certificate did not sign them"
    assert n0.objection("n2", b"mine", proof) == "their certificate is that of 'n1'"
    assert "leads the run" in str(n0.objection("coordinator", b"mine", identity_of(fleet, "coordinator").proof(b"mine")))
    assert "did not sign" in str(DeviceIdentity(fleet / "n0", "another run", "coordinator").objection("n1", b"mine", proof))
    # The last two: signed by an algorithm that nobody knows; a certificate of a version that there is not.
    unknown = proof.replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f"))
    version = proof.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020109"))
    for damaged in (b"", b"\0", proof[:50], proof[:-9], b"\xff" * 900, unknown, version):
        assert damaged != proof
        assert n0.objection("n1", b"mine", damaged) is not None
    keys.init(tmp_path)
    keys.add(tmp_path, ["n1"])
    stranger = DeviceIdentity(tmp_path / "devices" / "n1", digest(PLAN), "coordinator")
    assert n0.objection("n1", b"mine", stranger.proof(b"mine")) == "their certificate is of another authority"
    keys.revoke(fleet.parent, "n1")
    assert "was revoked" in str(identity_of(fleet, "n0").objection("n1", b"mine", proof))


class Swapping(Lead):
    """A coordinator that gives a node other keys for n1, with the proof that n1 sent."""

    def next_for(self, node: str, position: int) -> Task | None:
        task = super().next_for(node, position)
        if task is None or node != "n0" or (step := self.course[task.place]).round != 1 or step.phase != "train:shares":
            return task
        table = np.asarray(task.inbox.tables["secure.keys"]).copy()
        table[1] = table[2]
        return Task(task.place, task.inbox._replace(tables={**task.inbox.tables, "secure.keys": table}))


def test_on_the_mesh_a_swapped_key_is_noticed_and_a_false_one_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """n0 says why it takes no part, and the others' sum goes on without it; n3, who proves to be somebody else, is not let in at all."""
    keys.init(tmp_path)
    keys.add(tmp_path, ["coordinator", *NAMES, "n4", "stranger"])
    plan = plan_of(DENSE, FedAvg(rounds=3, chain=("mask",)), 7)

    def identity(name: str) -> DeviceIdentity:
        return DeviceIdentity(tmp_path / "devices" / name, digest(plan), "coordinator")

    names = (*NAMES, "n4")
    lead = Swapping(plan, Quorum(5, deadline=30.0, grace=0.2), identity=identity("coordinator"))
    led = Led(plan, lead)
    led.identities = {name: identity("stranger" if name == "n3" else name) for name in names}
    for place, name in enumerate(names):
        led.node(name, FLEET.get(name, correlated(60 + place, 5, place).normal()))
    led.end()
    refused = [record for record in caplog.records if record.getMessage() == "answer refused"]
    assert {record.node for record in refused} == {"n3"}  # type: ignore[attr-defined]
    assert "their certificate is that of 'stranger'" in refused[0].reason  # type: ignore[attr-defined]
    silent = [record for record in caplog.records if record.getMessage() == "no part in the secure sum" and record.node != "n3"]  # type: ignore[attr-defined]
    assert [record.node for record in silent] == ["n0"]  # type: ignore[attr-defined]
    assert "gives for node 'n1' are not its own: its certificate did not sign them" in silent[0].reason  # type: ignore[attr-defined]
    assert not [record for record in caplog.records if record.getMessage() == "round lost"]
    assert len({np.asarray(led.learners[name].memory["network.model"]).tobytes() for name in names}) == 1
