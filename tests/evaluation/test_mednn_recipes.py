"""The recipes of MEDNN on small files in the official layouts: each device by itself, what training takes, what does not train."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samples import put
from vedette.data.datasets.iot_ddos import NAMES as DDOS
from vedette.data.datasets.nbaiot import NAMES
from vedette.errors import DataUnusable
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.protocol import Protocol
from vedette.evaluation.recipe import load_recipe

DEVICES = ("Danmini_Doorbell", "Ecobee_Thermostat")
LEARNED = ("fcnn", "mednn", "mednn-fp16", "mednn-federated")
METHODS = ("flag-all", "random", "majority", *LEARNED, "mednn-tight")


def readings(rows: int, attacks: bool, seed: int, width: int) -> np.ndarray:
    """Positive numbers over decades; under attack the first third of them is ten times as large."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(2, 1, (rows, width))
    numbers[:, : width // 3] *= 10 if attacks else 1
    return numbers


def text(numbers: np.ndarray) -> str:
    return "".join(",".join(f"{value:.6g}" for value in row) + "\n" for row in numbers)


def devices(folder: Path) -> Path:
    files = {}
    for place, device in enumerate(DEVICES):
        for attack, name in ((False, "benign_traffic"), (True, "gafgyt_attacks/combo")):
            files[f"n-baiot/{device}/{name}.csv"] = ",".join(NAMES) + "\n" + text(readings(200, attack, place, len(NAMES)))
    return put(folder, files)


def run(folder: Path, name: str, *changes: str, **more):
    recipe = load_recipe(name, quick=True, changes=changes)
    return Experiment(recipe, folder, **more).run()


def pooled(result, split: str = "test") -> dict[tuple[str, str], dict]:
    return {(row["method"], row["node"]): row for row in result.run["rows"] if row["split"] == split}


@pytest.mark.slow
def test_each_device_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    names = ", ".join(f'"{device}"' for device in DEVICES)
    chosen = f"methods={list(METHODS)}".replace("'", '"')
    result = run(
        devices(tmp_path), "mednn-nbaiot", f"data.devices=[{names}]", chosen, "strategy.rounds=8", "detector.hidden=[32,48,32]", "follow=4"
    )
    found = pooled(result)
    for method in METHODS:
        assert {node for name, node in found if name == method} == {"*", *DEVICES}
    for method in LEARNED:
        assert found[method, "*"]["balanced_accuracy"] > 0.9, method
        parts = [found[method, device]["balanced_accuracy"] for device in DEVICES]
        assert found[method, "*"]["balanced_accuracy"] == pytest.approx(np.mean(parts))
    assert found["majority", "*"]["balanced_accuracy"] == 0.5
    taken = {(entry["method"], entry["fold"]): entry for entry in result.run["footprints"]}
    assert set(taken) == {(method, device) for method in (*LEARNED, "mednn-tight") for device in DEVICES}
    for device in DEVICES:
        plain, small, half, tight = (taken[name, device] for name in ("fcnn", "mednn", "mednn-fp16", "mednn-tight"))
        assert plain["resident"] > 150e6 > 48e6 > small["resident"]
        assert small["pruned"] > 0.3
        assert small["step_last"] < small["step_first"]
        assert half["step_first"] < small["step_first"]
        assert tight["step_first"] <= 110_000
        assert "float16" in tight["plan"] or "float32" in tight["plan"]
        assert plain["floor"] == 2 * 4 * plain["parameters"]
        assert half["floor"] == 2 * 2 * half["parameters"]
        assert small["model"] < plain["model"]


def test_the_published_settings_are_shown_not_to_train(tmp_path: Path) -> None:
    changes = ('data.devices=["Danmini_Doorbell"]', 'methods=["flag-all", "random", "majority", "fcnn", "mednn"]', "footprint=false")
    recipe = load_recipe("mednn-nbaiot", quick=True, changes=changes)
    recipe.protocols["published"].set["strategy.rounds"] = 3
    found = pooled(Experiment(recipe, devices(tmp_path), protocols=["published"]).run())
    for method in ("fcnn", "mednn"):
        assert found[method, "*"]["balanced_accuracy"] == 0.5
        assert found[method, "*"]["mcc"] == 0


def flows_of_wustl(seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = ["Sport,TotPkts,TotBytes,SrcPkts,DstPkts,SrcBytes,Target"]
    for row in range(600):
        attack = int(row % 3 == 0)
        sizes = rng.integers(1, 20, 4) * (1 if attack else 40)
        lines.append(",".join(map(str, [rng.integers(1, 60000), sizes[0], sizes[0] * 60, sizes[1], sizes[2], sizes[3] * 60, attack])))
    return "\n".join([*lines, ""])


def flows_of_ddos(seed: int) -> str:
    rng = np.random.default_rng(seed)
    texts = {
        "flgs": "e s",
        "proto": "tcp",
        "saddr": "192.168.100.150",
        "sport": "80",
        "daddr": "192.168.100.3",
        "dport": "80",
        "state": "CON",
    }
    lines = [",".join(["", *DDOS.split(), "attack,category,subcategory"])]
    for row in range(600):
        attack = row % 3 > 0
        numbers = iter(rng.lognormal(2 if attack else 0, 0.5, len(DDOS.split())))
        label = "1,DDoS,HTTP" if attack else "0,Normal,Normal"
        lines.append(",".join([str(row), *(texts.get(name) or f"{next(numbers):.5g}" for name in DDOS.split()), label]))
    return "\n".join([*lines, ""])


def kitsune(folder: Path) -> Path:
    numbers = np.vstack([readings(300, False, 0, 115), readings(200, True, 1, 115)])
    rows = "".join(f"{place},{line}\n" for place, line in enumerate(text(numbers).splitlines()))
    return put(folder, {"kitsune/Mirai/Mirai_dataset.csv": rows, "kitsune/Mirai/Mirai_labels.csv": "0\n" * 300 + "1\n" * 200})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "made", "changes", "inputs"),
    [
        ("mednn-wustl", lambda at: put(at, {"wustl-scada-2018/wustl-scada-2018.csv": flows_of_wustl(0)}), ["data.check=false"], 5),
        ("mednn-iot-ddos", lambda at: put(at, {"iot-ddos/DDoSdata.csv": flows_of_ddos(0)}), ["data.check=false"], 12),
        ("mednn-kitsune", kitsune, ["detector.hidden=[32,48,32]"], 110),
    ],
)
def test_the_other_data_sets_run_where_a_person_has_the_files(
    tmp_path: Path, name: str, made: Callable[[Path], Path], changes: list[str], inputs: int
) -> None:
    chosen = 'methods=["flag-all", "random", "majority", "fcnn", "mednn-fp16", "mednn-federated"]'
    result = run(
        made(tmp_path), name, *changes, chosen, "strategy.rounds=25", "detector.optimiser.rate=0.005", "detector.optimiser.batch=32"
    )
    found = pooled(result)
    for method in ("fcnn", "mednn-fp16", "mednn-federated"):
        assert found[method, "*"]["balanced_accuracy"] > 0.9, method
    widths = [inputs, *result.run["settings"]["detector"]["hidden"], 1]
    weights = sum(one * other for one, other in itertools.pairwise(widths))
    assert {entry["parameters"] for entry in result.run["footprints"]} == {weights + sum(widths[1:])}


def test_folds_are_groups_left_out_or_groups_by_themselves(tmp_path: Path) -> None:
    dataset = load_recipe("mednn-nbaiot", changes=['data.devices=["Danmini_Doorbell", "Ecobee_Thermostat"]']).data.load(
        devices(tmp_path), 0
    )
    folds = Protocol(within="group", test=0.25).folds(dataset, 0)
    assert list(folds) == list(DEVICES)
    for device, parts_of in folds.items():
        parts = parts_of()
        assert (len(parts.train), len(parts.test)) == (300, 100)
        assert set(parts.train.group.texts()) == set(parts.test.group.texts()) == {device}
    with pytest.raises(ValueError, match="not both"):
        Protocol(within="group", leave_out="group")
    bare = type(dataset)("bare", {"all": dataset.tables["all"].from_array(np.zeros((4, 2)), np.zeros(4))})
    with pytest.raises(DataUnusable, match="the rows of 'bare' know no devices or groups"):
        Protocol(within="group").folds(bare, 0)
