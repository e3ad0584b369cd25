"""The leak meter in words: what the random split promises, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vedette.evaluation.leak import FIGURES, SPLITS, Leak
from vedette.evaluation.plots import Look, leak_figure, ordered
from vedette.evaluation.report.summary import LEAD
from vedette.evaluation.report.wording import figure, percentage

__all__ = ["leaks_said"]

ELSEWHERE = {
    "distinct": "with equal rows kept on one side",
    "temporal": "on later readings of the same machines",
    "grouped": "on machines or experiments that nobody has learned from",
}
NOTHING = 0.01


def leaks_said(run: Mapping[str, Any], looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Lay out what a run of the leak meter found, from ``leak`` in its content; None for any other run."""
    leaks = [Leak(**{key: each.get(key) for key in Leak._fields}) for each in run.get("leak") or []]
    leaks = [each._replace(values=tuple(each.values or ())) for each in leaks if each.figure in FIGURES and each.split in SPLITS]
    splits = [split for split in SPLITS if any(each.split == split for each in leaks)]
    if len(splits) < 2:
        return None
    found = {(each.method, each.split, each.figure): each for each in leaks}
    methods = ordered(each.method for each in leaks)
    drawn = {
        name: {m: {s: found[m, s, key].values for s in splits if (m, s, key) in found} for m in methods} for key, name in FIGURES.items()
    }
    return {
        "splits": splits,
        "figures": list(FIGURES.values()),
        "figure": leak_figure(drawn, splits, looks),
        "repeated": any(len(each.values) > 1 for each in leaks),
        "methods": [{"name": m, "verdict": _verdict(m, found), "lines": [_line(m, split, found) for split in splits]} for m in methods],
    }


def _line(method: str, split: str, found: Mapping[tuple[str, str, str], Leak]) -> dict[str, Any]:
    cells = []
    for key in FIGURES:
        each = found.get((method, split, key), Leak(method, split, key, None, None, None))
        cells.append({"mean": _written(each.mean) or "–", "spread": _written(each.spread), "gap": _written(each.gap)})
    return {"split": split, "cells": cells, "meaning": SPLITS[split]}


def _written(value: float | None) -> str:
    return "" if value is None else figure(value, 3)


def _verdict(method: str, found: Mapping[tuple[str, str, str], Leak]) -> str:
    """Say in two sentences what a table with a random split would promise, and what to expect instead."""
    who = LEAD.get(method, method)
    for key, name in FIGURES.items():
        base = found.get((method, "random", key))
        others = [each for split in ELSEWHERE if (each := found.get((method, split, key))) is not None and each.gap is not None]
        if base is not None and base.mean is not None and others:
            return f"{who}: {_compared(name, base, base.mean, others)}{_most(method, max(each.gap or 0.0 for each in others), key, found)}"
    return f"{who}: no figure is defined under the random split and another, so what it gives for free is not known."


def _compared(name: str, base: Leak, promised: float, others: Sequence[Leak]) -> str:
    parts = [f"{ELSEWHERE[each.split]} it is {each.mean:.3f}" for each in others if each.mean is not None]
    said = f"a table made with rows split at random would promise {name} {promised:.3f}; {', '.join(parts)}."
    free = max(each.gap or 0.0 for each in others)
    if free <= max(NOTHING, base.spread or 0.0):
        return f"{said} To {name} the random split gives nothing for free here."
    share = f", {percentage(free / promised)} of what it promises" if promised > 0 else ""
    return f"{said} What the random split gives for free: up to {free:.3f}{share}."


def _most(method: str, free: float, told: str, found: Mapping[tuple[str, str, str], Leak]) -> str:
    """Name the figure that the random split flatters more than the one that was told of."""
    others = [each for each in found.values() if each.method == method and each.figure != told and each.split in ELSEWHERE]
    most = max(others, key=lambda each: each.gap or 0.0, default=None)
    if most is None or most.gap is None or most.gap <= max(free, 0.0) + NOTHING:
        return ""
    return f" {FIGURES[most.figure]} shows more of it: {most.gap:.3f} higher at random than {ELSEWHERE[most.split]}."
