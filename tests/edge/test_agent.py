"""An agent goes on where it was: from a copy of its folder at any moment, as a killed process leaves it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from listening import until
from rich.console import Console

from vedette.cli.watched import view
from vedette.detectors import Autoencoder, LstmAutoencoder, Pca
from vedette.detectors.bundle import load_bundle, save_bundle
from vedette.edge.agent import Agent
from vedette.edge.database import Database
from vedette.edge.explained import explained
from vedette.edge.readings import Readings
from vedette.edge.records import Records
from vedette.edge.sinks.eve import EveLines
from vedette.edge.sources.lines import Lines
from vedette.edge.watch import Watch
from vedette.errors import CheckpointError, DetectorMisused

PARTS, ROWS, FEATURES = 8, 150, 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, FEATURES)) + rng.normal(0, 0.1, (2000, FEATURES))
    folder = tmp_path_factory.mktemp("made") / "bundle"
    save_bundle(Pca(scaling={"numbers": "standard"}, share=0.9).fit(x), folder)
    return folder


def parts() -> list[Readings]:
    """Readings of three devices, with a stretch of each that is off."""
    rng = np.random.default_rng(1)
    plane = np.random.default_rng(0)
    plane.normal(size=(2000, 2))
    axes = plane.normal(size=(2, FEATURES))
    count = PARTS * ROWS
    x = rng.normal(size=(count, 2)) @ axes + rng.normal(0, 0.1, (count, FEATURES))
    x[300:420, 1] += 3
    x[900:960, 3] -= 3
    whole = Readings(np.arange(count, dtype=np.int32) % 3, np.arange(count) // 3 * 60.0, x)
    return [whole.take(slice(at, at + ROWS)) for at in range(0, count, ROWS)]


def begun(folder: Path, bundle: Path | None, **settings: object) -> Agent:
    (folder.parent / "nothing.jsonl").touch()
    source, sink = Lines(path=str(folder.parent / "nothing.jsonl"), follow=False), EveLines(path=folder.parent / "eve.json")
    agent = Agent(Watch(source=source, sinks=(sink,), models={"shadow": 200, "probation": 200}, **settings), folder, bundle)
    for name in ("a", "b", "c"):
        agent.sentry.devices.place(name)
    return agent


def same(one: Agent, other: Agent) -> None:
    ours, theirs = one.sentry.memory(), other.sentry.memory()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.parametrize("snapshot", [None, 1, 4])
def test_a_copy_of_its_folder_comes_to_the_same_state_also_across_a_change_of_models(
    bundle: Path, tmp_path: Path, snapshot: int | None
) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    agent = begun(tmp_path / "state", mine, calibration={"name": "rate", "least": 50, "rows": 500})
    try:
        for number, part in enumerate(parts()):
            if number == 3:
                save_bundle(load_bundle(bundle), mine, {"run": "later"})
                agent._look()
                assert agent.sentry.care is not None
                assert agent.sentry.care.phase == "shadow"
            agent._take(part, str(number))
            if number == snapshot:
                agent.snapshot()
                until(lambda: not agent.store.taking)
            shutil.copytree(tmp_path / "state", tmp_path / f"copy-{number}")
            other = begun(tmp_path / f"copy-{number}", mine, calibration={"name": "rate", "least": 50, "rows": 500})
            try:
                same(agent, other)
                assert other._position == str(number)
            finally:
                other.close(0)
        assert agent.sentry.care is not None
        assert agent.sentry.care.phase == "steady"
        assert agent.status.told["opened"] >= 2
    finally:
        agent.close(0)


def test_without_a_bundle_too(tmp_path: Path) -> None:
    settings = {
        "sensors": tuple(f"x{i}" for i in range(FEATURES)),
        "rolling": {"statistic": "q", "share": 0.9, "least": 20, "rows": 60, "every": 10},
        "calibration": {"name": "rate", "rate": 0.05, "least": 50, "rows": 500},
    }
    agent = begun(tmp_path / "state", None, **settings)
    try:
        for number, part in enumerate(parts()):
            agent._take(part, str(number))
        assert agent.status.told["opened"] > 0
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        other = begun(tmp_path / "copy", None, **settings)
        try:
            same(agent, other)
        finally:
            other.close(0)
    finally:
        agent.close(0)


def test_devices_that_fall_silent_are_counted_and_the_longest_named(bundle: Path, tmp_path: Path) -> None:
    agent = begun(tmp_path / "state", bundle, silent=0.2)
    try:
        whole = parts()[0]
        agent._take(whole, "0")
        until(lambda: agent.status.silent == 3)
        agent._take(whole.take(whole.devices == 1), "1")
        now = agent.status
        assert now.silent >= 2
        assert [name for name, _ in now.longest][:2] == ["a", "c"]
        assert all(seconds > 0.2 for _, seconds in now.longest)
        console = Console(width=100)
        with console.capture() as shown:
            console.print(view(now, 100, 3.0))
        assert "a for " in shown.get()
    finally:
        agent.close(0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "bundle"
    x = np.concatenate([part.numbers for part in parts()[:2]])
    save_bundle(Autoencoder(hidden=(4, 2), epochs=20, scaling={"numbers": "standard"}).fit(x), folder)
    return folder


WATCHED = """
import sys
from vedette.cli import main
try:
    main()
finally:
    assert "onnxruntime" not in sys.modules, "it takes 15 MB"
"""


def test_by_numpy_the_same_is_found_without_onnx_runtime(network: Path, tmp_path: Path) -> None:
    rows = np.concatenate([part.numbers for part in parts()])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header=",".join(f"x{at}" for at in range(FEATURES)), comments="")
    told = []
    for engine in ("numpy", "onnx"):
        command = [
            "watch",
            network,
            "--source",
            tmp_path / "rows.csv",
            "--set",
            f"engine={engine}",
            "--set",
            "calibration=fixed",
            "--json",
        ]
        words = [str(word) for word in (*command, "--out", tmp_path / engine)]
        start = ["-c", WATCHED] if engine == "numpy" else ["-m", "vedette"]
        done = subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, check=True, timeout=120)
        told.append([json.loads(line) for line in done.stdout.splitlines()])
    mine, theirs = told
    assert len(mine) > 3
    assert [(event["kind"], event["time"]) for event in mine] == [(event["kind"], event["time"]) for event in theirs]
    assert [event["score"] for event in mine] == pytest.approx([event["score"] for event in theirs], rel=1e-5)
    with closing(Database(tmp_path / "numpy", writer=False)) as database:
        assert [explained(Records(database), event["id"]).score for event in mine[:5]] == [event["score"] for event in mine[:5]]


def test_what_numpy_cannot_run_is_refused_and_left_alone_when_it_comes_later(
    network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, recurrent = tmp_path / "bundle", tmp_path / "recurrent"
    x = np.concatenate([part.numbers for part in parts()[:2]])
    save_bundle(LstmAutoencoder(window=4, epochs=1).fit(x), recurrent)
    with pytest.raises(DetectorMisused, match=re.escape(f"{recurrent}: NumPy cannot run its network")):
        begun(tmp_path / "refused", recurrent, engine="numpy")
    shutil.copytree(network, mine)
    agent = begun(tmp_path / "state", mine, engine="numpy")
    try:
        for file in recurrent.iterdir():
            shutil.copyfile(file, mine / file.name)
        agent._look()
        assert "a new bundle is left alone" in caplog.text
        assert agent.status.phase == "steady"
        agent._take(parts()[0], "0")
    finally:
        agent.close(0)
    with pytest.raises(CheckpointError, match='was begun with engine = "numpy"'):
        begun(tmp_path / "state", mine, engine="onnx")


def test_a_folder_that_was_begun_otherwise_is_refused(bundle: Path, tmp_path: Path) -> None:
    agent = begun(tmp_path / "state", bundle)
    agent._take(parts()[0], "0")
    agent.close(0)
    with pytest.raises(CheckpointError, match="was begun with a bundle"):
        begun(tmp_path / "state", None, sensors=tuple(f"x{i}" for i in range(FEATURES)))
