"""Stacked networks on a device of torch's: the same arithmetic as `vedette.training.cohort.stack`, on an accelerator as captured graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vedette.message import Array
from vedette.training.cohort.stacked import Stacked, state_of
from vedette.training.dense import Dense, parameters, places_of
from vedette.training.layers import needs_torch
from vedette.training.rates import BETA, BETA2, EPSILON
from vedette.training.task import Optimiser

__all__ = ["DeviceStack"]


class DeviceStack(Stacked):
    """Stacked networks on a device; see `vedette.training.cohort.stacked.Stacked`.

    All that a step works on stays where it is, so that on CUDA a step is captured once for each number of rows and replayed from then on.

    Parameters
    ----------
    device
        Torch's name of it: ``"cuda"``, or ``"cpu"``.
    """

    def __init__(self, dense: Sequence[Dense], nodes: int, batch: int, loss: str, optimiser: Optimiser, device: str) -> None:
        super().__init__(dense, nodes, batch, loss, optimiser)
        torch = self._torch = needs_torch()
        self.device, size = device, parameters(dense)
        names = ("weights", "anchor", *state_of(optimiser))
        self._flat: dict[str, Any] = {name: torch.zeros((nodes, size), device=device) for name in names}
        self._parts = [
            (
                self._flat["weights"][:, at.weights].unflatten(1, (layer.outputs, layer.inputs)),
                self._flat["weights"][:, at.biases].unsqueeze(1),
            )
            for layer, at in zip(self.dense, places_of(self.dense), strict=True)
        ]
        # Rate, mu, and what Adam divides its moments by; read by captured steps, so they are written in place.
        self._numbers = torch.zeros(4, device=device)
        self._held, self._fit = torch.zeros(nodes, device=device), torch.zeros(nodes, dtype=torch.float64, device=device)
        self._batches: dict[int, tuple[Any, Any]] = {}
        self._graphs: dict[tuple[int, bool], Callable[[], Any]] = {}

    @property
    def weights(self) -> Array:
        return self._read("weights")

    @property
    def state(self) -> dict[str, Array]:
        return {name: self._read(name) for name in state_of(self.optimiser)}

    def _read(self, name: str) -> Array:
        return np.asarray(self._flat[name].cpu().numpy())

    def _write(self, name: str, values: Array) -> None:
        self._flat[name].copy_(self._torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))

    def begin(self, weights: Array, state: Mapping[str, Array], steps: int) -> None:
        self.steps = steps
        self._write("weights", weights)
        for name in state_of(self.optimiser):
            self._write(name, state.get(name, np.zeros(1, np.float32)))

    def finite(self) -> Array:
        return np.asarray(self._flat["weights"].isfinite().all(dim=1).cpu().numpy())

    def step(self, inputs: Array, labels: Array | None, held: Array | int, rate: float, pull: tuple[float, Array] | None = None) -> Array:
        torch, rows = self._torch, inputs.shape[1]
        self.steps += 1
        if rows not in self._batches:
            shape = self.nodes, rows
            self._batches[rows] = torch.zeros((*shape, inputs.shape[2]), device=self.device), torch.zeros(shape, device=self.device)
        for given, place in zip((inputs, labels), self._batches[rows], strict=True):
            if given is not None:
                place.copy_(torch.from_numpy(given))
        if pull is not None:
            self._write("anchor", pull[1])
        mu = 0.0 if pull is None else pull[0]
        self._numbers.copy_(torch.tensor([rate, mu, 1 - BETA**self.steps, 1 - BETA2**self.steps]))
        self._held.copy_(torch.as_tensor(held))
        key = rows, pull is not None
        if key not in self._graphs:
            self._graphs[key] = self._captured(*key) if self.device == "cuda" else lambda: self._move(self._slopes(*key))
        with torch.no_grad():
            self._graphs[key]()
        return np.array(self._fit.cpu().numpy())

    def _captured(self, rows: int, pulled: bool) -> Callable[[], Any]:
        """Return a step as a graph; torch wants it to have run before on a stream beside, and that must leave nothing behind."""
        torch = self._torch
        kept = {name: flat.clone() for name, flat in self._flat.items()}
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside), torch.no_grad():
            for _ in range(3):
                self._move(self._slopes(rows, pulled))
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.no_grad():
            self._move(self._slopes(rows, pulled))
        for name, flat in self._flat.items():
            flat.copy_(kept[name])
        return graph.replay  # type: ignore[no-any-return]

    def _slopes(self, rows: int, pulled: bool) -> Any:
        """Return the gradient [nodes, parameters] of a batch, and leave the loss of each node in its place."""
        torch, (inputs, labels) = self._torch, self._batches[rows]
        values = [inputs]
        for (weights, biases), layer in zip(self._parts, self.dense, strict=True):
            values.append(_active(torch, torch.baddbmm(biases, values[-1], weights.transpose(1, 2)), layer))
        counts = (torch.arange(rows, device=self.device) < self._held[:, None])[..., None].float()
        slope = self._loss(values[-1], inputs, labels, counts) * counts / self._held[:, None, None]
        found = []
        for number in range(len(self.dense) - 1, -1, -1):
            slope = _passed_back(slope, values[number + 1], self.dense[number])
            found += [slope.sum(dim=1), torch.bmm(slope.transpose(1, 2), values[number]).flatten(1)]
            if number:
                slope = torch.bmm(slope, self._parts[number][0])
        gradient = torch.cat(found[::-1], dim=1)
        return gradient + self._numbers[1] * (self._flat["weights"] - self._flat["anchor"]) if pulled else gradient

    def _loss(self, outputs: Any, inputs: Any, labels: Any, counts: Any) -> Any:
        """Note each node's loss; return its slope at the outputs, times the rows that count."""
        torch = self._torch
        if self.loss == "cross-entropy":
            parts = torch.nn.functional.softplus(outputs) - labels[..., None] * outputs
            slope = torch.sigmoid(outputs) - labels[..., None]
        elif self.loss == "mse":
            slope = outputs - inputs
            parts, slope = slope * slope / slope.shape[2], slope * (2 / slope.shape[2])
        else:
            slope = outputs - inputs
            parts, slope = slope.abs() / slope.shape[2], slope.sign() / slope.shape[2]
        self._fit.copy_((parts * counts).sum(dim=(1, 2), dtype=torch.float64) / self._held)
        return slope

    def _move(self, gradient: Any) -> None:
        torch, weights, settings = self._torch, self._flat["weights"], self.optimiser
        rate, _, first_bias, second_bias = self._numbers
        if settings.name == "adamw":
            weights.mul_(1 - rate * settings.decay)
        elif settings.decay:
            gradient = gradient + settings.decay * weights
        if settings.name == "sgd":
            if settings.momentum:
                gradient = self._flat["momentum_buffer"].mul_(settings.momentum).add_(gradient)
            weights.sub_(rate * gradient)
            return
        first, second = self._flat["exp_avg"], self._flat["exp_avg_sq"]
        first.lerp_(gradient, 1 - BETA)
        second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        weights.sub_(rate / first_bias * first / (torch.sqrt(second) / torch.sqrt(second_bias) + EPSILON))


def _active(torch: Any, values: Any, layer: Dense) -> Any:
    if layer.activation == "leaky-relu":
        return torch.nn.functional.leaky_relu(values, layer.slope)
    return {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "": lambda same: same}[layer.activation](values)


def _passed_back(slope: Any, values: Any, layer: Dense) -> Any:
    """Return what comes back through an activation that gave these values."""
    if layer.activation == "tanh":
        return slope * (1 - values * values)
    if layer.activation == "sigmoid":
        return slope * values * (1 - values)
    if layer.activation:
        return slope * ((values > 0) + (values <= 0) * (layer.slope if layer.activation == "leaky-relu" else 0.0))
    return slope
