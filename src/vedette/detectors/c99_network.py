"""Dense networks in C99: constant arrays, and the functions that compute with them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vedette.detectors.graph import halves
from vedette.message import Array
from vedette.training.layers import Layer
from vedette.training.pruning import Stage

__all__ = ["Constants", "Precision", "Stored", "array_text", "double_text", "float_text", "layer_calls", "layer_functions", "stored"]

Precision: TypeAlias = Literal["float32", "float16", "int8"]

LINE = 110


class Constants:
    """Constant arrays of a C file in the making."""

    SIZES = {"float": 4, "double": 8, "uint16_t": 2, "int8_t": 1}

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.bytes = 0

    def add(self, kind: str, name: str, values: Array) -> None:
        """Add an array, flattened."""
        self.parts.append(array_text(kind, name, values))
        self.bytes += self.SIZES[kind] * values.size

    @property
    def text(self) -> str:
        """All of them, written."""
        return "\n".join(self.parts)


class Stored(NamedTuple):
    """A dense layer as it lies in flash, by C type; and as that computes."""

    arrays: Mapping[str, tuple[str, Array]]
    stage: Stage


def stored(stage: Stage, precision: Precision) -> Stored:
    """Round a layer's weights; biases are few and stay as they are."""
    if precision == "float32":
        return Stored({"weights": ("float", stage.weight), "biases": ("float", stage.bias)}, stage)
    if precision == "float16":
        weight = halves(stage.weight, stage.name)
        rounded = {"weights": ("uint16_t", weight.view(np.uint16)), "biases": ("float", stage.bias)}
        return Stored(rounded, stage._replace(weight=weight.astype(np.float32)))
    step = (np.abs(stage.weight).max(axis=1) / 127).astype(np.float32)
    step[step == 0] = 1
    counts = np.clip(np.rint(stage.weight / step[:, None]), -127, 127).astype(np.int8)
    held: dict[str, tuple[str, Array]] = {"weights": ("int8_t", counts), "steps": ("float", step), "biases": ("float", stage.bias)}
    return Stored(held, stage._replace(weight=counts * step[:, None]))


DENSE: Mapping[Precision, str] = {
    "float32": """static void dense(const float *weights, const float *biases, int inputs, int outputs, const float *from, float *to)
{
    int in, out;
    for (out = 0; out < outputs; out++) {
        float sum = biases[out];
        for (in = 0; in < inputs; in++)
            sum += *weights++ * from[in];
        to[out] = sum;
    }
}""",
    "float16": """/* A number of 16 bits, widened: exponent and fraction move into place, and 2^112 makes up for the other bias. */
static float widened(uint16_t half)
{
    union { uint32_t bits; float value; } it;
    it.bits = (uint32_t)(half & 0x7fffu) << 13;
    it.value *= 5.192296858534828e33f;
    it.bits |= (uint32_t)(half & 0x8000u) << 16;
    return it.value;
}

static void dense(const uint16_t *weights, const float *biases, int inputs, int outputs, const float *from, float *to)
{
    int in, out;
    for (out = 0; out < outputs; out++) {
        float sum = biases[out];
        for (in = 0; in < inputs; in++)
            sum += widened(*weights++) * from[in];
        to[out] = sum;
    }
}""",
    "int8": """/* Each neuron's weights are steps of a size of its own. */
static void dense(const int8_t *weights, const float *steps, const float *biases, int inputs, int outputs, const float *from, float *to)
{
    int in, out;
    for (out = 0; out < outputs; out++) {
        float sum = 0.0f;
        for (in = 0; in < inputs; in++)
            sum += (float)*weights++ * from[in];
        to[out] = sum * steps[out] + biases[out];
    }
}""",
}

ACTIVATIONS: Mapping[str, Callable[[Layer], str]] = {
    "relu": lambda _: "values[at] < 0.0f ? 0.0f : values[at]",
    "leaky-relu": lambda layer: f"values[at] < 0.0f ? {float_text(layer.get('slope', 0.01))} * values[at] : values[at]",
    "tanh": lambda _: "tanhf(values[at])",
    "sigmoid": lambda _: "0.5f * (1.0f + tanhf(0.5f * values[at]))",
}


def layer_functions(stages: Sequence[Stage], precision: Precision, arrays: Constants) -> str:
    """Return the functions that compute layers; add what they hold."""
    for number, stage in enumerate(stages, 1):
        for name, (kind, values) in stored(stage, precision).arrays.items():
            arrays.add(kind, f"{name}{number}", values)
    used = {
        _activation(layer): ACTIVATIONS[layer["kind"]](layer) for stage in stages for layer in stage.after if layer["kind"] != "dropout"
    }
    loops = [
        f"static void {name}(float *values, int count)\n{{\n    int at;\n    for (at = 0; at < count; at++)\n"
        f"        values[at] = {formula};\n}}"
        for name, formula in used.items()
    ]
    return "\n\n".join([DENSE[precision], *loops])


def layer_calls(stages: Sequence[Stage], precision: Precision, came: str, to: str) -> list[str]:
    """Return the calls that take values through the layers, from one buffer to the other and back."""
    names = [name for name in ("weights", "steps", "biases") if name != "steps" or precision == "int8"]
    lines = []
    for number, stage in enumerate(stages, 1):
        outputs, inputs = stage.weight.shape
        lines.append(f"dense({', '.join(f'{name}{number}' for name in names)}, {inputs}, {outputs}, {came}, {to});")
        lines += [f"{_activation(layer)}({to}, {outputs});" for layer in stage.after if layer["kind"] != "dropout"]
        came, to = to, came
    return lines


def _activation(layer: Layer) -> str:
    """Return the name of an activation's function; leaky ones of several slopes have several."""
    slope = f"_{layer['slope']:g}".replace(".", "_").replace("-", "m").replace("+", "") if "slope" in layer else ""
    return f"{layer['kind'].replace('-', '_')}{slope}"


def array_text(kind: str, name: str, values: Array) -> str:
    """Write a constant array."""
    writers: Mapping[str, Callable[[Any], str]] = {"float": float_text, "double": double_text}
    text = ", ".join(map(writers.get(kind, str), np.ravel(values).tolist()))
    lines = textwrap.wrap(text, LINE, break_on_hyphens=False)  # 1e-05f is one word
    return "\n    ".join([f"static const {kind} {name}[{values.size}] = {{", *lines]) + "\n};"


def float_text(value: float) -> str:
    """Write a number so that C reads the same float."""
    return _number(value, f"{np.float32(value):.9g}", "f")


def double_text(value: float) -> str:
    """Write a number so that C reads the same double."""
    return _number(value, repr(float(value)), "")


def _number(value: float, text: str, ending: str) -> str:
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{text if set(text) & set('.e') else f'{text}.0'}{ending}"
