"""Noise: what an average shows of any one node is bounded by (epsilon, delta)."""

from __future__ import annotations

import math
import secrets
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vedette.errors import DetectorMisused, RecipeError
from vedette.message import Array, Memory, Message, Vector
from vedette.strategies.base import Turn, View
from vedette.strategies.chain.clip import BELOW, Clip
from vedette.strategies.chain.link import Around, Link, Seen
from vedette.strategies.chain.mask import MEMBERS, Mask

__all__ = ["Noise"]

SURE = 9.0
"""Standard deviations that noise goes beyond less than once in 10^18 times."""


class Noise(Link):
    """Gaussian noise on what nodes have changed: differential privacy at the level of nodes (McMahan et al. 2018, algorithm 1).

    Nodes weigh the same, and say nothing of themselves but what they have changed: neither their rows nor their loss.

    Parameters
    ----------
    multiplier
        Standard deviation of the noise in the sum over all nodes, in lengths that one node is clipped to (z). None: as small as a budget
        allows (`vedette.strategies.chain.privacy.Privacy`); without a budget there is no noise.
    added
        Where. ``"coordinator"``: to the average, by one whom all trust. ``"node"``: each node adds as much as it needs alone, and trusts
        nobody; the average holds the noise of all. ``"shares"``: each node adds its part of what is needed, for a coordinator that
        sees nothing but the sum (``"mask"``); the parts of those that are honest and do not vanish are enough (Kairouz et al. 2021).
    count
        Standard deviation of the noise on how many nodes were not clipped, in nodes, where the length adapts (sigma_b of Andrew et al.
        2021, algorithm 1).
    secret
        Whether noise is drawn from 256 bits of the operating system, by a generator for statistics, in float64: enough against whoever sees
        averages, not against whoever takes them apart bit by bit (Mironov 2012). If not it is drawn from the run's seed: results can be
        repeated, and whoever knows the seed can take the noise away again. That is for experiments.
    """

    equal: ClassVar[bool] = True

    multiplier: float | None = Field(default=None, ge=0)
    added: Literal["coordinator", "node", "shares"] = "coordinator"
    count: float = Field(default=10.0, gt=0.5)
    secret: bool = True

    def refuses(self, around: Around) -> str | None:
        before = around.links[: around.links.index(self)]
        if sum(isinstance(link, Clip) for link in around.links) != 1 or not any(isinstance(link, Clip) for link in before):
            return "noise needs one 'clip' before it: what hides a node depends on how much a node may change"
        if any(channel.combine != "mean" for channel in around.channels):
            return "noise is for averages, and this exchange wants to see each node: take aggregator = 'mean', or another strategy"
        if self.added == "shares" and not any(isinstance(link, Mask) for link in around.links):
            return "noise in shares hides a node in a sum alone: add 'mask', or take added = 'node'"
        if self.added == "coordinator" and any(isinstance(link, Mask) for link in around.links):
            return "behind a mask it is nodes that add noise, so that nobody sees the sum without it: take added = 'shares'"
        if self.counts(around) and (self.added != "coordinator" or (self.multiplier or 0.0) >= 2 * self.count):
            return f"a length that adapts needs noise added by the coordinator, and 'count' above {(self.multiplier or 0.0) / 2:g}"
        return None

    def counts(self, around: Around) -> bool:
        """Tell whether the number of nodes that were not clipped is given away too."""
        return any(isinstance(link, Clip) and link.quantile is not None for link in around.links)

    def outgoing(self, turn: Turn, message: Message, mine: Memory, around: Around) -> tuple[Message, Memory]:
        if message.tables:
            raise DetectorMisused(
                f"noise covers averages of parameters, and the strategy sends tables: {', '.join(sorted(message.tables))}"
            )
        # All weigh the same, and of what a node says of itself only whether it was clipped is covered by noise.
        said = {name: fact for name, fact in message.facts.items() if name == BELOW}
        weights = {weight: 1.0 for channel in around.channels for weight in channel.weights if weight}
        vectors = message.vectors
        if self.added != "coordinator":
            rng, scale = self._rng(turn), self._own_scale(mine, around)
            vectors = {name: vector._replace(values=_noised(vector.values, scale, rng)) for name, vector in sorted(vectors.items())}
        return Message(vectors, facts={**weights, **said}), mine

    def arrived(self, turn: Turn, view: View, ours: Memory, around: Around) -> View:
        # How many were drawn by themselves is a secret too: the sum is divided by how many are expected.
        counted = around.share * turn.candidates if around.draw == "poisson" else len(view.nodes)
        scale = self._scale(ours, around) / counted if self.added == "coordinator" else 0.0
        return _Noised(view, len(view.nodes) / counted, scale, self._rng(turn))

    def on_count(self, turn: Turn) -> float:
        return float(self._rng(turn).normal(0.0, self.count))

    def _rng(self, turn: Turn) -> np.random.Generator:
        return np.random.default_rng(secrets.randbits(256)) if self.secret else turn.rng()

    def _own_scale(self, mine: Memory, around: Around) -> float:
        """Return the standard deviation of the noise that a node adds."""
        scale, mask = self._scale(mine, around), next((link for link in around.links if isinstance(link, Mask)), None)
        if self.added == "node" or mask is None:
            return scale
        scale /= math.sqrt(max(mask.honest(float(np.asarray(mine[MEMBERS]))), 1.0))
        # What is cut is no Gaussian noise any more.
        if mask.limit < self._bound(mine, around) + SURE * scale:
            raise RecipeError(f"the mask cuts changes at {mask.limit:g}, within reach of a node's noise (std {scale:.3g}): raise its limit")
        return scale

    def _bound(self, memory: Memory, around: Around) -> float:
        return next(link for link in around.links if isinstance(link, Clip)).bound(memory)

    def _scale(self, memory: Memory, around: Around) -> float:
        """Return the standard deviation of the noise in the sum."""
        multiplier = self.multiplier or 0.0
        if self.counts(around) and multiplier:
            # What the count gives away is taken from what the changes may (theorem 1 of Andrew et al. 2021).
            multiplier = (multiplier**-2 - (2 * self.count) ** -2) ** -0.5
        return multiplier * self._bound(memory, around)


class _Noised(Seen):
    """Sees means with noise, each once."""

    def __init__(self, view: View, times: float, scale: float, rng: np.random.Generator) -> None:
        super().__init__(view)
        self.times, self.scale, self.rng = times, scale, rng
        self._means: dict[tuple[str, str], Vector] = {}

    def like(self, view: View) -> View:
        return _Noised(view, self.times, self.scale * len(self.nodes) / max(len(view.nodes), 1), self.rng)

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        if (channel, weight) not in self._means:
            vector = self.view.mean(channel, weight)
            self._means[channel, weight] = vector._replace(values=_noised(vector.values * self.times, self.scale, self.rng))
        return self._means[channel, weight]


def _noised(values: Array, scale: float, rng: np.random.Generator) -> Array:
    return (values + rng.normal(0.0, scale, values.shape)).astype(np.float32) if scale else values.astype(np.float32)
