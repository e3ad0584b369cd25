"""Worker processes: the same to the last bit with any number of them, whatever becomes of them; and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.rebalance import OverSampling
from vedette.data.scaling import Scaling
from vedette.data.stored import in_memory
from vedette.data.table import Feature, Table
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import RecipeError, StorageError, TrainingDiverged, VedetteError
from vedette.evaluation.federation import federate
from vedette.files import read_memory
from vedette.message import Channel, Memory
from vedette.runtimes import workers as workers_module
from vedette.runtimes.base import Outcome, plan_of
from vedette.runtimes.cluster.dispatch import TRIES
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import Ring
from vedette.runtimes.workers import AHEAD, Workers, one_thread
from vedette.strategies import FedAvg, MtadFl
from vedette.strategies.attacks import SignFlip
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Job, Optimiser, Task, Work

STEPS = Optimiser(rate=0.01, batch=32)
STANDARD = Scaling(numbers="standard")
DENSE = Autoencoder(hidden=(4, 2), scaling=STANDARD, optimiser=STEPS)
LEAN = LowmemTrainer()
"""Workers that need no torch are there sooner."""

PLANS: dict[str, dict[str, Any]] = {
    "lstm, fedavg": plan_of(LstmAutoencoder(window=Window(size=6), hidden=(6, 3), optimiser=STEPS), FedAvg(rounds=2), 3),
    "mlp, fedavg": plan_of(Mlp(hidden=(8,), dropout=0.3, rebalance=OverSampling(), optimiser=STEPS), FedAvg(rounds=2), 3),
    "mlp, peers": plan_of(Mlp(hidden=(8,), dropout=0.3, optimiser=STEPS), GossipFedAvg(rounds=2), 3, Ring()),
    "se-ea-edn, mtad-fl": plan_of(DualNetwork(channels=(4, 6, 4), reduction=2, slots=4, optimiser=STEPS), MtadFl(rounds=2, epochs=1), 3),
    "p2pk-smote": plan_of(Mlp(hidden=(8,), scaling=Scaling(numbers="standard", fit="federated"), optimiser=STEPS), P2pkSmote(rounds=2), 3),
    "attacked": plan_of(DENSE, FedAvg(rounds=2), 3, attackers=Attackers(nodes=("n1",), attack=SignFlip())),
}  # fmt: skip


def table(seed: int) -> Table:
    """Rows whose numbers lie in memory column by column, with gaps: how they lie must not show in the last bits."""
    whole = correlated(70 + 9 * seed, 5, seed, anomalies=0.2)
    gaps = np.asfortranarray(np.concatenate([whole.numbers, whole.numbers[:7]]))[: len(whole)]
    assert not gaps.flags.c_contiguous
    assert not gaps.flags.f_contiguous
    return Table(tuple(Feature(f"s{i}") for i in range(5)), gaps, label=whole.label)


FLEET = Fleet.of({f"n{i}": table(i) for i in range(5)})


def run(plan: dict[str, Any], workers: int, fleet: Fleet = FLEET, **more: Any) -> Outcome:
    return LocalRuntime(fleet, workers=workers, **more).run(plan)


def alike(one: Outcome, other: Outcome) -> None:
    assert one.history == other.history
    assert one.memories.keys() == other.memories.keys()
    for node, memory in one.memories.items():
        assert memory.keys() == other.memories[node].keys()
        for key, value in memory.items():
            np.testing.assert_array_equal(value, other.memories[node][key], strict=isinstance(value, np.ndarray), err_msg=f"{node} {key}")


def pids() -> list[int]:
    """Return the worker processes of this one."""
    return sorted(children(os.getpid()))


def children(pid: int, kind: str = "vedette.runtimes.cluster.worker") -> list[int]:
    """Return the worker processes that a process began and that are still there, dead ones aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status, command = (entry / "stat").read_text().rpartition(")")[2].split(), (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(status[1]) == pid and status[0] != "Z" and kind in command:
                found.append(int(entry.name))
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(reached: Any, what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The units that went to workers."""
    found: list[tuple[str, ...]] = []
    units = workers_module._units

    def noted(told: Any, detector: Any, jobs: Any, size: int, pool: Any) -> Any:
        held = list[str]()

        def seen() -> Any:
            for job in jobs:
                held.append(job.node)
                yield job

        for unit in units(told, detector, seen(), size, pool):
            found.append(tuple(held))
            held.clear()
            yield unit

    monkeypatch.setattr(workers_module, "_units", noted)
    return found


@pytest.mark.parametrize("name", PLANS)
def test_two_workers_find_what_one_process_does(name: str, sent: list[tuple[str, ...]]) -> None:
    one = run(PLANS[name], 1)
    assert not sent
    alike(one, run(PLANS[name], 2))
    assert len({node for unit in sent for node in unit}) > 1, "nothing was trained by a worker"
    assert max(map(len, sent)) == 1


def test_nodes_that_are_the_faster_together_go_together(sent: list[tuple[str, ...]]) -> None:
    """But no worker gets so many at once that the others stand idle."""
    many = Fleet.of({f"n{number:02}": FLEET["n0"] for number in range(40)})
    plan = plan_of(DENSE, FedAvg(rounds=1), 3)
    alike(run(plan, 1, many), run(plan, 2, many))
    assert set(map(len, sent)) == {5}


@pytest.mark.slow
def test_three_do_too_and_a_run_goes_on_with_another_number(tmp_path: Path) -> None:
    plan = plan_of(DENSE, FedAvg(rounds=2), 3, trainer=LEAN)
    whole = run(plan, 1)
    alike(whole, run(plan, 3))
    file = tmp_path / "state"

    class Stop(Exception):
        pass

    def stop(entry: Any, ended: Any) -> None:
        if entry.stage == "rounds":
            raise Stop

    with pytest.raises(Stop):
        LocalRuntime(FLEET, checkpoint=file, workers=3).run(plan, stop)
    begun = read_memory(file)[1]
    assert len(begun["history"]) < len(whole.history)
    alike(whole, run(plan, 1, checkpoint=file, resume=True))


def test_from_python_and_as_many_as_there_are_cores() -> None:
    one, all_ = (federate(FLEET, DENSE, FedAvg(rounds=1), seed=1, workers=workers, trainer=LEAN) for workers in (1, 0))
    assert one.history == all_.history
    rows = FLEET["n2"].numbers
    assert np.array_equal(one.detectors["n2"].decision_function(rows), all_.detectors["n2"].decision_function(rows))
    with pytest.raises(RecipeError, match="workers must be 0"):
        federate(FLEET, DENSE, FedAvg(rounds=1), workers=-1)


def test_rows_on_disk_are_read_where_they_lie(tmp_path: Path) -> None:
    from vedette.data.stored import Growing

    def on(where: Path | None) -> Fleet:
        place = in_memory(5) if where is None else Growing(5, path=where)
        place.append(np.concatenate([FLEET[node].numbers for node in FLEET]))
        whole = Table(FLEET["n0"].features, place.whole())
        return Fleet.from_places(whole, np.arange(len(whole)) % 4, ["a", "b", "c", "d"])

    plan = plan_of(DENSE, FedAvg(rounds=1), 3)
    alike(run(plan, 1, on(None)), run(plan, 2, on(tmp_path / "rows.npy")))


# One after the other, and never far ahead.


def jobs(nodes: int, drawn: list[str], **odd: Table) -> Iterator[Job]:
    memory: Memory = STANDARD.fitted(STANDARD.summary(FLEET["n0"])).memory()
    for number in range(nodes):
        node = f"n{number}"
        drawn.append(node)
        yield Job(node, odd.get(node, FLEET["n0"]), Work(tasks=(Task(steps=1),)), memory)


def carried(nodes: int, drawn: list[str], **odd: Table) -> Iterator[tuple[str, Any, Memory]]:
    return Workers(2).run(LEAN, DENSE, jobs(nodes, drawn, **odd), nodes, (Channel("model"),), 0, 0, "train")


def test_jobs_are_not_drawn_far_ahead_and_come_back_in_order() -> None:
    drawn: list[str] = []
    ahead = [(node, len(drawn) - place) for place, (node, _, _) in enumerate(carried(60, drawn))]
    assert [node for node, _ in ahead] == [f"n{i}" for i in range(60)]
    assert max(far for _, far in ahead) == 2 * AHEAD


@pytest.mark.parametrize(("unit", "most"), [(3, 2 * 2 * 3), (1, 2 * AHEAD)])
def test_trainers_say_how_many_jobs_belong_together(monkeypatch: pytest.MonkeyPatch, unit: int, most: int) -> None:
    monkeypatch.setattr(LowmemTrainer, "unit", unit, raising=False)
    drawn: list[str] = []
    first = next(found := carried(40, drawn))
    assert first[0] == "n0"
    assert len(drawn) == most
    assert [node for node, _, _ in found] == [f"n{i}" for i in range(1, 40)]


def test_who_looks_away_leaves_nothing_running() -> None:
    found = carried(60, [])
    next(found)
    before = pids()
    assert before
    found.close()
    assert all(gone(pid) for pid in before)


def test_training_here_takes_one_thread_too_and_gives_the_others_back() -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []
    with threadpool_limits(2, user_api="blas"):
        run(PLANS["attacked"], 1, on_nodes=lambda done, of: seen.append(threads()) if done else None)
        assert threads() == {2}
        with pytest.raises(RecipeError), one_thread():
            raise RecipeError("on the way")
        assert threads() == {2}
    assert seen
    assert all(each == {1} for each in seen)


# What goes wrong.


def test_errors_come_back_as_they_were() -> None:
    endless = plan_of(DENSE.model_copy(update={"optimiser": Optimiser(name="sgd", rate=1e30)}), FedAvg(rounds=1), 3, trainer=LEAN)
    said = []
    for workers in (1, 2):
        with pytest.raises(TrainingDiverged) as caught:
            run(endless, workers)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith("node 'n0', round 1: ")


@pytest.mark.parametrize(("empty", "said"), [("n1", "node 'n1', round 1: no training rows"), ("n9", "nothing can be asked of node 5")])
def test_the_first_node_that_is_wrong_is_the_one_that_is_said(empty: str, said: str) -> None:
    def some() -> Iterator[Job]:
        for number, job in enumerate(jobs(20, [], **{empty: FLEET["n1"].take(slice(0, 0))})):
            if number == 5:
                raise RecipeError("nothing can be asked of node 5")
            yield job

    for workers in (1, 2):
        with pytest.raises(VedetteError, match=said):
            list(Workers(workers).run(LEAN, DENSE, some(), 20, (), 0, 0, "train"))


def test_a_file_that_is_gone_is_said_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from vedette.data import stored

    class Lost(Table):
        def __reduce__(self) -> Any:
            return stored._reopened, (Path("/nowhere/rows.npy"), slice(0, 3), None)

    lost = Lost(FLEET["n1"].features, FLEET["n1"].numbers)
    with pytest.raises(StorageError, match=r"^/nowhere/rows\.npy: a file of the cache is gone"):
        list(carried(4, [], n2=lost))


def test_a_worker_that_is_killed_is_not_missed() -> None:
    plan, killed = plan_of(DENSE, FedAvg(rounds=2), 3, trainer=LEAN), list[int]()
    whole = run(plan, 1)

    def kill(done: int, of: int) -> None:
        # The first node of the third phase is done: others are under way.
        seen.append(done)
        if seen.count(1) == 3 and done == 1:
            killed.append(pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    seen: list[int] = []
    alike(whole, run(plan, 2, on_nodes=kill))
    assert len(killed) == 1
    assert gone(killed[0])
    # And one that stands idle.
    os.kill(pids()[-1], signal.SIGKILL)
    alike(whole, run(plan, 2))


class Poison(Table):
    """Rows that kill who looks at them."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('os').kill(__import__('os').getpid(), 9)",)


def test_a_node_that_kills_every_worker_is_named_and_those_before_it_are_done() -> None:
    poison, drawn, done = Poison(FLEET["n1"].features, FLEET["n1"].numbers), list[str](), list[str]()
    found = carried(6, drawn, n3=poison)
    with pytest.raises(VedetteError, match=rf"^node 'n3': {TRIES} workers in turn"):
        done.extend(node for node, _, _ in found)
    assert done == ["n0", "n1", "n2"]
    assert len(list(carried(4, []))) == 4, "the next pool is none the worse"


LONG = ["run", "demo", "--quick", "--quiet", "--workers", "2", "--set", "methods=['federated']", "--set", "data.nodes=12",
    "--set", "data.train_hours=48", "--set", "strategy.rounds=500", "--set", "trainer.name=lowmem"]  # fmt: skip


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_workers_end_with_the_process_that_began_them(tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-m", "vedette", *LONG, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as process:
        until(lambda: list((tmp_path / "out" / "checkpoints").glob("*.safetensors")), "no checkpoint appeared")
        workers = children(process.pid)
        assert len(workers) == 2
        # As a terminal does, to all of them.
        (os.killpg if sign == signal.SIGINT else os.kill)(process.pid, sign)
        said = process.communicate(timeout=60)[1]
    until(lambda: all(gone(pid) for pid in workers), "a worker was left behind", 10)
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines() == ["vedette: stopped; the same command with --resume goes on from the last round"]


def test_progress_counts_the_nodes_of_each_phase() -> None:
    seen: list[tuple[int, int]] = []
    for workers in (1, 2):
        seen.clear()
        run(plan_of(DENSE, FedAvg(rounds=1), 3, trainer=LEAN), workers, on_nodes=lambda *where: seen.append(where))
        assert seen[:6] == [(done, 5) for done in range(6)]
        assert len(seen) % 6 == 0
