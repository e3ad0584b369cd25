"""What a report shows of single readings: of which nodes and alarms, and whose rows latency is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.evaluation.reasons import reasons
from vedette.evaluation.report import Trace
from vedette.evaluation.scoring import Scored
from vedette.evaluation.setting import Setting

__all__ = ["explained", "some_rows", "traces"]

TRACES = 3


def some_rows(setting: Setting) -> Table:
    """Return test rows of one node."""
    tests = setting.tests["test"]
    return tests if isinstance(tests, Table) else tests[next(iter(tests))]


def traces(method: str, setting: Setting, scored: Sequence[Scored], tests: Fleet | Table) -> list[Trace]:
    """Choose nodes to draw: the worst, the median and the best by share of rows judged rightly."""
    right = {part.node: float(((part.score > part.threshold) == (part.label != 0)).mean()) for part in scored}
    order = sorted(right, key=lambda node: (right[node], node))
    chosen = dict.fromkeys(order[round(i * (len(order) - 1) / (TRACES - 1))] for i in range(TRACES))
    found = []
    for part in scored:
        if part.node in chosen:
            table = tests if isinstance(tests, Table) else tests[part.node]
            found.append(Trace(method, setting.protocol, part.node, table.time, part.score, part.label, part.threshold))
    return sorted(found, key=lambda trace: list(chosen).index(trace.node))


def explained(
    method: str,
    setting: Setting,
    detectors: Mapping[str, Detector],
    scored: Sequence[Scored],
    tests: Fleet | Table,
    nodes: Sequence[str],
) -> list[dict[str, Any]]:
    """Explain the loudest alarms of the nodes that are drawn."""
    found = []
    for part in scored:
        if part.node in nodes and detectors:
            detector = detectors.get(part.node) or next(iter(detectors.values()))
            alarms = reasons(detector, tests if isinstance(tests, Table) else tests[part.node], part)
            about = {"method": method, "protocol": setting.protocol, "seed": setting.seed, "node": part.node}
            found += [{**about, "alarms": alarms}] if alarms else []
    return sorted(found, key=lambda entry: nodes.index(entry["node"]))
