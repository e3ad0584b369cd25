"""The dense classifier: rows to one logit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vedette.detectors.classifier import Classifier
from vedette.detectors.network import dense
from vedette.training.task import Layers

__all__ = ["Mlp"]


class Mlp(Classifier):
    """Dense classifier with ReLU or leaky ReLU layers.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    dropout
        Share of each hidden layer's units left out in training.
    batch_norm
        Whether each hidden layer is batch-normalised.
    first_weights
        ``"usual"``: drawn around 0, the more inputs the closer (torch's default); ``"unit"``: from 0 to 1, as Zakariyya et al. 2021 say
        that they drew them, from where nothing is learned.
    activation
        Of the hidden layers: ``"leaky-relu"`` lets a hundredth of what is negative through, so that no unit ends at zero for good.
    """

    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: bool = False
    activation: Literal["relu", "leaky-relu"] = "relu"
    first_weights: Literal["usual", "unit"] = "usual"

    @model_validator(mode="after")
    def _can_normalise(self) -> Self:
        if self.batch_norm and self.optimiser.batch < 2:
            raise ValueError("batch_norm needs batches of at least two rows (optimiser.batch)")
        return self

    def networks(self, features: int) -> Mapping[str, Layers]:
        widths = [features, *self.hidden]
        layers: list[dict[str, Any]] = []
        for place, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
            layers += dense(f"dense{place}", inputs, outputs, None)
            if self.batch_norm:
                layers.append({"name": f"norm{place}", "kind": "batch-norm", "width": outputs})
            layers.append({"name": f"{self.activation}{place}", "kind": self.activation})
            if self.dropout:
                layers.append({"name": f"dropout{place}", "kind": "dropout", "share": self.dropout})
        layers += dense("output", widths[-1], 1, None)
        if self.first_weights == "unit":
            layers = [{**layer, "start": 0.5, "bound": 0.5} if layer["kind"] == "dense" else layer for layer in layers]
        return {self.role: layers}
