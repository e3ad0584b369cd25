"""Detectors as C: compiled without a warning, they score as ONNX Runtime does, in the bytes that are printed."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import correlated, with_category
from vedette.data.summaries import Moments
from vedette.data.table import Feature, Table
from vedette.detectors import Autoencoder, LstmAutoencoder, Mlp, Pca
from vedette.detectors.bundle import model_of
from vedette.detectors.c99 import C99, Precision, c99_of, c99_twin
from vedette.detectors.c99_network import array_text
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.graph import OnnxNetwork, halved, quantised
from vedette.detectors.network import NetworkDetector
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Vector
from vedette.training.layout import initial, layout_of

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
STRICT = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
PRECISIONS: list[Precision] = ["float32", "float16", "int8"]

READER = """
#include "detector.c"
#include <stdio.h>

int main(void)
{
    float readings[VEDETTE_READINGS];
    int at;
    for (;;) {
        for (at = 0; at < VEDETTE_READINGS; at++)
            if (scanf("%f", &readings[at]) != 1)
                return 0;
        printf("%.9g %d\\n", vedette_score(readings), vedette_is_anomaly(readings));
    }
}
"""


def drawn(detector: NetworkDetector, table: Table, pruned: float = 0.0) -> Any:
    """A detector with first weights instead of learned ones, some of its hidden neurons cut off."""
    scaler, rng = detector.scaling.fitted(detector.scaling.summary(table)), np.random.default_rng(3)
    layers = detector.networks(detector.window.size * scaler.width)[detector.role]
    arrays = layout_of(layers).arrays(initial(layers, rng))
    weights = [name for name in arrays if name.endswith(".weight")]
    for here, there in itertools.pairwise(weights):
        for neuron in np.flatnonzero(rng.random(len(arrays[here])) < pruned):
            if rng.random() < 0.5:
                arrays[here][neuron] = 0
            else:
                arrays[there][:, neuron] = 0
    vector = layout_of(layers).flat(arrays)
    memory: dict[str, Any] = {**scaler.memory(), f"network.{detector.role}": vector.values, f"layout.{detector.role}": vector.layout}
    if detector.residual_summary == "moments":
        samples = detector.restore(memory).samples(table, memory).all()
        memory["residuals.moments"] = Moments.of(detector.residuals(samples, detector.network().forward(samples))).table()
    return detector.restore(memory).calibrated(table)


def ragged(rows: int, features: int, seed: int) -> Table:
    """Rows of many sizes, far off zero, with gaps and a constant feature."""
    table, rng, same = correlated(rows, features, seed, anomalies=0.2), np.random.default_rng(seed), np.random.default_rng(9)
    sizes = 10.0 ** same.integers(-2, 6, features)
    numbers = ((np.asarray(table.numbers) + 100 * same.normal(size=features)) * sizes).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.05] = np.nan
    numbers[:, 1] = 7.5
    return replace(table, numbers=numbers)


def compiled(code: C99, folder: Path, *flags: str, source: str = READER) -> Path:
    (folder / "detector.c").write_text(code.source)
    (folder / "main.c").write_text(source)
    done = subprocess.run([*STRICT, *flags, "main.c", "-lm", "-o", "main"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return folder / "main"


def ran(program: Path, readings: Any) -> tuple[Any, Any]:
    text = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in readings.tolist())
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    return found[:, 0], found[:, 1].astype(int)


def checked(code: C99, folder: Path) -> str:
    """Compile and run the file's own test."""
    program = compiled(code, folder, "-DVEDETTE_TEST", source='#include "detector.c"\n')
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


DETECTORS: dict[str, NetworkDetector] = {
    "classifier": Mlp(hidden=(20, 12, 8)),
    "leaky classifier": Mlp(hidden=(20, 12), activation="leaky-relu", dropout=0.2, scaling={"numbers": "standard", "log": True}),
    "squared": Autoencoder(hidden=(12, 4), residual="squared", scaling={"numbers": "standard"}),
    "absolute": Autoencoder(hidden=(12, 4), residual="absolute", scaling={"numbers": "min-max", "log": True, "missing": "mask"}),
    "variance": Autoencoder(hidden=(12, 4), residual="variance", window={"size": 3}),
    "whole": Autoencoder(hidden=(12, 4), residual="variance", window={"size": 3, "scored": "whole"}),
}


@needs_gcc
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "pruned"),
    [
        *((name, 0.0) for name in DETECTORS),
        ("classifier", 0.6),
        *(pytest.param(name, 0.6, marks=pytest.mark.slow) for name in [*DETECTORS][1:]),
    ],
)
def test_it_scores_as_onnx_runtime_does(name: str, precision: Precision, pruned: float, tmp_path: Path) -> None:
    detector = drawn(DETECTORS[name].model_copy(), ragged(300, 9, seed=1), pruned)
    table = ragged(500, 9, seed=2)
    table.numbers[0, 0], table.numbers[1, 2], table.numbers[2, :] = 3e38, -np.inf, np.nan
    code = c99_of(detector, table, precision)
    assert f"{code.flash} bytes of constants" in code.source
    assert f"{code.stack} bytes of buffers" in code.source
    assert "32 scores, at most" in checked(code, tmp_path)
    size, width = detector.window.size, detector.window.size * detector.scaler.width
    model = model_of(detector)
    if precision == "int8":  # ONNX Runtime rounds what flows between the layers as well
        expected = c99_twin(detector, precision)
        assert np.abs(expected.decision_function(table) - detector.decision_function(table)).max() > 0
    else:
        expected = detector.restored(detector.memory).run_by(OnnxNetwork(model if precision == "float32" else halved(model), width, "it"))
    wanted = expected.decision_function(table)
    at = np.maximum(np.arange(len(table))[:, None] + np.arange(1 - size, 1), 0)
    scores, flags = ran(compiled(code, tmp_path), np.asarray(table.numbers)[at].reshape(len(table), -1))
    assert np.isfinite(scores).all()
    scaled = detector.samples(table, detector.memory).all()
    sane = (np.abs(scaled) <= 100).all(axis=1)  # of larger values float32 keeps too few digits, in ONNX Runtime as well
    assert sane.mean() > 0.98
    assert (np.abs(scores - wanted) / np.maximum(1, wanted))[sane].max() < 1e-5
    sure = sane & (np.abs(wanted - detector.threshold_) > 1e-5)
    assert np.array_equal(flags[sure] == 1, (wanted > detector.threshold_)[sure])
    assert 0 < flags.sum() < len(table) or isinstance(detector, Mlp)


@needs_gcc
def test_features_without_a_value_are_passed_over(tmp_path: Path) -> None:
    train = correlated(200, 5, seed=1)
    train.numbers[:, 2] = np.nan
    detector = drawn(Autoencoder(hidden=(4,), scaling={"numbers": "none", "empty": "left-out", "missing": "mask"}), train)
    table = correlated(100, 5, seed=2)
    scores, _ = ran(compiled(c99_of(detector), tmp_path), np.asarray(table.numbers))
    np.testing.assert_allclose(scores, detector.decision_function(replace(table, numbers=np.float32(table.numbers))), rtol=1e-5)


@needs_gcc
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("detector", [Mlp(hidden=(83, 128, 83)), Autoencoder(hidden=(64, 16), residual="variance")])
def test_it_takes_the_bytes_that_are_printed(detector: NetworkDetector, precision: Precision, tmp_path: Path) -> None:
    table = correlated(60, 115, seed=1)
    code = c99_of(drawn(detector.model_copy(), table), precision=precision)
    (tmp_path / "detector.c").write_text(code.source)
    subprocess.run([*STRICT, "-fstack-usage", "-c", "detector.c", "-o", "detector.o"], cwd=tmp_path, check=True)
    frames = {line.split("\t")[0].split(":")[-1]: int(line.split("\t")[1]) for line in (tmp_path / "detector.su").read_text().splitlines()}
    assert code.stack <= sum(frames.values()) < code.stack + 1024
    assert max(frames.values()) < code.stack + 256
    if shutil.which("size"):
        listed = subprocess.run(["size", "-A", "-d", "detector.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        sections = {fields[0]: int(fields[1]) for fields in map(str.split, listed.splitlines()) if len(fields) == 3 and fields[1].isdigit()}
        constants = sum(size for name, size in sections.items() if name.startswith(".rodata"))
        assert code.flash <= constants < code.flash + 400
        assert sections[".data"] == sections[".bss"] == 0
        assert sections[".text"] < 3000
    outside = subprocess.run(["nm", "-u", "detector.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert set(outside) <= {"U", "tanh"}


def test_sizes_are_as_counted_by_hand() -> None:
    table = correlated(60, 115, seed=1)
    weights, neurons = 115 * 83 + 83 * 128 + 128 * 83 + 83, 83 + 128 + 83 + 1
    scaling = 2 * 8 * 115
    detector = drawn(Mlp(hidden=(83, 128, 83)), table)
    codes = {precision: c99_of(detector, precision=precision) for precision in PRECISIONS}
    assert {code.stack for code in codes.values()} == {4 * (128 + 83)}
    assert {precision: code.flash for precision, code in codes.items()} == {
        "float32": scaling + 4 * (weights + neurons),
        "float16": scaling + 2 * weights + 4 * neurons,
        "int8": scaling + weights + 8 * neurons,
    }


@needs_gcc
def test_pruned_neurons_take_no_bytes(tmp_path: Path) -> None:
    detector, table = drawn(Mlp(hidden=(3, 2)), correlated(60, 4, seed=1)), correlated(60, 4, seed=2)
    values = detector.weights_.values.copy()
    values[4:8] = 0  # the first layer's second neuron hears nothing
    memory = {**detector.memory, "network.model": values}
    pruned = detector.restored(memory)
    code = c99_of(pruned)
    assert "mlp 4-2-2-1" in code.source
    assert "20.0%" in code.source  # 4 of 20 weights
    assert c99_of(detector).flash - code.flash == 4 * (4 + 1 + 2)
    assert len(model_of(pruned)) < len(model_of(detector))
    scores, _ = ran(compiled(code, tmp_path), np.asarray(table.numbers))
    np.testing.assert_allclose(scores, pruned.decision_function(replace(table, numbers=np.float32(table.numbers))), atol=1e-6)


def test_a_model_of_16_bits_is_half_as_large() -> None:
    detector = drawn(Mlp(hidden=(83, 128, 83)), correlated(60, 115, seed=1))
    model = model_of(detector)
    assert 0.5 < len(halved(model)) / len(model) < 0.52
    samples = np.random.default_rng(0).normal(size=(50, 115)).astype(np.float32)
    outputs = [OnnxNetwork(each, 115, "it").forward(samples) for each in (model, halved(model), quantised(model))]
    assert 0 < np.abs(outputs[1] - outputs[0]).max() < 1e-3
    large = detector.weights_.values * np.float32(1e7)
    with pytest.raises(DetectorMisused, match="16 bits cannot hold"):
        halved(model_of(detector.restored({**detector.memory, "network.model": large})))


@needs_gcc
def test_tiny_and_huge_numbers_are_written_whole(tmp_path: Path) -> None:
    sizes = (10.0 ** np.arange(-40, 33).repeat(3) * np.tile([1, -1.2345678, 0.98765432], 73)).astype(np.float32)
    loop = 'for (at = 0; at < 219; at++) printf("%.17g\\n", written[at]);'
    source = f'#include "detector.c"\n#include <stdio.h>\nint main(void) {{ int at; {loop} return 0; }}\n'
    for kind, kept in (("float", sizes), ("double", sizes.astype(float) / 3)):
        program = compiled(C99(array_text(kind, "written", kept), 0, 0), tmp_path, source=source)
        lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        assert [float(line) for line in lines.split()] == kept.tolist()


@needs_gcc
def test_hostile_names_stay_in_the_comment(tmp_path: Path) -> None:
    names = ["*/ int x;", "/* a", "line\nbreak", "back\\\\ ", "???/", "température"]
    table = Table(tuple(Feature(name, unit="°C\\" * (name == "/* a")) for name in names), np.random.default_rng(0).normal(size=(50, 6)))
    code = c99_of(drawn(Mlp(hidden=(3,)), table), prefix="pump_7")
    compiled(code, tmp_path, source='#include "detector.c"\nint main(void) { return PUMP_7_FEATURES - 6; }\n')
    assert "float pump_7_score(const float readings[PUMP_7_READINGS])" in code.source
    assert re.search(r"^ \* +5  température", code.source, re.MULTILINE)


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (Autoencoder(residual="mahalanobis"), "mahalanobis"),
        (Autoencoder(scaling={"numbers": "quantile"}), "quantile"),
        (Autoencoder(window={"size": 1, "average": 3}), "average"),
        (Mlp(batch_norm=True), "batch-norm"),
        (LstmAutoencoder(window=3), "lstm"),
        (DualNetwork(channels=(4, 4, 4)), "conv"),
    ],
)
def test_what_has_no_form_in_c_is_said(detector: Any, said: str) -> None:
    table = correlated(40, 9, seed=1)
    scaler = detector.scaling.fitted(detector.scaling.summary(table))
    layers = detector.networks(detector.window.size * scaler.width)[detector.role]
    vector: Vector = initial(layers, np.random.default_rng(0))
    memory = {**scaler.memory(), f"network.{detector.role}": vector.values, f"layout.{detector.role}": vector.layout}
    with pytest.raises(DetectorMisused, match=said) as caught:
        c99_of(detector.restore(memory))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_otherwise_is_said() -> None:
    table = correlated(40, 4, seed=1)
    with pytest.raises(DetectorMisused, match="categories"):
        c99_of(drawn(Mlp(), with_category(table, seed=1)))
    with pytest.raises(DetectorMisused, match="cannot begin names"):
        c99_of(drawn(Mlp(), table), prefix="int main")
    with pytest.raises(DataUnusable, match="no rows"):
        c99_of(drawn(Mlp(), table), table.take(slice(0, 0)))
    with pytest.raises(DetectorMisused, match="not fitted"):
        c99_of(Mlp())
    assert not issubclass(Pca, NetworkDetector)
