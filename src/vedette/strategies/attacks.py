"""Attacks: what compromised nodes do, for tests and drills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from vedette.data.table import Table
from vedette.message import Array, Message, Vector
from vedette.registry import Registry
from vedette.settings import Settings, named
from vedette.strategies.base import Turn

__all__ = [
    "ATTACKS",
    "ALittleIsEnough",
    "AnyAttack",
    "Attack",
    "BenignMimic",
    "FalseWeight",
    "LabelFlip",
    "Nan",
    "NoAttack",
    "Scaled",
    "SignFlip",
]

STATISTICS = frozenset({"norms"})
"""Channels of batch-norm statistics. Only `Nan` touches them: a variance below zero would give an attack away; weights do the harm."""


class Attack(Settings):
    """Base of attacks: what a compromised node does differently; nothing, unless a method is overridden."""

    def poisoned(self, table: Table, rng: np.random.Generator) -> Table:
        """Return the rows it trains on, given those it has."""
        return table

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        """Return what it sends: float32 in the layouts of its honest answer.

        Parameters
        ----------
        turn
            Where the run stands.
        own
            Its honest answer, after training on `poisoned` rows.
        received
            Where its weights set out from, by channel; what is not there counts as 0.
        honest
            Answers of the nodes that are not compromised, for attackers who know all.
        among
            How many nodes are compromised, itself included.
        """
        return own


class NoAttack(Attack):
    """Play by the rules."""


class LabelFlip(Attack):
    """Train on rows with all labels inverted (Biggio et al. 2012), and answer honestly; without labels this does nothing.

    What kind of anomaly a row is has no meaning any more, and is left out.
    """

    def poisoned(self, table: Table, rng: np.random.Generator) -> Table:
        if table.label is None:
            return table
        return replace(table, numbers=table.matrix, label=(1 - table.label).astype(table.label.dtype), kind=None)


class BenignMimic(Attack):
    """Train on anomalies as if they were normal, for detectors that learn what is normal: all labels are 0; kinds are left out."""

    def poisoned(self, table: Table, rng: np.random.Generator) -> Table:
        if table.label is None:
            return table
        return replace(table, numbers=table.matrix, label=np.zeros_like(table.label), kind=None)


class SignFlip(Attack):
    """Move away from where training led: start - scale * (own - start).

    Parameters
    ----------
    scale
        How far, in units of the honest step.
    """

    scale: float = Field(default=1.0, gt=0)

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        return own._replace(vectors=_moved(own, received, -self.scale))


class Scaled(Attack):
    """Exaggerate: start + factor * (own - start), as model replacement does (Bagdasaryan et al. 2020, eq. 3).

    Parameters
    ----------
    factor
        How many times the honest step.
    """

    factor: float = Field(default=100.0, gt=0)

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        return own._replace(vectors=_moved(own, received, self.factor))


class Nan(Attack):
    """Send what is no number, on every channel."""

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        return own._replace(
            vectors={
                channel: Vector(np.full(vector.values.shape, np.nan, dtype=np.float32), vector.layout)
                for channel, vector in own.vectors.items()
            }
        )


class ALittleIsEnough(Attack):
    """Send mean - z * standard deviation of the honest nodes, coordinate by coordinate (Baruch et al. 2019, section 3).

    With n nodes of which m are compromised, s = floor(n / 2 + 1) - m honest ones must be farther from the mean for attackers to stand in
    the middle of a majority: z is the largest with Phi(z) < (n - m - s) / (n - m). All compromised nodes send the same.

    Parameters
    ----------
    z
        How many standard deviations; by the formula if absent.
    """

    z: float | None = Field(default=None, ge=0)

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        z = self.deviations(len(honest) + among, among) if self.z is None else self.z
        vectors = dict(own.vectors)
        for channel in vectors.keys() - STATISTICS:
            sent = [message.vectors[channel].values for message in honest if channel in message.vectors]
            if sent:
                values = np.stack(sent).astype(np.float64)
                vectors[channel] = Vector(_float32(values.mean(axis=0) - z * values.std(axis=0)), own.vectors[channel].layout)
        return own._replace(vectors=vectors)

    @staticmethod
    def deviations(nodes: int, attackers: int) -> float:
        """Return z for so many nodes; at least one honest node is left farther off, and z is never below 0."""
        honest = nodes - attackers
        needed = max(math.floor(nodes / 2 + 1) - attackers, 1)
        return max(NormalDist().inv_cdf((honest - needed) / honest), 0.0) if honest > needed else 0.0


class FalseWeight(Attack):
    """Lie about size and variance, to weigh more in a mean, and move the other way: start - (own - start).

    Parameters
    ----------
    factor
        By which the facts ``rows`` and ``variance`` are multiplied.
    """

    factor: float = Field(default=1e6, gt=0)

    def forged(self, turn: Turn, own: Message, received: Message, honest: Sequence[Message], among: int) -> Message:
        lies = {
            name: value * self.factor
            for name, value in own.facts.items()
            if name in ("rows", "variance") and isinstance(value, float | int)
        }
        return own._replace(vectors=_moved(own, received, -1.0), facts={**own.facts, **lies})


def _moved(own: Message, received: Message, step: float) -> dict[str, Vector]:
    """Return start + step * (own - start) on every channel of weights."""
    vectors = dict(own.vectors)
    for channel in vectors.keys() - STATISTICS:
        values, layout = own.vectors[channel]
        before = received.vectors.get(channel)
        start = np.zeros(len(values)) if before is None else before.values.astype(np.float64)
        vectors[channel] = Vector(_float32(start + step * (values - start)), layout)
    return vectors


def _float32(values: Array) -> Array:
    """Return float32; what is beyond it stays at its end, for an attack that is not finite is `Nan`'s."""
    most = np.finfo(np.float32).max
    return np.clip(values, -most, most).astype(np.float32)


ATTACKS: Registry[type[Attack]] = Registry(
    "attack",
    {
        "none": f"{__name__}:NoAttack",
        "label-flip": f"{__name__}:LabelFlip",
        "sign-flip": f"{__name__}:SignFlip",
        "scaled": f"{__name__}:Scaled",
        "nan": f"{__name__}:Nan",
        "a-little-is-enough": f"{__name__}:ALittleIsEnough",
        "benign-mimic": f"{__name__}:BenignMimic",
        "false-weight": f"{__name__}:FalseWeight",
    },
)

AnyAttack: TypeAlias = Annotated[Attack, *named(ATTACKS)]
