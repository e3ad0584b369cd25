"""The simulated pumps as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from vedette.data.dataset import Dataset, Loader
from vedette.data.simulate.recording import Part, simulate_pump
from vedette.data.table import Table, concat
from vedette.errors import DataUnusable, UnknownName

__all__ = ["Pumps"]

_MOST_ROWS = 1e8


class Pumps(Loader):
    """A fleet of simulated pumps, each with its own build, site and faults.

    In training a pump sees a part of the loads and of the weather only, in the test more: what one has not met, others have.

    Parameters
    ----------
    nodes
        Pumps in the fleet.
    train_hours, test_hours
        Length of the two parts, each recorded from midnight on.
    interval
        Seconds between two rows.
    fault_share
        About the share of test rows that are labelled; the training part has no faults.
    """

    title: ClassVar[str] = "Simulated pumps: load, motor, bearing and hydraulics, five kinds of faults"
    licence: ClassVar[str] = "none needed, generated"
    source: ClassVar[str] = "Vedette, vedette.data.simulate"
    how: ClassVar[str] = "nothing to get: generated from the seed"

    simulated: ClassVar[bool] = True

    nodes: int = Field(default=6, ge=1, le=1_000_000)
    train_hours: float = Field(default=72.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    test_hours: float = Field(default=48.0, gt=0, le=20 * 8766, allow_inf_nan=False)
    interval: float = Field(default=60.0, ge=0.01, le=3600, allow_inf_nan=False)
    fault_share: float = Field(default=0.1, ge=0, le=0.5, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if min(self.train_hours, self.test_hours) * 3600 < self.interval:
            raise ValueError(f"an interval of {self.interval:g} s leaves no row in {min(self.train_hours, self.test_hours):g} hours")
        return self

    def node_names(self) -> Sequence[str]:
        """Return the names of all pumps: ``pump-1``, ``pump-2`` …"""
        return [f"pump-{number}" for number in range(1, self.nodes + 1)]

    def node_table(self, node: str, part: Part, seed: int) -> Table:
        """Return one part of one pump; nothing of the other pumps is made.

        Raises
        ------
        UnknownName
            No pump of the fleet has this name.
        """
        number = node.removeprefix("pump-")
        if not (number.isdecimal() and len(number) < 8 and node == f"pump-{int(number)}" and 1 <= int(number) <= self.nodes):
            raise UnknownName(f"unknown pump '{node}'; known: pump-1 … pump-{self.nodes}")
        if part == "train":
            return simulate_pump(node, seed, self.train_hours, self.interval, part="train")
        return simulate_pump(node, seed, self.test_hours, self.interval, self.fault_share)

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Simulate the fleet; `root` is not looked at.

        Raises
        ------
        DataUnusable
            The tables would not fit in memory: take `node_table`, node by node.
        """
        rows = self.nodes * (self.train_hours + self.test_hours) * 3600 / self.interval
        if rows > _MOST_ROWS:
            raise DataUnusable(f"{rows:.3g} rows of simulated pumps are too many to hold at once; take fewer nodes or hours")
        parts: tuple[Part, ...] = ("train", "test")
        tables: dict[str, Table] = {part: concat([self.node_table(node, part, seed) for node in self.node_names()]) for part in parts}
        return Dataset("pumps", tables, ordered=True)
