"""`vedette compare`: the same figures side by side, differences by pairs of seed and node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import refused, vedette


def put(folder: Path, figures: dict[tuple[str, int, str], float], data: str = "simulated", **more: Any) -> Path:
    """A finished run: F1 by method, seed and node."""
    rows = [
        {"split": "test", "protocol": "strict", "method": method, "seed": seed, "node": node, "f1": value, "fpr": None, "auc_roc": None}
        for (method, seed, node), value in figures.items()
    ]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"schema": "vedette.run/1", "data": {"name": data}, "rows": rows, **more}))
    return folder


ONE = {("m", 0, "*"): 0.5, ("m", 1, "*"): 0.7, ("m", 0, "a"): 0.4, ("m", 0, "b"): 0.6, ("m", 1, "a"): 0.6, ("m", 1, "b"): 0.8}


def test_differences_are_those_of_pairs(tmp_path: Path) -> None:
    better = {key: value + (0.1 if key[2] == "a" else 0.2) for key, value in ONE.items()}
    others = {("m", 0, "*"): 0.9, ("m", 0, "c"): 0.9, ("n", 0, "*"): 0.1}
    places = [put(tmp_path / name, figures) for name, figures in {"one": ONE, "better": better, "others": others}.items()]
    done = vedette("compare", *places, "--json")
    assert done.returncode == 0, done.stderr
    found = {each["run"]: each for each in json.loads(done.stdout)["compared"]}
    assert {each["method"] for each in found.values()} == {"m"}
    assert (found[str(places[0])]["mean"], found[str(places[0])]["difference"]) == (pytest.approx(0.6), None)
    paired = found[str(places[1])]
    assert (paired["difference"], paired["pairs"]) == (pytest.approx(0.15), 4)
    assert paired["spread"] == pytest.approx(0.05 * (4 / 3) ** 0.5)
    # Other nodes: all together, seed by seed.
    assert (found[str(places[2])]["difference"], found[str(places[2])]["pairs"]) == (pytest.approx(0.4), 1)
    text = vedette("compare", *places).stdout
    assert "0.750 (+0.150" in text or "(+0.150" in text


def test_real_runs_compare(tmp_path: Path) -> None:
    small = ["--quick", "-q", "--set", "data.nodes=2", "--set", "data.train_hours=4", "--set", "data.test_hours=8"]
    for name, change in (("a", "strategy.rounds=1"), ("b", "strategy.rounds=3")):
        assert vedette("run", "demo", "--out", tmp_path / name, *small, "--set", change).returncode == 0
    said = json.loads(vedette("compare", tmp_path / "a", tmp_path / "b" / "metrics.json", "--json").stdout)["compared"]
    assert {each["figure"] for each in said} >= {"f1", "auc_roc", "vus_pr"}
    same = [each for each in said if each["method"] == "pca" and each["difference"] is not None]
    assert same
    assert all(each["difference"] == 0 for each in same)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, other = put(tmp_path / "one", ONE), put(tmp_path / "other", ONE, data="kdd99")
    assert "different data" in refused("compare", one, other)
    assert "at least two" in refused("compare", one)
    assert "no run at" in refused("compare", one, tmp_path / "nowhere")
    (tmp_path / "x.json").write_text("[]")
    assert "holds no figures" in refused("compare", one, tmp_path / "x.json")
    apart = put(tmp_path / "apart", {("k", 0, "*"): 0.5})
    assert "in common" in refused("compare", one, apart)
