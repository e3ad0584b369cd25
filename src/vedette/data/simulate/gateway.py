"""A network gateway: traffic of the devices behind it, as counted each interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from vedette.data.simulate.device import Device, drawn_site
from vedette.data.table import Feature
from vedette.message import Array
from vedette.seeds import stream

__all__ = ["Gateway"]


@dataclass(frozen=True, eq=False)
class Gateway(Device):
    """A gateway of a few dozen devices; its load is how busy they are.

    Its faults are attacks: ``"overload"`` is a flood from outside, ``"leak"`` data that are carried off, ``"scan"`` doors being tried.

    Parameters
    ----------
    rate
        Connections a second when all are busy.
    size
        Mean size of a packet, bytes.
    length
        Packets of a connection.
    peers
        Distinct peers when all are busy.
    """

    type: ClassVar[str] = "gateway"
    features: ClassVar[tuple[Feature, ...]] = (
        Feature("connections", unit="1/s"),
        Feature("packets", unit="1/s"),
        Feature("bytes_in", unit="kB/s"),
        Feature("bytes_out", unit="kB/s"),
        Feature("packet_size", unit="B"),
        Feature("peers", unit=""),
        Feature("dns_queries", unit="1/s"),
        Feature("refused", unit="%"),
    )
    least: ClassVar[Array] = np.zeros(8)
    # The two of its type: relative change of packet size, relative change of what is sent out.
    deviation: ClassVar[Array] = np.array([0.08, 0.05, 0.7, 0.04, 0.05])
    memory: ClassVar[Array] = np.array([3600.0, 300.0, 4 * 3600.0, 1800.0, 1800.0])
    lagged: ClassVar[tuple[int, ...]] = (5,)
    kinds: ClassVar[Mapping[str, float]] = {
        "bias": 0.08, "drift": 0.14, "leak": 0.17, "noise": 0.07, "overload": 0.16, "scan": 0.17, "spike": 0.05, "stuck": 0.16
    }  # fmt: skip
    frozen: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    extents: ClassVar[Mapping[str, tuple[float, float]]] = {"leak": (0.12, 0.8), "overload": (0.1, 1.0), "scan": (0.04, 0.4)}

    rate: float
    size: float
    length: float
    peers: float

    @classmethod
    def of(cls, node: str, seed: int) -> Self:
        rng = stream(seed, cls.type, node, "device")
        rate, size, length, peers = 12 * rng.uniform(0.9, 1.1), rng.uniform(520, 580), rng.uniform(22, 26), rng.uniform(42, 52)
        packets = rate * length
        swing = np.array(
            [0.17 * rate, 0.17 * packets, 0.12 * packets * size / 1000, 0.06 * packets * size / 1000, 25, 0.15 * peers, 0.5, 3.0]
        )
        site = drawn_site(rng)
        return cls(
            rate,
            size,
            length,
            peers,
            lag=rng.uniform(300, 900),
            noise=swing * np.array([0.08, 0.06, 0.07, 0.07, 0.12, 0.07, 0.12, 0.15]),
            offset=swing * 0.02 * rng.standard_normal(len(swing)),
            swing=swing,
            **site._asdict(),
        )

    def show(self, load: Array, air: Array, wander: Array, damage: Mapping[str, Array]) -> Array:
        usual = self.rate * load
        tried, flooding = self.rate * damage["scan"], self.rate * damage["overload"]
        size = self.size * (0.8 + 0.3 * load) * np.exp(wander[:, 0])  # idle devices send little but signs of life
        own = usual * self.length
        out = 0.32 * np.exp(wander[:, 1]) * own * size / 1000
        carried = 0.35 * self.rate * self.length * self.size / 1000 * damage["leak"]
        inward = 0.68 * own * size / 1000 + 0.06 * (3 * flooding * self.length) + 0.06 * 2 * tried
        out = out + carried + 0.06 * 2 * tried
        packets = own + 3 * flooding * self.length + 2 * tried + carried * 1000 / 1400
        connections = usual + tried + flooding
        peers = self.peers * (0.3 + 0.7 * load) + 20 * damage["scan"] + 6 * damage["overload"]
        dns = 0.25 * usual + 0.15 * tried
        refused = 100 * ((0.01 + 0.08 * load) * usual + 0.85 * tried + 0.5 * flooding) / np.maximum(connections, 1e-9)
        mean = (inward + out) * 1000 / np.maximum(packets, 1e-9)
        return np.stack([connections, packets, inward, out, mean, peers, dns, refused], axis=1)
