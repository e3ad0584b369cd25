"""Whole detectors as ONNX: raw values in, scores out; scaling, network and score in one graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.data.scaling import LIMIT
from vedette.data.summaries import Moments
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.classical import Pca, VarianceDistance
from vedette.detectors.classifier import Classifier
from vedette.detectors.graph import IR, OPSET, onnx_module, session_of
from vedette.detectors.reconstruction import Reconstruction
from vedette.errors import CheckpointError
from vedette.message import Array

__all__ = ["OnnxScore", "fused"]

CHUNK_VALUES = 2**15
"""Values that are scored at once: what lies between the steps stays in the cache (benchmarks/edge.py)."""
APART = 1e-3
"""How far a graph's scores may be from the detector's, as a share; those of one that belongs to it are about 1e-6 away."""
PROBES = 32


class _Graph:
    """Nodes of a graph and the arrays it holds."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def add(self, kind: str, *inputs: str, to: str = "", settings: dict[str, Any] | None = None) -> str:
        """Add an operation on named arrays; return the name of what it gives."""
        name = to or f"score/{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=f"score/{kind}/{len(self.nodes)}", **(settings or {})))
        return name

    def keep(self, array: Any) -> str:
        """Hold an array; return its name."""
        name = f"score/held/{len(self.held)}"
        self.held.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def single(self, at: str) -> str:
        """Go on with 32 bits."""
        return self.add("Cast", at, settings={"to": self.onnx.TensorProto.FLOAT})

    def double(self, at: str) -> str:
        """Go on with 64 bits."""
        return self.add("Cast", at, settings={"to": self.onnx.TensorProto.DOUBLE})

    def times(self, at: str, matrix: Array) -> str:
        """Multiply by a matrix from the right."""
        return self.add("MatMul", at, self.keep(matrix))

    def square(self, at: str) -> str:
        """Multiply by itself."""
        return self.add("Mul", at, at)

    def mean(self, at: str, weights: Array) -> str:
        """Go on with one number for each sample, its values weighted and added up.

        A product, because a reduction adds up the values of one sample in another order than those of many.
        """
        return self.column(self.times(at, weights[:, None]))

    def column(self, at: str) -> str:
        """Go on with [n] numbers of [n, 1]."""
        return self.add("Reshape", at, self.keep(np.array([-1])))

    def last(self, at: str, values: int) -> str:
        """Go on with the last values of each sample."""
        return self.add("Slice", at, *(self.keep(np.array([number])) for number in (-values, np.iinfo(np.int64).max, 1)))


def fused(detector: Detector, model: bytes | None = None) -> bytes | None:
    """Return a fitted detector as one ONNX graph: ``values`` [n, window size × features] float64 -> ``score`` [n] float64.

    Values are raw, the oldest row of a window first; NaN is missing. An average of scores (`Window.average`) is left to the caller.

    Parameters
    ----------
    detector
        What to write.
    model
        Its network as ONNX, as bundles hold it.

    Returns
    -------
    bytes or None
        None if its scaling is no straight line (categories, ranks), or nobody has written down its score as a graph.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    """
    line = detector.scaler.line
    if line is None or not isinstance(detector, Reconstruction | Classifier | VarianceDistance | Pca):
        return None
    onnx = onnx_module()
    graph, network = _Graph(onnx), None if model is None else onnx.ModelProto.FromString(model)
    samples, outputs = _scaled(graph, detector, line), "outputs"
    if network is not None:
        graph.nodes.extend(network.graph.node)
        graph.held.extend(network.graph.initializer)
    if isinstance(detector, Reconstruction):
        score = _residual(graph, detector, samples, outputs)
    elif isinstance(detector, Classifier):
        score = graph.column(graph.add("Sigmoid", graph.double(outputs)))
    elif isinstance(detector, Pca):
        score = _subspace(graph, detector, samples)
    else:
        score = _distance(graph, detector, samples)
    graph.add("Identity", score, to="score")
    width, double = detector.window.size * detector.scaler.width, onnx.TensorProto.DOUBLE
    ends = [onnx.helper.make_tensor_value_info(*end) for end in (("values", double, ["n", width]), ("score", double, ["n"]))]
    made = onnx.helper.make_graph(graph.nodes, "detector", ends[:1], ends[1:], graph.held)
    opsets = [onnx.helper.make_opsetid("", OPSET)] if network is None else network.opset_import
    whole = onnx.helper.make_model(made, opset_imports=opsets, ir_version=IR, producer_name="vedette")
    onnx.checker.check_model(whole)
    content: bytes = whole.SerializeToString()
    return content


def _scaled(graph: _Graph, detector: Detector, line: tuple[Array, Array, Array]) -> str:
    """Add what `Scaler.transform` does; return the name of the network's samples."""
    shift, scale, middle = (np.tile(column, detector.window.size) for column in line)
    at = "values"
    if detector.scaler.scaling.log:
        logarithm = graph.add("Log", graph.add("Add", graph.add("Abs", at), graph.keep(np.float64(1))))
        at = graph.add("Mul", graph.add("Sign", at), logarithm)
    at = graph.add("Sub", at, graph.keep(shift))
    at = graph.single(graph.add("Mul", at, graph.keep(1 / scale)))
    at = graph.add("Where", graph.add("IsNaN", at), graph.keep(middle.astype(np.float32)), at)
    return graph.add("Clip", at, graph.keep(np.float32(-LIMIT)), graph.keep(np.float32(LIMIT)), to="samples")


def _counted(graph: _Graph, detector: Detector, at: str) -> str:
    """Go on with the values that count (`Window.counted`)."""
    return at if detector.window.scored == "whole" or detector.window.size == 1 else graph.last(at, detector.scaler.width)


def _residual(graph: _Graph, detector: Reconstruction, samples: str, outputs: str) -> str:
    gap = graph.add("Sub", _counted(graph, detector, outputs), _counted(graph, detector, samples))
    values = _values(detector)
    if detector.residual == "mahalanobis":
        return graph.mean(graph.square(graph.times(graph.double(gap), detector.whitening(detector.memory))), _even(values))
    weights = detector.weights(detector.memory) / values if detector.residual == "variance" else _even(values)
    parts = graph.add("Abs", gap) if detector.residual == "absolute" else graph.square(gap)
    return graph.double(graph.mean(parts, weights.astype(np.float32)))


def _distance(graph: _Graph, detector: Detector, samples: str) -> str:
    assert isinstance(detector, VarianceDistance)
    moments = Moments.from_table(np.asarray(detector.memory["summary.moments"]))
    gap = graph.square(graph.add("Sub", graph.double(samples), graph.keep(moments.mean)))
    parts = graph.add("Div", gap, graph.keep(moments.variance + detector.floor))
    return graph.mean(_counted(graph, detector, parts), _even(_values(detector)))


def _subspace(graph: _Graph, detector: Pca, samples: str) -> str:
    mean, axes, variances, outside = detector.subspace(np.asarray(detector.memory["summary.covariance"]))
    centred = graph.add("Sub", graph.double(samples), graph.keep(mean))
    within = graph.times(centred, axes.T)
    far = graph.mean(graph.square(within), 1 / variances / len(variances))
    if detector.statistic == "t2":
        return far
    away = graph.add("Sub", centred, graph.times(within, axes))
    q = graph.mean(graph.square(_counted(graph, detector, away)), _even(_values(detector)))
    if detector.statistic == "q":
        return q
    return graph.add("Add", graph.add("Mul", q, graph.keep(np.float64(len(mean) / outside))), far)


def _values(detector: Detector) -> int:
    """Return how many values of a sample count."""
    return detector.scaler.width * (detector.window.size if detector.window.scored == "whole" else 1)


def _even(values: int) -> Array:
    return np.full(values, 1 / values)


class OnnxScore:
    """A whole detector that ONNX Runtime runs, with one thread: raw values in, scores out.

    Parameters
    ----------
    model
        Content of the file, from `fused`.
    detector
        Whose it is: on made-up samples it must score as that does.
    where
        What it was read from, for messages.

    Attributes
    ----------
    together
        Whether samples score the same, bit by bit, whoever they are scored with. Float32 networks do; weights of 8 bits do not (their
        steps follow from the largest value beside them), and are scored one by one.

    Raises
    ------
    CheckpointError
        It is no model, not one for such samples, or another detector's.
    """

    def __init__(self, model: bytes, detector: Detector, where: str) -> None:
        import onnxruntime

        if detector.scaler.line is None:
            raise CheckpointError(f"{where}: this detector's scaling is no part of a graph")
        width = detector.window.size * detector.scaler.width
        self._session = session_of(model, width, where, "double")
        taken, given = self._session.get_inputs()[0], self._session.get_outputs()[0]
        if given.type != "tensor(double)":
            raise CheckpointError(f"{where} gives {given.type} where scores are tensor(double)")
        self._taken, self._given, self._where = taken.name, given.name, where
        self._size = max(16, CHUNK_VALUES // width)
        # One sample passes through two arrays that stay where they are: no list, no dictionary, no new array.
        self._values, self._score = np.zeros((1, width)), np.zeros(1)
        self._bound = self._session.io_binding()
        self._bound.bind_ortvalue_input(self._taken, onnxruntime.OrtValue.ortvalue_from_numpy(self._values))
        self._bound.bind_ortvalue_output(self._given, onnxruntime.OrtValue.ortvalue_from_numpy(self._score))
        self.together = True
        values, wanted = _probes(detector)
        found = self.many(values)
        if not np.allclose(found, wanted, rtol=APART, atol=1e-9):
            raise CheckpointError(f"{where} scores otherwise than the detector it stands beside")
        self.together = bool(np.array_equal(found, [self.one(sample) for sample in values]))

    def one(self, values: Array) -> float:
        """Return the score of one sample, [width] float64."""
        self._values[0] = values
        try:
            self._session.run_with_iobinding(self._bound)
        except Exception as error:
            raise self._failed(error) from None
        return float(self._score[0])

    def many(self, values: Array) -> Array:
        """Return the scores [n] float64 of samples [n, width] float64."""
        if len(values) == 1 or not self.together:
            return np.array([self.one(sample) for sample in values])
        scores = np.empty(len(values))
        for first in range(0, len(values), self._size):
            part = np.ascontiguousarray(values[first : first + self._size], dtype=np.float64)
            try:
                (found,) = self._session.run([self._given], {self._taken: part})
            except Exception as error:
                raise self._failed(error) from None
            if found.shape != (len(part),):
                raise CheckpointError(f"{self._where} gives scores of shape {found.shape} for {len(part)} samples")
            scores[first : first + len(part)] = found
        return scores

    def _failed(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self._where} cannot be run: {str(error).splitlines()[0][:200]}")


def _probes(detector: Detector) -> tuple[Array, Array]:
    """Return made-up samples, raw, and their scores."""
    scaler, rng = detector.scaler, np.random.default_rng(0)
    values = scaler.undo(rng.normal(size=(PROBES * detector.window.size, scaler.width)))
    values[rng.random(values.shape) < 0.05] = np.nan
    samples = scaler.transform(Table(scaler.features, values)).reshape(PROBES, -1)
    return values.reshape(PROBES, -1), detector.score_samples(samples)
