"""What is simulated: a device with its build and site, and what its sensors would show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from vedette.data.table import Feature
from vedette.message import Array
from vedette.registry import Registry

__all__ = ["DEVICES", "Device", "Site", "Weather", "drawn_site", "drawn_weather"]


class Weather(NamedTuple):
    """What drives a device from outside in one part: the range of its load [low, high] and the mean air temperature (°C)."""

    low: float
    high: float
    air: float


class Site(NamedTuple):
    """Where a device stands: its weather in the two parts (the training part has seen less), and by how many seconds its day is late."""

    train: Weather
    test: Weather
    shift: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Device(ABC):
    """Base of all devices; one is drawn from its name and the seed alone.

    Attributes
    ----------
    features
        What its sensors measure.
    least
        [features] values that sensors cannot fall below.
    deviation, memory
        Of the slow random changes around it, in their own units and in seconds: slow and fast change of load, air temperature (K), and
        those of its type.
    lagged
        Columns that follow what they tend to only slowly.
    kinds
        Kinds of fault it can have, each with its part of the faulty rows.
    frozen
        Columns that can stick: the others hardly move in an hour, so nobody could tell.
    extents
        How large a damage is at strength 0 and 1, by kind of fault (not those of sensors).
    hidden
        Rows with a fault at work for each labelled one: stuck sensors and drifts are hidden for a while, heat stays when a fault is gone.
    noise, offset
        [features] deviation of the sensors' noise and their constant errors.
    swing
        [features] how far the signals move in normal work, the measure of sensor faults.
    lag, shift, train, test
        Time constant of what lags (s), and its `Site`.
    """

    type: ClassVar[str]
    features: ClassVar[tuple[Feature, ...]]
    least: ClassVar[Array]
    deviation: ClassVar[Array]
    memory: ClassVar[Array]
    lagged: ClassVar[tuple[int, ...]]
    kinds: ClassVar[Mapping[str, float]]
    frozen: ClassVar[tuple[int, ...]]
    extents: ClassVar[Mapping[str, tuple[float, float]]]
    hidden: ClassVar[float] = 1.05

    lag: float
    shift: float
    noise: Array
    offset: Array
    swing: Array
    train: Weather
    test: Weather

    @classmethod
    @abstractmethod
    def of(cls, node: str, seed: int) -> Self:
        """Draw the device that has this name."""

    @abstractmethod
    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        """Say what ideal sensors would show; lagged ones show where they tend to.

        Parameters
        ----------
        load
            [rows] share of the rated load.
        air
            [rows] °C.
        wander
            [rows, changes of its type], see `deviation`.
        damage
            By kind of fault, [rows], 0 where there is none.

        Returns
        -------
        Array
            [rows, features].
        """

    def extent(self, kind: str, strength: float, noise: Array) -> Array:
        """Return how large a damage is, [rows], at a strength in [0, 1]; `noise` [rows] has deviation 1."""
        low, high = self.extents[kind]
        return np.full(len(noise), low + (high - low) * strength)


def drawn_weather(rng: np.random.Generator) -> tuple[Weather, Weather]:
    """Draw what drives a device in the training part, and in the test part, which sees more of it."""
    width = rng.uniform(0.2, 0.35)
    low = rng.uniform(0.25, 0.95 - width)
    air = rng.uniform(16, 24)
    more_low, more_high, warmer = rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9), rng.uniform(-3, 3)
    test = Weather(low - more_low * (low - 0.22), low + width + more_high * (0.98 - low - width), air + warmer)
    return Weather(low, low + width, air), test


def drawn_site(rng: np.random.Generator) -> Site:
    """Draw where a device stands."""
    return Site(*drawn_weather(rng), 3600 * rng.uniform(-3, 3))


DEVICES: Registry[type[Device]] = Registry(
    "device",
    {
        "pump": "vedette.data.simulate.pump:Pump",
        "valve": "vedette.data.simulate.valve:Valve",
        "motor": "vedette.data.simulate.motor:Motor",
        "thermostat": "vedette.data.simulate.thermostat:Thermostat",
        "gateway": "vedette.data.simulate.gateway:Gateway",
    },
)
