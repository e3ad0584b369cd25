"""Workers on a Ray cluster that is begun and ended here: they are killed and stopped, and machines join and leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, refused
from test_arrivals import befallen, plan, replayed
from test_cluster import FAULTS, PATIENCE, PLAN, armed_in_training, fleet_with
from test_workers import DENSE, FLEET, alike, gone, until

from vedette.data.fleet import Fleet
from vedette.data.stored import Growing
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors import LstmAutoencoder, load_bundle, save_bundle
from vedette.runtimes.base import Outcome
from vedette.runtimes.cluster.pool import close_idle, hired
from vedette.runtimes.cluster.scoring import score_blocks
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.workers import Workers

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a cluster of one machine with two cores."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield ray.get_runtime_context().gcs_address
    close_idle()
    ray.shutdown()


@pytest.fixture(scope="module")
def whole() -> Outcome:
    return LocalRuntime(FLEET).run(PLAN)


def pids(workers: Workers) -> list[int]:
    with hired(workers.dispatch.hiring) as pool:
        return [worker.pid for worker in pool.workers]


BEFALLS = {"": "", "killed": "Ray lost it: ", "stopped": "it gave no sign of life", "raised": "ZeroDivisionError"}


@pytest.mark.parametrize("faults", [("", "killed"), pytest.param(("stopped", "raised"), marks=pytest.mark.slow)], ids=" and ".join)
def test_a_run_on_ray_comes_to_the_same_whatever_befalls_its_workers(
    faults: tuple[str, ...], head: str, whole: Outcome, tmp_path: Path
) -> None:
    for fault in faults:
        cause = BEFALLS[fault]
        armed = tmp_path / f"{fault}-armed"
        workers = Workers(2, "cluster", ray=head, deadline=PATIENCE.get(fault, 30.0))
        fleet = fleet_with(armed, FAULTS[fault][0]) if fault else FLEET
        found = LocalRuntime(fleet, workers=workers, on_nodes=armed_in_training(armed)).run(PLAN)
        alike(whole, found)
        assert len(found.incidents) == bool(fault)
        for incident in found.incidents:
            assert (incident.unit, incident.step) == ("node 'n2'", "train, round 1"), (incident, workers.dispatch.places)
            assert incident.cause.startswith(cause)
            until(lambda pid=incident.pid: gone(pid), f"the worker that was {fault} is still there")
    assert not {os.getpid()} & set(pids(workers))


@pytest.mark.slow
def test_answers_are_taken_in_as_they_come(head: str, tmp_path: Path) -> None:
    found = LocalRuntime(FLEET, workers=Workers(2, "cluster", ray=head)).run(plan())
    alike(found, replayed(found, fleet=FLEET))
    assert befallen(Workers(2, "cluster", ray=head, deadline=30.0), tmp_path / "armed", FAULTS["killed"][0]).cause.startswith("Ray lost it")


@pytest.mark.slow
def test_rows_lie_in_the_object_store_once(head: str, tmp_path: Path) -> None:
    """And come out of a file of this machine, which others cannot open."""
    place = Growing(5, path=tmp_path / "rows.npy")
    place.append(np.random.default_rng(0).normal(size=(20_000, 5)))
    table = Table(FLEET["n0"].features, place.whole())
    fleet = Fleet.from_places(table, np.arange(len(table)) % 2, ["a", "b"])
    workers = Workers(2, "cluster", ray=head)
    found = LocalRuntime(fleet, workers=workers).run(PLAN)
    alike(LocalRuntime(fleet).run(PLAN), found)
    with hired(workers.dispatch.hiring) as pool:
        kept = [ray.get(reference) for reference in pool.shelf.references.values()]
    assert [rows.shape for rows in kept if rows.ndim == 2] == [(10_000, 5)] * 2


@pytest.mark.slow
def test_machines_join_and_leave_while_a_table_is_scored(head: str, tmp_path: Path) -> None:
    """Without the address of any worker: each knows that of the head, and lends itself until it is stopped."""
    table = FLEET["n0"]
    bundle = tmp_path / "bundle"
    save_bundle(LstmAutoencoder(window=Window(size=26), hidden=(64, 32), scaling=DENSE.scaling, epochs=0).fit(table), bundle)
    many = Table(table.features, np.tile(table.numbers, (20_000, 1)))
    workers, found = Workers(0, "cluster", ray=head), list[Any]()
    command = [sys.executable, "-m", "vedette", "worker", "--ray", head, "--cores", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
    ) as other:
        try:
            blocks = score_blocks(bundle, many, workers, block=512)
            for _, scores in blocks:
                found.append(scores)
                if set(workers.dispatch.places.values()) == {0, 1, 2, 3} and not workers.incidents and other.returncode is None:
                    assert ray.cluster_resources()["CPU"] == 4
                    os.killpg(other.pid, signal.SIGKILL)
                    other.wait()
                if any(incident.cause.startswith("Ray lost it") for incident in workers.incidents):
                    blocks.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(other.pid, signal.SIGKILL)
    assert len(found) < len(many) // 512, "no machine joined, or none left"
    scored = np.concatenate(found)
    assert np.array_equal(scored, load_bundle(bundle).decision_function(many.take(slice(0, len(scored)))))


def test_where_there_is_no_cluster_it_is_said() -> None:
    assert "nobody answers at 127.0.0.1:1 " in refused("worker", "--ray", "127.0.0.1:1")
    assert "HOST:PORT" in refused("worker", "--ray", "auto")
