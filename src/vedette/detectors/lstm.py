"""The LSTM autoencoder: it reads a window and writes it again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from vedette.data.windows import AnyWindow, Window
from vedette.detectors.network import dense
from vedette.detectors.reconstruction import Reconstruction
from vedette.training.task import Layers

__all__ = ["LstmAutoencoder"]


class LstmAutoencoder(Reconstruction):
    """Encoder-decoder of LSTM layers (Malhotra et al. 2016), with dense layers at each step (Holdren 2022, section 3.4).

    The encoder's last output is said again at each step of the window; the decoder makes the window of it.

    Parameters
    ----------
    window
        As for all detectors; more than one row.
    hidden
        Widths of the encoder's LSTM layers, the last being what is kept of a window; the decoder's are the same from behind.
    dense
        Widths of layers that work on each step by itself, after the decoder and before the linear output; the thesis has four in all,
        the output being the last.
    """

    window: AnyWindow = Window(size=26)
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=1)
    dense: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _has_steps(self) -> LstmAutoencoder:
        if self.window.size < 2:
            raise ValueError("an LSTM needs a window of more than one row, such as window = 26")
        return self

    def networks(self, features: int) -> Mapping[str, Layers]:
        steps, width = self.window.size, features // self.window.size
        layers: list[dict[str, Any]] = [{"name": "window", "kind": "steps", "steps": steps, "width": width}]
        encoder, decoder = [width, *self.hidden], [self.hidden[-1], *reversed(self.hidden)]
        for place, (inputs, outputs) in enumerate(pairwise(encoder), 1):
            returns = "last" if place == len(self.hidden) else "steps"
            layers.append({"name": f"encoder{place}", "kind": "lstm", "inputs": inputs, "outputs": outputs, "returns": returns})
        layers.append({"name": "repeat", "kind": "repeat", "steps": steps})
        for place, (inputs, outputs) in enumerate(pairwise(decoder), 1):
            layers.append({"name": f"decoder{place}", "kind": "lstm", "inputs": inputs, "outputs": outputs, "returns": "steps"})
        for place, (inputs, outputs) in enumerate(pairwise([decoder[-1], *self.dense]), 1):
            layers += dense(f"dense{place}", inputs, outputs)
        layers += dense("output", self.dense[-1] if self.dense else decoder[-1], width, None)
        return {self.role: [*layers, {"name": "flat", "kind": "flat"}]}
