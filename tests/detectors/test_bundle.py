"""Bundles: scored without torch as with it, and refused in a line when they are damaged, foreign or made by hostile hands."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import correlated
from vedette.data.table import Table
from vedette.detectors import Autoencoder, LstmAutoencoder, Mlp, Pca, load_bundle, save_bundle
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.graph import OnnxNetwork, onnx_of, quantised
from vedette.errors import CheckpointError, DetectorMisused, VedetteError
from vedette.training.layers import LAYERS
from vedette.training.layout import initial
from vedette.training.networks import Network
from vedette.training.task import Optimiser

SCALING = {"numbers": "standard"}
QUICK: dict[str, Any] = {"epochs": 2, "optimiser": Optimiser(rate=0.01, batch=64), "scaling": SCALING}
NETWORKS = {
    "dense": (Autoencoder(hidden=(16, 4)), 12),
    "lstm": (LstmAutoencoder(window=5, hidden=(7, 3), dense=(6, 5)), 20),
    "classifier": (Mlp(hidden=(8, 4), batch_norm=True, dropout=0.2), 9),
    "leaky classifier": (Mlp(hidden=(80, 50, 10), batch_norm=True, activation="leaky-relu"), 9),
    "local": (DualNetwork(channels=(8, 12, 6), scored_by="local"), 9),
    "transfer": (DualNetwork(channels=(8, 12, 6), kernels=(5, 3, 1), slots=5, reduction=4), 9),
    "transfer over time": (DualNetwork(channels=(8, 12, 6), convolve="time", window=5), 20),
}


def drawn(layers: Any, seed: int = 0) -> Network:
    network = Network(layers)
    network.load(initial(layers, np.random.default_rng(seed)))
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [1, 3, 500])
def test_a_model_computes_what_torch_computes(name: str, rows: int) -> None:
    detector, width = NETWORKS[name]
    layers = detector.networks(width)[detector.role]
    network, samples = drawn(layers), np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)
    model = onnx_of(layers, network.vector(), width)
    np.testing.assert_allclose(OnnxNetwork(model, width, "it").forward(samples), network.forward(samples), atol=1e-6)
    small = quantised(model)
    assert np.abs(OnnxNetwork(small, width, "it").forward(samples) - network.forward(samples)).max() < 0.05
    if len(model) > 20_000:  # below it what quantising adds to the graph weighs more
        assert len(small) < 0.6 * len(model)


def test_every_kind_of_layer_can_be_written() -> None:
    before = [{"name": "in", "kind": "steps", "steps": 3, "width": 4}]
    rows: dict[str, list[dict[str, Any]]] = {
        "dense": [{"name": "it", "kind": "dense", "inputs": 12, "outputs": 5}],
        "lstm": [*before, {"name": "it", "kind": "lstm", "inputs": 4, "outputs": 6, "returns": "steps"}, {"name": "out", "kind": "flat"}],
        "batch-norm": [{"name": "it", "kind": "batch-norm", "width": 12}],
        "leaky-relu": [{"name": "it", "kind": "leaky-relu", "slope": 0.3}],
        "dropout": [{"name": "it", "kind": "dropout", "share": 0.5}],
        "steps": [*before, {"name": "it", "kind": "dense", "inputs": 4, "outputs": 2}, {"name": "out", "kind": "flat"}],
        "flat": [*before, {"name": "out", "kind": "flat"}],
        "repeat": [{"name": "it", "kind": "repeat", "steps": 3}, {"name": "out", "kind": "flat"}],
        "turn": [*before, {"name": "it", "kind": "turn"}, {"name": "out", "kind": "flat"}],
        "conv": [*before, {"name": "it", "kind": "conv", "inputs": 3, "outputs": 5, "kernel": 3}, {"name": "out", "kind": "flat"}],
        "squeeze-excitation": [
            *before,
            {"name": "it", "kind": "squeeze-excitation", "width": 3, "squeezed": 2},
            {"name": "out", "kind": "flat"},
        ],
        "external-attention": [
            *before,
            {"name": "it", "kind": "external-attention", "width": 3, "slots": 4},
            {"name": "out", "kind": "flat"},
        ],
        "periodic": [
            {"name": "it", "kind": "periodic", "width": 12, "waves": 3, "outputs": 5, "reach": 2.0},
            {"name": "out", "kind": "flat"},
        ],
        "pool": [*before, {"name": "it", "kind": "pool", "by": "max"}],
    }
    samples = np.random.default_rng(2).normal(size=(20, 12)).astype(np.float32)
    for kind in LAYERS:
        layers = rows.get(kind, [{"name": "it", "kind": kind}])
        network = drawn(layers)
        ran = OnnxNetwork(onnx_of(layers, network.vector(), 12), 12, kind).forward(samples)
        np.testing.assert_allclose(ran, network.forward(samples), atol=1e-6, err_msg=kind)


def test_leaky_units_let_a_hundredth_of_what_is_negative_through() -> None:
    layers = [{"name": "it", "kind": "leaky-relu"}]
    network, samples = drawn(layers), np.array([[-100, 0, 100]], dtype=np.float32)
    for ran in (network, OnnxNetwork(onnx_of(layers, network.vector(), 3), 3, "it")):
        np.testing.assert_allclose(ran.forward(samples), [[-1, 0, 100]], rtol=1e-6)
    leaky, plain = ([layer["name"] for layer in Mlp(hidden=(3,), activation=kind).networks(4)["model"]] for kind in ("leaky-relu", "relu"))
    assert (leaky, plain) == (["dense1", "leaky-relu1", "output"], ["dense1", "relu1", "output"])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    train, folder = correlated(300, 6, seed=1), tmp_path_factory.mktemp("bundles")
    detectors = {
        "autoencoder": Autoencoder(hidden=(8, 3), residual="mahalanobis", **QUICK),
        "lstm": LstmAutoencoder(window=4, hidden=(6,), residual="variance", **QUICK),
        "pca": Pca(scaling=SCALING, window=2),
    }
    for name, detector in detectors.items():
        save_bundle(detector.fit(train, seed=1), folder / name, {"recipe": "test"})
    return {name: folder / name for name in detectors}


def copied(bundle: Path, to: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    for file in bundle.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_bundle_says_what_it_is(bundles: dict[str, Path]) -> None:
    about = json.loads((bundles["autoencoder"] / "detector.json").read_text())
    assert about["schema"] == "vedette.bundle/1"
    assert about["detector"]["name"] == "autoencoder"
    assert about["features"][0] == {"name": "s0", "kind": "number", "unit": "bar"}
    assert about["threshold"] > 0
    assert set(about["sha256"]) == {"weights.safetensors", "model.onnx", "score.onnx"}
    assert set(json.loads((bundles["pca"] / "detector.json").read_text())["sha256"]) == {"weights.safetensors", "score.onnx"}


SCORED = """
import sys
for name in ("torch", "sklearn", "polars", "onnx", "matplotlib", "jinja2", "scipy", "pandas"):
    sys.modules[name] = None
import numpy as np
from vedette.detectors import load_bundle
for folder in sys.argv[2:]:
    scores = load_bundle(__import__("pathlib").Path(folder)).decision_function(np.load(sys.argv[1]))
    print(*scores.tolist())
"""


def test_the_base_install_scores_them(bundles: dict[str, Path], tmp_path: Path) -> None:
    rows = correlated(50, 6, seed=5).numbers
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", SCORED, str(tmp_path / "rows.npy"), *map(str, bundles.values())]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    for line, folder in zip(done.stdout.splitlines(), bundles.values(), strict=True):
        expected = load_bundle(folder, engine="torch").decision_function(rows)
        np.testing.assert_allclose(np.array(line.split(), dtype=float), expected, rtol=1e-5, atol=1e-5)


def test_an_unfitted_detector_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(DetectorMisused, match="not fitted"):
        save_bundle(Autoencoder(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["detector.json", "weights.safetensors", "model.onnx"])
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_missing_files_are_said(bundles: dict[str, Path], tmp_path: Path, name: str, engine: Any) -> None:
    folder = copied(bundles["autoencoder"], tmp_path / "b")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_bundle(folder, engine)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
@given(
    st.sampled_from(["autoencoder", "lstm", "pca"]),
    st.integers(0, 2),
    st.integers(0, 2**31),
    st.binary(max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_broken_bytes_are_refused_in_a_line(
    bundles: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    which: int,
    place: int,
    noise: bytes,
    cut: bool,
    summed: bool,
) -> None:
    """Damaged files; where `summed`, by somebody who mended the checksum too."""
    folder = copied(bundles[name], tmp_path_factory.getbasetemp() / "broken" / name)
    file = sorted(folder.iterdir())[which % len(list(folder.iterdir()))]
    content = file.read_bytes()
    at = place % len(content)
    damaged = content[:at] if cut else content[:at] + noise + content[at + len(noise) :]
    file.write_bytes(damaged)
    if summed and file.name != "detector.json":
        about = json.loads((folder / "detector.json").read_text())
        about["sha256"][file.name] = hashlib.sha256(damaged).hexdigest()
        (folder / "detector.json").write_text(json.dumps(about))
    said = ""
    try:
        scores = load_bundle(folder).decision_function(correlated(20, 6, seed=3).numbers)
    except VedetteError as caught:
        said = str(caught)
    else:
        assert scores.shape == (20,)
    assert "\n" not in said
    if not said and damaged != content and file.name == "weights.safetensors":
        pytest.fail("weights changed unnoticed")


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(about: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for part in parents:
            about = about[part]
        about[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("schema", "vedette.bundle/2"),
        changed("schema", ["vedette.bundle/1"]),
        changed("detector", "autoencoder"),
        changed("detector.name", "os.system"),
        changed("detector.name", "pca"),
        changed("detector.name", "lstm-autoencoder"),
        changed("detector.hidden", [10**9]),
        changed("detector.hidden", [8, 4]),
        changed("detector.hidden", []),
        changed("detector.window", {"size": 7}),
        changed("detector.window", {"size": 100_000}),
        changed("detector.residual", "variance"),
        changed("detector.scaling", {"numbers": "quantile"}),
        changed("detector.evil", 1),
        changed("sha256", {}),
        changed("sha256", {"../../etc/passwd": "0"}),
        changed("sha256.weights.safetensors", None),
        changed("sha256", []),
    ],
)
def test_hostile_descriptions_are_refused(bundles: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    folder = copied(bundles["autoencoder"], tmp_path / "b")
    about = json.loads((folder / "detector.json").read_text())
    try:
        change(about)
    except KeyError:
        about["sha256"]["weights.safetensors"] = None
    (folder / "detector.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError) as caught:
        load_bundle(folder).decision_function(correlated(20, 6, seed=3).numbers)
    assert "\n" not in str(caught.value)


def test_files_too_large_are_not_read(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(bundles["autoencoder"], tmp_path / "b")
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(600 * 2**20)
    with pytest.raises(CheckpointError, match="no bundle of ours"):
        load_bundle(folder)


MEASURED = """
import sys
import tracemalloc
from pathlib import Path
import numpy as np
from vedette.detectors import load_bundle
folder = Path(sys.argv[1])
samples = np.load(folder / "samples.npy")
load_bundle(folder, engine="numpy").score_samples(samples)
tracemalloc.start()
again = load_bundle(folder, engine="numpy")
tracemalloc.reset_peak()
before = tracemalloc.get_traced_memory()[0]
for _ in range(10):
    again.score_samples(samples)
print(tracemalloc.get_traced_memory()[1] - before)
"""
"""In a process of its own: what others' threads allocate meanwhile is counted."""


def test_numpy_scores_a_bundle_within_a_few_kilobytes(tmp_path: Path) -> None:
    """A gateway of 64 MB scores by NumPy what ONNX Runtime would score: the same, and without its 20 MB."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 115)).astype(np.float32)
    detector = Mlp(hidden=(83, 128, 83), epochs=2).fit(x, (x[:, 0] > x[:, 1]).astype(int))
    save_bundle(detector, tmp_path)
    small = load_bundle(tmp_path, engine="numpy")
    assert np.allclose(small.decision_function(x), load_bundle(tmp_path).decision_function(x), atol=1e-6)
    samples = small.samples(Table.from_array(x[:1]), small.memory).all()
    np.save(tmp_path / "samples.npy", samples)
    done = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4_000  # buffers are there already
    assert small.network()._runner.bytes < 256_000
