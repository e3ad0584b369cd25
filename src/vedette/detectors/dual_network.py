"""The dual network of MTAD-FL: a Local network whose convolutions travel, and a Transfer network that takes in those of a peer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vedette.detectors.classifier import Classifier
from vedette.detectors.network import dense
from vedette.errors import RecipeError
from vedette.settings import Settings
from vedette.training.task import Layers

__all__ = ["DualNetwork", "Periodic"]


class Periodic(Settings):
    """Periodic embedding of numbers (Gorishniy et al. 2022, section 3.3): cosines and sines of each feature, mixed into channels.

    A network that is given a number as it is learns smooth functions of it; with waves it can tell narrow ranges apart, as trees do.
    Frequencies and weights are each feature's own, so they tell features apart too, and stay with the node.

    Parameters
    ----------
    waves
        Frequencies of each feature.
    channels
        That each feature becomes.
    reach
        First frequencies are drawn from this far on both sides of 0, in periods for a scaled value of 1. The higher, the narrower the
        ranges that are told apart, and the sooner rows are learned by heart.
    """

    waves: int = Field(default=16, ge=1)
    channels: int = Field(default=8, ge=1)
    reach: float = Field(default=7.0, gt=0)


class DualNetwork(Classifier):
    """SE-EA-EDN (Hao et al. 2023, section 3.3): classifiers ``"local"`` and ``"transfer"`` of three convolutions each.

    Both have blocks of convolution, batch norm and ReLU. The Local network pools the largest value of each channel. The Transfer
    network weighs its channels after the first two blocks (squeeze-excitation), asks a memory after the third (external attention) and
    pools means, unless `pool` says otherwise.

    Parameters
    ----------
    scored_by
        Which of the two scores.
    convolve
        ``"features"``, as published: a sample is one signal as long as it has features, so that convolutions fit nodes with any
        features. ``"time"``: the features are channels over the rows of a window; the first convolution fits nodes with as many
        features only.
    steps
        With ``"time"``: rows that a sample holds where they stand in its columns already (recipe key ``lags``); else the window's.
    periodic
        With ``"features"``: what each feature becomes before the first convolution; not in the paper, which has none.
    pool
        What the Transfer network makes of each channel in the end: its ``"mean"``, as published, or its largest value (``"max"``), so
        that one feature that stands out is not lost among many that do not.
    channels, kernels
        Of the three convolutions; kernels are odd, so that what goes in is as long as what comes out.
    reduction
        By which squeeze-excitation narrows the channels.
    slots
        Of the memory of external attention.
    """

    roles: ClassVar[tuple[str, ...]] = ("transfer", "local")

    scored_by: Literal["transfer", "local"] = "transfer"
    convolve: Literal["features", "time"] = "features"
    steps: int | None = Field(default=None, ge=1)
    periodic: Periodic | None = None
    pool: Literal["mean", "max"] = "mean"
    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 256, 128)
    kernels: tuple[PositiveInt, PositiveInt, PositiveInt] = (7, 5, 3)
    reduction: int = Field(default=16, ge=1)
    slots: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd")
        if self.optimiser.batch < 2:
            raise ValueError("batch norm needs batches of at least two rows (optimiser.batch)")
        if self.convolve == "time" and (self.steps or self.window.size) < 2:
            # Over a single place external attention says the same of everything.
            raise ValueError("convolving over time needs more than one row: a window, such as window = 30 (or 'steps')")
        if self.periodic is not None and self.convolve == "time":
            raise ValueError("'periodic' is for convolutions over features (convolve = 'features')")
        if self.steps is not None and (self.convolve == "features" or self.window.size > 1):
            raise ValueError("'steps' is for samples whose columns hold several rows: convolve = 'time' and a window of 1")
        return self

    @property
    def role(self) -> str:
        return self.scored_by

    def networks(self, features: int) -> Mapping[str, Layers]:
        if self.periodic is not None:
            return self._both(self._embedded(features, self.periodic), self.periodic.channels)
        steps = 1 if self.convolve == "features" else self.steps or self.window.size
        if features % steps:
            raise RecipeError(f"samples of {features} values do not hold {steps} rows each; 'steps' must be as many as 'lags' put there")
        shape: list[dict[str, Any]] = [{"name": "signal", "kind": "steps", "steps": steps, "width": features // steps}]
        if self.convolve == "time":
            shape.append({"name": "channels", "kind": "turn"})
        inputs = features // steps if self.convolve == "time" else 1
        return self._both(shape, inputs)

    def _both(self, begin: Layers, inputs: int) -> Mapping[str, Layers]:
        """Return both networks, given the layers that make the channels and how many these are."""
        return {"transfer": [*begin, *self._transfer(inputs)], "local": [*begin, *self._local(inputs)]}

    def _embedded(self, features: int, periodic: Periodic) -> Layers:
        waves = {"width": features, "waves": periodic.waves, "outputs": periodic.channels, "reach": periodic.reach}
        return [{"name": "embedding", "kind": "periodic", **waves}, {"name": "embedding-relu", "kind": "relu"}]

    def _blocks(self, inputs: int) -> list[list[dict[str, Any]]]:
        blocks = []
        for place, ((taken, given), kernel) in enumerate(zip(pairwise([inputs, *self.channels]), self.kernels, strict=True), 1):
            block: list[dict[str, Any]] = [
                {"name": f"conv{place}", "kind": "conv", "inputs": taken, "outputs": given, "kernel": kernel},
                {"name": f"norm{place}", "kind": "batch-norm", "width": given},
                {"name": f"relu{place}", "kind": "relu"},
            ]
            blocks.append(block)
        return blocks

    def _local(self, inputs: int) -> Layers:
        one, two, three = self._blocks(inputs)
        return [*one, *two, *three, {"name": "pool", "kind": "pool", "by": "max"}, *dense("head", self.channels[-1], 1, None)]

    def _transfer(self, inputs: int) -> Layers:
        one, two, three = self._blocks(inputs)
        squeezes = [
            {"name": f"squeeze{place}", "kind": "squeeze-excitation", "width": width, "squeezed": max(1, width // self.reduction)}
            for place, width in enumerate(self.channels[:2], 1)
        ]
        attention = {"name": "attention", "kind": "external-attention", "width": self.channels[-1], "slots": self.slots}
        pool = {"name": "pool", "kind": "pool", "by": self.pool}
        return [*one, squeezes[0], *two, squeezes[1], *three, attention, pool, *dense("head", self.channels[-1], 1, None)]
