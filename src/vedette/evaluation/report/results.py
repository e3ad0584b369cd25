"""The main table: what is measured, and the mean of each method over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from vedette.evaluation.plots import Look, ordered
from vedette.evaluation.report.wording import figure

__all__ = [
    "EVENT_MEASURES",
    "MEASURES",
    "REFERENCES",
    "Line",
    "Lines",
    "Mean",
    "Measure",
    "Row",
    "about_protocols",
    "focus_of",
    "in_order",
    "lines_of",
    "mean_of",
    "result_table",
    "value_of",
]

REFERENCES = ("flag-all", "random", "majority", "timetable")

Row = Mapping[str, Any]
"""One row of metrics.json."""


class Measure(NamedTuple):
    """A column of the table: its key in metrics.json, how it is written, and what it tells.

    `whole` measures weigh found anomalies against false alarms, so that a best one can be named; the others are bought at each
    other's cost (whoever never raises an alert has the fewest false alarms).
    """

    key: str
    name: str
    meaning: str
    percent: bool = False
    digits: int = 3
    whole: bool = True
    term: str = ""


MEASURES = (
    Measure("f1", "F1", "The balance of found and precision: 1 is perfect, 0 finds nothing."),
    Measure("recall", "Found", "Of the readings that really are anomalous, the share that raised an alert.", True, 1, False, "recall"),
    # Two digits: 0.1 % of false alarms is many a day.
    Measure("fpr", "False alarms", "Of the readings that are normal, the share that raised an alert all the same.", True, 2, False, "FPR"),
    Measure("precision", "Precision", "Of the alerts, the share that were really anomalous.", True, 1, False),
    Measure("accuracy", "Accuracy", "The share of all readings judged rightly; high for free where anomalies are rare.", True, 1, False),
    Measure("balanced_accuracy", "Balanced accuracy", "The mean of found and normal readings left in peace: 50 % is guessing.", True, 1),
    Measure("mcc", "MCC", "Matthews correlation of alerts and truth: 1 is perfect, 0 is guessing, below 0 is worse than guessing."),
    Measure("auc_roc", "ROC-AUC", "How often an anomalous reading scores above a normal one, at any threshold: 0.5 is guessing."),
    Measure("auc_pr", "PR-AUC", "Precision averaged over all thresholds: guessing reaches the share of anomalous readings."),
)

EVENT_MEASURES = (
    Measure("event_recall", "Events found", "Of the anomalous events, the share in which an alert was raised at all.", True, 1, False),
    Measure(
        "event_precision", "Event precision", "Of the alarms (unbroken runs of alerts), the share that touched an event.", True, 1, False
    ),
    Measure(
        "event_f1",
        "Event F1",
        "The balance of the two; a single alarm over everything gets 1, so look at the false alarms too.",
        whole=False,
    ),
    Measure(
        "delay",
        "Delay",
        "Median time from the beginning of an event to its first alert, of the events that were found.",
        digits=0,
        whole=False,
        term="s",
    ),
    Measure(
        "alarms_per_day", "False alarms a day", "Alarms that touch no event, for each device and day of normal work.", digits=1, whole=False
    ),
    Measure(
        "vus_pr", "VUS-PR", "As PR-AUC, but an alert a little before or after its event counts in part (buffers of 0 to 100 readings)."
    ),
    Measure("vus_roc", "VUS-ROC", "As ROC-AUC, with the same buffers."),
    Measure(
        "nab_standard",
        "NAB",
        "What alerts that begin or end within a minute of a change point earn, the sooner the more, less what all others cost: 100 is "
        "perfect, 0 is silence.",
        digits=1,
    ),
)
"""Of readings that follow each other in time."""


class Mean(NamedTuple):
    """A figure over seeds; `spread` is the sample standard deviation, None for a single value."""

    value: float
    spread: float | None
    defined: int
    seeds: int


Line = dict[str, Mean | None]
Lines = dict[tuple[str, str, str], Line]
"""By protocol, split and method."""


def value_of(row: Row, key: str) -> float | None:
    """Return a figure of a row, None where it is undefined."""
    value = row.get(key)
    return float(value) if value is not None and isfinite(value) else None


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """Average what is defined."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Mean(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known), len(values))


def lines_of(rows: Iterable[Row], measures: Sequence[Measure] = (*MEASURES, *EVENT_MEASURES)) -> Lines:
    """Average the rows of all nodes together over seeds, by protocol, split and method; a lone node stands for all."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["protocol"], row["split"], row["method"]), []).append(row)
    lines: Lines = {}
    for key, group in groups.items():
        whole = [row for row in group if row["node"] == "*"] or (group if len({row["node"] for row in group}) == 1 else [])
        if whole:
            lines[key] = {measure.key: mean_of([value_of(row, measure.key) for row in whole]) for measure in measures}
    return lines


def about_protocols(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a run says of the data under each of its protocols, in the order of the recipe; older runs say nothing."""
    found = (run.get("data") or {}).get("protocols")
    return found if isinstance(found, Mapping) else {}


def in_order(run: Mapping[str, Any], protocols: Iterable[str]) -> list[str]:
    """Sort protocols as the recipe does, which puts first what others are compared with; unknown ones by name."""
    known = list(about_protocols(run))
    return sorted(set(protocols), key=lambda name: (known.index(name) if name in known else len(known), name))


def focus_of(methods: Iterable[str]) -> str | None:
    """Return the method a run is about: the federation, else the nearest thing to it."""
    return next((method for method in reversed(ordered(methods)) if method not in REFERENCES), None)


def result_table(
    lines: Lines, split: str, protocol: str, looks: Mapping[str, Look], measures: Sequence[Measure] = MEASURES
) -> dict[str, Any]:
    """Lay out one split under one protocol; the best of each column that can have one is marked, as printed."""
    here = {method: line for (at, part, method), line in lines.items() if (at, part) == (protocol, split)}
    best = {}
    for measure in measures:
        known = [mean.value for method, line in here.items() if method not in REFERENCES and (mean := line[measure.key])]
        if known and measure.whole:
            best[measure.key] = figure(max(known), measure.digits, measure.percent)
    body = []
    for method in ordered(here):
        reference = method in REFERENCES
        cells = [_cell(measure, here[method][measure.key], None if reference else best.get(measure.key)) for measure in measures]
        body.append({"method": method, "look": looks[method], "reference": reference, "cells": cells})
    shown = any(line[measure.key] is not None for line in here.values() for measure in measures)
    return {"split": split, "protocol": protocol, "lines": body, "measures": measures, "known": shown}


def _cell(measure: Measure, mean: Mean | None, best: str | None) -> dict[str, Any]:
    text = figure(mean.value, measure.digits, measure.percent) if mean else "–"
    spread = figure(mean.spread, measure.digits, measure.percent) if mean and mean.spread is not None else None
    partly = f"{mean.defined} of {mean.seeds} seeds" if mean and mean.defined < mean.seeds else None
    return {"key": measure.key, "text": text, "spread": spread, "partly": partly, "best": text == best}
