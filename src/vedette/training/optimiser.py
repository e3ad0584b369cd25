"""Torch's optimisers for the trainers that use torch, by its functions: its classes load its compiler, which nothing here uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vedette.message import Array
from vedette.training.layers import needs_torch
from vedette.training.rates import BETA, BETA2, EPSILON
from vedette.training.task import Optimiser

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["TorchOptimiser"]


class TorchOptimiser:
    """What moves parameters against their gradients: the same bits as ``torch.optim.SGD``, ``Adam`` and ``AdamW``.

    The first optimiser of those classes takes a process 2 s and 80 MB, as much again as torch itself.

    Parameters
    ----------
    settings
        Rule, decay and momentum; Adam's steps are fused.
    moving
        What it moves, by name.
    kept
        What `remembered` gave, to go on from.
    """

    def __init__(self, settings: Optimiser, moving: Mapping[str, nn.Parameter], kept: Mapping[str, Array]) -> None:
        torch = needs_torch()
        self.settings, self.moving = settings, moving
        self.state: dict[str, dict[str, Tensor]] = {name: {} for name in moving}
        for place, array in kept.items():
            name, _, key = place.rpartition("/")
            if name in moving:
                self.state[name][key] = torch.from_numpy(np.array(array))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.moving.values():
            parameter.grad = None

    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient, at a learning rate."""
        moved = {name: parameter for name, parameter in self.moving.items() if parameter.grad is not None}
        with needs_torch().no_grad():
            (self._descend if self.settings.name == "sgd" else self._adapt)(moved, rate)

    def remembered(self) -> dict[str, Array]:
        """Return what there is to remember: a moment, or the number of steps, as ``parameter/moment``."""
        return {f"{name}/{key}": value.numpy().copy() for name, held in self.state.items() for key, value in held.items()}

    def _gradients(self, moved: Mapping[str, nn.Parameter]) -> list[Tensor]:
        return [parameter.grad for parameter in moved.values() if parameter.grad is not None]

    def _descend(self, moved: Mapping[str, nn.Parameter], rate: float) -> None:
        from torch.optim.sgd import sgd

        held = [self.state[name].get("momentum_buffer") for name in moved]
        sgd(
            list(moved.values()),
            self._gradients(moved),
            held,
            foreach=False,
            weight_decay=self.settings.decay,
            momentum=self.settings.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for name, buffer in zip(moved, held, strict=True):
            if buffer is not None:
                self.state[name]["momentum_buffer"] = buffer

    def _adapt(self, moved: Mapping[str, nn.Parameter], rate: float) -> None:
        from torch.optim.adam import adam

        torch = needs_torch()
        for name, parameter in moved.items():
            if not self.state[name]:
                means = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                self.state[name] = {"step": torch.zeros(()), **means}
        adam(
            list(moved.values()),
            self._gradients(moved),
            [self.state[name]["exp_avg"] for name in moved],
            [self.state[name]["exp_avg_sq"] for name in moved],
            [],
            [self.state[name]["step"] for name in moved],
            fused=True,
            decoupled_weight_decay=self.settings.name == "adamw",
            amsgrad=False,
            beta1=BETA,
            beta2=BETA2,
            lr=rate,
            weight_decay=self.settings.decay,
            eps=EPSILON,
            maximize=False,
        )
