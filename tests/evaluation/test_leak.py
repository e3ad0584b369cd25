"""The leak meter: what a random split gives away is measured, and where nothing can leak nothing is found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import refused, vedette

from vedette.data.dataset import Dataset
from vedette.data.table import Coded, Feature, Table
from vedette.evaluation.leak import SPLITS, leak_recipe, leaks_of
from vedette.evaluation.protocol import Protocol
from vedette.evaluation.recipe import Recipe, load_recipe
from vedette.evaluation.report import write_report

CLASSIFIER = """
title = "told apart"
seeds = 2
[data]
name = "table"
files = ["*.csv"]
node = "file"
time = "time"
label = "label"
[detector]
name = "mlp"
hidden = [16]
optimiser = { rate = 0.01, batch = 32 }
scaling = { numbers = "standard" }
[strategy]
name = "fedavg"
rounds = 3
"""


def recordings(folder: Path, leaking: bool) -> Path:
    """Six devices; where it leaks, a device's level, which says nothing of others', tells its anomalies."""
    rng = np.random.default_rng(0)
    for device in range(6):
        label = (np.arange(150) // 30 % 3 == 1).astype(int)
        place = rng.normal(size=2) * 20
        away = rng.permutation([3.0, -3.0]) if leaking else np.array([3.0, 3.0])
        x = (place if leaking else 0) + rng.normal(size=(150, 2)) + label[:, None] * away
        lines = [f"{t * 60},{a:.4f},{b:.4f},{y}" for t, ((a, b), y) in enumerate(zip(x, label, strict=True))]
        (folder / f"d{device}.csv").write_text("time,a,b,label\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("leaking", [True, False])
def test_the_gap_is_there_where_rows_give_their_device_away(tmp_path: Path, leaking: bool) -> None:
    recordings(tmp_path, leaking)
    (tmp_path / "mine.toml").write_text(CLASSIFIER)
    done = vedette("leak", tmp_path / "mine.toml", "--data", tmp_path, "--method", "gradient-boosting", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "vedette.leak/1"
    found = {(each["split"], each["figure"]): each for each in said["leaks"]}
    assert {split for split, _ in found} == set(SPLITS)
    gap = found["grouped", "auc_roc"]["gap"]
    assert gap > 0.15 if leaking else abs(gap) < 0.05
    assert found["random", "auc_roc"]["mean"] > 0.9
    assert found["random", "auc_roc"]["gap"] is None
    # The report says so, from what metrics.json holds alone too.
    report = (tmp_path / "out" / "report.html").read_text()
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [{**each, "values": None} for each in stored["leak"]] == [{**each, "values": None} for each in said["leaks"]]
    assert len(stored["leak"][0]["values"]) == 2
    write_report(tmp_path / "again.html", stored)
    section = re.compile(r'<section id="leak">.*?</section>', re.S)
    assert section.search(report)[0] == section.search((tmp_path / "again.html").read_text())[0]  # type: ignore[index]


def test_people_get_a_table(tmp_path: Path) -> None:
    done = vedette("leak", "demo", "--quick", "--set", "data.nodes=2", "--set", "data.train_hours=4", "--set", "data.test_hours=8")
    assert done.returncode == 0, done.stderr
    assert all(split in done.stdout for split in SPLITS)
    assert "did you mean" in refused("leak", "demo", "--quick", "--method", "federatd", "--set", "data.nodes=2")


def test_splits_that_cannot_be_are_left_out() -> None:
    rows = Table((Feature("n"),), np.arange(90.0)[:, None], label=(np.arange(90) % 9 == 0).astype(np.int8))
    demo = load_recipe("demo")
    assert list(leak_recipe(demo, Dataset("it", {"all": rows})).protocols) == ["random", "distinct"]
    grouped = Table(rows.features, rows.numbers, label=rows.label, group=Coded.of(["a"] * 45 + ["b"] * 45))
    assert list(leak_recipe(demo, Dataset("it", {"all": grouped}, ordered=True)).protocols) == list(SPLITS)


def test_an_official_split_is_undone_first() -> None:
    rows = Table((Feature("n"),), np.arange(90.0)[:, None], label=(np.arange(90) % 9 == 0).astype(np.int8))
    dataset = Dataset("it", {"train": rows.take(slice(0, 60)), "test": rows.take(slice(60, 90))}, ordered=True)
    parts = Protocol(split="time", test=0.3, anew=True).folds(dataset, 0)[""]()
    assert parts.test.numbers[:, 0].tolist() == list(range(63, 90))
    assert not Protocol(split="rows", anew=True).in_order(dataset)
    assert Protocol(split="rows").in_order(dataset)


def test_figures_that_are_not_defined_have_no_gap() -> None:
    row = {"split": "test", "node": "*", "method": "m", "f1": 0.5, "auc_roc": None, "auc_pr": 0.4}
    run = {"rows": [{**row, "protocol": "random"}, {**row, "protocol": "temporal", "f1": 0.3}]}
    leaks = {(each.split, each.figure): each for each in leaks_of(run)}
    assert leaks["temporal", "f1"].gap == pytest.approx(0.2)
    assert leaks["temporal", "auc_roc"].gap is None
    assert isinstance(load_recipe("demo"), Recipe)
