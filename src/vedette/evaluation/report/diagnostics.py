"""Figures that people ask for by name and nobody should compare by, in a place of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vedette.evaluation.plots import Look
from vedette.evaluation.report.results import Measure, Row, lines_of, result_table

__all__ = ["diagnostic_tables"]

ADJUSTED = Measure(
    "point_adjusted_f1",
    "Point-adjusted F1",
    "F1 after every reading of an event is taken for found if one of them raised an alert. Discredited: one lucky alert in a long event "
    "counts for all of it, and random scores reach the state of the art (Kim et al., AAAI 2022).",
    whole=False,
)
AFFILIATION = (
    Measure(
        "affiliation_precision",
        "Affiliation precision",
        "How much nearer to an event the alerts lie than readings picked at random (Huet et al., KDD 2022): alerts raised at random get "
        "0.5 and more, not 0.",
        whole=False,
    ),
    Measure(
        "affiliation_recall",
        "Affiliation recall",
        "How near to each event’s readings the next alert lies, against chance: raising many alerts anywhere gets nearly 1.",
        whole=False,
    ),
    Measure(
        "affiliation_f1",
        "Affiliation F1",
        "The balance of the two; many alerts at random get 0.7 or so, and more where anomalies are common.",
        whole=False,
    ),
)


def diagnostic_tables(rows: Iterable[Row], protocols: Sequence[str], looks: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """Lay out the diagnostics of test rows by protocol; those that no row has are left out.

    Parameters
    ----------
    rows
        The rows of metrics.json.
    protocols
        Their names.
    looks
        How methods look.
    """
    held = list(rows)
    measures = [measure for measure in (ADJUSTED, *AFFILIATION) if any(measure.key in row for row in held)]
    if not measures:
        return {}
    lines = lines_of(held, measures)
    tables = {protocol: result_table(lines, "test", protocol, looks, measures) for protocol in protocols}
    return {protocol: table for protocol, table in tables.items() if table["known"]}
