"""Clusters on the mesh, over real Zenoh sessions: as on one machine to the last bit; peers are told that there are none for them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from sites import heard

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import RecipeError
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.mesh.coordinator import Coordinator
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.lead import Lead, Quorum
from vedette.runtimes.mesh.learner import Learner
from vedette.runtimes.mesh.node import Node
from vedette.runtimes.mesh.peer import Peer
from vedette.runtimes.mesh.session import MeshSettings, open_session
from vedette.runtimes.topology import Full
from vedette.strategies import Clustered, FedAvg
from vedette.training.task import Optimiser

DENSE = Autoencoder(hidden=(4, 2), residual="mahalanobis", optimiser=Optimiser(rate=0.01, batch=16))
FLEET = Fleet.of({f"n{place}": correlated(60 + place, 5, place, nodes_shift=3.0 * (place % 2)) for place in range(6)})
KINDS = {"name": "given", "clusters": {"even": ["n[024]"], "odd": ["*"]}}
NOISE: dict[str, Any] = {"name": "noise", "secret": False}
LIMIT = 60.0
"""Seconds after which somebody hangs."""


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def session_of(name: str, at: int, first: bool = False, coordinator: str = "") -> Any:
    where: dict[str, Any] = {"listen": (f"127.0.0.1:{at}",)} if first else {"listen": (), "connect": (f"127.0.0.1:{at}",)}
    return open_session(MeshSettings(insecure=True, name=name, coordinator=coordinator, **where))[0]


def side_by_side(parties: list[Callable[[], None]]) -> list[BaseException]:
    """Carry parties out, each in a thread, and return what went wrong."""
    failed: list[BaseException] = []

    def guarded(party: Callable[[], None]) -> None:
        try:
            party()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(party,), daemon=True) for party in parties]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert failed or not thread.is_alive(), "somebody never came to an end"
    return failed


@pytest.mark.parametrize(
    "strategy",
    [
        Clustered(rounds=3, by={"name": "rows", "clusters": 2}, every=1, strategy=FedAvg(momentum=0.5)),
        Clustered(rounds=3, by={"name": "rows", "clusters": 2}, every=1, prior_rows=20),
        Clustered(rounds=3, by={"name": "weights", "clusters": 2}, every=1),
        Clustered(rounds=3, by={"name": "loss", "clusters": 2}, every=1, prior_rows=20),
        Clustered(rounds=3, by={"name": "weights", "clusters": 2}, every=1, chain=("clip", "compress")),
        Clustered(rounds=3, by=KINDS, chain=({"name": "clip", "norm": 0.5}, {**NOISE, "multiplier": 0.1, "added": "shares"}, "mask")),
        Clustered(rounds=3, by=KINDS, chain=({"name": "clip", "norm": 0.5}, "mask"), prior_rows=20),
        Clustered(rounds=3, by=KINDS, chain=({"name": "clip", "norm": 0.5}, "mask"), prior_rows=20, networks="common"),
    ],
    ids=["rows", "rows-weighed", "weights", "loss-weighed", "compressed", "masked", "masked-weighed", "masked-common"],
)
def test_with_a_coordinator_clusters_come_to_what_one_machine_comes_to(strategy: Clustered) -> None:
    """To the bit; behind masks, which are drawn anew each time, what comes of their sums does too."""
    plan, at = plan_of(DENSE, strategy, 7), port()
    lead, learners = Lead(plan, Quorum(len(FLEET))), dict[str, Learner]()

    def coordinate() -> None:
        session = session_of("coordinator", at, first=True)
        Coordinator(plan, lead, session, "coordinator", "fleet").serve()
        session.close()

    def learn(name: str) -> None:
        session = session_of(name, at, coordinator="coordinator")
        node = Node(session, name, "coordinator", "fleet")
        learners[name] = Learner(node.plan(), name, FLEET[name])
        node.carry_out(learners[name], plan)
        session.close()

    failed = side_by_side([coordinate, *(lambda name=name: learn(name) for name in FLEET)])  # type: ignore[misc]
    assert not failed, failed[0]
    expected = LocalRuntime(FLEET).run(plan)
    for name in FLEET:
        here, there = expected.memories[name], learners[name].memory
        assert here.keys() == there.keys()
        for key, value in here.items():
            np.testing.assert_array_equal(value, there[key], err_msg=f"{name}, {key}")
    assert [entry.sent for entry in lead.state.history] == [entry.sent for entry in expected.history]
    remembered = lead.state.exchanged["rounds"]["*"]
    assert remembered["groups"] == expected.exchanged["rounds"]["*"]["groups"]
    assert sum(len(members) for members in json.loads(str(remembered["groups"])).values()) == len(FLEET)


def test_a_cluster_that_loses_too_many_loses_its_round_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Of three none may vanish from a secure sum: n1 does, amid the second round, and the odd ones go on from where they were."""

    def by_hand(chain: tuple[Any, ...], away: Callable[[Step], tuple[str, ...]]) -> Mapping[str, Learner]:
        plan = plan_of(DENSE, Clustered(rounds=3, by=KINDS, after=0, every=5, chain=chain), 7)
        lead, learners = Lead(plan, Quorum(6, share=0.0)), {name: Learner(plan, name, FLEET[name]) for name in FLEET}
        for name in FLEET:
            lead.come(name, 0.0)
        while not lead.over:
            missing = away(lead.course[lead.place])
            heard(lead, learners, *(name for name in FLEET if name not in missing))
            assert lead.advance(lead.deadline)
        heard(lead, learners, *FLEET)
        return learners

    clip = {"name": "clip", "norm": 1e6}
    masked = by_hand((clip, "mask"), lambda step: ("n1",) if step[:2] == (1, 1) and step.phase in ("train", "train:sum") else ())
    assert [record.round for record in caplog.records if record.getMessage() == "round lost"] == [2]
    expected = by_hand((clip,), lambda step: ("n1", "n3", "n5") if step[:3] == (1, 1, "train") else ())
    for name in FLEET:
        here, there = (learners[name].memory["network.model"] for learners in (masked, expected))
        np.testing.assert_allclose(here, there, atol=1e-6)


def test_peers_are_refused_before_they_train() -> None:
    plan, at, names = plan_of(DENSE, Clustered(rounds=2), 7, Full()), port(), ["n0", "n1"]
    learners = {name: Learner(plan, name, FLEET[name]) for name in names}

    def learn(name: str) -> None:
        session = session_of(name, at, first=name == "n0")
        try:
            Peer(plan, learners[name], session, "fleet", names, Quorum(2)).carry_out()
        finally:
            session.close()

    failed = side_by_side([lambda name=name: learn(name) for name in names])  # type: ignore[misc]
    assert any(isinstance(error, RecipeError) and "take topology = 'server'" in str(error) for error in failed), failed
    assert not any("network.model" in learner.memory for learner in learners.values())
