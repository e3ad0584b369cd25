"""Readings of OpenTelemetry metrics: points of a resource at about one time, by name and attributes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["Rates", "readings_of"]

CUMULATIVE = 2
"""`AggregationTemporality` of sums since a start."""
NOTHING = 1
"""Flag of a point that says that there is no value."""
MOST = 100_000
"""Series whose last value is kept, at most."""


class Rates:
    """The last value of each sum that only grows, for its rate a second."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[float, float]] = {}

    def rate(self, device: str, name: str, time: float, value: float) -> float | None:
        """Return how much a sum grew a second since it was last seen; None the first time, and when it began anew."""
        before = self._last.get((device, name))
        if before is None and len(self._last) >= MOST:
            return None
        if before is not None and time <= before[0]:
            return None
        self._last[device, name] = time, value
        if before is None or value < before[1]:
            return None
        return (value - before[1]) / (time - before[0])


class _Point(NamedTuple):
    time: float
    name: str
    value: float
    grows: bool


def readings_of(
    request: Any, naming: Sequence[str], wanted: Collection[str], rates: Rates | None, together: float
) -> Iterator[tuple[str | None, float | None, dict[str, float | None]]]:
    """Yield the readings of an export request: device (None: it does not say), time (None likewise), values by feature.

    Parameters
    ----------
    request
        An ``ExportMetricsServiceRequest``.
    naming
        Attributes of a resource that may name the device.
    wanted
        The features; other points are passed over.
    rates
        What makes rates of sums that only grow; None: they stay as they are.
    together
        Points within so many seconds are one reading.
    """
    for resource in request.resource_metrics:
        about = {each.key: _text(each.value) for each in resource.resource.attributes}
        device = next((about[name] for name in naming if about.get(name)), None)
        points = sorted(_points(resource, wanted), key=lambda point: point.time)
        while points:
            begin = points[0].time
            count = next((i for i, point in enumerate(points) if point.time > begin + together), len(points))
            values: dict[str, float | None] = {}
            for point in points[:count]:
                value: float | None = point.value
                if point.grows and rates is not None:
                    value = rates.rate(device or "", point.name, point.time, point.value)
                values[point.name] = value
            moment, points = points[count - 1].time, points[count:]
            yield device, moment or None, values


def _points(resource: Any, wanted: Collection[str]) -> Iterator[_Point]:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            grows = metric.sum.is_monotonic and metric.sum.aggregation_temporality == CUMULATIVE
            for point in (*metric.gauge.data_points, *metric.sum.data_points):
                name = _named(metric.name, point)
                if name in wanted and not point.flags & NOTHING:
                    value = point.as_double if point.HasField("as_double") else float(point.as_int)
                    yield _Point(point.time_unix_nano / 1e9, name, value, grows)
            grows = metric.histogram.aggregation_temporality == CUMULATIVE or bool(metric.summary.data_points)
            for point in (*metric.histogram.data_points, *metric.summary.data_points):
                for part in ("count", "sum"):
                    name = _named(f"{metric.name}.{part}", point)
                    if name in wanted and not point.flags & NOTHING:
                        yield _Point(point.time_unix_nano / 1e9, name, float(getattr(point, part)), grows)


def _named(name: str, point: Any) -> str:
    if not point.attributes:
        return name
    about = sorted((each.key, _text(each.value)) for each in point.attributes)
    return f"{name}{{{','.join(f'{key}={value}' for key, value in about)}}}"


def _text(value: Any) -> str:
    if value.HasField("bool_value"):
        return "true" if value.bool_value else "false"
    for name in ("string_value", "int_value", "double_value"):
        if value.HasField(name):
            return str(getattr(value, name))
    return ""
