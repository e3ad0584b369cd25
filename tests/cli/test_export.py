"""`vedette export`: bundles written anew, compared with torch on real rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import refused, vedette

from vedette.data.simulate import Simulated, export
from vedette.data.table import Table
from vedette.detectors import Autoencoder, Pca, load_bundle, save_bundle
from vedette.training.task import Optimiser

FLEET = Simulated(nodes=2, train_hours=8, test_hours=12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "pump"
    detector = Autoencoder(hidden=(64, 48), epochs=3, scaling={"numbers": "standard"}, optimiser=Optimiser(rate=0.005))
    save_bundle(detector.fit(FLEET.node_table("pump-1", "train", 0)), folder, {"recipe": "mine"})
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    export.write_fleet(FLEET, folder)
    return folder / "test" / "pump-00001.parquet"


@pytest.mark.parametrize("int8", [False, True])
def test_a_model_is_written_and_held_against_torch(bundle: Path, rows: Path, tmp_path: Path, int8: bool) -> None:
    flags = ["--int8"] if int8 else []
    done = vedette("export", bundle, "--out", tmp_path / "new", "--rows", rows, "--json", *flags)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "vedette.export/1"
    assert said["rows"] == 2 * 720
    assert said["most"] < (0.5 if int8 else 1e-5)
    assert said["changed"] < 0.02
    assert (said["bytes"] < 0.5 * said["bytes_float32"]) == int8
    assert said["bytes"] == (tmp_path / "new" / "model.onnx").stat().st_size
    about = json.loads((tmp_path / "new" / "detector.json").read_text())
    assert about["provenance"] == {"recipe": "mine", "weights": "int8" if int8 else "float32"}
    table: Table = FLEET.node_table("pump-2", "test", 0)
    apart = np.abs(load_bundle(tmp_path / "new").decision_function(table) - load_bundle(bundle, engine="torch").decision_function(table))
    assert (apart.max() > 1e-4) == int8
    assert "made-up" in vedette("export", bundle, "--out", tmp_path / "again", *flags).stdout


def test_scores_are_explained_in_the_features_units(bundle: Path, rows: Path) -> None:
    said = json.loads(vedette("explain", bundle, rows, "--most", "4", "--json").stdout)
    assert said["schema"] == "vedette.explain/1"
    assert said["rows"] == 2 * 720
    assert [entry["alarm"] for entry in said["explained"]] == [True] * 4
    scores = [entry["score"] for entry in said["explained"]]
    assert scores == sorted(scores, reverse=True)
    assert all(entry["why"] and " %: " in entry["why"][0] and "was expected" in entry["why"][0] for entry in said["explained"])
    text = vedette("explain", bundle, rows).stdout
    assert "rows score above the threshold" in text
    assert "was expected" in text


def test_what_cannot_be_exported_is_said(bundle: Path, rows: Path, tmp_path: Path) -> None:
    assert "choose another folder" in refused("export", bundle, "--out", bundle)
    assert "a bundle is a folder" in refused("export", tmp_path, "--out", tmp_path / "x")
    save_bundle(Pca().fit(FLEET.node_table("pump-1", "train", 0)), tmp_path / "pca")
    assert "has no network" in refused("export", tmp_path / "pca", "--out", tmp_path / "x")
    (tmp_path / "other.csv").write_text("load,current\n1,2\n")
    assert "temperature" in refused("export", bundle, "--out", tmp_path / "x", "--rows", tmp_path / "other.csv")
    assert not (tmp_path / "x").exists()
