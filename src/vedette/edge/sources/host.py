"""This machine's own counters: processor, memory, disks and network, as rates a second."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from pydantic import Field

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.sources.base import Drained, Feed, Source
from vedette.errors import MissingExtra

__all__ = ["COUNTERS", "Host"]

COUNTERS = (
    Feature("cpu.user", unit="%"),
    Feature("cpu.system", unit="%"),
    Feature("cpu.waiting", unit="%"),
    Feature("cpu.load", unit="processes"),
    Feature("cpu.switches", unit="1/s"),
    Feature("memory.used", unit="%"),
    Feature("memory.swap", unit="%"),
    Feature("disk.read", unit="B/s"),
    Feature("disk.written", unit="B/s"),
    Feature("disk.reads", unit="1/s"),
    Feature("disk.writes", unit="1/s"),
    Feature("network.received", unit="B/s"),
    Feature("network.sent", unit="B/s"),
    Feature("network.packets_received", unit="1/s"),
    Feature("network.packets_sent", unit="1/s"),
    Feature("network.errors", unit="1/s"),
)
"""What is measured; what a machine does not have stays 0. Shares of the processor are of all cores, loopback is not counted."""


class Host(Source):
    """This machine itself, without any set-up.

    Parameters
    ----------
    every
        Seconds from reading to reading.
    device
        Its name; empty: the machine's.
    """

    every: float = Field(default=1.0, ge=0.05)
    device: str = ""

    @property
    def features(self) -> tuple[Feature, ...]:
        return COUNTERS

    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it; see `Source.open`.

        Raises
        ------
        MissingExtra
            psutil is not installed.
        """
        try:
            import psutil
        except ImportError:
            raise MissingExtra("the source 'host' needs psutil: pip install 'vedette[edge]'") from None
        return _Counters(self, decoder, psutil)


class _Counters(Feed):
    def __init__(self, source: Host, decoder: Decoder, psutil: Any) -> None:
        self.counts = decoder.counts
        self._decoder, self._psutil = decoder, psutil
        self._every, self._device = source.every, source.device or platform.node() or "host"
        self._before = self._counted()
        self._next = time.monotonic() + self._every

    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        pause = self._next - time.monotonic()
        time.sleep(max(0.0, min(wait, pause)))
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = max(self._next + self._every, now + self._every / 2)  # a rate over a moment says nothing
        before, after = self._before, self._counted()
        self._before = after
        passed = max(after["moment"] - before["moment"], 1e-3)
        cores = sum(after[name] - before[name] for name in ("cpu.user", "cpu.system", "cpu.waiting", "idle"))
        values = {name: self._share(name, before, after, cores, passed) for name in (feature.name for feature in COUNTERS)}
        self._decoder.add(values, self._device, time.time())
        readings = self._decoder.drained()
        return None if readings is None else Drained(readings, "")

    def close(self) -> None:
        pass

    @staticmethod
    def _share(name: str, before: dict[str, float], after: dict[str, float], cores: float, passed: float) -> float:
        if name in ("cpu.load", "memory.used", "memory.swap"):
            return after[name]
        grown = max(0.0, after[name] - before[name])  # counters begin anew when a disk or a network card is taken away
        return 100 * grown / cores if name in ("cpu.user", "cpu.system", "cpu.waiting") and cores > 0 else grown / passed

    def _counted(self) -> dict[str, float]:
        found = {feature.name: 0.0 for feature in COUNTERS} | {"idle": 0.0, "moment": time.monotonic()}
        for part in (self._processor, self._memory, self._disks, self._network):
            try:
                found |= part()
            except (OSError, RuntimeError, AttributeError, ValueError, self._psutil.Error) as error:
                self.counts.add("unreadable", error)
        return found

    def _processor(self) -> dict[str, float]:
        times = self._psutil.cpu_times()
        return {
            "cpu.user": times.user + getattr(times, "nice", 0.0),
            "cpu.system": times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0),
            "cpu.waiting": getattr(times, "iowait", 0.0),
            "idle": times.idle + getattr(times, "steal", 0.0),
            "cpu.load": os.getloadavg()[0],
            "cpu.switches": float(self._psutil.cpu_stats().ctx_switches),
        }

    def _memory(self) -> dict[str, float]:
        return {"memory.used": self._psutil.virtual_memory().percent, "memory.swap": self._psutil.swap_memory().percent}

    def _disks(self) -> dict[str, float]:
        disks = self._psutil.disk_io_counters()
        if disks is None:
            return {}
        return {
            "disk.read": float(disks.read_bytes),
            "disk.written": float(disks.write_bytes),
            "disk.reads": float(disks.read_count),
            "disk.writes": float(disks.write_count),
        }

    def _network(self) -> dict[str, float]:
        cards = [card for name, card in self._psutil.net_io_counters(pernic=True).items() if name not in ("lo", "lo0")]
        return {
            "network.received": float(sum(card.bytes_recv for card in cards)),
            "network.sent": float(sum(card.bytes_sent for card in cards)),
            "network.packets_received": float(sum(card.packets_recv for card in cards)),
            "network.packets_sent": float(sum(card.packets_sent for card in cards)),
            "network.errors": float(sum(card.errin + card.errout + card.dropin + card.dropout for card in cards)),
        }
