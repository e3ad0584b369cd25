"""One detector trained by many workers: the recipes, what is measured of them, and the page that tells it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import correlated
from samples import SENSORS, SKAB_HEADER, put
from vedette.data.datasets import swat
from vedette.data.fleet import Fleet
from vedette.data.partition import Stretches
from vedette.data.scaling import Scaling
from vedette.data.table import Coded, Feature, Table
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.evaluation.effort import BLOCKS, Watch, accuracies, blockwise
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.federation import federate
from vedette.evaluation.recipe import load_recipe
from vedette.evaluation.report import write_report
from vedette.runtimes.base import Outcome
from vedette.runtimes.workers import Workers
from vedette.strategies.local import Local
from vedette.strategies.parameter_server import ParameterServer
from vedette.training.task import Optimiser

SMALL = ["detector.hidden=[6]", "detector.dense=[6]", "detector.optimiser.batch=32"]
BOTH = {"centralised", "distributed"}


def swat_rows(rows: int, attacked: bool, seed: int) -> str:
    """A row each five seconds of tags that swing together; under attack they stand higher in the middle third."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        high = attacked and rows // 3 <= row < 2 * rows // 3
        numbers = ",".join(f"{value:.3f}" for value in 5 + np.sin(row / 20) + 4 * high + rng.normal(0, 0.1, len(swat.TAGS)))
        at = f"28/12/2015 {10 + row // 720}:{row // 12 % 60:02}:{row % 12 * 5:02} AM"
        lines.append(f" {at},{numbers},{'Attack' if high else 'Normal'}")
    return "\n".join([f" Timestamp,{','.join(swat.TAGS)},Normal/Attack", *lines, ""])


def told(result, **about) -> list[dict]:
    return [row for row in result.run["rows"] if row["node"] == "*" and all(row[key] == value for key, value in about.items())]


@pytest.mark.slow
def test_swat_runs_on_a_cluster_and_every_table_of_the_thesis_is_there(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "swat/SWaT_Dataset_Normal_v1.csv": swat_rows(1200, False, 1),
            "swat/SWaT_Dataset_Attack_v0.csv": swat_rows(1200, True, 2),
        },
    )
    changes = [*SMALL, "data.check=false", "detector.window=3", "partition.each=2", "strategy.epochs=6", "strategy.steps=2"]
    changes += ["detector.optimiser.rate=0.02"]
    recipe = load_recipe("swat-lstm-distributed", quick=True, changes=changes)
    result = Experiment(recipe, tmp_path, workers=Workers(2, "cluster")).run()
    assert result.run["data"]["rows_test"] == 300  # one each 20 seconds
    for method in BOTH:
        (row,) = told(result, method=method, split="test")
        assert row["auc_roc"] > 0.95, method
    efforts = result.run["efforts"]
    assert {(each["method"], each["split"], each["case"]) for each in efforts["accuracy"]} == {
        (method, split, case) for method in BOTH for split in ("validation", "test") for case in ("best", "mean")
    }
    training = {each["method"]: each for each in efforts["training"]}
    assert set(training) == BOTH
    assert all(len(each["loss"]) == 6 and 0 < each["first_epoch"] < each["seconds"] for each in training.values())
    one, many = training["centralised"], training["distributed"]
    assert (one["workers"], one["bytes"], one["worker_cpu"]) == (1, 0, pytest.approx(0, abs=0.1))
    assert (many["workers"], many["bytes"]) == (2, result.run["traffic_bytes"]["distributed"])
    assert many["worker_cpu"] > 0.1
    # Where workers train, the chief does not.
    assert many["chief_cpu"] < many["worker_cpu"]
    ways = {(where, block) for where, block in (("cluster", BLOCKS[0]), *(("host", block) for block in BLOCKS))}
    for method in BOTH:
        found = [each for each in efforts["scoring"] if (each["method"], each["split"]) == (method, "test")]
        assert {(each["where"], each["block"]) for each in found} == ways
        assert all(each["rows"] == 300 and each["seconds"] > 0 for each in found)
    written = tmp_path / "report.html"
    write_report(written, json.loads(json.dumps(result.run)), result.curves, result.traces, result.holdings, result.tradeoffs)
    page = written.read_text()
    for heading in ("Many workers against one machine", "What training took", "Loss per epoch", "What scoring took", "Host, 65,536"):
        assert heading in page
    assert "this run had none" not in page
    assert "How training went" not in page
    best = next(each for each in efforts["accuracy"] if (each["method"], each["split"], each["case"]) == ("distributed", "test", "best"))
    assert f"<td>{best['accuracy']:.4f}</td>" in page


def test_both_methods_learn_from_the_same_rows_scaled_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = {"skab/anomaly-free/anomaly-free.csv": f"datetime;{SENSORS}\n2020-03-09 09:00:00;{';'.join('1' * 8)}\n"}
    for experiment in range(3):
        lines = []
        for row in range(150):
            values = [*rng.normal(10, 1, len(SENSORS.split(";")) - 1), rng.normal(25 if row >= 110 else 32, 1)]
            numbers = ";".join(f"{value:.4f}" for value in values)
            lines.append(f"2020-03-09 10:{row // 60:02}:{row % 60:02};{numbers};{float(row >= 110)};0.0")
        files[f"skab/valve1/{experiment}.csv"] = "\n".join([SKAB_HEADER, *lines, ""])
    put(tmp_path, files)
    changes = [*SMALL, "data.check=false", 'data.folders=["valve1"]', "protocols.strict.first=80", "partition.each=1", "detector.window=4"]
    result = Experiment(load_recipe("skab-lstm-distributed", quick=True, changes=changes), tmp_path).run()
    (one,), (many,) = ({id(each): each for each in result.detectors[method].values()}.values() for method in ("centralised", "distributed"))
    rows = correlated(20, 8, seed=1).numbers
    table = Table(one.scaler.features, rows, group=Coded.of(["a"] * 20))
    assert np.allclose(one.scaler.transform(table), many.scaler.transform(table), rtol=1e-6)
    assert {each["where"] for each in result.run["efforts"]["scoring"]} == {"host"}
    write_report(tmp_path / "report.html", json.loads(json.dumps(result.run)))
    assert "--runtime cluster --workers 3" in (tmp_path / "report.html").read_text()


def test_levels_stand_in_the_order_of_the_data_set_whoever_holds_which_row() -> None:
    scaling = Scaling(categories="ordinal", order="first-seen")
    rng = np.random.default_rng(1)
    texts = [f"level-{number}" for number in rng.zipf(1.5, 400) % 40]
    whole = Table((Feature("x"), Feature("service", "category")), np.arange(400.0)[:, None], (Coded.of(texts),))
    parts = {f"w{i}": whole.take(np.sort(rows)) for i, rows in enumerate(np.array_split(rng.permutation(400), 3))}
    merged = scaling.fitted(scaling.merged({node: scaling.summary(part) for node, part in parts.items()}))
    assert merged.levels["service"] == tuple(dict.fromkeys(texts)) == scaling.fitted(scaling.summary(whole)).levels["service"]


def test_stretches_keep_windows_whole() -> None:
    table = correlated(600, 3, seed=0)
    fleet = Fleet.from_places(table, Stretches(nodes=3, each=2).places(table, table, "train", 0), ["a", "b", "c"])
    assert [len(fleet[node]) for node in fleet] == [200, 200, 200]
    # Six stretches, or fewer where two of a node stand side by side, each without the first nine rows.
    assert 600 - 6 * 9 <= sum(len(Window(size=10).ends(fleet[node])) for node in fleet) <= 600 - 3 * 9


def test_from_python_a_federation_takes_as_many_rounds_as_its_epochs() -> None:
    fleet = Fleet.of({f"w{i}": correlated(120, 4, seed=i) for i in range(3)})
    detector = Autoencoder(hidden=(3,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=30))
    found = federate(fleet, detector, ParameterServer(steps=4, epochs=10), seed=1)
    assert sum(entry.stage == "rounds" for entry in found.history) == 30  # 10 * 120 / (4 * 10)


@pytest.mark.parametrize("window", [Window(), Window(size=5, average=7)])
def test_blocks_come_to_what_all_rows_at_once_do(window: Window) -> None:
    table = correlated(300, 5, seed=2)
    detector = Autoencoder(hidden=(3,), window=window, scaling=Scaling(numbers="standard")).fit(table)
    whole = detector.decision_function(table)
    for block in (1, 64, 299, 300, 0):
        assert np.allclose(blockwise(detector, table, block), whole, rtol=1e-5)


def test_best_is_the_most_accurate_seed_and_mean_is_over_all() -> None:
    about = {"method": "distributed", "protocol": "published", "split": "test", "node": "*"}
    rows = [
        {**about, "seed": 0, "accuracy": 0.8, "precision": 0.9, "recall": 0.7},
        {**about, "seed": 1, "accuracy": 0.9, "precision": 0.5, "recall": 0.6},
        {**about, "seed": 1, "node": "node-1", "accuracy": 1.0, "precision": 1.0, "recall": 1.0},
    ]
    best, mean = accuracies(rows, ["distributed"])
    assert (best["case"], best["accuracy"], best["precision"], best["recall"]) == ("best", 0.9, 0.5, 0.6)
    assert (mean["case"], mean["accuracy"], mean["precision"]) == ("mean", pytest.approx(0.85), pytest.approx(0.7))


def test_the_processor_time_of_other_processes_is_counted_as_theirs() -> None:
    watch = Watch()
    work = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    taken = watch.told(Outcome({}, []), Local(rounds=0))
    assert taken["worker_cpu"] > 0.45
    assert taken["chief_cpu"] < 0.4


@pytest.mark.slow
def test_kdd99_is_as_accurate_distributed_as_at_one_place(data_root: Path) -> None:
    result = Experiment(load_recipe("kdd99-distributed", changes=["seeds=1"]), data_root).run()
    for split in ("validation", "test"):
        rows = {row["method"]: row for row in told(result, split=split)}
        assert rows["centralised"]["accuracy"] - rows["distributed"]["accuracy"] <= 0.002
        assert rows["distributed"]["accuracy"] > rows["flag-all"]["accuracy"] + 0.05
    curves = {curve.method: curve.loss for curve in result.curves}
    assert len(curves["centralised"]) == len(curves["distributed"]) == 10
    assert np.allclose(curves["centralised"], curves["distributed"], rtol=0.3)
