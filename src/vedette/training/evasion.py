"""Evasion: samples of anomalies changed a little, within what each feature really takes, so that a classifier calls them normal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import Field

from vedette.data.windows import Samples
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.settings import Settings
from vedette.training.layers import needs_torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vedette.training.networks import Network

__all__ = ["Evasion", "Range", "evaded", "hardened"]

BLOCK = 2048
"""Samples moved at once."""


class Evasion(Settings):
    """An attacker who knows the network and changes what it sees of each anomaly.

    Each feature is changed by itself. Real traffic leaves less choice (a mean and a variance go together), so this is the most that
    such an attacker could do within the budget.

    Parameters
    ----------
    name
        ``"fgsm"``: one step of the whole budget (fast gradient sign method, Goodfellow et al. 2015, section 4). ``"pgd"``: small steps
        from a random start within the budget (projected gradient descent, Madry et al. 2018, section 2.1).
    budget
        How far each number may move, as a share of the range that it takes in training rows, as scaled.
    steps
        Of ``"pgd"``.
    """

    name: Literal["fgsm", "pgd"] = "pgd"
    budget: float = Field(default=0.05, ge=0, le=1)
    steps: int = Field(default=10, ge=1)

    @property
    def step(self) -> float:
        """One step, as a share of the range; those of ``"pgd"`` reach every border from any start (Madry et al. 2018)."""
        return self.budget if self.name == "fgsm" else 2.5 * self.budget / self.steps


class Range(NamedTuple):
    """What the values of samples are, and which of them an attacker may change.

    Attributes
    ----------
    low, high
        [width] float32, the least and largest value of each column in training rows.
    moves
        [width] bool, whether it is a number; categories, and columns that tell of missing numbers, stay as they are.
    """

    low: Array
    high: Array
    moves: Array

    @classmethod
    def of(cls, samples: Samples) -> Range:
        """Read the range off samples; all rows of a window share that of their feature.

        Raises
        ------
        DataUnusable
            There is none.
        """
        width, rows = samples.scaler.width, samples.window.size
        parts = [chunk.reshape(-1, width) for chunk in samples.chunks() if len(chunk)]
        if not parts:
            raise DataUnusable("there is no training row to read the range of the features from")
        low = np.min([part.min(axis=0) for part in parts], axis=0)
        high = np.max([part.max(axis=0) for part in parts], axis=0)
        # Columns of numbers come first (Scaler.names).
        moves = np.arange(width) < len(samples.scaler.number_places)
        return cls(np.tile(low, rows), np.tile(high, rows), np.tile(moves, rows))


def evaded(network: Network, samples: Array, within: Range, evasion: Evasion, rng: np.random.Generator) -> Array:
    """Move samples so that a classifier's logit falls; of all places tried, the start among them, each keeps the one with the lowest.

    A value leaves its range no further than it has already. The network stays as it is, its gradients and its mode too.

    Parameters
    ----------
    network
        Samples to one logit.
    samples
        [n, width] float32, scaled.
    within
        Where they may go.
    evasion
        How, and how far.
    rng
        For random starts.

    Returns
    -------
    Array
        [n, width] float32.
    """
    moved = np.array(samples, dtype=np.float32)
    with _evaluating(network.module):
        for start in range(0, len(moved), BLOCK):
            moved[start : start + BLOCK] = _lowered(network.module, moved[start : start + BLOCK], within, evasion, rng)
    return moved


def hardened(adversary: Evasion | None, network: Network, samples: Samples, rng: np.random.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what makes of a batch [n, width] and its labels [n] the batch to train on.

    Each of its anomalies is, with probability 1/2, met as the adversary would show it to the network as it stands: on average the loss
    of Goodfellow et al. 2015, section 6, with alpha = 1/2, and with ``"pgd"`` the inner maximum of Madry et al. 2018, eq. 2.1. The other
    half keeps the network good at anomalies that nobody has changed. Normal rows have nothing to hide.

    Parameters
    ----------
    adversary
        None: batches stay as they are.
    network
        The one that is trained.
    samples
        The node's own; their range is read once.
    rng
        For who evades, and random starts.
    """
    if adversary is None:
        return lambda inputs, labels: inputs
    within = Range.of(samples)

    def harden(inputs: Tensor, labels: Tensor) -> Tensor:
        shown = inputs.numpy().copy()
        chosen = (labels.numpy() == 1) & (rng.random(len(shown)) < 0.5)
        shown[chosen] = evaded(network, shown[chosen], within, adversary, rng)
        tensor: Tensor = needs_torch().from_numpy(shown)
        return tensor

    return harden


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set a module to evaluation mode for a while; in training each of its layers may have a mode of its own."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _lowered(module: nn.Module, samples: Array, within: Range, evasion: Evasion, rng: np.random.Generator) -> Array:
    """Move one block of samples, by a module in evaluation mode."""
    torch = needs_torch()
    ranges = np.where(within.moves, within.high - within.low, 0).astype(np.float32)
    budget = evasion.budget * ranges
    low = torch.from_numpy(np.minimum(samples, np.maximum(samples - budget, within.low)))
    high = torch.from_numpy(np.maximum(samples, np.minimum(samples + budget, within.high)))
    step = torch.from_numpy(evasion.step * ranges)
    best = torch.from_numpy(samples.copy())
    with torch.no_grad():
        least = module(best)[:, 0]

    def keep(at: Tensor, logits: Tensor) -> None:
        lower = logits < least
        best[lower], least[lower] = at[lower], logits[lower]

    at, steps = best.clone(), 1
    if evasion.name == "pgd":
        share = torch.from_numpy(rng.random(samples.shape, dtype=np.float32))
        at, steps = torch.clamp(low + share * (high - low), low, high), evasion.steps
    for _ in range(steps):
        at.requires_grad_()
        logits = module(at)[:, 0]
        # The loss of an anomaly rises as its logit falls. The logit's own slope is taken: where the network is sure, the loss's is 0.
        (slope,) = torch.autograd.grad(logits.sum(), at)
        at = at.detach()
        keep(at, logits.detach())
        at = torch.clamp(at - step * slope.sign(), low, high)
    with torch.no_grad():
        keep(at, module(at)[:, 0])
    return np.asarray(best.numpy())
