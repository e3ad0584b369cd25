"""What is minimised: the fit to the rows, and the terms of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette.training.layers import needs_torch
from vedette.training.networks import Network
from vedette.training.task import Distil, Learnable, Proximal, Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["objective"]


def objective(detector: Learnable, network: Network, task: Task) -> Any:
    """Return a function of a batch: its loss, and the sum of its loss and the task's terms."""
    torch = needs_torch()
    functional = torch.nn.functional

    def distance(outputs: Tensor, wanted: Tensor) -> Tensor:
        gap: Tensor = functional.l1_loss(outputs, wanted) if detector.loss == "mae" else functional.mse_loss(outputs, wanted)
        return gap

    terms = [_term(term, detector, network, distance) for term in task.terms]

    def loss(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs: Tensor = network.module(inputs)
        value: Tensor
        if detector.learning == "supervised":
            value = functional.binary_cross_entropy_with_logits(outputs[:, 0], labels)
        else:
            value = distance(outputs, inputs)
        return value, sum((term(inputs, outputs) for term in terms), start=value)

    return loss


def _term(term: Proximal | Distil, detector: Learnable, network: Network, distance: Any) -> Any:
    torch = needs_torch()
    functional = torch.nn.functional
    if isinstance(term, Proximal):
        anchor = term.anchor or network.vector(holds="weights")
        fixed = {name: torch.from_numpy(array.copy()) for name, array in network.layout.part(holds="weights").arrays(anchor).items()}
        moving = dict(network.module.named_parameters())
        return lambda *_: term.mu / 2 * sum(((moving[name] - fixed[name]) ** 2).sum() for name in moving)

    teacher = Network(network.layers)
    teacher.load(network.vector())
    teacher.load(term.teacher, holds="all" if term.teacher.layout == teacher.layout.hash else "weights")
    teacher.module.eval()

    def distil(inputs: Tensor, outputs: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher.module(inputs)
        if detector.learning == "one-class":
            return term.weight * distance(outputs, wanted)  # type: ignore[no-any-return]
        soft = torch.sigmoid(wanted / term.temperature)
        gap = functional.binary_cross_entropy_with_logits(outputs / term.temperature, soft)
        return term.weight * term.temperature**2 * gap  # type: ignore[no-any-return]

    return distil
