"""Workers that are killed, stopped, starved, broken or mad during training: the run ends as if nothing had been, and names them."""

from __future__ import annotations

import json
import operator
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment
from test_workers import DENSE, FLEET, LEAN, LONG, alike, children, gone, pids, table, until

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.errors import RecipeError, TooFewWorkers, TrainingDiverged, VedetteError
from vedette.evaluation.federation import federate
from vedette.runtimes.base import Outcome, plan_of
from vedette.runtimes.cluster import processes
from vedette.runtimes.cluster.dispatch import TRIES
from vedette.runtimes.cluster.pool import Hiring, close_idle, hired
from vedette.runtimes.cluster.shelf import LEAST
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.workers import Workers
from vedette.strategies import FedAvg
from vedette.training.task import Optimiser

PLAN = plan_of(DENSE, FedAvg(rounds=2), 3, trainer=LEAN)
GIB = 1 << 30


class Code:
    """An expression that is evaluated where it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


class Trap(Table):
    """Rows like any others, but whoever unpickles them while the file `armed` is there takes that away and does something beside."""

    def set(self, armed: Path, does: str) -> Trap:
        code = f"__import__('os').path.exists({str(armed)!r}) and (__import__('os').unlink({str(armed)!r}), {does})"
        object.__setattr__(self, "code", code)
        return self

    def __reduce__(self) -> Any:
        whole = {key: value for key, value in self.__dict__.items() if key != "code"}
        return operator.getitem, ((Table(**whole), Code(self.code)), 0)


def fleet_with(armed: Path, does: str) -> Fleet:
    return Fleet.of({node: Trap(**FLEET[node].__dict__).set(armed, does) if node == "n2" else FLEET[node] for node in FLEET})


def armed_in_training(armed: Path) -> Callable[[int, int], None]:
    """Arm a trap when the first round of training begins: preparing has two phases."""
    phases: list[int] = []

    def on_nodes(done: int, of: int) -> None:
        if not done:
            phases.append(of)
            if len(phases) == 3:
                armed.touch()

    return on_nodes


def run(workers: Workers, fleet: Fleet = FLEET, **more: Any) -> Outcome:
    return LocalRuntime(fleet, workers=workers, **more).run(PLAN)


@pytest.fixture(scope="module")
def whole() -> Outcome:
    """What one process comes to."""
    return run(Workers(1))


@pytest.fixture(autouse=True)
def _no_worker_left() -> Iterator[None]:
    yield
    close_idle()
    assert children(os.getpid()) == []


FAULTS = {
    "killed": ("__import__('os').kill(__import__('os').getpid(), 9)", "it was ended by SIGKILL; there may be too little memory", ""),
    "stopped": ("(__import__('os').kill(__import__('os').getpid(), 19), __import__('time').sleep(9))",
        "it gave no sign of life for 4 s", ""),
    "hung": ("__import__('time').sleep(1000)", "it was not done after ", ""),
    "out of memory": (f"bytearray({64 * GIB})", "MemoryError", "MemoryError"),
    "crashed": ("__import__('faulthandler')._sigsegv()", "it was ended by SIGSEGV", "Segmentation fault"),
    "left": ("__import__('os')._exit(7)", "it ended with status 7", ""),
    "raised": ("1 / 0", "ZeroDivisionError: division by zero", 'in <module>\nZeroDivisionError: division by zero'),
    "garbled": (
        "setattr(__import__('vedette.runtimes.cluster.answer', fromlist=['_']), 'SEAL', 15)",
        "its answer has a wrong checksum",
        "",
    ),
    "not numbers": (
        "setattr(__import__('vedette.runtimes.workers', fromlist=['_']), 'list', lambda found: [(n, d._replace(vectors="
        "{k: v._replace(values=v.values * float('nan')) for k, v in d.vectors.items()}), m) for n, d, m in found])",
        "it returned nonsense: weights of node 'n2' (model) that are no finite numbers",
        "",
    ),
    "cut off": (
        "setattr(__import__('vedette.runtimes.workers', fromlist=['_']), 'list', lambda found: [(n, d._replace(vectors="
        "{k: v._replace(values=v.values[:-1]) for k, v in d.vectors.items()}), m) for n, d, m in found])",
        "it returned nonsense: weights of node 'n2' (model): float32",
        "",
    ),
    "mad": (
        "setattr(__import__('vedette.runtimes.workers', fromlist=['_']), 'list', lambda found: [7])",
        "it returned nonsense: something else than was asked for",
        "",
    ),
}  # fmt: skip

PATIENCE = {"stopped": 4.0, "hung": 4.0}
"""Seconds after which a worker is given up; where it tells by itself that it is lost, a slow one shall not be."""

RARE = {"crashed", "out of memory", "cut off", "mad", "hung"}
"""Faults that are met as others are, and left to `make test-all`."""


@pytest.mark.parametrize("fault", [pytest.param(fault, marks=[pytest.mark.slow] if fault in RARE else []) for fault in FAULTS])
def test_what_befalls_a_worker_changes_nothing_and_is_told(tmp_path: Path, whole: Outcome, fault: str, monkeypatch) -> None:
    does, cause, traceback = FAULTS[fault]
    monkeypatch.setattr("vedette.runtimes.cluster.dispatch.LOADING", 0.0 if fault == "hung" else 30.0)
    armed, told = tmp_path / "armed", []
    memory = 2 * GIB if fault == "out of memory" else None
    workers = Workers(2, "cluster", deadline=PATIENCE.get(fault, 30.0), memory=memory, on_incident=told.append)
    found = run(workers, fleet_with(armed, does), on_nodes=armed_in_training(armed))
    alike(whole, found)
    assert not armed.exists()
    assert told == list(found.incidents)
    incident, *more = (each for each in found.incidents if (each.unit, each.step) == ("node 'n2'", "train, round 1"))
    # On a machine that is busy whoever works for long may be taken for one that is hung.
    assert fault == "hung" or not more
    assert fault == "hung" or len(told) == 1
    assert incident.host == socket.gethostname()
    assert gone(incident.pid)
    assert incident.cause.startswith(cause)
    assert traceback in incident.traceback
    assert str(incident).startswith(f"worker {incident.host}:{incident.pid} (node 'n2', train, round 1): {cause}")


def test_an_error_of_the_work_itself_stops_the_run_as_it_is() -> None:
    endless = plan_of(DENSE.model_copy(update={"optimiser": Optimiser(name="sgd", rate=1e30)}), FedAvg(rounds=1), 3, trainer=LEAN)
    workers = Workers(2, "cluster")
    with pytest.raises(TrainingDiverged, match=r"^node 'n0', round 1: "):
        LocalRuntime(FLEET, workers=workers).run(endless)
    assert not workers.incidents


def test_an_error_that_every_worker_raises_comes_back_with_its_traceback(tmp_path: Path) -> None:
    always = Fleet.of({node: Trap(**FLEET[node].__dict__).set(tmp_path, "{}['lost']") if node == "n2" else FLEET[node] for node in FLEET})
    for node in always:
        if node == "n2":
            object.__setattr__(always[node], "code", "{}['lost']")
    workers = Workers(2, "cluster")
    with pytest.raises(KeyError, match="lost") as caught:
        run(workers, always)
    assert "in a worker:\nTraceback" in str(caught.value.__cause__)
    assert [incident.cause for incident in workers.incidents] == ["KeyError: 'lost'"] * TRIES
    assert len({incident.pid for incident in workers.incidents}) == TRIES


def test_too_few_workers_stop_the_run_which_can_be_resumed(tmp_path: Path, whole: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    file, workers = tmp_path / "state", Workers(2, "cluster", least=2)

    def break_one(entry: Any, ended: Any) -> None:
        # From now on no worker can be begun on this machine.
        if entry.stage == "rounds" and entry.number == 1:
            monkeypatch.setattr(processes.sys, "executable", "/bin/false")
            os.kill(pids()[0], signal.SIGKILL)

    with pytest.raises(TooFewWorkers, match=r"^1 usable workers are left where 2 are needed; the last to fail was worker .*status 1"):
        LocalRuntime(FLEET, checkpoint=file, workers=workers).run(PLAN, break_one)
    assert [incident.unit for incident in workers.incidents[1:]] == [""] * (TRIES - 1)
    monkeypatch.undo()
    alike(whole, run(Workers(3, "cluster"), checkpoint=file, resume=True))


@pytest.mark.slow
def test_the_command_says_what_befell_its_workers(tmp_path: Path) -> None:
    shorter = "--set", "strategy.rounds=25", "--set", "data.nodes=4", "--set", "data.train_hours=12", "--set", "data.test_hours=6"
    command = [sys.executable, "-m", "vedette", *LONG, *shorter, "--runtime", "cluster", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        until(lambda: list((tmp_path / "checkpoints").glob("*.safetensors")), "no checkpoint appeared")
        killed = children(process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = json.loads((tmp_path / "metrics.json").read_text())
    (incident,) = run["incidents"]
    assert (run["runtime"], incident["pid"], incident["method"]) == ("cluster", killed, "federated")
    assert err.splitlines() == [
        f"vedette: worker {incident['host']}:{killed} ({incident['unit']}, {incident['step']}): {incident['cause']}"
    ]
    assert "workers failed 1 times, and their work was done again" in out


def test_rows_reach_workers_once(whole: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of tables that a fleet makes anew each time it is asked."""
    base = Table(FLEET["n0"].features, np.random.default_rng(0).normal(size=(20_000, 5)), label=np.zeros(20_000, dtype=np.int8))
    fleet = Fleet(("a", "b", "c"), lambda node: base.take(slice("abc".index(node) * 5_000, 20_000)))
    fleet._room = 0
    sizes: list[int] = []
    give = processes.Processes.give
    monkeypatch.setattr(processes.Processes, "give", lambda pool, worker, unit: (sizes.append(len(unit.content)), give(pool, worker, unit)))
    workers = Workers(2, "cluster")
    found = run(workers, fleet)
    with hired(workers.dispatch.hiring) as pool:
        files = {file.name: file.stat().st_size for file in pool.shelf.folder.iterdir()}
    monkeypatch.undo()
    alike(run(Workers(1), fleet), found)
    assert len(files) == 3
    assert sum(files.values()) == sum(fleet[node].matrix.nbytes for node in fleet) + 3 * 128
    # Without the rows: what a node remembers, its tables' keys, and what the strategy sends.
    assert max(sizes) < min(fleet[node].matrix.nbytes for node in fleet) / 2


def test_folders_of_processes_that_were_killed_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "vedette-shelf-old").mkdir()
    (tmp_path / "vedette-shelf-old" / "rows.npy").touch()
    os.utime(tmp_path / "vedette-shelf-old", (0, 0))
    with hired(Hiring(1)) as one, hired(Hiring(1)) as other:
        keys = [pool.shelf.array(np.zeros((100, 100))) for pool in (one, other)]
        assert keys[0] == keys[1]
        assert len(list(tmp_path.glob("vedette-shelf-*/*.npy"))) == 2
    close_idle()
    assert not list(tmp_path.glob("vedette-shelf-*"))


def test_the_first_process_only_leads(tmp_path: Path) -> None:
    """Of a cluster even one worker is one beside it; what a single node comes to needs none."""
    found = federate(FLEET, DENSE, FedAvg(rounds=1), runtime="cluster", workers=1, trainer=LEAN)
    assert found.history == federate(FLEET, DENSE, FedAvg(rounds=1), trainer=LEAN).history
    assert len(pids()) == 1
    close_idle()
    federate(Fleet.of({"one": FLEET["n0"]}), DENSE, FedAvg(rounds=1), runtime="cluster", trainer=LEAN)
    assert pids() == []


def test_idle_workers_that_were_killed_are_replaced(whole: Outcome) -> None:
    workers = Workers(2, "cluster")
    alike(whole, run(workers))
    before = pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in before), "they are still there")
    alike(whole, run(workers))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"least": 3}, "at most all 2 workers"),
        ({"least": 0}, "at least one"),
        ({"deadline": 1.0}, "at least 3 s"),
        ({"runtime": "local", "ray": "auto"}, "add --runtime cluster"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_begins(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Workers(2, **{"runtime": "cluster", **settings})
    with pytest.raises(VedetteError, match="a worker does not begin"):
        run(Workers(2, "cluster", memory=1 << 20))


def test_tables_arrive_as_they_were() -> None:
    """To the order in which their numbers lie in memory."""
    odd = table(3)
    assert odd.matrix.nbytes < LEAST
    large = Table(odd.features, np.asfortranarray(np.tile(odd.numbers, (50, 1)))[1:], label=np.tile(odd.label, 50)[1:])
    plan = plan_of(DENSE, FedAvg(rounds=1), 3)
    fleet = Fleet.of({"a": large, "b": odd})
    alike(LocalRuntime(fleet).run(plan), LocalRuntime(fleet, workers=Workers(2, "cluster")).run(plan))
