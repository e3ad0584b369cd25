"""A room thermostat: set point, room climate, heating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from vedette.data.simulate.device import Device, drawn_site
from vedette.data.table import Feature
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Thermostat"]


@dataclass(frozen=True, eq=False)
class Thermostat(Device):
    """A thermostat in a room that people use; its load is how many of them are there.

    Parameters
    ----------
    comfort
        Set point when the room is full, °C; it falls by 4 K when it is empty.
    loss
        Heating that holds 1 K against the outside, %/K.
    droop
        How far the room stays below the set point at full heating, K.
    people
        Rise of CO2 when the room is full, ppm.
    """

    type: ClassVar[str] = "thermostat"
    features: ClassVar[tuple[Feature, ...]] = (
        Feature("set_point", unit="°C"),
        Feature("room_temperature", unit="°C"),
        Feature("outside_temperature", unit="°C"),
        Feature("heating", unit="%"),
        Feature("humidity", unit="%"),
        Feature("co2", unit="ppm"),
    )
    least: ClassVar[Array] = np.array([0, -np.inf, -np.inf, 0, 0, 0])
    # The two of its type: humidity outside (%), change of ventilation (relative).
    deviation: ClassVar[Array] = np.array([0.08, 0.03, 1.5, 3.0, 0.03])
    memory: ClassVar[Array] = np.array([3600.0, 300.0, 6 * 3600.0, 6 * 3600.0, 4 * 3600.0])
    lagged: ClassVar[tuple[int, ...]] = (1, 4, 5)
    kinds: ClassVar[Mapping[str, float]] = {
        "bias": 0.13, "drift": 0.2, "leak": 0.17, "noise": 0.1, "spike": 0.05, "stuck": 0.18, "wear": 0.17
    }  # fmt: skip
    frozen: ClassVar[tuple[int, ...]] = (1, 3, 5)
    extents: ClassVar[Mapping[str, tuple[float, float]]] = {"leak": (0.6, 2.0), "wear": (0.2, 0.5)}

    comfort: float
    loss: float
    droop: float
    people: float

    @classmethod
    def of(cls, node: str, seed: int) -> Self:
        rng = stream(seed, cls.type, node, "device")
        swing = np.array([0.8, 0.8, 3.0, 9.0, 4.0, 130.0])
        site = drawn_site(rng)
        return cls(
            comfort=rng.uniform(20.5, 21.5),
            loss=rng.uniform(2.7, 3.2),
            droop=rng.uniform(1.2, 1.6),
            people=rng.uniform(700, 800),
            lag=rng.uniform(600, 1500),
            shift=site.shift,
            noise=swing * np.array([0.04, 0.06, 0.05, 0.06, 0.08, 0.06]),
            offset=swing * 0.04 * rng.standard_normal(len(swing)),
            swing=swing,
            train=site.train._replace(air=site.train.air - 15),  # it heats: weather of the cold half of the year
            test=site.test._replace(air=site.test.air - 15),
        )

    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        aim = self.comfort - 4 * (1 - np.clip(load, 0, 1))
        exchange = np.exp(wander[:, 1]) * (1 + damage["leak"])
        # People warm the room; the controller is proportional, so the room stays below its aim by what it heats.
        needed = self.loss * (0.55 + 0.45 * exchange) * (aim - air) - 12 * load
        strength = 1 - damage["wear"]
        heating = np.clip(needed / (strength + self.loss * self.droop / 100 * (0.55 + 0.45 * exchange)), 0, 100)
        room = aim - self.droop * heating / 100 - np.maximum(needed - strength * 100, 0) / self.loss
        humidity = 38 + 10 * load + (0.25 * wander[:, 0] - 0.5 * (8 - air)) * np.minimum(0.5 + 0.5 * exchange, 2)
        co2 = 420 + self.people * load / exchange
        return np.stack([aim, room, air, heating, humidity, co2], axis=1)
