"""Efforts: what many workers take against one machine, laid out as Holdren 2022 does (tables 4.1 to 4.3, figure 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from vedette.evaluation.effort import BLOCKS, MEASURES
from vedette.evaluation.plots import Look, epoch_figure, ordered
from vedette.evaluation.report.results import in_order
from vedette.evaluation.report.wording import duration, figure, volume

__all__ = ["efforts_of"]

SPLITS = ("validation", "test")
TAKEN: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("seconds", "Training", duration),
    ("first_epoch", "First epoch", duration),
    ("later_epochs", "Later epochs, each", duration),
    ("chief_cpu", "Processor of the chief", duration),
    ("worker_cpu", "Processors of the workers", duration),
    ("bytes", "Sent and received", volume),
)
WAYS = (
    ("cluster", BLOCKS[0], "Cluster, 4,096"),
    *(("host", block, f"Host, {block:,}" if block else "Host, one block") for block in BLOCKS),
)

Entry = Mapping[str, Any]


def efforts_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Lay out ``efforts`` in the content of a run, a part a protocol."""
    efforts = run.get("efforts") or {}
    parts = []
    for protocol in in_order(run, (each["protocol"] for each in efforts.get("training") or [])):
        accuracy, training, scoring = (
            [each for each in efforts.get(key) or [] if each["protocol"] == protocol] for key in ("accuracy", "training", "scoring")
        )
        methods = ordered(each["method"] for each in training)
        splits = [split for split in SPLITS if any(each["split"] == split for each in accuracy)]
        losses = {method: [each["loss"] for each in training if each["method"] == method] for method in methods}
        part = {
            "protocol": protocol,
            "methods": methods,
            "splits": splits,
            "gaps": _gaps(run["rows"], protocol, methods, splits),
            "accuracy": [_accuracy(accuracy, method, case) for method in methods for case in ("best", "mean")],
            "seeds": len({each["seed"] for each in training}),
            "taken": [name for _, name, _ in TAKEN],
            "training": [_training(training, method) for method in methods],
            "ways": [name for _, _, name in WAYS],
            "scoring": [line for split in SPLITS for method in methods if (line := _scoring(scoring, method, split))],
            "clustered": any(each["where"] == "cluster" for each in scoring),
            "figure": epoch_figure(losses, looks) if all(losses.values()) else None,
        }
        parts.append(part)
    return parts


def _accuracy(entries: Sequence[Entry], method: str, case: str) -> dict[str, Any]:
    found = {each["split"]: each for each in entries if (each["method"], each["case"]) == (method, case)}
    cells = [_share(found[split][key]) for key in MEASURES for split in SPLITS if split in found]
    return {"method": method, "case": case, "cells": cells}


def _share(value: float | None) -> str:
    return "–" if value is None else figure(value, 4)


def _gaps(rows: Sequence[Entry], protocol: str, methods: Sequence[str], splits: Sequence[str]) -> list[dict[str, str]]:
    """Say by how much the first method is more accurate than each other, seed by seed."""
    found = []
    for other in methods[1:]:
        for split in splits:
            by_seed: dict[int, dict[str, float]] = {}
            for row in rows:
                if (row["protocol"], row["split"], row["node"]) == (protocol, split, "*"):
                    by_seed.setdefault(row["seed"], {})[row["method"]] = row["accuracy"]
            gaps = [each[methods[0]] - each[other] for each in by_seed.values() if {methods[0], other} <= each.keys()]
            if gaps:
                found.append({"other": other, "split": split, "mean": figure(fmean(gaps), 4), "most": figure(max(gaps), 4)})
    return found


def _training(entries: Sequence[Entry], method: str) -> dict[str, Any]:
    """Write medians over seeds, and beside them the first run, in which libraries are loaded and workers started."""
    mine = [each for each in entries if each["method"] == method]
    cells = []
    for key, _, words in TAKEN:
        known = [each[key] for each in mine if each.get(key) is not None]
        text, first = words(median(known) if known else None), words(mine[0].get(key))
        cells.append({"text": text, "first": first if first != text and key != "bytes" else ""})
    return {"method": method, "cells": cells}


def _scoring(entries: Sequence[Entry], method: str, split: str) -> dict[str, Any] | None:
    mine = [each for each in entries if (each["method"], each["split"]) == (method, split)]
    if not mine:
        return None
    found = {(each["where"], each["block"]): each for each in mine}
    cells = [
        {"text": duration(each["seconds"]), "cpu": duration(each["chief_cpu"])} if each else {"text": "–", "cpu": ""}
        for each in (found.get((where, block)) for where, block, _ in WAYS)
    ]
    return {"method": method, "split": split, "rows": mine[0]["rows"], "cells": cells}
