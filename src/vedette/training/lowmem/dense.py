"""Dense networks as this room trains them: layers of weights, each with an activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vedette.errors import DetectorMisused

__all__ = ["ACTIVATIONS", "Dense", "dense_of", "parameters"]

ACTIVATIONS = ("relu", "leaky-relu", "tanh", "sigmoid")


class Dense(NamedTuple):
    """A layer of weights and its activation.

    Attributes
    ----------
    inputs, outputs
        Values it takes and gives.
    activation
        One of `ACTIVATIONS`; "" for none.
    slope
        Of ``"leaky-relu"``, what it lets through of negative values; above 0, 1 at most.
    """

    inputs: int
    outputs: int
    activation: str = ""
    slope: float = 0.01

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return (self.inputs + 1) * self.outputs


def dense_of(layers: Sequence[Mapping[str, Any]]) -> list[Dense]:
    """Read a network that stands as data.

    Raises
    ------
    DetectorMisused
        It has other layers than dense ones, each with one activation at most, or slopes that are not from 0 to 1.
    """
    found: list[Dense] = []
    for layer in layers:
        kind = str(layer["kind"])
        if kind == "dense":
            found.append(Dense(int(layer["inputs"]), int(layer["outputs"])))
        elif kind in ACTIVATIONS and found and not found[-1].activation:
            slope = float(layer.get("slope", 0.01)) if kind == "leaky-relu" else 0.01
            if not 0 <= slope <= 1:
                raise DetectorMisused(f"training in little memory knows slopes from 0 to 1; the layer '{layer['name']}' has {slope:g}")
            found[-1] = found[-1]._replace(activation=kind if slope else "relu", slope=slope)
        else:
            raise DetectorMisused(
                f"training in little memory knows dense layers, each with one activation ({', '.join(ACTIVATIONS)}); "
                f"the layer '{layer['name']}' is '{kind}'"
            )
    return found


def parameters(dense: Sequence[Dense]) -> int:
    """Count weights and biases."""
    return sum(layer.parameters for layer in dense)
