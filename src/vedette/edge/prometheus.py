"""What Prometheus is told of a sentry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vedette.edge.events import EventKind, Severity
from vedette.version import __version__

if TYPE_CHECKING:
    from vedette.edge.agent import Agent
    from vedette.edge.calibration import Realised

__all__ = ["EdgeCollector"]

EVENTS: tuple[EventKind, ...] = ("alert", "opened", "updated", "closed")
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


class EdgeCollector(Collector):
    """Makes metrics of where a sentry stands at the moment they are asked for; scoring is neither slowed nor waited for.

    Parameters
    ----------
    agent
        The sentry at work.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as docs/live-alerts.md lists them."""
        status, store = self.agent.status, self.agent.store
        yield InfoMetricFamily("vedette_build", "The version that runs.", {"version": __version__})
        yield InfoMetricFamily("vedette_model", "The model that scores, by the digest of its bundle.", {"digest": status.model})
        yield CounterMetricFamily("vedette_readings", "Readings that were scored.", status.readings)
        yield CounterMetricFamily("vedette_batches", "Batches that they came in: whatever was pending is scored together.", status.batches)
        yield CounterMetricFamily("vedette_readings_above_threshold", "Readings above their threshold.", status.alarms)
        yield _counts("vedette_readings_faulty", "What was not as it should be at the source, by kind.", "kind", status.wrong)
        yield GaugeMetricFamily("vedette_devices", "Devices that were ever heard of.", status.devices)
        yield GaugeMetricFamily("vedette_devices_silent", "Devices that nothing was heard of for a while.", status.silent)
        told = {kind: status.told.get(kind, 0) for kind in EVENTS}
        yield _counts("vedette_events", "Alerts, and incidents that opened, went on and closed.", "kind", told)
        severe = Counter(event.severity for event in status.current)
        open_ = GaugeMetricFamily("vedette_incidents_open", "Incidents that are open, by severity.", labels=["severity"])
        for severity in SEVERITIES:
            open_.add_metric([severity], severe[severity])
        yield open_
        yield from _rates(status.realised)
        told_to = status.deliveries.items()
        for name, about, values in (
            ("vedette_events_accepted", "Events that a sink accepted.", {sink: one.sent for sink, one in told_to}),
            ("vedette_events_refused", "Events that a sink never will accept.", {sink: one.refused for sink, one in told_to}),
            ("vedette_deliveries_failed", "Attempts that failed.", {sink: one.failures for sink, one in told_to}),
        ):
            yield _counts(name, about, "sink", values)
        waiting = GaugeMetricFamily("vedette_events_waiting", "Events that a sink has not accepted yet.", labels=["sink"])
        for sink, count in status.waiting.items():
            waiting.add_metric([sink], count)
        yield waiting
        yield CounterMetricFamily(
            "vedette_events_dropped", "Events that went before they were accepted: the store was full.", store.dropped
        )
        yield GaugeMetricFamily("vedette_store_bytes", "Bytes of readings and events in the store.", store.size)
        yield GaugeMetricFamily("vedette_store_limit_bytes", "Bytes that they may take.", store.limit)


def _rates(found: Realised | None) -> Iterator[Metric]:
    """Yield what the calibration promised, and what came of it: the mean over devices, each by how long it was watched."""
    promised, measured = (math.nan, math.nan) if found is None else (found.promised, found.measured)
    for name, about, value in (
        (
            "vedette_rate_promised",
            "Alarms that the calibration promised at most, in its own unit.",
            promised,
        ),
        (
            "vedette_rate_measured",
            "Those that came of it, a device, without those marked as true.",
            measured,
        ),
    ):
        family = GaugeMetricFamily(name, about, labels=["of"])
        if found is not None:
            family.add_metric([found.unit], value)
        yield family


def _counts(name: str, about: str, label: str, values: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
