"""The recipes of MTAD-FL on small files in the official layouts: who plays with whom, on which rows, and what stays in the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samples import SENSORS, SKAB_HEADER, put
from vedette.data.datasets import swat
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.recipe import load_recipe, recipe_names
from vedette.evaluation.report import write_report

SMALL = [
    "detector.channels=[8, 8, 8]",
    "detector.slots=4",
    "detector.optimiser.batch=32",
    "strategy.epochs=1",
    "strategy.rounds=2",
    "variants.fedtl.strategy.epochs=1",
    "variants.fedkd.strategy.epochs=1",
    "variants.fedavg.strategy.rounds=2",
    "variants.vae.detector.epochs=2",
    "variants.deepsvdd.detector.epochs=2",
    "variants.mtad-fl-mixture.strategy.rounds=2",
]
FEDERATED = ("fedavg", "fedtl", "fedkd", "mtad-fl-mixture", "mtad-fl")


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("mtad-fl-")])
def test_full_is_the_papers_eighty_passes_of_every_network(name: str) -> None:
    recipe = load_recipe(name, full=True).under("published")
    assert recipe.detector.channels == (128, 256, 128)
    in_rounds = [recipe.strategy, *(recipe.strategy_of(each) for each, variant in recipe.variants.items() if variant.strategy)]
    assert {strategy.rounds * strategy.epochs for strategy in in_rounds} == {80}
    assert load_recipe(name).strategy.rounds * load_recipe(name).strategy.epochs < 80


def swat_rows(rows: int, attacks: int, seed: int) -> str:
    """A second a line; under attack everything stands higher, in a stretch in the middle of each hundred rows."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        attacked = row % 100 < attacks
        numbers = ",".join(f"{value:.4f}" for value in rng.normal(5 + 3 * attacked, 1, len(swat.TAGS)))
        at = f"28/12/2015 10:{row // 60 % 60:02}:{row % 60:02} AM"
        lines.append(f" {at},{numbers},{'Attack' if attacked else 'Normal'}")
    return "\n".join([f" Timestamp,{','.join(swat.TAGS)},Normal/Attack", *lines, ""])


@pytest.mark.slow
def test_swat_runs_on_labelled_rows_drawn_from_the_attack_run(tmp_path: Path) -> None:
    put(tmp_path, {"swat/SWaT_Dataset_Normal_v1.csv": swat_rows(300, 0, 1), "swat/SWaT_Dataset_Attack_v0.csv": swat_rows(900, 30, 2)})
    changes = [*SMALL, "data.check=false", "protocols.published.sample=600"]
    recipe = load_recipe("mtad-fl-swat", quick=True, changes=changes)
    assert set(FEDERATED) <= set(recipe.methods)
    result = Experiment(recipe, tmp_path).run()
    data = result.run["data"]
    assert (data["nodes"], data["rows_train"], data["rows_test"]) == (4, 420, 180)
    assert 0.2 < data["anomaly_share"] < 0.4
    pooled = {row["method"]: row for row in result.run["rows"] if row["node"] == "*" and row["split"] == "test"}
    assert set(pooled) == set(recipe.methods)
    assert pooled["boosting"]["f1"] > 0.9  # what is there to be found can be found
    assert {entry["method"] for entry in result.run["peers"]} == {"mtad-fl", "mtad-fl-mixture"}
    (published,) = (entry for entry in result.run["peers"] if entry["method"] == "mtad-fl")
    assert len(published["rounds"]) == 2
    assert all(len(peers) == 1 for peers in published["rounds"][0]["received"])
    write_report(
        tmp_path / "report.html", json.loads(json.dumps(result.run)), result.curves, result.traces, result.holdings, result.tradeoffs
    )
    page = (tmp_path / "report.html").read_text()
    assert "who learned from whom" in page
    assert "Whose weights went where" in page


@pytest.mark.slow
def test_swat_is_held_out_by_time_with_whole_windows_on_every_node(tmp_path: Path) -> None:
    put(tmp_path, {"swat/SWaT_Dataset_Normal_v1.csv": swat_rows(60, 0, 1), "swat/SWaT_Dataset_Attack_v0.csv": swat_rows(600, 30, 2)})
    recipe = load_recipe("mtad-fl-swat", quick=True, changes=["data.check=false", 'methods=["flag-all", "random", "boosting"]'])
    result = Experiment(recipe, tmp_path, protocols=["strict"]).run()
    assert result.run["data"]["rows_test"] == 180
    (pooled,) = (row for row in result.run["rows"] if row["method"] == "boosting" and row["node"] == "*")
    assert pooled["f1"] > 0.9


def skab_rows(rows: int, seed: int) -> str:
    """An experiment whose flow falls in its last third."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        broken = row >= 2 * rows // 3
        values = [*rng.normal(10, 1, len(SENSORS.split(";")) - 1), rng.normal(25 if broken else 32, 1)]
        at = f"2020-03-09 10:{row // 60 % 60:02}:{row % 60:02}"
        lines.append(";".join([at, *(f"{value:.4f}" for value in values), f"{float(broken)}", "0.0"]))
    return "\n".join([SKAB_HEADER, *lines, ""])


@pytest.mark.slow
def test_rigs_and_servers_with_other_features_learn_from_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = (np.arange(240) % 60 < 15).astype(int)
    numbers = rng.normal(0.3, 0.1, (240, 38)) + 0.4 * label[:, None]
    lines = "\n".join(",".join(f"{value:.4f}" for value in row) for row in numbers)
    free = "\n".join([f"datetime;{SENSORS}", f"2020-03-09 09:00:00;{';'.join('1' * 8)}", ""])
    files = {f"skab/valve1/{i}.csv": skab_rows(180, i) for i in range(2)}
    files |= {"skab/anomaly-free/anomaly-free.csv": free}
    files |= {f"smd/{part}/machine-1-2.txt": lines for part in ("train", "test")}
    files |= {"smd/test_label/machine-1-2.txt": "\n".join(map(str, label))}
    put(tmp_path, files)
    parts = '[{name = "skab", folders = ["valve1"], check = false}, {name = "smd", machines = ["machine-1-2"], check = false}]'
    recipe = load_recipe("mtad-fl-mixed", quick=True, changes=[*SMALL, f"data.parts={parts}"])
    result = Experiment(recipe, tmp_path).run()
    detectors = result.detectors["mtad-fl"]
    assert set(detectors) == {"skab/valve1/0", "skab/valve1/1", "smd/machine-1-2"}
    assert {node: detector.scaler.width for node, detector in detectors.items()} == {
        "skab/valve1/0": 8,
        "skab/valve1/1": 8,
        "smd/machine-1-2": 38,
    }
    (published,) = (entry for entry in result.run["peers"] if entry["method"] == "mtad-fl")
    assert published["nodes"] == sorted(detectors)
    pooled = {row["method"]: row for row in result.run["rows"] if row["node"] == "*"}
    assert all(np.isfinite(pooled[method]["auc_roc"]) for method in FEDERATED)
