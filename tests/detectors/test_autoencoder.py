"""Scores and thresholds, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from vedette.data.summaries import Covariance, Moments, Sketch
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.threshold import Fixed, MeanStd, Quantile
from vedette.training.networks import Network
from vedette.training.task import Optimiser

INPUTS = np.array([[0.0, 1.0], [2.0, 3.0]], dtype=np.float32)
OUTPUTS = np.array([[0.0, 3.0], [1.0, 3.0]], dtype=np.float32)


def test_each_way_to_score_residuals():
    assert Autoencoder(residual="absolute").scores(INPUTS, OUTPUTS, {}).tolist() == [1.0, 0.5]
    assert Autoencoder(residual="squared").scores(INPUTS, OUTPUTS, {}).tolist() == [2.0, 0.5]
    # Normal rows were off by 1 ± 1 in the first feature (mean square 2) and by 0 ± 2 in the second (mean square 4).
    moments = Moments(np.array([9.0, 9.0]), np.array([1.0, 0.0]), np.array([9.0, 36.0]))
    memory = {"residuals.moments": moments.table()}
    scores = Autoencoder(residual="variance", floor=0.5).scores(INPUTS, OUTPUTS, memory)
    assert scores.tolist() == pytest.approx([(0 / 2.5 + 4 / 4.5) / 2, (1 / 2.5 + 0 / 4.5) / 2])


def test_whitened_residuals_that_go_together_weigh_as_one():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(5000, 1))
    normal = np.concatenate([shared, shared + 0.01 * rng.normal(size=(5000, 1)), 3 * rng.normal(size=(5000, 1))], axis=1)
    detector, memory = Autoencoder(residual="mahalanobis", floor=1e-6), {"residuals.covariance": Covariance.of(normal).table()}
    zeros = np.zeros((3, 3), dtype=np.float32)
    # As usual together; as large, but apart; nothing.
    together, apart, none = detector.scores(np.array([[1, 1, 0], [1, -1, 0], [0, 0, 0]], dtype=np.float32), zeros, memory)
    assert together == pytest.approx(1 / 3, rel=0.1)
    assert apart > 1000 * together
    assert none == 0
    # By the definition: r' (second moments + floor)⁻¹ r over the number of features.
    r = np.array([0.5, 0.4, -1.0])
    wanted = r @ np.linalg.inv(normal.T @ normal / 5000 + 1e-6 * np.eye(3)) @ r / 3
    assert detector.scores(r[None].astype(np.float32), zeros[:1], memory)[0] == pytest.approx(wanted, rel=1e-4)
    assert detector.scores(np.zeros((0, 3)), np.zeros((0, 3)), memory).shape == (0,)


def test_the_lstm_network_has_its_layers():
    layers = LstmAutoencoder(window=26, hidden=(64, 32), dense=(48, 64, 48)).networks(26 * 10)["model"]
    assert [(layer["name"], layer["inputs"], layer["outputs"]) for layer in layers if "outputs" in layer] == [
        ("encoder1", 10, 64), ("encoder2", 64, 32), ("decoder1", 32, 32), ("decoder2", 32, 64),
        ("dense1", 64, 48), ("dense2", 48, 64), ("dense3", 64, 48), ("output", 48, 10),
    ]  # fmt: skip
    assert Network(layers).forward(np.zeros((3, 260), dtype=np.float32)).shape == (3, 260)
    with pytest.raises(ValidationError, match="more than one row"):
        LstmAutoencoder(window=1)


@pytest.mark.slow
def test_an_lstm_finds_what_is_out_of_turn():
    time = np.arange(1200)
    wave = np.stack([np.sin(time / 5), np.cos(time / 5)], axis=1) + 0.02 * np.random.default_rng(0).normal(size=(1200, 2))
    odd = wave.copy()
    odd[600:640] = odd[600:640][::-1]  # the same values, backwards
    optimiser = Optimiser(rate=0.01, batch=64)
    detector = LstmAutoencoder(window=12, hidden=(12,), epochs=12, scaling={"numbers": "standard"}, optimiser=optimiser).fit(wave, seed=1)
    scores = detector.decision_function(odd)
    assert np.median(scores[606:640]) > 5 * np.quantile(detector.decision_function(wave), 0.95)
    assert np.median(scores[:600]) < np.quantile(detector.decision_function(wave), 0.95)


def test_the_thesis_network_has_its_layers():
    layers = Autoencoder(hidden=(32, 16, 8), mirror="bottleneck").networks(6)["model"]
    widths = [layer["outputs"] for layer in layers if layer["kind"] == "dense"]
    assert widths == [32, 16, 8, 8, 16, 32, 6]
    assert layers[-1]["kind"] == "dense"
    plain = Autoencoder(hidden=(64, 16)).networks(122)["model"]
    assert [layer["outputs"] for layer in plain if layer["kind"] == "dense"] == [64, 16, 64, 122]


def test_threshold_rules():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    moments, sketch = Moments.of(scores[:, None]), Sketch.of(scores)
    assert MeanStd(k=2).value(moments, sketch) == pytest.approx(4 + 2 * np.sqrt(10))
    assert Quantile(q=0.8).value(moments, sketch) == pytest.approx(4, rel=2 * Sketch.ACCURACY)
    assert Fixed(score=0.7).value(moments, sketch) == 0.7
