"""The dense autoencoder: what it cannot reproduce is an anomaly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from vedette.detectors.network import dense
from vedette.detectors.reconstruction import Reconstruction
from vedette.training.task import Layers

__all__ = ["Autoencoder"]


class Autoencoder(Reconstruction):
    """Dense autoencoder, ReLU between layers, linear output (Holdren 2022, section 3.3.1).

    Parameters
    ----------
    hidden
        Widths of the encoder's layers, the last being the bottleneck.
    mirror
        ``"bottleneck"``: the decoder repeats the bottleneck's width first (32-16-8 | 8-16-32, as in the thesis);
        ``"plain"``: it does not (64-16-64).
    """

    hidden: tuple[PositiveInt, ...] = Field(default=(64, 16), min_length=1)
    mirror: Literal["bottleneck", "plain"] = "plain"

    def networks(self, features: int) -> Mapping[str, Layers]:
        down = [features, *self.hidden]
        up = [*reversed(self.hidden if self.mirror == "plain" else (*self.hidden, self.hidden[-1])), features]
        layers: list[dict[str, Any]] = []
        for place, (inputs, outputs) in enumerate(itertools.pairwise(down), 1):
            layers += dense(f"encoder{place}", inputs, outputs)
        for place, (inputs, outputs) in enumerate(itertools.pairwise(up), 1):
            layers += dense(f"decoder{place}", inputs, outputs, "relu" if place < len(up) - 1 else None)
        return {self.role: layers}
