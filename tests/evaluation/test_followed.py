"""Figures round by round: those of the detectors as they were then, and none lost when a run is killed."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import spawned, vedette

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.mlp import Mlp
from vedette.errors import CheckpointError
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.followed import FOLLOWED, Followed
from vedette.evaluation.methods import POOLED
from vedette.evaluation.recipe import Recipe, load_recipe
from vedette.evaluation.scoring import metric_rows, score_fleet
from vedette.evaluation.setting import Setting
from vedette.runtimes.meetings import Attackers
from vedette.training.task import Optimiser

DETECTOR = Mlp(hidden=(4,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32), epochs=2)
SMALL = ["data.train_hours=6", "data.test_hours=6", "data.nodes=3", "strategy.rounds=3", "seeds=1", "follow=1", "methods=['federated']"]


def rows(seed: int) -> Table:
    return correlated(120, 4, seed=seed, anomalies=0.3)


@pytest.fixture(scope="module")
def detectors() -> dict[str, Detector]:
    """Three different ones."""
    return {node: DETECTOR.model_copy().fit(rows(seed), seed=seed) for seed, node in enumerate("abc")}


def setting(tests: Fleet | Table, *attackers: str, seed: int = 4, fold: str = "") -> Setting:
    recipe: Recipe = load_recipe("demo").model_copy(update={"attackers": Attackers(nodes=attackers)})
    fleet = Fleet.of({node: rows(number) for number, node in enumerate("abc")})
    return Setting(recipe, "strict", seed, fleet, fleet, fleet, {"test": tests}, fold)


def figures(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {row["node"]: [row[name] for name in FOLLOWED] for row in found}


def told_of(followed: Followed) -> dict[str, list[list[Any]]]:
    """Node -> [rounds][figures]."""
    (told,) = followed.told()
    return {
        node: [[each[name][place] for name in FOLLOWED] for place in range(len(told["rounds"]))] for node, each in told["nodes"].items()
    }


def test_figures_are_those_of_the_detectors_at_that_round(detectors: dict[str, Detector]) -> None:
    own = Fleet.of({node: rows(10 + number) for number, node in enumerate("abc")})
    followed = Followed(None)
    turned = dict(zip("abc", (detectors[node] for node in "bca"), strict=True))
    # Ten comes after two, not between one and two.
    for number, some in ((1, detectors), (10, detectors), (2, turned)):
        followed.add(setting(own), "federated", number, some)
    (told,) = followed.told()
    assert {key: told[key] for key in ("method", "protocol", "seed", "fold", "shared", "rounds")} == {
        "method": "federated", "protocol": "strict", "seed": 4, "fold": "", "shared": False, "rounds": [1, 2, 10]
    }  # fmt: skip
    about = {"method": "federated", "protocol": "strict", "split": "test", "seed": 4}
    first, second = (figures(metric_rows(score_fleet(some, own), about)) for some in (detectors, turned))
    assert first != second
    assert told_of(followed) == {node: [first[node], second[node], first[node]] for node in ("*", "a", "b", "c")}


def test_compromised_nodes_are_left_out_and_one_for_all_stands_for_each(detectors: dict[str, Detector]) -> None:
    shared = rows(20)
    followed = Followed(None)
    followed.add(setting(shared, "c"), "federated", 1, detectors)
    assert set(told_of(followed)) == {"*", "a", "b"}
    # When all have come to the same, what stands there once is everybody's.
    followed.add(setting(shared, "c"), "federated", 2, dict.fromkeys("abc", detectors["a"]))
    told = told_of(followed)
    wanted = figures(metric_rows(score_fleet({"a": detectors["a"]}, shared), {}))["*"]
    assert told["a"][0] == told["a"][1] == told["b"][1] == told["*"][1] == wanted
    assert told["b"][0] == figures(metric_rows(score_fleet({"b": detectors["b"]}, shared), {}))["*"]
    (about,) = followed.told()
    assert about["shared"] is True
    # What is learned at one place is used by all.
    central = Followed(None)
    own = Fleet.of({node: rows(10 + number) for number, node in enumerate("abc")})
    central.add(setting(own), "centralised", 1, {POOLED: detectors["b"]})
    assert set(told_of(central)) == {"*", "a", "b", "c"}


def test_what_is_told_apart_is_kept_apart_also_in_files(detectors: dict[str, Detector], tmp_path: Path) -> None:
    own = Fleet.of({node: rows(10 + number) for number, node in enumerate("abc")})
    followed = Followed(tmp_path)
    for method, seed, fold in (("a/b", 4, ""), ("a", 4, ""), ("a", 5, ""), ("a", 5, "camera")):
        followed.add(setting(own, seed=seed, fold=fold), method, 1, detectors)
    assert [(each["method"], each["seed"], each["fold"]) for each in followed.told()] == [
        ("a/b", 4, ""), ("a", 4, ""), ("a", 5, ""), ("a", 5, "camera")
    ]  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 4
    assert Followed(tmp_path).told() == [], "a run that begins anew follows what it does itself"
    again = Followed(tmp_path, resume=True)
    assert sorted(map(json.dumps, again.told())) == sorted(map(json.dumps, followed.told()))
    # A round that is told of once more is there once.
    again.add(setting(own), "a", 1, detectors)
    again.add(setting(own), "a", 2, detectors)
    assert [each["rounds"] for each in again.told() if (each["method"], each["seed"]) == ("a", 4)] == [[1, 2]]
    assert Followed(tmp_path / "nowhere", resume=True).told() == []


@pytest.mark.parametrize("content", ['{"rounds": {"1": ', "[1, 2]", "{}", '{"rounds": 5}', "\udcff"])
def test_a_damaged_file_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "federated.followed.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"federated\.followed\.json is damaged .*; start anew with another --out"):
        Followed(tmp_path, resume=True)


# A whole run.


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return Experiment(load_recipe("demo", changes=SMALL)).run().run


def test_the_last_round_is_what_stands_in_the_table(whole: dict[str, Any]) -> None:
    (told,) = whole["followed"]
    assert told["rounds"] == [1, 2, 3]
    table = {row["node"]: row for row in whole["rows"] if (row["method"], row["split"]) == ("federated", "test")}
    assert set(told["nodes"]) == set(table)
    for node, found in told["nodes"].items():
        assert [found[name][-1] for name in FOLLOWED] == [table[node][name] for name in FOLLOWED]


def test_earlier_rounds_are_those_of_shorter_runs(whole: dict[str, Any]) -> None:
    """FedAvg at a constant rate: looked at after two rounds it is what a run of two rounds ends with."""
    shorter = Experiment(load_recipe("demo", changes=[*SMALL, "strategy.rounds=2"])).run().run["followed"][0]
    assert shorter["rounds"] == [1, 2]
    for node, found in whole["followed"][0]["nodes"].items():
        assert {name: values[:2] for name, values in found.items()} == shorter["nodes"][node]


def test_every_so_many_rounds_and_the_last(whole: dict[str, Any]) -> None:
    (some,) = Experiment(load_recipe("demo", changes=[*SMALL, "follow=2"])).run().run["followed"]
    assert some["rounds"] == [2, 3]
    assert not Experiment(load_recipe("demo", changes=[*SMALL, "follow=0"])).run().run["followed"]


@pytest.mark.parametrize("number", [1, 3])
def test_a_round_that_was_not_scored_yet_is_scored_when_the_run_goes_on(
    number: int, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off when the round is in the checkpoint, and its figures are not in their file."""
    recipe, real = load_recipe("demo", changes=SMALL), Followed.add

    def add(self: Followed, setting: Setting, method: str, round: int, detectors: Any) -> None:
        if round == number:
            raise KeyboardInterrupt
        real(self, setting, method, round, detectors)

    monkeypatch.setattr(Followed, "add", add)
    with pytest.raises(KeyboardInterrupt):
        Experiment(recipe, checkpoints=tmp_path).run()
    monkeypatch.undo()
    resumed = Experiment(recipe, checkpoints=tmp_path, resume=True).run().run
    assert resumed["followed"] == whole["followed"]
    assert resumed["rows"] == whole["rows"]


@pytest.mark.slow
def test_a_run_that_is_killed_loses_no_figures(whole: dict[str, Any], tmp_path: Path) -> None:
    command = ["run", "demo", *(part for change in SMALL for part in ("--set", change)), "--out", tmp_path / "out"]
    process = spawned(*command)
    files = tmp_path / "out" / "checkpoints"
    deadline = time.monotonic() + 120

    def scored() -> int:
        return sum(len(json.loads(file.read_text(encoding="utf-8"))["rounds"]) for file in files.glob("*.followed.json"))

    while process.poll() is None and scored() < 2:
        assert time.monotonic() < deadline, "no figures appeared"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    done = vedette(*command, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    followed = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["followed"]
    assert followed == json.loads(json.dumps(whole["followed"]))
    assert np.isfinite(followed[0]["nodes"]["*"]["auc_roc"]).all()
    assert not files.exists()
