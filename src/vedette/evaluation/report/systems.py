"""Systems side by side: how well, how soon, at what cost, and what leaves a node, as L'Amour 2021 lays it out (table 1, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from vedette.evaluation.plots import Course, Grouped, Look, ordered, pace_figure, together_figure
from vedette.evaluation.report.privacy import TELLS
from vedette.evaluation.report.results import Mean, in_order, mean_of, value_of
from vedette.evaluation.report.rounds import courses_of
from vedette.evaluation.report.wording import duration, figure, percentage, volume

__all__ = ["converged", "systems_of"]

NEAR = 0.05
"""Training has converged when its loss stays this near to the least, as a share of the whole fall."""

QUALITY = (("accuracy", True), ("precision", True), ("recall", True), ("f1", False), ("f1_worst_tenth", False))

Entry = Mapping[str, Any]


def systems_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Lay out ``paces``, ``latencies``, ``orders`` and ``clusters`` in the content of a run, a part a protocol; none without the second."""
    measured = run.get("latencies") or []
    protocols = in_order(run, (row["protocol"] for row in run["rows"])) if measured or run.get("orders") else []
    return [_part(run, protocol, measured, looks) for protocol in protocols]


def converged(loss: Sequence[float | None]) -> int | None:
    """Return the first round, from 1, from which on the training loss stays near its least; None where it is not known, or never falls.

    Parameters
    ----------
    loss
        After each round.
    """
    known = [value for value in loss if value is not None]
    if not known or len(known) < len(loss) or min(known) >= known[0]:
        return None
    most = min(known) + NEAR * (known[0] - min(known))
    return next(place for place in range(len(known), 0, -1) if place == 1 or known[place - 2] > most)


def _part(run: Mapping[str, Any], protocol: str, measured: Sequence[Entry], looks: Mapping[str, Look]) -> dict[str, Any]:
    mine = {
        key: [each for each in run.get(key) or [] if each["protocol"] == protocol] for key in ("paces", "orders", "clusters", "followed")
    }
    rows = [row for row in run["rows"] if (row["protocol"], row["split"], row["node"]) == (protocol, "test", "*")]
    methods = ordered(row["method"] for row in rows)
    # What a reading takes does not depend on how test rows are split.
    soon = {each["method"]: each for each in measured}
    clusters = [drawn for each in mine["clusters"] if (drawn := _grouped(each)) is not None]
    courses = _timed(mine["followed"], mine["paces"])
    f1 = {method: mean_of([value_of(row, "f1") for row in rows if row["method"] == method]) for method in methods}
    dots = {method: (soon[method]["p99"] * 1000, mean.value) for method, mean in f1.items() if method in soon and mean}
    return {
        "protocol": protocol,
        "methods": [
            _line(run, method, protocol, [row for row in rows if row["method"] == method], mine["paces"], soon) for method in methods
        ],
        "loads": [f"{load['per_second']:,}" for load in (measured[0]["loads"] if measured else [])],
        "soon": [_loads(method, soon[method]) for method in methods if method in soon],
        "readings": measured[0]["readings"] if measured else 0,
        "drawn": ordered({*dots, *(course.method for course in courses)}),
        "courses": bool(courses),
        "figure": pace_figure(courses, dots, looks) if dots else None,
        "orders": [
            _order(method, [each for each in mine["orders"] if each["method"] == method])
            for method in ordered(each["method"] for each in mine["orders"])
        ],
        "clusters": together_figure(clusters) if clusters else None,
        "near": percentage(NEAR),
    }


def _line(
    run: Mapping[str, Any], method: str, protocol: str, rows: Sequence[Entry], paces: Sequence[Entry], soon: Mapping[str, Entry]
) -> dict[str, Any]:
    cells = []
    for key, percent in QUALITY:
        # Where all nodes are alike the worst of them are like all.
        values = [value_of(row, key) if key in row else value_of(row, "f1") for row in rows]
        cells.append(_mean(mean_of(values), percent))
    mine = [each for each in paces if each["method"] == method]
    rounds = [seconds for each in mine for seconds in _lengths(each["ends"])]
    ready = [(place, each["ends"][place - 1]) for each in mine if (place := converged(each["loss"])) is not None]
    sent, private = fmean(each["bytes"] for each in mine) if mine else None, _private(run, method, protocol)
    return {
        "method": method,
        "cells": cells,
        "soon": [_brief(soon[method][key]) for key in ("p50", "p99", "cpu_p99")] if method in soon else None,
        "round": duration(median(rounds)) if rounds else "–",
        "ready": (f"{median(place for place, _ in ready):g} rounds", duration(median(end for _, end in ready))) if ready else None,
        "bytes": volume(sent) if sent else "none" if private[0] == "nothing" else "–",
        "private": private,
    }


def _lengths(ends: Sequence[float]) -> list[float]:
    """Return how long rounds took; the first, before which the scaling is fitted and libraries are loaded, only where it is alone."""
    return [later - sooner for sooner, later in pairwise(ends)] or list(ends)


def _mean(mean: Mean | None, percent: bool) -> dict[str, str]:
    digits = 1 if percent else 3
    spread = figure(mean.spread, digits, percent) if mean is not None and mean.spread is not None else ""
    return {"text": "–" if mean is None else figure(mean.value, digits, percent), "spread": spread}


def _brief(seconds: float) -> str:
    """Write a time that people do not feel: ``0.31 ms``."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else duration(seconds)


def _private(run: Mapping[str, Any], method: str, protocol: str) -> tuple[str, str]:
    """Say what leaves a node, and what is promised or was found out about it."""
    account = next((each for each in run.get("privacy") or [] if (each["method"], each["protocol"]) == (method, protocol)), None)
    if account is None:
        trained = ((run.get("settings") or {}).get("variants") or {}).get(method, {}).get("trained", method)
        if method in ("flag-all", "random", "majority", "timetable") or trained == "local":
            return "nothing", ""
        return ("all readings" if trained not in ("federated", "untrained", "federated-own-threshold") else "as federated"), ""
    stage = next(each for each in account["stages"] if each["stage"] == "rounds")
    told = TELLS.get(stage["tells"][0], stage["tells"][0]) if stage["tells"] else "nothing"
    how = "in sums alone" if stage["masked"] else "under noise" if stage["noise"] == "node" else "in the clear"
    attacks = [each["auc"] for each in run.get("membership") or [] if (each["method"], each["protocol"]) == (method, protocol)]
    bound = "no bound" if account["epsilon"] is None else f"epsilon {figure(account['epsilon'], 1)}"
    return f"{told}, {how}", bound + (f"; attack AUC {figure(max(attacks), 2)}" if attacks else "")


def _loads(method: str, entry: Entry) -> dict[str, Any]:
    cells = [{"p99": _brief(load["p99"]), "p50": _brief(load["p50"]), "together": f"{load['together']:.1f}"} for load in entry["loads"]]
    return {"method": method, "cells": cells}


def _order(method: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Compare rows in their order with rows in none, seed by seed."""
    lines = []
    for key, name in (("f1", "F1"), ("auc_roc", "ROC-AUC"), ("auc_pr", "PR-AUC")):
        pairs = [(each["ordered"][key], each["shuffled"][key]) for each in entries]
        known = [(there, mixed) for there, mixed in pairs if there is not None and mixed is not None]
        if known:
            there, mixed = (fmean(values) for values in zip(*known, strict=True))
            lines.append({"name": name, "cells": [figure(value, 3) for value in (there, mixed, there - mixed)]})
    lookahead = max(each["lookahead"] for each in entries)
    return {"method": method, "lines": lines, "lookahead": f"{lookahead:.2g}" if lookahead else "0"}


def _grouped(entry: Entry) -> Grouped | None:
    nodes = sorted({node for each in entry["groupings"] for members in each["clusters"].values() for node in members})
    return Grouped(entry["method"], nodes, entry["groupings"]) if nodes else None


def _timed(followed: Sequence[Entry], paces: Sequence[Entry]) -> list[Course]:
    """Return what methods were followed to, over seconds from the beginning instead of rounds: the medians of the seeds."""
    found = []
    for course in courses_of(followed):
        ends = [each["ends"] for each in paces if each["method"] == course.method and len(each["ends"]) >= max(course.rounds)]
        if ends:
            found.append(course._replace(rounds=[median(each[round - 1] for each in ends) for round in course.rounds]))
    return found
