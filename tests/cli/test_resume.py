"""A run that is killed goes on as if nothing had happened: real processes, real signals, a really full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import refused, spawned, vedette
from test_run import SMALL

from vedette.errors import StorageError
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.strategies.fedavg import FedAvg

RUN = ["run", "demo", *SMALL, "--set", "strategy.rounds=6", "--set", "seeds=2", "--set", "methods=['untrained','local','federated']",
    "--set", "trainer.name=lowmem"]  # fmt: skip
"""Without torch processes are there sooner."""


def rounds_stored(out: Path) -> int:
    """Count the rounds in the checkpoints of all methods so far."""
    from vedette.files import read_memory

    count = 0
    for file in (out / "checkpoints").glob("*.safetensors"):
        about = read_memory(file)[1]
        count += len(about["history"])
    return count


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The figures of the run that nobody disturbed."""
    done = vedette(*RUN, "--out", tmp_path_factory.mktemp("whole") / "out", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def killed(out: Path, after: int, *more: str) -> None:
    """Run until so many rounds are stored, then kill the process where it stands."""
    process = spawned(*RUN, *more, "--out", out)
    deadline = time.monotonic() + 120
    while process.poll() is None and rounds_stored(out) < after:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"


@pytest.mark.parametrize("after", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_anywhere_it_ends_the_same(tmp_path, whole, after):
    killed(tmp_path / "out", after)
    done = vedette(*RUN, "--out", tmp_path / "out", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == whole["rows"]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_workers(tmp_path, whole):
    killed(tmp_path / "out", 9, "--workers", "2")
    done = vedette(*RUN, "--out", tmp_path / "out", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == whole["rows"]


def test_a_damaged_checkpoint_is_said(tmp_path):
    killed(tmp_path / "out", 4)
    for file in (tmp_path / "out" / "checkpoints").glob("*.safetensors"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(*RUN, "--out", tmp_path / "out", "--resume")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(small_disk, fleet):
    from vedette.detectors.autoencoder import Autoencoder

    detector = Autoencoder(hidden=(4, 2))
    plan = plan_of(detector, FedAvg(rounds=6), 7)
    whole = LocalRuntime(fleet).run(plan)
    file, ballast = small_disk / "state", small_disk / "ballast"

    def fill(entry, memories):
        if entry.stage == "rounds" and entry.number == 3:
            room = os.statvfs(small_disk)
            ballast.write_bytes(b"x" * (room.f_bavail * room.f_frsize))

    with pytest.raises(StorageError, match="cannot write"):
        LocalRuntime(fleet, checkpoint=file).run(plan, fill)
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "state"], "a part of a file was left behind"
    ballast.unlink()
    resumed = LocalRuntime(fleet, checkpoint=file, resume=True).run(plan)
    assert resumed.history == whole.history
    node = next(iter(fleet))
    assert (resumed.memories[node]["network.model"] == whole.memories[node]["network.model"]).all()
