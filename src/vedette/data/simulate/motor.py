"""An induction motor: torque, slip, current, two temperatures that lag, vibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from vedette.data.simulate.device import Device, drawn_site
from vedette.data.table import Feature
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Motor"]


@dataclass(frozen=True, eq=False)
class Motor(Device):
    """A four-pole induction motor behind a drive that reports the load it asks for.

    Parameters
    ----------
    power
        Rated, kW.
    slip
        At rated torque, share of the synchronous speed.
    idle
        Magnetising current as a share of the rated one.
    heating, friction
        Rise of the winding and of the bearing temperature at rated work, K.
    shake
        Vibration at rated speed, mm/s RMS.
    """

    type: ClassVar[str] = "motor"
    features: ClassVar[tuple[Feature, ...]] = (
        Feature("load", unit="%"),
        Feature("speed", unit="1/min"),
        Feature("current", unit="A"),
        Feature("power", unit="kW"),
        Feature("winding_temperature", unit="°C"),
        Feature("bearing_temperature", unit="°C"),
        Feature("vibration", unit="mm/s"),
    )
    least: ClassVar[Array] = np.array([0, 0, 0, 0, -np.inf, -np.inf, 0])
    # The two of its type: relative line voltage, relative change of friction.
    deviation: ClassVar[Array] = np.array([0.08, 0.04, 0.7, 0.012, 0.02])
    memory: ClassVar[Array] = np.array([3600.0, 300.0, 4 * 3600.0, 3600.0, 8 * 3600.0])
    lagged: ClassVar[tuple[int, ...]] = (4, 5)
    kinds: ClassVar[Mapping[str, float]] = {
        "bias": 0.13, "drift": 0.2, "noise": 0.1, "overload": 0.17, "spike": 0.05, "stuck": 0.18, "wear": 0.17
    }  # fmt: skip
    frozen: ClassVar[tuple[int, ...]] = (0, 2, 3)
    extents: ClassVar[Mapping[str, tuple[float, float]]] = {"overload": (0.12, 0.35), "wear": (0.3, 1.2)}
    hidden: ClassVar[float] = 0.85

    power: float
    slip: float
    idle: float
    heating: float
    friction: float
    shake: float

    @classmethod
    def of(cls, node: str, seed: int) -> Self:
        rng = stream(seed, cls.type, node, "device")
        power = 15 * rng.uniform(0.96, 1.04)
        swing = np.array([17.0, 9.0, 3.5, 0.17 * power, 9.0, 3.0, 0.12])
        site = drawn_site(rng)
        return cls(
            power,
            slip=rng.uniform(0.028, 0.034),
            idle=rng.uniform(0.3, 0.36),
            heating=rng.uniform(55, 65),
            friction=rng.uniform(22, 28),
            shake=rng.uniform(1.2, 1.5),
            lag=rng.uniform(1200, 2700),
            noise=swing * np.array([0.05, 0.06, 0.06, 0.05, 0.05, 0.06, 0.12]),
            offset=swing * 0.05 * rng.standard_normal(len(swing)),
            swing=swing,
            **site._asdict(),
        )

    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        voltage, rub = 1 + wander[:, 0], np.exp(wander[:, 1])
        torque = load * (1 + damage["overload"]) + 0.03 * damage["wear"]
        slip = self.slip * torque / voltage**2
        speed = 1500 * (1 - slip)
        shaft = self.power * torque * speed / 1500
        losses = 0.04 * self.power * voltage**2 + 0.06 * self.power * torque**2
        active = (shaft + losses) / (np.sqrt(3) * 0.4 * voltage)
        rated = self.power * 1.1 / (np.sqrt(3) * 0.4)
        current = np.hypot(self.idle * rated * voltage, active)
        winding = air + self.heating * (0.15 * voltage**2 + 0.85 * (current / rated) ** 2)
        bearing = air + self.friction * rub * (speed / 1500) * (0.6 + 0.4 * torque) * (1 + 0.5 * damage["wear"])
        vibration = self.shake * (speed / 1500) ** 2 * (0.85 + 0.2 * torque) * (1 + damage["wear"])
        return np.stack([100 * load, speed, current, shaft + losses, winding, bearing, vibration], axis=1)
