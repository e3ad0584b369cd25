"""A control valve: position, pressures on both sides, flow (valve equation), actuator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from vedette.data.simulate.device import Device, drawn_site
from vedette.data.table import Feature
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Valve"]


@dataclass(frozen=True, eq=False)
class Valve(Device):
    """A control valve with an equal-percentage trim, in a line whose pressures wander.

    Parameters
    ----------
    capacity
        Flow at full opening and 1 bar, m³/h (Kv).
    rangeability
        Of the trim: flow at full opening to flow just open.
    supply, back
        Pressures before and behind it at rest, bar.
    stiffness
        Actuator current per opening, mA/%.
    """

    type: ClassVar[str] = "valve"
    features: ClassVar[tuple[Feature, ...]] = (
        Feature("demand", unit="%"),
        Feature("position", unit="%"),
        Feature("actuator_current", unit="mA"),
        Feature("inlet_pressure", unit="bar"),
        Feature("outlet_pressure", unit="bar"),
        Feature("flow", unit="m³/h"),
        Feature("body_temperature", unit="°C"),
    )
    least: ClassVar[Array] = np.array([0, 0, 0, 0, 0, 0, -np.inf])
    # The two of its type: pressure before it, pressure behind it (bar).
    deviation: ClassVar[Array] = np.array([0.08, 0.04, 0.7, 0.08, 0.05])
    memory: ClassVar[Array] = np.array([3600.0, 300.0, 4 * 3600.0, 2 * 3600.0, 2 * 3600.0])
    lagged: ClassVar[tuple[int, ...]] = (6,)
    kinds: ClassVar[Mapping[str, float]] = {
        "bias": 0.13, "drift": 0.2, "leak": 0.17, "noise": 0.1, "spike": 0.05, "stuck": 0.18, "wear": 0.17
    }  # fmt: skip
    frozen: ClassVar[tuple[int, ...]] = (1, 2, 5)
    extents: ClassVar[Mapping[str, tuple[float, float]]] = {"leak": (0.06, 0.2), "wear": (8.0, 20.0)}

    capacity: float
    rangeability: float
    supply: float
    back: float
    stiffness: float

    @classmethod
    def of(cls, node: str, seed: int) -> Self:
        rng = stream(seed, cls.type, node, "device")
        capacity = 25 * rng.uniform(0.95, 1.05)
        swing = np.array([17.0, 17.0, 2.5, 0.2, 0.15, 0.25 * capacity, 4.0])
        site = drawn_site(rng)
        return cls(
            capacity,
            rangeability=rng.uniform(28, 34),
            supply=rng.uniform(5.8, 6.2),
            back=rng.uniform(1.9, 2.1),
            stiffness=rng.uniform(0.14, 0.16),
            lag=rng.uniform(900, 2400),
            noise=swing * np.array([0.03, 0.04, 0.06, 0.08, 0.08, 0.05, 0.05]),
            offset=swing * 0.04 * rng.standard_normal(len(swing)),
            swing=swing,
            **site._asdict(),
        )

    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        demand = 100 * np.clip(load, 0, 1)
        # A worn stem moves in steps and stays behind.
        step = np.maximum(damage["wear"], 1e-9)
        position = np.where(damage["wear"] > 0, step * np.floor(demand / step), demand)
        opening = self.rangeability ** (np.clip(position, 0, 100) / 100 - 1)
        # Line losses grow with the square of the flow, before it by 0.8 bar at the capacity, behind it by 0.5.
        area = opening + damage["leak"]
        squared = area**2 * np.maximum(self.supply + wander[:, 0] - self.back - wander[:, 1], 0.1) / (1 + 1.3 * area**2)
        inlet = self.supply + wander[:, 0] - 0.8 * squared
        outlet = self.back + wander[:, 1] + 0.5 * squared
        flow = self.capacity * np.sqrt(squared)
        current = 4 + self.stiffness * demand + 0.12 * damage["wear"]
        body = air + 0.3 * (45 - air) * np.sqrt(np.clip(flow / self.capacity, 0, 2))
        return np.stack([demand, position, current, inlet, outlet, flow, body], axis=1)
