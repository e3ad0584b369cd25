"""`vedette export`: bundles written anew, compared with torch on real rows."""

from __future__ import annotations

import json
import shutil
import subprocess
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


@pytest.mark.parametrize(("precision", "share", "apart"), [("float32", 1, 1e-5), ("float16", 0.55, 0.05), ("int8", 0.5, 0.5)])
def test_a_model_is_written_and_held_against_torch(
    bundle: Path, rows: Path, tmp_path: Path, precision: str, share: float, apart: float
) -> None:
    done = vedette("export", bundle, "--out", tmp_path / "new", "--rows", rows, "--json", "--precision", precision)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "vedette.export/1"
    assert (said["precision"], said["pruned"]) == (precision, 0)
    assert said["rows"] == 2 * 720
    assert said["most"] < apart
    assert said["changed"] < 0.02
    assert share - 0.2 < said["bytes"] / said["bytes_float32"] <= share
    assert said["bytes"] == (tmp_path / "new" / "model.onnx").stat().st_size
    assert "c99" not in said
    about = json.loads((tmp_path / "new" / "detector.json").read_text())
    assert about["provenance"] == {"recipe": "mine", "weights": precision}
    table: Table = FLEET.node_table("pump-2", "test", 0)
    gap = np.abs(load_bundle(tmp_path / "new").decision_function(table) - load_bundle(bundle, engine="torch").decision_function(table))
    assert (gap.max() > 1e-5) == (precision != "float32")
    assert "made-up" in vedette("export", bundle, "--out", tmp_path / "again", "--precision", precision).stdout


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_detector_is_written_as_c(bundle: Path, rows: Path, tmp_path: Path, precision: str) -> None:
    file = tmp_path / "firmware" / "detector.c"
    arguments = ["export", bundle, "--c99", file, "--precision", precision, "--rows", rows]
    done = vedette(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "bytes" not in said
    assert said["c99"]["file"] == str(file)
    assert said["c99"]["rows"] == 2 * 720
    assert said["c99"]["most"] < {"float32": 1e-5, "float16": 0.05, "int8": 0.5}[precision]
    source = file.read_text()
    assert f"{said['c99']['flash']} bytes of constants" in source
    assert f"{said['c99']['stack']} bytes of buffers" in source
    assert "[°C]" in source
    text = vedette(*arguments, "--out", tmp_path / "new", "--prefix", "pump").stdout
    assert f"{said['c99']['flash']:,} bytes of flash and {said['c99']['stack']:,} of stack" in text
    assert "model of" in text
    assert "weights pruned" not in text
    assert "float pump_score" in file.read_text()
    if shutil.which("gcc"):
        command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-DPUMP_TEST", str(file), "-lm", "-o", str(tmp_path / "check")]
        subprocess.run(command, check=True)
        assert "32 scores, at most" in subprocess.run([tmp_path / "check"], check=True, capture_output=True, text=True).stdout


def test_pruned_neurons_are_left_out(bundle: Path, tmp_path: Path) -> None:
    detector = load_bundle(bundle, engine="torch")
    assert isinstance(detector, Autoencoder)
    values = detector.weights_.values.copy()
    width = detector.scaler.width
    values[: 32 * width] = 0  # half of the first layer's neurons hear nothing
    save_bundle(detector.restored({**detector.memory, "network.model": values}), tmp_path / "pruned")
    one, other = (
        vedette("export", folder, "--out", tmp_path / "a", "--c99", tmp_path / "a.c", "--json") for folder in (bundle, tmp_path / "pruned")
    )
    assert (one.returncode, other.returncode) == (0, 0), other.stderr
    before, after = json.loads(one.stdout), json.loads(other.stdout)
    assert after["pruned"] == pytest.approx(32 * width / (2 * 64 * width + 2 * 64 * 48))
    gone = 32 * (width + 1 + 48)
    assert before["c99"]["flash"] - after["c99"]["flash"] == 4 * gone
    assert before["bytes"] - after["bytes"] == pytest.approx(4 * gone, abs=20)
    assert "weights pruned: " in vedette("export", tmp_path / "pruned", "--c99", tmp_path / "a.c").stdout


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
    assert "--out FOLDER" in refused("export", bundle)
    assert "is a folder" in refused("export", bundle, "--c99", tmp_path)
    assert "cannot begin names" in refused("export", bundle, "--c99", tmp_path / "x.c", "--prefix", "1")
    whitened = Autoencoder(hidden=(4,), epochs=1, residual="mahalanobis").fit(FLEET.node_table("pump-1", "train", 0))
    save_bundle(whitened, tmp_path / "whitened")
    assert "mahalanobis" in refused("export", tmp_path / "whitened", "--c99", tmp_path / "x.c", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.c").exists()
    assert vedette("export", bundle, "--out", tmp_path / "x", "--precision", "int4").returncode == 2
