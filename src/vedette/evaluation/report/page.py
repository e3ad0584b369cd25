"""The page itself: everything the template says, worked out and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vedette.evaluation.plots import Curve, Holding, Trace, Tradeoff, loss_figure, ordered, styles, tradeoff_figure
from vedette.evaluation.report.costs import costs_of, steps_of
from vedette.evaluation.report.diagnostics import diagnostic_tables
from vedette.evaluation.report.efforts import efforts_of
from vedette.evaluation.report.evasions import evasions_of
from vedette.evaluation.report.fleet import fleet_of, holdings_of
from vedette.evaluation.report.footprints import footprints_of
from vedette.evaluation.report.leaks import leaks_said
from vedette.evaluation.report.nodes import node_tables
from vedette.evaluation.report.peers import peers_of
from vedette.evaluation.report.privacy import privacy_of
from vedette.evaluation.report.protocols import growth_of, protocols_of
from vedette.evaluation.report.provenance import facts_of, flat, methods_of, splits_of, thresholds_of
from vedette.evaluation.report.results import EVENT_MEASURES, MEASURES, lines_of, result_table
from vedette.evaluation.report.rounds import rounds_of
from vedette.evaluation.report.scores import kinds_of, reasons_of, scores_of
from vedette.evaluation.report.sharing import sharing_of
from vedette.evaluation.report.summary import summary_of, warnings_of
from vedette.evaluation.report.systems import systems_of
from vedette.evaluation.report.template import rendered
from vedette.evaluation.report.topologies import topologies_of
from vedette.evaluation.report.trust import trust_of
from vedette.files import write_atomic

__all__ = ["write_report"]

SPLITS = ("test", "validation", "train")


def write_report(
    path: Path,
    run: Mapping[str, Any],
    curves: Sequence[Curve] = (),
    traces: Sequence[Trace] = (),
    holdings: Sequence[Holding] = (),
    tradeoffs: Sequence[Tradeoff] = (),
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
        Scored test rows of one seed; the first four nodes are drawn.
    holdings
        Rows held by each node.
    tradeoffs
        What each method finds at which price, of one seed.

    Raises
    ------
    StorageError
        The file could not be written; an older one is untouched.
    """
    content = _content(run, [curve for curve in curves if len(curve.loss)], [trace for trace in traces if len(trace.score)], holdings)
    anomalous = (run.get("data") or {}).get("anomaly_share")
    looks = content["looks"]
    drawn = [each for each in tradeoffs if each.method in looks]
    content["tradeoffs"] = tradeoff_figure(drawn, anomalous or 0.0, looks) if drawn else None
    content["traded"] = ordered(each.method for each in drawn)
    write_atomic(path, rendered("report.html.j2", content))


def _content(run: Mapping[str, Any], curves: Sequence[Curve], traces: Sequence[Trace], holdings: Sequence[Holding]) -> dict[str, Any]:
    used = {row["method"] for row in run["rows"]} | {curve.method for curve in curves} | {trace.method for trace in traces}
    used |= {each["method"] for key in ("followed", "footprints", "privacy") for each in run.get(key) or []}
    looks, lines = styles(used), lines_of(run["rows"])
    protocols = sorted({protocol for protocol, _, _ in lines})
    tables = [result_table(lines, split, protocol, looks) for split in SPLITS for protocol in protocols]
    of_events = tuple(measure for measure in EVENT_MEASURES if any(measure.key in row for row in run["rows"]))
    as_events = {protocol: result_table(lines, "test", protocol, looks, of_events) for protocol in protocols}
    as_events = {protocol: table for protocol, table in as_events.items() if table["known"]}
    return {
        "title": run.get("title") or run.get("recipe") or "Vedette run",
        "description": run.get("description"),
        "notes": run.get("notes"),
        "measures": (*MEASURES, *(of_events if as_events else ())),
        "looks": looks,
        "summary": summary_of(run, lines),
        "warnings": warnings_of(run, lines, protocols),
        "facts": facts_of(run, protocols),
        "leak": leaks_said(run, looks),
        "side_by_side": protocols_of(run),
        "growth": growth_of(run, looks),
        "tables": [table for table in tables if table["lines"]],
        "as_events": as_events,
        "diagnostics": diagnostic_tables(run["rows"], protocols, looks),
        "repeated": any(mean and mean.spread is not None for line in lines.values() for mean in line.values()),
        "curves": ordered(curve.method for curve in curves),
        # Where epochs are drawn, rounds would only confuse.
        "loss": loss_figure(curves, looks) if curves and not run.get("efforts") else None,
        "efforts": efforts_of(run, looks),
        "systems": systems_of(run, looks),
        "followed": rounds_of(run, looks),
        "scores": scores_of(run, traces, looks),
        "reasons": reasons_of(run),
        "kinds": kinds_of(run.get("kinds") or []),
        "fleets": [fleet for protocol in protocols if (fleet := fleet_of(run["rows"], protocol, looks))],
        "node_tables": {protocol: tables for protocol in protocols if (tables := node_tables(run["rows"], protocol))},
        "peers": peers_of(run),
        "topologies": topologies_of(run),
        "trust": trust_of(run),
        "sharing": sharing_of(run),
        "evasions": evasions_of(run),
        "privacy": privacy_of(run, looks),
        "footprints": footprints_of(run, looks),
        "held": holdings_of(run, holdings),
        "thresholds": thresholds_of(run, protocols, used),
        "splits": splits_of(run, protocols),
        "shared": (run.get("settings") or {}).get("test") == "shared",
        "methods": methods_of(run, used),
        "costs": costs_of(run),
        "steps": steps_of(run),
        "settings": list(flat(run.get("settings") or {})),
    }
