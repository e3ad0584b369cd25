"""Simulated fleets as a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from vedette.data.dataset import Dataset, Loader
from vedette.data.fleet import Fleet
from vedette.data.simulate.device import DEVICES
from vedette.data.simulate.faults import parts_of
from vedette.data.simulate.nuisances import Nuisances
from vedette.data.simulate.recording import Part, Plan, simulate_device, stream_device
from vedette.data.table import Table, concat
from vedette.errors import DataUnusable, UnknownName

__all__ = ["MIXED", "Simulated"]

MIXED = "mixed"
"""A fleet of all types in turn; they have different features."""

_MOST_ROWS = 1e8


def _known(device: str) -> str:
    if device != MIXED:
        DEVICES[device]
    return device


class Simulated(Loader):
    """A fleet of simulated devices, each with its own build, site and faults.

    In training a device sees a part of the loads and of the weather only, in the test more: what one has not met, others have.

    Parameters
    ----------
    device
        Type of the devices: ``"pump"``, ``"valve"``, ``"motor"``, ``"thermostat"``, ``"gateway"``; ``"mixed"`` takes them in turn.
    nodes
        Devices in the fleet.
    train_hours, test_hours
        Length of the two parts, each recorded from midnight on.
    interval
        Seconds between two rows.
    fault_share
        About the share of test rows that are labelled; the training part has no faults.
    faults
        Kinds of fault; the usual ones of the device if empty.
    severity
        Range of the strengths of faults, in [0, 1].
    nuisances
        What goes wrong without being an anomaly.
    """

    title: ClassVar[str] = "Simulated fleets: pumps, valves, motors, thermostats, gateways; ten kinds of faults"
    licence: ClassVar[str] = "none needed, generated"
    source: ClassVar[str] = "Vedette, vedette.data.simulate"
    how: ClassVar[str] = "nothing to get: generated from the seed ('vedette data simulate' writes it to files)"

    simulated: ClassVar[bool] = True

    device: Annotated[str, AfterValidator(_known)] = "pump"
    nodes: int = Field(default=6, ge=1, le=10_000_000)
    train_hours: float = Field(default=72.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    test_hours: float = Field(default=48.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    interval: float = Field(default=60.0, ge=0.01, le=3600, allow_inf_nan=False)
    fault_share: float = Field(default=0.1, ge=0, le=0.5, allow_inf_nan=False)
    faults: tuple[str, ...] = ()
    severity: tuple[float, float] = (0.0, 1.0)
    nuisances: Nuisances = Nuisances()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if min(self.train_hours, self.test_hours) * 3600 < self.interval:
            raise ValueError(f"an interval of {self.interval:g} s leaves no row in {min(self.train_hours, self.test_hours):g} hours")
        if not 0 <= self.severity[0] <= self.severity[1] <= 1:
            raise ValueError("severity is a range such as [0.3, 0.6], between 0 and 1")
        for kind in {self._type(place) for place in range(1, min(self.nodes, len(list(DEVICES))) + 1)}:
            parts_of(DEVICES[kind], self.faults)
        return self

    def node_names(self) -> Sequence[str]:
        """Return the names of all devices: ``pump-1``, ``pump-2`` …"""
        return [f"{self._type(number)}-{number}" for number in range(1, self.nodes + 1)]

    def node_table(self, node: str, part: Part, seed: int) -> Table:
        """Return one part of one device; nothing of the others is made.

        Raises
        ------
        UnknownName
            No device of the fleet has this name.
        """
        return simulate_device(self._of(node), node, seed, self.plan(part))

    def node_tables(self, node: str, part: Part, seed: int, size: int = 65_536) -> Iterator[Table]:
        """Yield one part of one device, `size` rows at a time.

        Raises
        ------
        UnknownName
            No device of the fleet has this name.
        """
        return stream_device(self._of(node), node, seed, self.plan(part), size)

    def plan(self, part: Part) -> Plan:
        """Return what is recorded in a part."""
        hours, share = (self.train_hours, 0.0) if part == "train" else (self.test_hours, self.fault_share)
        return Plan(hours, self.interval, share, part, self.faults, self.severity, self.nuisances)

    def fleet(self, part: Part, seed: int = 0) -> Fleet:
        """Return one part of all devices, each made when asked for: of any number of them, one is in memory at a time."""
        return Fleet(self.node_names(), lambda node: self.node_table(node, part, seed))

    def _type(self, number: int) -> str:
        return self.device if self.device != MIXED else list(DEVICES)[(number - 1) % len(list(DEVICES))]

    def _of(self, node: str) -> str:
        """Return the type of a device of the fleet."""
        kind, _, number = node.rpartition("-")
        inside = number.isdecimal() and len(number) < 9 and number == str(int(number)) and 1 <= int(number) <= self.nodes
        if inside and kind == self._type(int(number)):
            return kind
        raise UnknownName(f"unknown device '{node}'; known: {self._type(1)}-1 … {self._type(self.nodes)}-{self.nodes}")

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Simulate the fleet; `root` is not looked at.

        Raises
        ------
        DataUnusable
            The tables would not fit in memory, or the devices have different features: take `fleet`, node by node.
        """
        rows = self.nodes * (self.train_hours + self.test_hours) * 3600 / self.interval
        if rows > _MOST_ROWS:
            raise DataUnusable(f"{rows:.3g} rows of simulated devices are too many to hold at once; take fewer nodes or hours")
        if self.device == MIXED:
            raise DataUnusable("devices of a mixed fleet have different features and make no table together; choose one type of 'device'")
        parts: tuple[Part, ...] = ("train", "test")
        tables: dict[str, Table] = {part: concat([self.node_table(node, part, seed) for node in self.node_names()]) for part in parts}
        return Dataset("simulated", tables, ordered=True)
