"""Sparkplug B 3.0: births that name the metrics, data that carry what changed, sequence numbers and rebirths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vedette.edge.decoding import Decoder
from vedette.edge.sources.protobuf import messages

__all__ = ["Sparkplug", "payloads"]

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
AGAIN = 10.0
"""Seconds between two requests for the same rebirth."""
SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits of the signed integers, by data type; they travel as unsigned ones."""
MOST = 10_000
"""Edge nodes, and metrics of one, that are followed at most."""


@cache
def payloads() -> dict[str, Any]:
    """Return the message classes of `sparkplug_b.proto`, ``Payload`` and ``Metric``, with the fields that are used here."""
    return messages(
        "vedette.sparkplug",
        {
            "Metric": """
                1 name string
                2 alias uint64
                3 timestamp uint64
                4 datatype uint32
                5 is_historical bool
                7 is_null bool
                10 int_value uint32
                11 long_value uint64
                12 float_value float
                13 double_value double
                14 boolean_value bool
                15 string_value string
            """,
            "Payload": """
                1 timestamp uint64
                2 metrics Metric*
                3 seq uint64
            """,
        },
    )


@dataclass
class _Unit:
    """An edge node or one of its devices: what its birth said, and its latest values."""

    aliases: dict[int, tuple[str, int]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Node:
    units: dict[str, _Unit] = field(default_factory=dict)
    seq: int = -1
    session: int = -1
    asked: float = float("-inf")


class Sparkplug:
    """Follows edge nodes and gives their readings to a decoder.

    A reading is what is known of a device after each of its births and data messages: only what changed travels. Devices are named
    ``group/node`` and ``group/node/device``.

    Parameters
    ----------
    decoder
        Who takes the readings; features are named as metrics are.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._wanted = {decoder.format.fields.get(name, name) for name in decoder.names}
        self._nodes: dict[str, _Node] = {}

    def message(self, topic: str, data: bytes, at: float) -> Iterator[tuple[str, bytes]]:
        """Take a message that arrived at `at` (seconds since 1970), and yield what shall be published: topics and payloads."""
        levels = topic.split("/")
        if levels[0] != NAMESPACE or not 4 <= len(levels) <= 5 or levels[2] not in _KINDS:
            if levels[1:2] != ["STATE"] and levels[2:3] not in (["NCMD"], ["DCMD"]):
                self._decoder.counts.add("unexpected-topic", topic)
            return
        _, group, kind, edge, *more = levels
        if len(data) > self._decoder.format.most_bytes:
            self._decoder.counts.add("too-large", len(data))
            return
        try:
            payload = payloads()["Payload"].FromString(data)
        except Exception as error:  # the library's own error, whose module is loaded only here
            self._decoder.counts.add("garbage", error)
            return
        name = f"{group}/{edge}"
        node = self._nodes.get(name)
        if node is None:
            if len(self._nodes) >= MOST:
                self._decoder.counts.add("too-many-devices", name)
                return
            node = self._nodes[name] = _Node()
        if not self._taken(node, kind, more[0] if more else "", name, payload, at) and at - node.asked >= AGAIN:
            node.asked = at
            yield f"{NAMESPACE}/{group}/NCMD/{edge}", _rebirth(at)

    def _taken(self, node: _Node, kind: str, device: str, name: str, payload: Any, at: float) -> bool:
        """Take a payload; return whether the node must not be asked for its births."""
        if kind in ("NDEATH", "DDEATH"):
            if kind == "NDEATH" and _session(payload) in (node.session, -1):
                node.units.clear()
                node.seq = -1
            elif kind == "DDEATH":
                node.units.pop(device, None)
            return kind == "NDEATH" or self._follows(node, payload, name)
        if kind == "NBIRTH":
            node.units.clear()
            node.session, node.seq, node.asked = _session(payload), -1, float("-inf")
        follows = self._follows(node, payload, name)
        unit = node.units.get(device)
        if kind in ("NBIRTH", "DBIRTH"):
            if len(node.units) >= MOST:
                self._decoder.counts.add("too-many-devices", name)
                return follows
            unit = node.units[device] = _Unit()
            self._born(unit, payload)
        elif unit is None:
            self._decoder.counts.add("before-birth", name)
            return False
        self._read(unit, f"{name}/{device}" if device else name, payload, at)
        return follows

    def _follows(self, node: _Node, payload: Any, name: str) -> bool:
        """Whether the message is the next of its node; sequence numbers run from 0 to 255."""
        if not payload.HasField("seq"):
            self._decoder.counts.add("no-sequence", name)
            return True
        before, node.seq = node.seq, payload.seq % 256
        if before < 0 or node.seq == (before + 1) % 256:
            return True
        self._decoder.counts.add("gap", name, (node.seq - before - 1) % 256 or 1)
        return False

    def _born(self, unit: _Unit, payload: Any) -> None:
        for metric in payload.metrics[:MOST]:
            if metric.name in self._wanted:
                unit.types[metric.name] = metric.datatype
                if metric.HasField("alias"):
                    unit.aliases[metric.alias] = metric.name, metric.datatype

    def _read(self, unit: _Unit, device: str, payload: Any, at: float) -> None:
        times, found = [], False
        for metric in payload.metrics[:MOST]:
            if metric.name:
                name, kind = metric.name, metric.datatype or unit.types.get(metric.name, 0)
            else:
                name, kind = unit.aliases.get(metric.alias, ("", 0))
            if name not in self._wanted:
                continue  # commands, other metrics, and aliases of those
            if metric.is_historical:
                self._decoder.counts.add("historical", name)
                continue
            unit.values[name] = _value(metric, kind)
            found = True
            times.append(metric.timestamp)
        if found:
            moment = max(times) or payload.timestamp
            self._decoder.add(unit.values, device, at, moment / 1e3 if moment else None)


_KINDS = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH")


def _session(payload: Any) -> int:
    """Return the number of the session that a birth and its death share; -1 if it is not said."""
    return next((int(metric.long_value or metric.int_value) for metric in payload.metrics if metric.name == "bdSeq"), -1)


def _value(metric: Any, kind: int) -> Any:
    if metric.is_null:
        return None
    for name in ("double_value", "float_value", "boolean_value", "string_value"):
        if metric.HasField(name):
            return getattr(metric, name)
    number = metric.long_value if metric.HasField("long_value") else metric.int_value if metric.HasField("int_value") else None
    bits = SIGNED.get(kind)
    if number is None or bits is None:
        return number
    number %= 1 << bits
    return number - (1 << bits) if number >> (bits - 1) else number


def _rebirth(at: float) -> bytes:
    classes = payloads()
    moment = max(0, int(at * 1e3))
    metric = classes["Metric"](name=REBIRTH, timestamp=moment, datatype=11, boolean_value=True)
    data: bytes = classes["Payload"](timestamp=moment, metrics=[metric]).SerializeToString()
    return data
