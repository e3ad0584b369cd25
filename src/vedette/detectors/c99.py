"""Detectors as one C99 file for microcontrollers: fixed arrays, nothing allocated, nothing needed but math.h."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vedette.data.scaling import LIMIT, Scaler
from vedette.data.table import Table
from vedette.detectors.base import DETECTORS
from vedette.detectors.c99_network import (
    Constants,
    Precision,
    array_text,
    double_text,
    float_text,
    layer_calls,
    layer_functions,
    stored,
)
from vedette.detectors.classifier import Classifier
from vedette.detectors.network import NetworkDetector
from vedette.detectors.reconstruction import Reconstruction
from vedette.errors import DataUnusable, DetectorMisused
from vedette.message import Array
from vedette.settings import describe
from vedette.training.pruning import Stage, compacted, pruned_share, stages_of

__all__ = ["C99", "Precision", "c99_of", "c99_twin"]

APART = 1e-5
"""What the C code may differ from float64 arithmetic by, times the score where that is above 1."""

RESIDUALS = {"absolute": "absolute residuals", "squared": "squared residuals", "variance": "squared residuals in units of what is usual"}

CALM = 100.0
"""Scaled values beyond this are no test vectors, as long as there are others: float32 keeps too few of their digits."""

VECTORS = 32
"""Windows in the file's own test."""


class C99(NamedTuple):
    """A detector in C.

    Attributes
    ----------
    source
        Content of the file.
    flash
        Bytes of its constant arrays; code comes on top.
    stack
        Bytes of its buffers; what calls take comes on top.
    """

    source: str
    flash: int
    stack: int


def c99_of(detector: NetworkDetector, table: Table | None = None, precision: Precision = "float32", prefix: str = "vedette") -> C99:
    """Return a fitted detector as one self-contained C99 file, scaling and threshold included.

    Neurons that pruning has cut off are left out. Compiled with ``-D<PREFIX>_TEST`` the file is a program that checks itself.

    Parameters
    ----------
    detector
        Fitted: a dense classifier or a dense autoencoder.
    table
        Rows whose windows become test vectors; without them they are made up, normally distributed once they are scaled.
    precision
        How weights are stored: ``"float16"`` halves them, ``"int8"`` (a scale for each neuron) quarters them. Arithmetic is float32.
    prefix
        What the names of the functions begin with.

    Raises
    ------
    DetectorMisused
        Something of the detector has no form in C yet: its layers, residual, scaling, categories, average; a prefix that is no name.
    DataUnusable
        The table is empty.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", prefix):
        raise DetectorMisused(f"'{prefix}' cannot begin names in C: take small letters, digits and underscores, a letter first")
    twin, arrays = c99_twin(detector, precision), Constants()
    stages = _stages(detector)
    scaling = _scaling(detector.scaler, prefix, arrays)
    network = layer_functions(stages, precision, arrays)
    widths = [stages[0].weight.shape[1], *(len(stage.bias) for stage in stages)]
    even, odd = max(widths[::2]), max(widths[1::2])
    score = _score(detector, stages, precision, (even, odd), arrays)
    stack = 4 * (even + odd)
    about = _about(detector, precision, prefix, widths, arrays.bytes, stack)
    parts = [about, arrays.text, scaling, network, score, _functions(prefix), _test(detector, twin, table, prefix)]
    return C99("\n\n".join(parts) + "\n", arrays.bytes, stack)


def c99_twin(detector: NetworkDetector, precision: Precision = "float32") -> NetworkDetector:
    """Return the detector that scores as its C file does, in NumPy: with the same stored weights, in float64.

    Raises
    ------
    DetectorMisused
        As in `c99_of`.
    """
    stages = [stored(stage, precision).stage for stage in _stages(detector)]
    # What runs a network need only have `forward`.
    return detector.restored(detector.memory).run_by(_Float64(stages))


class _Float64:
    """A dense network in float64."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages

    def forward(self, samples: Array) -> Array:
        values = samples.astype(np.float64)
        for stage in self.stages:
            values = stage.forward(values)
        return values.astype(np.float32)


def _stages(detector: NetworkDetector) -> list[Stage]:
    """Return the network without cut-off neurons; refuse what has no form in C."""
    name = describe(DETECTORS, detector)["name"]
    if detector.window.average > 1:
        raise DetectorMisused("a detector whose scores are averages over rows (window.average) cannot be written as C99")
    if isinstance(detector, Reconstruction):
        if detector.residual == "mahalanobis":
            raise DetectorMisused("the residual 'mahalanobis' cannot be written as C99: take 'absolute', 'squared' or 'variance'")
    elif not isinstance(detector, Classifier):
        raise DetectorMisused(f"a detector '{name}' cannot be written as C99: only dense classifiers and autoencoders can")
    layers, vector, _, _ = compacted(detector.layers, detector.weights_)
    stages = stages_of(layers, vector)
    if stages is None:
        others = sorted({layer["kind"] for layer in layers} & {"lstm", "batch-norm", "conv"}) or ["other than dense"]
        raise DetectorMisused(
            f"a '{name}' with layers {', '.join(others)} cannot be written as C99: dense layers and activations alone can"
        )
    return stages


# --- scaling ---


def _scaling(scaler: Scaler, prefix: str, arrays: Constants) -> str:
    """Return the function from a row's readings to one scaled column, as `Scaler.transform` has it."""
    settings = scaler.scaling
    if any(feature.kind == "category" for feature in scaler.features):
        raise DetectorMisused("categories cannot be written as C99: train on number features alone (scaling.features)")
    if settings.numbers not in ("min-max", "standard", "none"):
        raise DetectorMisused(f"the scaling '{settings.numbers}' cannot be written as C99: take 'min-max', 'standard' or 'none'")
    places = scaler.number_places
    gaps = Table(scaler.features, np.full((1, len(scaler.features)), np.nan))
    middles = scaler.transform(gaps)[0, : len(places)]
    middle = float_text(middles[0])
    if (middles != middles[0]).any():
        arrays.add("float", "middles", middles)
        middle = "middles[column]"
    lines = ["if (isnan(x))", f"    return {middle};"]
    if settings.log:
        lines.append("x = x < 0 ? -log1p(-x) : log1p(x);")
    if settings.numbers != "none":
        shift, scale = scaler.fitted[:, places]
        arrays.add("double", "shifts", shift)
        arrays.add("double", "scales", scale)
        lines.append("x = (x - shifts[column]) / scales[column];")
    lines.append(f"return (float)(x < -{LIMIT!r} ? -{LIMIT!r} : x > {LIMIT!r} ? {LIMIT!r} : x);")
    at = "column"
    if scaler.empty:
        arrays.add("uint16_t", "places", places)
        at = "places[column]"
    before = ""
    if scaler.masked:
        names = [feature.name for feature in scaler.features]
        arrays.add("uint16_t", "masked", np.array([names.index(name) for name in scaler.masked]))
        before = f"    if (column >= {len(places)})\n        return isnan(row[masked[column - {len(places)}]]) ? 1.0f : 0.0f;\n"
    body = textwrap.indent("\n".join(lines), "    ")
    return f"""/* Value `at` of a sample: a reading as the network sees it. In double, or far-off ranges would lose their digits. */
static float scaled(const float *readings, int at)
{{
    const float *row = readings + at / {scaler.width} * {prefix.upper()}_FEATURES;
    const int column = at % {scaler.width};
    double x;
{before}    x = row[{at}];
{body}
}}"""


# --- the score ---


def _score(detector: NetworkDetector, stages: Sequence[Stage], precision: Precision, widths: tuple[int, int], arrays: Constants) -> str:
    """Return the function from readings to the score: one layer after the other, from one buffer to the other and back."""
    inputs, values = stages[0].weight.shape[1], ("even", "odd")[len(stages) % 2]
    lines = [f"for (at = 0; at < {inputs}; at++)", "    even[at] = scaled(readings, at);", *layer_calls(stages, precision, "even", "odd")]
    declared = "int at;"
    if isinstance(detector, Reconstruction):
        declared = "double sum = 0, gap;\nint at;"
        counted = detector.window.counted(np.arange(inputs)[None])[0]
        first, part = int(counted[0]), "fabs(gap)" if detector.residual == "absolute" else "gap * gap"
        if detector.residual == "variance":
            arrays.add("float", "residual_weights", detector.weights(detector.memory))
            part += f" * residual_weights[{f'at - {first}' if first else 'at'}]"
        lines += [
            "/* Readings are scaled once more: time is cheaper than memory. */",
            f"for (at = {first}; at < {inputs}; at++) {{",
            f"    gap = {values}[at] - scaled(readings, at);",
            f"    sum += {part};",
            "}",
            f"return sum / {len(counted)};",
        ]
    else:
        lines.append(f"return 0.5 * (1 + tanh({values}[0] / 2.0));")
    body = textwrap.indent("\n".join([f"float even[{widths[0]}], odd[{widths[1]}];", declared, *lines]), "    ")
    return f"static double score(const float *readings)\n{{\n{body}\n}}"


# --- the file ---


def _about(detector: NetworkDetector, precision: Precision, prefix: str, widths: Sequence[int], flash: int, stack: int) -> str:
    """Return the comment at the head of the file, and what it declares."""
    upper, scaler, size = prefix.upper(), detector.scaler, detector.window.size
    name, share = describe(DETECTORS, detector)["name"], pruned_share(detector.layers, detector.weights_)
    if isinstance(detector, Reconstruction):
        score = f"{RESIDUALS[detector.residual]}, mean over the features"
    else:
        score = "probability of an anomaly"
    rows = "one row" if size == 1 else f"{size} rows, the oldest first (repeat the first where fewer are known)"
    features = [
        f"{place:>5}  {_said(f'{each.name} [{each.unit}]' if each.unit else each.name)}" for place, each in enumerate(scaler.features)
    ]
    lines = [
        "A detector made by Vedette (vedette export --c99): C99, nothing allocated, nothing needed but math.h.",
        "",
        f"Network    {name} {'-'.join(map(str, widths))}, weights {precision}; {share:.1%} of the original's were pruned",
        f"Score      {score}",
        f"Threshold  {detector.threshold_:.9g}: {_said(detector.threshold.says)}",
        f"Flash      {flash} bytes of constants; code comes on top",
        f"Stack      {stack} bytes of buffers; what calls take comes on top",
        "",
        "Compile    cc -std=c99 -O2 -c FILE.c (never with -ffast-math: it does not know NAN)",
        f"Test       cc -std=c99 -O2 -D{upper}_TEST FILE.c -lm -o check && ./check",
        "",
        f"Readings   {rows}; NAN where one is missing. The features, in order:",
        *features,
    ]
    comment = "\n".join(f" * {line}".rstrip() for line in lines)
    return f"""/*
{comment}
 */
#include <math.h>
#include <stdint.h>

#define {upper}_FEATURES {len(scaler.features)}
#define {upper}_WINDOW {size}
#define {upper}_READINGS ({upper}_FEATURES * {upper}_WINDOW)
#define {upper}_THRESHOLD {double_text(detector.threshold_)}

/* How anomalous the newest row is; the higher, the more. */
float {prefix}_score(const float readings[{upper}_READINGS]);
/* 1 if that is above the threshold, else 0. */
int {prefix}_is_anomaly(const float readings[{upper}_READINGS]);"""


def _functions(prefix: str) -> str:
    upper = prefix.upper()
    return f"""float {prefix}_score(const float readings[{upper}_READINGS])
{{
    return (float)score(readings);
}}

int {prefix}_is_anomaly(const float readings[{upper}_READINGS])
{{
    return score(readings) > {upper}_THRESHOLD;
}}"""


def _test(detector: NetworkDetector, twin: NetworkDetector, table: Table | None, prefix: str) -> str:
    """Return the program that holds scores against those of the same weights in float64."""
    upper, scaler = prefix.upper(), detector.scaler
    with np.errstate(over="ignore"):
        readings = _windows(detector, table).astype(np.float32)
    rows = Table(scaler.features, readings.reshape(-1, len(scaler.features)))
    expected = twin.score_samples(scaler.transform(rows).reshape(len(readings), -1))
    return f"""#ifdef {upper}_TEST
#include <stdio.h>

/* Raw readings, and their scores by the same weights in float64. */
{array_text("float", "tested", readings)}
{array_text("double", "expected", expected)}

int main(void)
{{
    double most = 0;
    int at;
    for (at = 0; at < {len(readings)}; at++) {{
        double apart = fabs({prefix}_score(tested + at * {upper}_READINGS) - expected[at]) / fmax(1, fabs(expected[at]));
        if (!(apart <= most))
            most = apart;
    }}
    printf("{len(readings)} scores, at most %.3g apart (allowed: {APART:g})\\n", most);
    return !(most <= {APART:g});
}}
#endif"""


def _windows(detector: NetworkDetector, table: Table | None) -> Array:
    """Return [windows, rows × features], raw readings to test by; one of them, if they are made up, with gaps."""
    scaler, size = detector.scaler, detector.window.size
    if table is None:
        rng = np.random.default_rng(0)
        made = scaler.undo(rng.normal(size=(VECTORS * size, scaler.width)))
        made[-size:, ::2] = np.nan
        return np.asarray(made.reshape(VECTORS, -1))
    if not len(table):
        raise DataUnusable("there are no rows to test by")
    chosen = scaler.scaling.chosen(table)
    samples = detector.samples(chosen, detector.memory)
    ends = samples.whole()
    calm = ends[(np.abs(samples.take(ends)) <= CALM).all(axis=1)]
    ends = calm if len(calm) else ends
    ends = ends[np.linspace(0, len(ends) - 1, min(VECTORS, len(ends))).astype(int)]
    at = np.maximum(ends[:, None] + np.arange(1 - size, 1), 0)
    return np.asarray(chosen.take(at.ravel()).numbers.reshape(len(ends), -1))


def _said(text: str) -> str:
    """Make a name or a sentence harmless in a comment of C."""
    shown = "".join(each if each.isprintable() else " " for each in text[:120])
    shown = re.sub(r"\?(?=\?)", "? ", shown.replace("*/", "* /").replace("/*", "/ *"))
    return shown.rstrip("\\ ")
