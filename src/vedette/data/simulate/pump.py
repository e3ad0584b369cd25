"""A pump: its build and site, and what its sensors would show (affinity laws, system curve, motor, heat)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vedette.data.simulate.device import Device, drawn_weather
from vedette.data.table import Feature
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["FEATURES", "Pump"]

FEATURES = (
    Feature("load", unit="%"),
    Feature("current", unit="A"),
    Feature("temperature", unit="°C"),
    Feature("vibration", unit="mm/s"),
    Feature("inlet_pressure", unit="bar"),
    Feature("outlet_pressure", unit="bar"),
    Feature("flow", unit="m³/h"),
)

_POWER_PER_AMPERE = 3**0.5 * 400 * 0.85 * 0.9  # W: three phases of 400 V, power factor, efficiency of the motor
_BAR_PER_METRE = 0.0981


@dataclass(frozen=True, eq=False)
class Pump(Device):
    """A pump: its size, curves, motor, sensors and the demand on it.

    Parameters
    ----------
    flow, head
        At the best efficiency point: m³/h and metres.
    efficiency
        Of the pump at its best point.
    static
        Share of the head that does not depend on flow (system curve).
    idle
        Magnetising current as a share of the rated current.
    heating
        Rise of the temperature at rated power, K.
    shake
        Vibration at rated speed and best point, mm/s RMS.
    supply
        Pressure on the suction side, bar.
    """

    type: ClassVar[str] = "pump"
    features: ClassVar[tuple[Feature, ...]] = FEATURES
    least: ClassVar[Array] = np.array([0, 0, -np.inf, 0, 0, 0, 0])  # gauges end at zero, thermometers do not
    # Slow change of demand, fast change of demand, air temperature, suction pressure, resistance of the system.
    deviation: ClassVar[Array] = np.array([0.08, 0.03, 0.7, 0.015, 0.015])
    memory: ClassVar[Array] = np.array([3600.0, 300.0, 4 * 3600.0, 2 * 3600.0, 6 * 3600.0])
    lagged: ClassVar[tuple[int, ...]] = (2,)
    kinds: ClassVar[Mapping[str, float]] = {"cavitation": 0.17, "drift": 0.29, "leak": 0.19, "spike": 0.07, "stuck": 0.28}
    frozen: ClassVar[tuple[int, ...]] = (0, 1, 5, 6)
    extents: ClassVar[Mapping[str, tuple[float, float]]] = {"leak": (0.1, 0.25), "cavitation": (0.03, 0.1)}
    hidden: ClassVar[float] = 1.16

    flow: float
    head: float
    efficiency: float
    static: float
    idle: float
    heating: float
    shake: float
    supply: float

    @classmethod
    def of(cls, node: str, seed: int) -> Pump:
        """Draw the device that has this name; it depends on the name and the seed alone."""
        rng = stream(seed, "pump", node, "device")
        flow, head, efficiency = 50 * rng.uniform(0.97, 1.03), 40 * rng.uniform(0.98, 1.02), rng.uniform(0.72, 0.74)
        amperes = _power(flow, head, efficiency) / _POWER_PER_AMPERE
        swing = np.array([17.0, 0.13 * amperes, 8.0, 0.15, 0.06, 0.1 * head * _BAR_PER_METRE, 0.1 * flow])
        train, test = drawn_weather(rng)
        return cls(
            flow,
            head,
            efficiency,
            static=rng.uniform(0.28, 0.32),
            idle=rng.uniform(0.30, 0.34),
            heating=rng.uniform(32, 38),
            lag=rng.uniform(1200, 2700),
            shake=rng.uniform(1.8, 2.0),
            supply=rng.uniform(1.49, 1.53),
            shift=3600 * rng.uniform(-3, 3),
            noise=swing * np.array([0.05, 0.06, 0.05, 0.1, 0.1, 0.06, 0.06]),
            offset=swing * 0.05 * rng.standard_normal(len(swing)),
            swing=swing,
            train=train,
            test=test,
        )

    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        outside = np.stack([air, wander[:, 0], np.exp(wander[:, 1])], axis=1)
        return self.work(load, outside, damage["leak"], damage["cavitation"])

    def extent(self, kind: str, strength: float, noise: Array) -> Array:
        if kind == "cavitation":  # bubbles burst when they like
            return (0.03 + 0.07 * strength) * np.maximum(1 + 0.4 * noise, 0.4)
        return np.full(len(noise), 0.1 + 0.15 * strength)

    def work(self, load: Array, outside: Array, leak: Array, cavitation: Array) -> Array:
        """Say what ideal sensors would show; the temperature is the one reached if the load stayed.

        Parameters
        ----------
        load
            [rows] share of the rated load.
        outside
            [rows, 3] air temperature (°C), change of the suction pressure (bar), relative resistance of the system.
        leak
            [rows] area of a leak before the flow meter, relative to the opening of the system.
        cavitation
            [rows] share of the head lost; beyond 0 also the suction is throttled.

        Returns
        -------
        Array
            [rows, features].
        """
        air, supply, resistance = outside.T
        speed = 0.6 + 0.4 * load
        # Pump: head = 1.25 speed² - 0.25 flow² (affinity laws); system: head = static + slope flow²; both relative to the best point.
        top, slope = 1.25 * speed**2 * (1 - cavitation), (1 - self.static) * resistance
        metered = np.sqrt(np.maximum((top - self.static) / (0.25 + slope), 0.01))
        if leak.any():
            metered = _metered(metered, top, self.static, slope, leak)
        head = self.static + slope * metered**2
        pumped = metered + leak * np.sqrt(head)
        off = pumped / speed - 1
        efficiency = self.efficiency * (1 - 0.9 * off**2) * (1 - 0.5 * cavitation)
        power = _power(self.flow * pumped, self.head * head, efficiency)
        rated = _power(self.flow, self.head, self.efficiency)
        current = np.hypot(self.idle * rated, power) / _POWER_PER_AMPERE
        temperature = air + self.heating * (0.2 * speed + 0.8 * (power / rated) ** 1.5)
        vibration = self.shake * (0.3 + 0.7 * speed**2) * (1 + 3 * off**2) * (1 + 6 * cavitation)
        inlet = self.supply + supply - 0.35 * pumped**2 * (1 + 8 * cavitation)
        outlet = inlet + self.head * head * _BAR_PER_METRE
        return np.stack([100 * load, current, temperature, vibration, inlet, outlet, self.flow * metered], axis=1)


def _power(flow: Array | float, head: Array | float, efficiency: Array | float) -> Array | float:
    """Shaft power in W of a flow (m³/h) of water lifted by a head (m)."""
    return 9810 * flow * head / (3600 * efficiency)


def _metered(start: Array, top: Array, static: float, slope: Array, leak: Array) -> Array:
    """Solve pump curve = system curve where a part of the flow leaves before the meter.

    The difference of the curves is concave and falls with the flow, so Newton's steps come down from `start` and never overshoot.
    """
    flow = start
    for _ in range(4):
        head = static + slope * flow**2
        pumped = flow + leak * np.sqrt(head)
        slant = 2 * slope * flow
        surplus = top - 0.25 * pumped**2 - head
        flow = flow + surplus / (0.5 * pumped * (1 + leak * slant / (2 * np.sqrt(head))) + slant)
    return flow
