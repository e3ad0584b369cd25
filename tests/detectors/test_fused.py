"""Detectors as one graph: raw values in, the same scores out, and no graph is believed that scores otherwise."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import correlated, with_category
from vedette.detectors import Autoencoder, Detector, LstmAutoencoder, Mlp, Pca, VarianceDistance, load_bundle, save_bundle
from vedette.detectors.bundle import load_score, model_of
from vedette.detectors.fused import OnnxScore, fused
from vedette.detectors.graph import quantised
from vedette.detectors.network import NetworkDetector
from vedette.errors import CheckpointError
from vedette.message import Array
from vedette.training.task import Optimiser

QUICK: dict[str, Any] = {"epochs": 1, "optimiser": Optimiser(rate=0.01, batch=64)}
SCALINGS: tuple[dict[str, Any], ...] = ({"numbers": "standard", "log": True}, {"numbers": "min-max"}, {"numbers": "none"})
DETECTORS: dict[str, tuple[type[Detector], dict[str, Any]]] = {
    **{name: (Autoencoder, {"hidden": (8, 3), "residual": name, **QUICK}) for name in ("absolute", "squared", "variance", "mahalanobis")},
    "last row of a window": (Autoencoder, {"hidden": (8, 3), "window": 4, **QUICK}),
    "whole window": (LstmAutoencoder, {"hidden": (7, 3), "window": {"size": 4, "scored": "whole"}, **QUICK}),
    "classifier": (Mlp, {"hidden": (8, 4), **QUICK}),
    **{name: (Pca, {"statistic": name, "window": 3}) for name in ("q", "t2", "combined")},
    "distance": (VarianceDistance, {"window": 2}),
}


def windows(x: Array, size: int) -> Array:
    rows = np.maximum(np.arange(len(x))[:, None] + np.arange(1 - size, 1), 0)
    return np.asarray(x[rows].reshape(len(x), -1))


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: scaling["numbers"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_graph_scores_as_the_detector(name: str, scaling: dict[str, Any], tmp_path: Path) -> None:
    kind, settings = DETECTORS[name]
    train = correlated(300, 5, 1, anomalies=0.2 if kind is Mlp else 0.0)
    save_bundle(kind(**settings, scaling=scaling).fit(train), tmp_path)
    detector = load_bundle(tmp_path)
    graph = load_score(tmp_path, detector)
    assert graph is not None
    x = np.array(train.numbers[:60], dtype=np.float64)
    x[3, 2], x[7, 0], x[9], x[11, 1] = np.nan, 1e12, np.nan, -np.inf
    samples = windows(x, detector.window.size)
    np.testing.assert_allclose(graph.many(samples), detector.decision_function(x), rtol=1e-6, atol=1e-12)
    # Whoever a sample is scored with, it scores the same.
    np.testing.assert_array_equal(graph.many(samples), [graph.one(sample) for sample in samples])
    np.testing.assert_array_equal(graph.many(samples[:7]), graph.many(samples)[:7])


def test_weights_of_8_bits_are_scored_one_by_one(tmp_path: Path) -> None:
    detector = Autoencoder(hidden=(64, 16), **QUICK).fit(correlated(300, 20, 1))
    save_bundle(detector, tmp_path, model=quantised(model_of(detector)))
    small = load_bundle(tmp_path)
    graph = load_score(tmp_path, small)
    assert graph is not None
    assert not graph.together
    x = np.asarray(correlated(50, 20, 2).numbers)
    np.testing.assert_array_equal(graph.many(x), [graph.many(x[at : at + 1])[0] for at in range(len(x))])


def test_what_is_no_line_has_no_graph(tmp_path: Path) -> None:
    ranks = Pca(scaling={"numbers": "quantile"}).fit(correlated(300, 4, 0))
    text = Pca().fit(with_category(correlated(300, 4, 0), 0))
    for detector in (ranks, text):
        assert fused(detector) is None
        save_bundle(detector, tmp_path)
        assert load_score(tmp_path, load_bundle(tmp_path)) is None


def test_a_graph_of_another_detector_is_refused(tmp_path: Path) -> None:
    mine, other = (Autoencoder(hidden=(6, 2), **QUICK).fit(correlated(300, 5, seed), seed=seed) for seed in (1, 2))
    model = fused(other, model_of(other))
    assert model is not None
    with pytest.raises(CheckpointError, match="scores otherwise"):
        OnnxScore(model, mine, "it")
    wide = Autoencoder(hidden=(6, 2), **QUICK).fit(correlated(300, 6, 1))
    with pytest.raises(CheckpointError, match="this detector's samples have 6"):
        OnnxScore(model, wide, "it")
    with pytest.raises(CheckpointError, match="it is no model that can be run"):
        OnnxScore(model[:200], mine, "it")
    with pytest.raises(CheckpointError, match="values of tensor"):
        OnnxScore(model_of(mine), mine, "it")
    # Put into the bundle with its checksum, it is refused all the same.
    save_bundle(mine, tmp_path)
    (tmp_path / "score.onnx").write_bytes(model)
    with pytest.raises(CheckpointError, match="checksum"):
        load_bundle(tmp_path)
    about = json.loads((tmp_path / "detector.json").read_text())
    about["sha256"]["score.onnx"] = hashlib.sha256(model).hexdigest()
    (tmp_path / "detector.json").write_text(json.dumps(about))
    loaded = load_bundle(tmp_path)
    assert isinstance(loaded, NetworkDetector)
    with pytest.raises(CheckpointError, match="scores otherwise"):
        load_score(tmp_path, loaded)
