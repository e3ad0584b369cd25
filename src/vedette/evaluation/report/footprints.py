"""Footprints: what training takes of a device, and how much less than the plain network does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import fmean
from typing import Any

from vedette.evaluation.footprint import MOST_ROWS
from vedette.evaluation.plots import Bar, Footprint, Look, footprint_figure, ordered
from vedette.evaluation.report.wording import duration, figure, percentage, volume

__all__ = ["footprints_of"]

SIZES = ("step_first", "step_last", "floor", "resident", "model")
COMPARED = ("step_first", "step_last", "resident")

Found = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What was measured, by method, then fold."""


def footprints_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Lay out ``footprints`` in the content of a run: a part a protocol, a line a method, means over the folds.

    The plain network, which others are compared with, is the first method that torch trains. Shares are worked out fold by fold.
    """
    entries = run.get("footprints") or []
    parts = []
    for protocol in dict.fromkeys(each["protocol"] for each in entries):
        mine = [each for each in entries if each["protocol"] == protocol]
        found = {
            method: {each.get("fold") or "": each for each in mine if each["method"] == method}
            for method in ordered(each["method"] for each in mine)
        }
        parts.append({"protocol": protocol, **_part(found, looks)})
    return parts


def _part(found: Found, looks: Mapping[str, Look]) -> dict[str, Any]:
    plain = next((method for method, folds in found.items() if any(each.get("trainer") == "torch" for each in folds.values())), None)
    energies = [value for folds in found.values() for value in _values(folds, "joules")]
    return {
        "plain": plain,
        "verdict": _verdict(found, plain),
        "folds": len({fold for folds in found.values() for fold in folds}),
        "lines": [_line(method, found, plain) for method in found],
        "metered": bool(energies),
        "most_rows": MOST_ROWS,
        "counted": _counted(found, plain) if plain else [],
        "plans": _plans(found),
        "figure": footprint_figure([_drawn(method, folds) for method, folds in found.items()], looks),
    }


def _value(entry: Mapping[str, Any], key: str) -> float | None:
    """Return a figure that was measured; bytes of 0 were not."""
    value = entry.get(key)
    return value if value is not None and isfinite(value) and (value > 0 or key in ("pruned", "seconds", "joules")) else None


def _values(folds: Mapping[str, Mapping[str, Any]], key: str) -> list[float]:
    return [value for entry in folds.values() if (value := _value(entry, key)) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _verdict(found: Found, plain: str | None) -> dict[str, Any] | None:
    """Say which trainer for little memory needs the least room, and what the plain network takes."""
    needs = {}
    for method, folds in found.items():
        first, last = (_mean(_values(folds, key)) for key in ("step_first", "step_last"))
        if first is not None and last is not None and (method == plain or _is_lean(folds)):
            needs[method] = (max(first, last), last, first)
    lean = [method for method in needs if method != plain]
    if plain not in needs or not lean:
        return None
    best = min(lean, key=needs.__getitem__)
    most, last, first = needs[best]
    said = {"method": best, "first": volume(first), "last": volume(last), "plain": volume(needs[plain][0])}
    return {**said, "less": most < needs[plain][0]}


def _is_lean(folds: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(each.get("trainer") == "lowmem" for each in folds.values())


def _line(method: str, found: Found, plain: str | None) -> dict[str, Any]:
    folds = found[method]
    pruned, seconds, joules, rows = (_mean(_values(folds, key)) for key in ("pruned", "seconds", "joules", "rows"))
    return {
        "method": method,
        "cells": [_cell(folds, key, found[plain] if plain and plain != method and key in COMPARED else {}) for key in SIZES],
        "pruned": "–" if pruned is None else percentage(pruned) if pruned else "none",
        "seconds": duration(seconds),
        "rows": "" if rows is None else f"{min(rows, MOST_ROWS):,.0f}",
        "joules": _energy(joules),
    }


def _cell(folds: Mapping[str, Mapping[str, Any]], key: str, plain: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Write the mean over folds, the lowest and highest where they differ, and how much it is off the plain network's."""
    values = _values(folds, key)
    ends = [volume(pick(values)) for pick in (min, max)] if values else []
    both = [(_value(entry, key), _value(plain.get(fold, {}), key)) for fold, entry in folds.items()]
    ratios = [one / other for one, other in both if one is not None and other is not None]
    return {
        "mean": volume(_mean(values)),
        "range": _from_to(*ends) if len(set(ends)) > 1 else "",
        "off": _signed(fmean(ratios) - 1) if ratios else "",
    }


def _from_to(low: str, high: str) -> str:
    """Write two sizes, their unit once where it is the same."""
    number, unit = low.split(" ")
    return f"{number if high.endswith(f' {unit}') else low} to {high}"


def _signed(share: float) -> str:
    text = percentage(abs(share))
    return f"{'+' if share > 0 else '−'}{text}" if any(sign in "123456789" for sign in text) else percentage(0)


def _energy(joules: float | None) -> str:
    return "–" if joules is None else f"{figure(joules, 0 if joules >= 99.95 else 1 if joules >= 0.95 else 3)} J"


def _counted(found: Found, plain: str) -> list[dict[str, Any]]:
    """Count as Zakariyya et al. 2021 do: the plain network holds its rows, the other streams them."""
    lines = []
    for method, folds in found.items():
        if not _is_lean(folds):
            continue
        held, whole = [], []
        for fold, entry in folds.items():
            rows, step = _value(entry, "rows_bytes"), _value(found[plain].get(fold, {}), "step_last")
            if rows is not None and step is not None:
                held.append(rows)
                whole.append(rows + step)
        first, last = (_reduction(folds, found[plain], key) for key in ("step_first", "step_last"))
        if held:
            lines.append({"method": method, "held": volume(fmean(held)), "whole": volume(fmean(whole)), "first": first, "last": last})
    return lines


def _reduction(folds: Mapping[str, Mapping[str, Any]], plain: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, str]:
    """Return how much less a step is than the plain one with its rows, and the share of this that streaming alone explains."""
    less, streamed = [], []
    for fold, entry in folds.items():
        rows, step, other = _value(entry, "rows_bytes"), _value(entry, key), _value(plain.get(fold, {}), key)
        if rows is not None and step is not None and other is not None:
            less.append(1 - step / (other + rows))
            streamed.append(rows / (other + rows))
    if not less:
        return {"off": "–", "streamed": "–"}
    # Both are shares of the same whole, so that their means over folds can be divided.
    reduction = fmean(less)
    share = fmean(streamed) / reduction if reduction > 0 else nan
    return {"off": _signed(-reduction), "streamed": "–" if reduction <= 0 else "all" if share >= 1 else percentage(share)}


def _plans(found: Found) -> list[dict[str, Any]]:
    """List what memory budgets chose, each sentence of a method once, with its folds where there are several."""
    plans = []
    for method, folds in found.items():
        told = list(dict.fromkeys(each["plan"] for each in folds.values() if each.get("plan")))
        for plan in told:
            names = [fold for fold, each in folds.items() if each.get("plan") == plan and fold]
            plans.append({"method": method, "plan": plan, "folds": names if len(told) > 1 else []})
    return plans


def _drawn(method: str, folds: Mapping[str, Mapping[str, Any]]) -> Footprint:
    means = {key: _mean(_values(folds, key)) for key in SIZES}
    bars = {key: Bar(nan if mean is None else mean, volume(mean)) for key, mean in means.items()}
    return Footprint(method, bars["step_first"], bars["step_last"], bars["model"], bars["floor"], bars["resident"])
