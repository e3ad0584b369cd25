"""What Prometheus is told of a run on the mesh."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vedette.runtimes.mesh.status import Status
from vedette.version import __version__

__all__ = ["MeshCollector"]

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds: from rounds of threads in one process to rounds of devices that train for an hour."""


class MeshCollector(Collector):
    """Makes metrics of a party's status at the moment they are asked for; the run is neither slowed nor waited for.

    Parameters
    ----------
    status
        Tells where the run stands.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as docs/deployment.md lists them."""
        status = self.status()
        tally, reached = status.tally, status.reached
        yield InfoMetricFamily("vedette_build", "The version that runs.", {"version": __version__})
        yield _by("vedette_round", "The last round of each stage that is over.", "stage", reached)
        yield _by("vedette_rounds_planned", "Rounds of each stage.", "stage", status.rounds)
        yield from _rounds(status)
        if status.party != "node":
            for name, value, about in (
                ("vedette_nodes_online", status.online, "Nodes that are there; among peers this one too."),
                ("vedette_nodes_asked", status.asked, "Nodes that work in this phase; for a peer, the neighbours it waits for."),
                ("vedette_nodes_heard", status.heard, "Those asked that have answered in this phase."),
                ("vedette_quorum", status.quorum, "Answers needed at the deadline; before the run begins, nodes that must be there."),
                ("vedette_deadline_seconds", max(status.left, 0.0), "Time left to the deadline; NaN where none runs."),
            ):
                yield GaugeMetricFamily(name, about, value)
        moved = CounterMetricFamily("vedette_update_bytes", "Bytes of messages with their headers, in and out.", labels=["direction"])
        moved.add_metric(["in"], tally.bytes_in)
        moved.add_metric(["out"], tally.bytes_out)
        yield moved
        refused = CounterMetricFamily(
            "vedette_messages_refused", "Messages refused, by the name that its sender was held to.", labels=["node"]
        )
        for node in {**status.nodes, **tally.refused}:
            refused.add_metric([node], tally.refused[node])
        yield refused
        yield CounterMetricFamily("vedette_answers_late", "Answers that were too late for their exchange.", tally.late)
        losses = status.losses
        yield GaugeMetricFamily("vedette_loss", "Training loss of the last round that had one.", losses[-1] if losses else math.nan)


def _by(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _rounds(status: Status) -> Iterator[Metric]:
    """Yield how many rounds this process has seen the end of, and how long they took."""
    over = CounterMetricFamily("vedette_rounds", "Rounds that ended since this process began.", labels=["stage"])
    took = HistogramMetricFamily("vedette_round_seconds", "Time from the end of a round to the end of the next.", labels=["stage"])
    seconds = tuple(status.tally.seconds)
    for stage in status.rounds:
        found = [value for where, value in seconds if where == stage]
        counts = [0] * (len(BUCKETS) + 1)
        for value in found:
            counts[bisect_left(BUCKETS, value)] += 1
        over.add_metric([stage], len(found))
        took.add_metric([stage], list(zip([*map(str, map(float, BUCKETS)), "+Inf"], accumulate(counts), strict=True)), sum(found))
    yield over
    yield took
