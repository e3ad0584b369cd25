"""One self-contained page about a run: for the people who own the machines and for reviewers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import compress
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vedette.evaluation.plots import MOST_BARS, MOST_HOLDINGS, Curve, Holding, Look, Trace, ordered, printable, styles

__all__ = ["Curve", "Holding", "Trace", "write_report"]

REFERENCES = ("flag-all", "random")
SPLITS = ("test", "validation", "train")
MOST_TRACED, MOST_PANELS, MOST_COLUMNS, MOST_KINDS = 4, 4, 10, 20
LEAD = {"federated": "Trained together", "centralised": "Trained on all data in one place", "local": "Trained alone"}
THEN = {"centralised": "trained on all data in one place", "local": "trained alone"}


class Measure(NamedTuple):
    """A column of the table: its key in metrics.json, what it is called, and what it tells."""

    key: str
    name: str
    term: str
    percent: bool
    lower_is_better: bool
    meaning: str


MEASURES = (
    Measure("f1", "F1", "", False, False, "The balance of found and precision: 1 is perfect, 0 finds nothing."),
    Measure("recall", "Found", "recall", True, False, "Of the readings that really are anomalous, the share that raised an alert."),
    Measure("fpr", "False alarms", "FPR", True, True, "Of the readings that are normal, the share that raised an alert all the same."),
    Measure("precision", "Precision", "", True, False, "Of the alerts, the share that were really anomalous."),
    Measure("accuracy", "Accuracy", "", True, False, "The share of all readings judged rightly; high for free where anomalies are rare."),
    Measure(
        "balanced_accuracy", "Balanced accuracy", "", True, False, "The mean of found and normal readings left in peace: 50 % is guessing."
    ),
    Measure(
        "mcc",
        "MCC",
        "",
        False,
        False,
        "Matthews correlation of alerts and truth: 1 is perfect, 0 is guessing, below 0 is worse than guessing.",
    ),
    Measure(
        "auc_roc",
        "ROC-AUC",
        "",
        False,
        False,
        "How often an anomalous reading scores above a normal one, at any threshold: 0.5 is guessing.",
    ),
    Measure(
        "auc_pr", "PR-AUC", "", False, False, "Precision averaged over all thresholds: guessing reaches the share of anomalous readings."
    ),
)


class Mean(NamedTuple):
    """A figure over seeds; `spread` is the sample standard deviation, None for a single value."""

    value: float
    spread: float | None
    defined: int
    seeds: int


Line = dict[str, Mean | None]
Lines = dict[tuple[str, str, str], Line]


def write_report(
    path: Path, run: Mapping[str, Any], curves: Sequence[Curve] = (), traces: Sequence[Trace] = (), holdings: Sequence[Holding] = ()
) -> None:
    """Write the report of a run as one HTML file that needs nothing from outside.

    Parameters
    ----------
    path
        Where to; written whole or not at all.
    run
        The content of metrics.json (``vedette.run/1``); values may be null.
    curves
        Training loss per round of each method and seed.
    traces
        Scored test rows; the first four nodes are drawn, all of them count by kind of anomaly.
    holdings
        Rows held by each node.

    Raises
    ------
    StorageError
        The file could not be written; an older one is untouched.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from vedette.files import write_atomic

    source = resources.files("vedette.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")

    def tamed(value: Any) -> Any:
        return printable(value, 2000) if isinstance(value, str) and not isinstance(value, Markup) else value

    page = Environment(autoescape=True, undefined=StrictUndefined, finalize=tamed, trim_blocks=True, lstrip_blocks=True)
    page.filters["name"] = lambda value: printable(value, 80)
    text = page.from_string(source).render(_content(run, curves, [trace for trace in traces if len(trace.score)], holdings))
    write_atomic(path, text.replace(" %", "\u00a0%"))


def _content(run: Mapping[str, Any], curves: Sequence[Curve], traces: Sequence[Trace], holdings: Sequence[Holding]) -> dict[str, Any]:
    """Work out everything the template says."""
    from markupsafe import Markup

    from vedette.evaluation import plots

    curves = [curve for curve in curves if len(curve.loss)]
    named = [row["method"] for row in run["rows"]] + [curve.method for curve in curves] + [trace.method for trace in traces]
    looks = styles(named)
    lines = _pooled(run["rows"])
    protocols = sorted({protocol for protocol, _, _ in lines})
    tables = [_table(lines, split, protocol, looks) for split in SPLITS for protocol in protocols]
    return {
        "title": run.get("title") or run.get("recipe") or "Vedette run",
        "description": run.get("description"),
        "notes": run.get("notes"),
        "measures": MEASURES,
        "looks": looks,
        "used": set(named),
        "summary": _summary(run, lines),
        "warnings": [text for protocol in protocols for text in _warning(lines, protocol, len(protocols) > 1)],
        "provenance": _provenance(run, protocols),
        "tables": [table for table in tables if table["lines"]],
        "repeated": any(mean and mean.spread is not None for line in lines.values() for mean in line.values()),
        "curves": ordered([curve.method for curve in curves]),
        "loss": Markup(plots.loss_figure(curves, looks)) if curves else None,
        "traced": _traced(traces, looks),
        "untraced": max(len({trace.node for trace in traces}) - MOST_TRACED, 0),
        "binned": max((len(trace.score) for trace in traces), default=0) // plots.BINS,
        "kinds": _kinds(traces),
        "fleets": [fleet for protocol in protocols if (fleet := _fleet(run["rows"], protocol, looks))],
        "holdings": Markup(plots.holding_figure(holdings)) if holdings else None,
        "held": _held(holdings),
        "costs": _costs(run),
        "timing": [(name, duration(seconds)) for name, seconds in (run.get("timing") or {}).items()],
    }


def _value(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return float(value) if value is not None and isfinite(value) else None


def _mean(values: Sequence[float | None]) -> Mean | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Mean(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known), len(values))


def _pooled(rows: Iterable[Mapping[str, Any]]) -> Lines:
    """Average the rows of all nodes together over seeds, by protocol, split and method; a lone node stands for all."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["protocol"], row["split"], row["method"]), []).append(row)
    lines: Lines = {}
    for key, group in groups.items():
        whole = [row for row in group if row["node"] == "*"] or (group if len({row["node"] for row in group}) == 1 else [])
        if whole:
            lines[key] = {measure.key: _mean([_value(row, measure.key) for row in whole]) for measure in MEASURES}
    return lines


def _shown(value: float, measure: Measure) -> str:
    digits = 3 if not measure.percent else 2 if measure.lower_is_better else 1  # 0.1 % of false alarms is many a day
    value = value * 100 if measure.percent else value
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def percentage(share: float) -> str:
    """Write a share for people: ``93.1 %``, with a second digit where it is nearly nothing or nearly all."""
    return f"{share * 100:.{2 if 0 < share < 0.01 or 0.99 < share < 1 else 1}f} %"


def duration(seconds: float | None) -> str:
    """Write seconds for people: ``850 ms``, ``12.3 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None or not isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def volume(size: float | None) -> str:
    """Write bytes for people, in powers of 1,000: ``3.4 MB``."""
    if size is None or not isfinite(size):
        return "–"
    unit = next((unit for unit in range(4) if size < 999.5 * 1000**unit), 4)
    return f"{size / 1000**unit:.{1 if unit else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _table(lines: Lines, split: str, protocol: str, looks: Mapping[str, Look]) -> dict[str, Any]:
    """Lay out one split under one protocol; the best figure of each column, as printed, is marked."""
    methods = ordered([method for at, part, method in lines if (at, part) == (protocol, split)])
    best: dict[str, str] = {}
    for measure in MEASURES:
        known = [mean.value for method in methods if method not in REFERENCES and (mean := lines[protocol, split, method][measure.key])]
        if known:
            best[measure.key] = _shown((min if measure.lower_is_better else max)(known), measure)
    body = []
    for method in methods:
        cells = []
        for measure in MEASURES:
            mean = lines[protocol, split, method][measure.key]
            text = _shown(mean.value, measure) if mean else "–"
            spread = _shown(mean.spread, measure) if mean and mean.spread is not None else None
            partly = f"{mean.defined} of {mean.seeds} seeds" if mean and mean.defined < mean.seeds else None
            marked = method not in REFERENCES and text == best.get(measure.key)
            cells.append({"key": measure.key, "text": text, "spread": spread, "partly": partly, "best": marked})
        body.append({"method": method, "look": looks[method], "reference": method in REFERENCES, "cells": cells})
    return {"split": split, "protocol": protocol, "lines": body}


def _focus(methods: Iterable[str]) -> str | None:
    """The method a run is about: the federation, else the nearest thing to it."""
    return next((method for method in reversed(ordered(list(methods))) if method not in REFERENCES), None)


def _summary(run: Mapping[str, Any], lines: Lines) -> str:
    """Say in one sentence what the main figures mean."""
    tested = {(protocol, method): line for (protocol, split, method), line in lines.items() if split == "test"}
    protocols = sorted({protocol for protocol, _ in tested})
    here = {method: line for (at, method), line in tested.items() if at == protocols[-1]}  # strict before published
    focus = _focus(here)
    if focus is None:
        return "No method was scored on test readings."
    parts = [f"{LEAD.get(focus, f'With {focus}')}, {_verdict(here[focus], (run.get('data') or {}).get('nodes'))}"]
    for other in ("local", "centralised"):
        found, alarms = (here.get(other, {}).get(key) for key in ("recall", "fpr"))
        if other != focus and found and alarms and here[focus]["recall"]:
            parts.append(f"{THEN[other]} {percentage(found.value)} and {percentage(alarms.value)}")
            break
    everything, f1 = here.get("flag-all", {}).get("f1"), here[focus]["f1"]
    if everything:
        parts.append(f"flagging everything would score F1 {everything.value:.2f}" + (f", this scores {f1.value:.2f}" if f1 else ""))
    return "; ".join(parts) + (f" ({protocols[-1]} protocol)." if len(protocols) > 1 else ".")


def _verdict(line: Line, nodes: int | None) -> str:
    """What the nodes find and what they raise for nothing."""
    one = nodes == 1
    who = "the node" if one else f"{nodes:,} nodes" if nodes else "the nodes"
    found, alarms = line["recall"], line["fpr"]
    if found and alarms:
        caught = f"{'finds' if one else 'find'} {percentage(found.value)} of the anomalous test readings"
        return f"{who} {caught} and {'raises' if one else 'raise'} a false alarm on {percentage(alarms.value)} of the normal ones"
    if alarms:
        raised = f"{'raises' if one else 'raise'} a false alarm on {percentage(alarms.value)} of the normal test readings"
        return f"{who} {raised}; there were no anomalous ones to find"
    if found:
        return f"{who} {'finds' if one else 'find'} {percentage(found.value)} of the anomalous test readings; there were no normal ones"
    return "what is found and what is a false alarm could not be told from these test readings"


def _warning(lines: Lines, protocol: str, named: bool) -> list[str]:
    """Say so when what was learned is no better than not learning."""
    here = {method: line["f1"] for (at, split, method), line in lines.items() if (at, split) == (protocol, "test")}
    focus = _focus(here)
    mean = here.get(focus) if focus else None
    if not mean or not focus or focus == "untrained":
        return []
    better = [(method, here[method]) for method in (*REFERENCES, "untrained") if here.get(method)]
    said = [f"{method} (F1 {other.value:.3f})" for method, other in better if other and other.value >= mean.value]
    where = f" under the {protocol} protocol" if named else ""
    return [f"{focus} (F1 {mean.value:.3f}) is no better{where} than {' and '.join(said)}."] if said else []


def _provenance(run: Mapping[str, Any], protocols: Sequence[str]) -> list[tuple[str, str]]:
    data = run.get("data") or {}
    seeds = run.get("seeds") or [run.get("seed")]
    share = data.get("anomaly_share")
    facts = [
        ("data set", data.get("name")),
        ("nodes", data.get("nodes")),
        ("rows to train on", data.get("rows_train")),
        ("test rows", data.get("rows_test")),
        ("anomalous test rows", percentage(share) if share is not None else None),
        ("protocol" if len(protocols) == 1 else "protocols", ", ".join(protocols)),
        ("seed" if len(seeds) == 1 else "seeds", ", ".join(map(str, seeds))),
        ("runtime", run.get("runtime")),
        ("recipe", run.get("recipe")),
        ("Vedette", run.get("version")),
    ]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value not in (None, "")]


def _traced(traces: Sequence[Trace], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    from vedette.evaluation.plots import trace_figure

    nodes = list(dict.fromkeys(trace.node for trace in traces))[:MOST_TRACED]
    figures = []
    for node in nodes:
        for protocol in sorted({trace.protocol for trace in traces if trace.node == node}):
            mine = {trace.method: trace for trace in traces if (trace.node, trace.protocol) == (node, protocol)}
            methods = [method for method in reversed(ordered(list(mine))) if method not in REFERENCES] or list(mine)
            figure = Markup(trace_figure([mine[method] for method in methods[:MOST_PANELS]], looks))
            figures.append(
                {
                    "node": "All nodes together" if node == "*" else node,
                    "protocol": protocol,
                    "figure": figure,
                    "left_out": methods[MOST_PANELS:],
                }
            )
    return figures


def _kinds(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """Count, by kind of anomaly, the share of rows each method found."""
    tables = []
    for protocol in sorted({trace.protocol for trace in traces if trace.kind}):
        held: dict[str, Counter[str]] = {}
        found: dict[str, Counter[str]] = {}
        for trace in traces:
            if trace.protocol == protocol and trace.kind:
                alert = np.asarray(trace.score) >= trace.threshold
                held.setdefault(trace.method, Counter()).update(trace.kind)
                found.setdefault(trace.method, Counter()).update(compress(trace.kind, alert.tolist()))
        methods = ordered(list(held))
        rows = Counter({kind: max(counts[kind] for counts in held.values()) for kind in set().union(*held.values()) - {"", "normal"}})
        kinds = sorted(rows, key=lambda kind: (-rows[kind], kind))
        lines = [
            (kind, f"{rows[kind]:,}", [percentage(found[m][kind] / held[m][kind]) if held[m][kind] else "–" for m in methods])
            for kind in kinds[:MOST_KINDS]
        ]
        tables.append({"protocol": protocol, "methods": methods, "lines": lines, "left_out": len(kinds) - len(lines)})
    return [table for table in tables if table["lines"]]


def _fleet(rows: Iterable[Mapping[str, Any]], protocol: str, looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Compare the nodes under one protocol: a figure, and each method's worst, middle and best node."""
    from markupsafe import Markup

    from vedette.evaluation.plots import node_figure

    mine = [row for row in rows if (row["protocol"], row["split"]) == (protocol, "test") and row["node"] != "*"]
    key, name = max(
        (("auc_roc", "ROC-AUC"), ("f1", "F1")), key=lambda pair: (sum(_value(row, pair[0]) is not None for row in mine), pair[0])
    )
    gathered: dict[str, dict[str, list[float | None]]] = {}
    for row in mine:
        gathered.setdefault(row["method"], {}).setdefault(str(row["node"]), []).append(_value(row, key))
    scores = {
        method: {node: mean.value for node, values in sorted(gathered[method].items()) if (mean := _mean(values))}
        for method in reversed(ordered(list(gathered)))
    }
    nodes = {node for by_node in gathered.values() for node in by_node}
    learned = {method: by_node for method, by_node in scores.items() if by_node and method not in REFERENCES}
    if len(nodes) < 2 or not learned:
        return None
    floor = scores.get("flag-all", {})
    focus, by_node = next(iter(learned.items()))
    worst, best = (pick(by_node, key=lambda node: by_node[node]) for pick in (min, max))
    shown = dict(list(learned.items())[:MOST_COLUMNS])
    extremes = [
        (m, min(v, key=lambda n: v[n]), min(v.values()), statistics.median(v.values()), max(v, key=lambda n: v[n]), max(v.values()))
        for m, v in learned.items()
    ]
    return {
        "protocol": protocol, "name": name, "focus": focus, "nodes": len(nodes), "many": len(nodes) > MOST_BARS,
        "worst": worst, "worst_value": by_node[worst], "worst_floor": floor.get(worst), "middle": statistics.median(by_node.values()),
        "best": best, "best_value": by_node[best], "floor": bool(floor), "undefined": len(nodes) - len(by_node),
        "extremes": extremes, "left_out": list(learned)[MOST_COLUMNS:], "figure": Markup(node_figure(shown, floor, looks, name)),
    }  # fmt: skip


def _held(holdings: Sequence[Holding]) -> dict[str, Any] | None:
    if not holdings:
        return None
    size = sorted((holding.normal + holding.anomalous for holding in holdings), reverse=True)
    tenth = max(len(size) // 10, 1)
    bare = sum(holding.anomalous == 0 for holding in holdings)
    share = percentage(sum(size[:tenth]) / sum(size)) if sum(size) else None
    return {"nodes": len(size), "many": len(size) > MOST_HOLDINGS, "largest": tenth, "share": share, "bare": bare}


def _costs(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gather what each method used: thresholds in the test rows, bytes sent."""
    traffic = run.get("traffic_bytes") or {}
    used: dict[str, list[float]] = {}
    for row in run["rows"]:
        threshold = _value(row, "threshold")
        if row["split"] == "test" and threshold is not None and row["method"] not in REFERENCES:
            used.setdefault(row["method"], []).append(threshold)
    costs = []
    for method in ordered([*used, *traffic]):
        low, high = (f"{pick(used[method]):.4g}" if method in used else "–" for pick in (min, max))
        costs.append({"method": method, "threshold": low if low == high else f"{low} to {high}", "traffic": volume(traffic.get(method))})
    return costs
