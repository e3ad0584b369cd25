"""Flow records of Suricata (EVE JSON): each flow that ended is a reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.fields import Key, dig, seconds
from vedette.edge.sources.base import Feed, Source
from vedette.edge.sources.lines import LineFeed

__all__ = ["FLOW", "Eve", "flow_values"]

FLOW = (
    Feature("duration", unit="s"),
    Feature("packets_to_server"),
    Feature("packets_to_client"),
    Feature("bytes_to_server", unit="B"),
    Feature("bytes_to_client", unit="B"),
    Feature("bytes_a_packet_to_server", unit="B"),
    Feature("bytes_a_packet_to_client", unit="B"),
    Feature("bytes_a_second", unit="B/s"),
    Feature("source_port"),
    Feature("destination_port"),
    Feature("alerted"),
    Feature("protocol", "category"),
    Feature("application", "category"),
    Feature("state", "category"),
    Feature("reason", "category"),
)
"""What is taken from a flow record. Ports are 0 where a protocol has none."""


class Eve(Source):
    """Suricata's ``eve.json``: records of ``event_type`` "flow"; others are passed over.

    Parameters
    ----------
    path
        The file; ``"-"``: standard input.
    follow
        Wait for it to grow.
    device
        Path of the field that names the device: ``"src_ip"``, ``"dest_ip"``, ``"host"``…
    """

    path: str = "/var/log/suricata/eve.json"
    follow: bool = True
    device: str = "src_ip"

    @property
    def features(self) -> tuple[Feature, ...]:
        return FLOW

    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it; see `Source.open`.

        Raises
        ------
        DataMissing
            There is no such file, and nobody will wait for it.
        """
        import msgspec

        parse, name = msgspec.json.Decoder().decode, Key(self.device)

        def taken(line: bytes) -> None:
            try:
                record = parse(line)
            except (ValueError, RecursionError):
                decoder.counts.add("garbage", line[:80])
                return
            if not isinstance(record, dict) or record.get("event_type") != "flow":
                return
            said = seconds(record.get("timestamp"))
            if said is None:
                decoder.counts.add("bad-time", record.get("timestamp"))
                return
            # Many flows end at the same moment, and threads write them in any order: the time does not tell them apart.
            decoder.add(flow_values(record), dig(record, name), said, said, ordered=False)

        return LineFeed(self.path, self.follow, decoder, position, taken)


def flow_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a flow record by the names of `FLOW`; what it lacks is None."""
    flow = record.get("flow")
    flow = flow if isinstance(flow, dict) else {}
    begin, end = seconds(flow.get("start")), seconds(flow.get("end"))
    duration = max(0.0, end - begin) if begin is not None and end is not None else flow.get("age")
    sent, received = flow.get("bytes_toserver"), flow.get("bytes_toclient")
    there, back = flow.get("pkts_toserver"), flow.get("pkts_toclient")
    both = _number(sent) + _number(received)
    length = _number(duration)
    return {
        "duration": duration,
        "packets_to_server": there,
        "packets_to_client": back,
        "bytes_to_server": sent,
        "bytes_to_client": received,
        "bytes_a_packet_to_server": _number(sent) / max(_number(there), 1.0),
        "bytes_a_packet_to_client": _number(received) / max(_number(back), 1.0),
        # A flow of one packet lasts no time; a millisecond keeps its rate finite.
        "bytes_a_second": both / max(length, 1e-3),
        "source_port": record.get("src_port", 0),
        "destination_port": record.get("dest_port", 0),
        "alerted": flow.get("alerted", False),
        "protocol": record.get("proto"),
        "application": record.get("app_proto", "unknown"),
        "state": flow.get("state"),
        "reason": flow.get("reason"),
    }


def _number(value: Any) -> float:
    """Return a count as it is, 0 where there is none."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0.0
