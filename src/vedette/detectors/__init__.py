"""Detectors: scaling + model + threshold; rows in, scores out, higher = more anomalous."""

from typing import TYPE_CHECKING

from vedette.lazy import lazily

if TYPE_CHECKING:
    from vedette.detectors.autoencoder import Autoencoder
    from vedette.detectors.base import DETECTORS, Detector
    from vedette.detectors.bundle import load_bundle, save_bundle
    from vedette.detectors.classical import Pca, VarianceDistance
    from vedette.detectors.explanation import Explanation, explain
    from vedette.detectors.lstm import LstmAutoencoder
    from vedette.detectors.mlp import Mlp
    from vedette.detectors.threshold import Conformal, Fixed, MeanStd, PeaksOverThreshold, Quantile

__all__ = [
    "DETECTORS",
    "Autoencoder",
    "Conformal",
    "Detector",
    "Explanation",
    "Fixed",
    "LstmAutoencoder",
    "MeanStd",
    "Mlp",
    "Pca",
    "PeaksOverThreshold",
    "Quantile",
    "VarianceDistance",
    "explain",
    "load_bundle",
    "save_bundle",
]

__getattr__ = lazily(
    __name__,
    {
        "DETECTORS": "vedette.detectors.base",
        "Autoencoder": "vedette.detectors.autoencoder",
        "Conformal": "vedette.detectors.threshold",
        "Detector": "vedette.detectors.base",
        "Explanation": "vedette.detectors.explanation",
        "Fixed": "vedette.detectors.threshold",
        "LstmAutoencoder": "vedette.detectors.lstm",
        "MeanStd": "vedette.detectors.threshold",
        "Mlp": "vedette.detectors.mlp",
        "Pca": "vedette.detectors.classical",
        "PeaksOverThreshold": "vedette.detectors.threshold",
        "Quantile": "vedette.detectors.threshold",
        "VarianceDistance": "vedette.detectors.classical",
        "explain": "vedette.detectors.explanation",
        "load_bundle": "vedette.detectors.bundle",
        "save_bundle": "vedette.detectors.bundle",
    },
)
