"""Scores and thresholds, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.summaries import Moments, Sketch
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.threshold import Fixed, MeanStd, Quantile

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
