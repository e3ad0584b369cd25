"""Networks as ONNX: built from layers that stand as data, run by ONNX Runtime without torch."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vedette.errors import CheckpointError, DetectorMisused, MissingExtra
from vedette.message import Array, Vector
from vedette.training.layers import TINY, Layer
from vedette.training.layout import layout_of
from vedette.training.task import Layers

__all__ = ["OnnxNetwork", "halved", "halves", "onnx_module", "onnx_of", "quantised", "session_of"]

OPSET, IR = 17, 8
LARGEST = 512 * 2**20
"""Bytes of a model; what is larger is none of ours."""

Arrays: TypeAlias = Mapping[str, Array]


class Graph:
    """An ONNX graph in the making: one tensor after the other.

    Attributes
    ----------
    at
        Name of the tensor that the next layer reads.
    ranked
        Its number of dimensions: 2, or 3 between the layers that make steps and those that end them.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.at, self.ranked = onnx, "samples", 2
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def add(self, kind: str, name: str, *inputs: str, outputs: int = 1, place: int = 0, **attributes: Any) -> None:
        """Add an operation on the current tensor and further inputs; go on with one of its outputs."""
        names = [f"{name}.{kind}.{number}" for number in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, [self.at, *inputs], names, name=f"{name}.{kind}", **attributes))
        self.at = names[place]

    def keep(self, name: str, array: Array) -> str:
        """Add an array that the graph holds; return its name."""
        self.held.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _dense(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    weight, bias = arrays["weight"], graph.keep(f"{name}.bias", arrays["bias"])
    if graph.ranked == 2:
        graph.add("Gemm", name, graph.keep(f"{name}.weight", weight), bias, transB=1)
    else:
        graph.add("MatMul", name, graph.keep(f"{name}.weight", weight.T))
        graph.add("Add", name, bias)


def _lstm(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    width = layer["outputs"]
    # torch lays the gates out as input, forget, cell, output; ONNX as input, output, forget, cell.
    gates = np.concatenate([np.arange(gate * width, (gate + 1) * width) for gate in (0, 3, 1, 2)])
    kernel = graph.keep(f"{name}.kernel", arrays["weight_ih_l0"][gates][None])
    recurrent = graph.keep(f"{name}.recurrent", arrays["weight_hh_l0"][gates][None])
    biases = np.concatenate([arrays["bias_ih_l0"][gates], arrays["bias_hh_l0"][gates]])[None]
    graph.add("Transpose", f"{name}.in", perm=[1, 0, 2])
    last = layer["returns"] == "last"
    graph.add("LSTM", name, kernel, recurrent, graph.keep(f"{name}.bias", biases), outputs=2, place=int(last), hidden_size=width)
    graph.add("Squeeze", name, graph.keep(f"{name}.axis", np.array([0 if last else 1])))
    if last:
        graph.ranked = 2
    else:
        graph.add("Transpose", f"{name}.out", perm=[1, 0, 2])


def _batch_norm(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    held = [graph.keep(f"{name}.{each}", arrays[each]) for each in ("weight", "bias", "running_mean", "running_var")]
    graph.add("BatchNormalization", name, *held, epsilon=1e-5)


def _steps(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Reshape", name, graph.keep(f"{name}.shape", np.array([0, layer["steps"], layer["width"]])))
    graph.ranked = 3


def _flat(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Reshape", name, graph.keep(f"{name}.shape", np.array([0, -1])))
    graph.ranked = 2


def _repeat(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Unsqueeze", name, graph.keep(f"{name}.axis", np.array([1])))
    graph.add("Expand", name, graph.keep(f"{name}.shape", np.array([1, layer["steps"], 1])))
    graph.ranked = 3


def _turn(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Transpose", name, perm=[0, 2, 1])


def _conv(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    held = [graph.keep(f"{name}.{each}", arrays[each]) for each in ("weight", "bias")]
    graph.add("Conv", name, *held, pads=[layer["kernel"] // 2] * 2)


def _pool(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("ReduceMax" if layer["by"] == "max" else "ReduceMean", name, axes=[2], keepdims=0)
    graph.ranked = 2


def _squeeze(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    channels = graph.at
    graph.add("ReduceMean", name, axes=[2], keepdims=0)
    graph.add("MatMul", f"{name}.down", graph.keep(f"{name}.down", arrays["down"].T))
    graph.add("Relu", name)
    graph.add("MatMul", f"{name}.up", graph.keep(f"{name}.up", arrays["up"].T))
    graph.add("Sigmoid", name)
    graph.add("Unsqueeze", name, graph.keep(f"{name}.axis", np.array([2])))
    graph.add("Mul", name, channels)


def _attention(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Transpose", f"{name}.in", perm=[0, 2, 1])
    graph.add("MatMul", f"{name}.asked", graph.keep(f"{name}.keys", arrays["keys"].T))
    graph.add("Softmax", name, axis=1)
    asked = graph.at
    graph.add("ReduceSum", name, graph.keep(f"{name}.axis", np.array([2])), keepdims=1)
    graph.add("Add", name, graph.keep(f"{name}.tiny", np.array([TINY], dtype=np.float32)))
    total, graph.at = graph.at, asked
    graph.add("Div", name, total)
    graph.add("MatMul", f"{name}.answered", graph.keep(f"{name}.values", arrays["values"].T))
    graph.add("Transpose", f"{name}.out", perm=[0, 2, 1])


def _periodic(graph: Graph, name: str, layer: Layer, arrays: Arrays) -> None:
    graph.add("Unsqueeze", name, graph.keep(f"{name}.axis", np.array([2])))
    graph.add("Mul", name, graph.keep(f"{name}.frequencies", np.float32(2 * math.pi) * arrays["frequencies"]))
    angles = graph.at
    graph.add("Sin", name)
    sines, graph.at = graph.at, angles
    graph.add("Cos", name)
    graph.add("Concat", name, sines, axis=2)
    graph.add("Transpose", f"{name}.in", perm=[1, 0, 2])
    graph.add("MatMul", name, graph.keep(f"{name}.weight", arrays["weight"]))
    graph.add("Add", name, graph.keep(f"{name}.bias", arrays["bias"][:, None]))
    graph.add("Transpose", f"{name}.out", perm=[1, 2, 0])
    graph.ranked = 3


def _element(kind: str) -> Callable[[Graph, str, Layer, Arrays], None]:
    return lambda graph, name, layer, arrays: graph.add(kind, name)


_BUILT: Mapping[str, Callable[[Graph, str, Layer, Arrays], None]] = {
    "dense": _dense,
    "lstm": _lstm,
    "batch-norm": _batch_norm,
    "conv": _conv,
    "squeeze-excitation": _squeeze,
    "external-attention": _attention,
    "periodic": _periodic,
    "pool": _pool,
    "relu": _element("Relu"),
    "leaky-relu": lambda graph, name, layer, arrays: graph.add("LeakyRelu", name, alpha=layer.get("slope", 0.01)),
    "tanh": _element("Tanh"),
    "sigmoid": _element("Sigmoid"),
    "dropout": lambda *_: None,  # lets everything through once training is over
    "steps": _steps,
    "flat": _flat,
    "turn": _turn,
    "repeat": _repeat,
}


def onnx_of(layers: Layers, vector: Vector, width: int) -> bytes:
    """Return a network as an ONNX model: ``samples`` [n, width] float32 -> ``outputs`` [n, values] float32.

    Parameters
    ----------
    layers
        The network as data.
    vector
        Its parameters.
    width
        Values of a sample.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    """
    onnx = onnx_module()
    graph, held = Graph(onnx), layout_of(layers).arrays(vector)
    for layer in layers:
        name = str(layer["name"])
        mine = {key.removeprefix(f"{name}."): array for key, array in held.items() if key.rpartition(".")[0] == name}
        _BUILT[layer["kind"]](graph, name, layer, mine)
    float32 = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(place, float32, ["n", size]) for place, size in (("samples", width), ("outputs", "values"))]
    graph.add("Identity", "outputs")
    graph.nodes[-1].output[0] = "outputs"
    made = onnx.helper.make_graph(graph.nodes, "network", ends[:1], ends[1:], graph.held)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="vedette")
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def quantised(model: bytes) -> bytes:
    """Return a model with weights of 8 bits (ONNX Runtime's dynamic quantisation).

    Raises
    ------
    MissingExtra
        onnx is not installed.
    """
    onnx_module()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        whole.write_bytes(model)
        root = logging.getLogger()
        before, root.level = root.level, logging.ERROR  # it advises a step that would change nothing here
        try:
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
        finally:
            root.level = before
        return small.read_bytes()


def halved(model: bytes) -> bytes:
    """Return a model with weights of 16 bits, widened when it is loaded: half the size; biases and arithmetic keep 32 bits.

    Raises
    ------
    DetectorMisused
        A weight is too large for 16 bits.
    MissingExtra
        onnx is not installed.
    """
    onnx = onnx_module()
    held = onnx.ModelProto.FromString(model)
    graph, casts = held.graph, []
    for tensor in graph.initializer:
        array, name = onnx.numpy_helper.to_array(tensor), tensor.name
        if array.dtype != np.float32 or array.ndim < 2:  # biases and statistics are few, and may be tiny on purpose
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves(array, name), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(held)
    content: bytes = held.SerializeToString()
    return content


def halves(array: Array, name: str) -> Array:
    """Round an array to float16.

    Raises
    ------
    DetectorMisused
        A number in it is too large.
    """
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise DetectorMisused(f"'{name}' has weights beyond 65,504, which 16 bits cannot hold: take float32 or int8")
    return rounded


def session_of(model: bytes, width: int, where: str, kind: str) -> Any:
    """Return an ONNX Runtime session, with one thread, of a model that takes [n, width] of a kind of number and gives one array.

    Raises
    ------
    CheckpointError
        It is no model, or not one for such samples.
    """
    import onnxruntime

    if len(model) > LARGEST:
        raise CheckpointError(f"{where}: {len(model):,} bytes are no model of ours")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        (taken,), (_,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # ONNX Runtime raises a family of its own, without a base
        raise CheckpointError(f"{where} is no model that can be run: {str(error).splitlines()[0][:200]}") from None
    if taken.type != f"tensor({kind})" or taken.shape[1:] != [width]:
        raise CheckpointError(f"{where} takes {taken.shape[1:]} values of {taken.type}, this detector's samples have {width}")
    return session


class OnnxNetwork:
    """A network that ONNX Runtime runs, with one thread.

    Parameters
    ----------
    model
        Content of the file.
    width
        Values of a sample, as the detector's settings and scaling say.
    where
        What it was read from, for messages.

    Raises
    ------
    CheckpointError
        It is no model, or not one for such samples.
    """

    def __init__(self, model: bytes, width: int, where: str) -> None:
        self._session = session_of(model, width, where, "float")
        self._taken, self._given, self._where = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name, where

    def forward(self, samples: Array) -> Array:
        """Run [n, width] float32 through the network."""
        try:
            outputs: Array = self._session.run([self._given], {self._taken: samples})[0]
        except Exception as error:
            raise CheckpointError(f"{self._where} cannot be run: {str(error).splitlines()[0][:200]}") from None
        return outputs


def onnx_module() -> Any:
    """Return onnx, which writes models.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("writing models needs onnx: pip install 'vedette[train]'") from None
    return onnx
