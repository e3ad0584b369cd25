"""Workers that do not wait for each other: whatever the order in which they come back, one process that is told it has the same weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cluster import FAULTS, PATIENCE, fleet_with
from test_workers import DENSE, FLEET, LEAN, alike, children, gone, pids, until

from vedette.data.fleet import Fleet
from vedette.data.windows import Window
from vedette.detectors.lstm import LstmAutoencoder
from vedette.errors import TooFewWorkers
from vedette.message import Memory
from vedette.runtimes.base import Outcome, Plan, Round, plan_of
from vedette.runtimes.cluster import processes
from vedette.runtimes.cluster.incident import Incident
from vedette.runtimes.cluster.pool import close_idle
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.workers import Workers
from vedette.strategies.attacks import SignFlip
from vedette.strategies.parameter_server import ParameterServer
from vedette.training.task import Optimiser

COSINE = LstmAutoencoder(window=Window(size=6), hidden=(6, 3), optimiser=Optimiser(rate=0.01, batch=32, schedule="cosine"))
SERVER = ParameterServer(mode="asynchronous", steps=3, rounds=40)
ENDLESS = SERVER.model_copy(update={"rounds": 100_000})
THREE = Fleet.of({node: FLEET[node] for node in ("n0", "n1", "n2")})


class EnoughError(Exception):
    """All was seen."""


def plan(strategy: ParameterServer = SERVER, **more: Any) -> Plan:
    return plan_of(more.pop("detector", DENSE), strategy, 3, **{"trainer": LEAN, **more})


def rounds(outcome: Outcome) -> list[Round]:
    return [entry for entry in outcome.history if entry.stage == "rounds"]


def order(outcome: Outcome) -> tuple[str, ...]:
    return tuple(node for entry in rounds(outcome) for node in entry.late)


def replayed(found: Outcome, strategy: ParameterServer = SERVER, fleet: Fleet = THREE, **more: Any) -> Outcome:
    """One process in the order that a cluster had."""
    return LocalRuntime(fleet).run(plan(strategy.model_copy(update={"order": order(found)}), **more))


@pytest.fixture(autouse=True)
def _no_worker_left() -> Iterator[None]:
    yield
    close_idle()
    assert children(os.getpid()) == []


@pytest.mark.parametrize(
    ("fleet", "workers", "more"),
    [
        pytest.param(THREE, 3, {"detector": COSINE, "trainer": None}, id="lstm, a worker for each node", marks=pytest.mark.slow),
        pytest.param(
            FLEET,
            2,
            {"attackers": Attackers(nodes=("n1",), attack=SignFlip(scale=0.1))},
            id="dense, an attacker, nodes wait for workers",
        ),
    ],
)
def test_the_order_that_a_cluster_had_comes_to_the_same_in_one_process(fleet: Fleet, workers: int, more: dict[str, Any]) -> None:
    # Who stands in line for a worker is overtaken by whoever is slower at the most; a node with a worker of its own comes when it comes.
    turns = SERVER.rounds // (2 * len(fleet)) if workers < len(fleet) else 1
    for _ in range(20):
        found = LocalRuntime(fleet, workers=Workers(workers, "cluster")).run(plan(**more))
        alike(found, replayed(found, fleet=fleet, **more))
        came = order(found)
        assert len(came) == SERVER.rounds
        for number, entry in enumerate(rounds(found)):
            before = [at for at in range(number) if came[at] == came[number]]
            assert entry.late == {came[number]: number - (before[-1] + 1 if before else 0)}
        # A worker that the machine holds up, or that is still importing, keeps its node for that long: all may be over by then.
        if min(came.count(node) for node in fleet) >= turns:
            return
    pytest.fail(f"in twenty runs there was a node every time that came less than {turns} times")


def test_others_go_on_while_a_worker_is_stopped_and_what_it_brings_in_the_end_is_stale() -> None:
    workers, came, stopped, last = Workers(3, "cluster"), list[str](), list[int](), dict[str, Memory]()

    def on_round(entry: Round, ended: Callable[[], Any]) -> None:
        came.extend(entry.late)
        if len(came) == 20:
            stopped.append(stop_one(workers, entry))
        elif len(came) == 130:
            os.kill(stopped[0], signal.SIGCONT)
        if max(entry.late.values(), default=0) >= 99:
            last.update(ended())
            raise EnoughError

    with pytest.raises(EnoughError):
        LocalRuntime(THREE, workers=workers).run(plan(ENDLESS), on_round)
    assert not workers.incidents
    # Two of three workers were all that there was, and they went on; what was under way from the third as it was stopped still came.
    assert came[-1] not in came[25:-1]
    found = LocalRuntime(THREE).run(plan(told := ENDLESS.model_copy(update={"order": tuple(came), "rounds": len(came)})))
    np.testing.assert_array_equal(found.memories[came[-1]]["network.model"], last[came[-1]]["network.model"])
    bounded = LocalRuntime(THREE).run(plan(told.model_copy(update={"bound": 98})))
    assert bounded.exchanged["rounds"]["*"]["version"] == len(came) - 1


def test_who_is_not_back_in_the_end_is_not_waited_for_and_of_use_again_later() -> None:
    workers, stopped = Workers(3, "cluster"), list[int]()

    def on_round(entry: Round, ended: Any) -> None:
        if entry.stage == "rounds" and entry.number == 20:
            stopped.append(stop_one(workers, entry))

    found = LocalRuntime(THREE, workers=workers).run(plan(), on_round)
    alike(found, replayed(found))
    os.kill(stopped[0], signal.SIGCONT)
    again = LocalRuntime(THREE, workers=workers).run(plan())
    alike(again, replayed(again))
    assert stopped[0] in pids()
    assert not workers.incidents


def stop_one(workers: Workers, entry: Round) -> int:
    """Stop the worker that an answer came from, and return it; it is given the next work all the same."""
    (node,) = entry.late
    pid = pids()[workers.dispatch.places[f"node '{node}'"]]
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.parametrize(
    "fault",
    [
        "killed",
        "garbled",
        *(pytest.param(rare, marks=pytest.mark.slow) for rare in ("stopped", "hung", "out of memory", "raised", "not numbers")),
    ],
)
def test_what_befalls_a_worker_is_done_again_while_others_go_on(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.runtimes.cluster.dispatch.LOADING", 0.0 if fault == "hung" else 30.0)
    workers = Workers(2, "cluster", deadline=PATIENCE.get(fault, 30.0), memory=2 << 30 if fault == "out of memory" else None)
    assert befallen(workers, tmp_path / "armed", FAULTS[fault][0]).cause.startswith(FAULTS[fault][1])


def befallen(workers: Workers, armed: Path, does: str) -> Incident:
    """Let something befall whoever works for 'n2', and see that it is done again; return what was told of it."""
    came, last = list[str](), dict[str, Memory]()

    def on_round(entry: Round, ended: Callable[[], Any]) -> None:
        came.extend(entry.late)
        if len(came) == 5:
            armed.touch()
        if workers.incidents and "n2" in entry.late:
            assert workers.incidents[0].step == f"train, round {entry.number - entry.late['n2']}"
            last.update(ended())
            raise EnoughError

    with pytest.raises(EnoughError):
        LocalRuntime(fleet_with(armed, does), workers=workers).run(plan(ENDLESS), on_round)
    (incident,) = workers.incidents
    assert incident.unit == "node 'n2'"
    until(lambda: gone(incident.pid), "the worker is still there")
    # What the last to arrive was sent is what the server has.
    again = LocalRuntime(FLEET).run(plan(ENDLESS.model_copy(update={"order": tuple(came), "rounds": len(came)})))
    np.testing.assert_array_equal(again.memories["n2"]["network.model"], last["n2"]["network.model"])
    return incident


def test_a_run_goes_on_from_its_checkpoint_and_does_again_what_was_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, workers = tmp_path / "state", Workers(3, "cluster", least=3)

    def break_one(entry: Round, ended: Any) -> None:
        # From now on no worker can be begun on this machine.
        if entry.stage == "rounds" and entry.number == 15:
            monkeypatch.setattr(processes.sys, "executable", "/bin/false")
            os.kill(pids()[0], signal.SIGKILL)

    with pytest.raises(TooFewWorkers, match="2 usable workers are left where 3 are needed"):
        LocalRuntime(THREE, checkpoint=file, workers=workers).run(plan(), break_one)
    monkeypatch.undo()
    found = LocalRuntime(THREE, checkpoint=file, resume=True, workers=Workers(2, "cluster")).run(plan())
    assert len(order(found)) == SERVER.rounds
    alike(found, replayed(found))
