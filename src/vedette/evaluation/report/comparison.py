"""The page of a comparison: the figures of several runs drawn side by side, and what the runs differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vedette.evaluation.comparison import FIGURES, Compared
from vedette.evaluation.plots import Contrast, Look, contrast_figure, ordered, palette, printable
from vedette.evaluation.report.provenance import facts_of, flat
from vedette.evaluation.report.results import REFERENCES, focus_of
from vedette.evaluation.report.template import rendered
from vedette.evaluation.report.wording import figure
from vedette.files import write_atomic

__all__ = ["write_comparison"]

LOWER = ("fpr",)
"""Figures of which less is better; flagging everything is no floor to them."""


def write_comparison(path: Path, runs: Mapping[str, Mapping[str, Any]], found: Sequence[Compared]) -> None:
    """Write several runs side by side as one HTML file that needs nothing from outside.

    Parameters
    ----------
    path
        Where to; written whole or not at all.
    runs
        Contents of metrics.json, by the name that `found` calls them.
    found
        What `compared` makes of them.

    Raises
    ------
    StorageError
        The file could not be written; an older one is untouched.
    """
    names = _names(list(runs))
    found = [each._replace(run=names[each.run]) for each in found]
    called = {names[place]: run for place, run in runs.items()}
    looks = dict(zip(called, palette(len(called)), strict=True))
    protocols = list(dict.fromkeys(each.protocol for each in found))
    first = next(iter(called))
    content = {
        "first": first,
        "looks": looks,
        "summary": _summary(found, protocols, list(called)),
        "protocols": [{"name": protocol, **_drawn([e for e in found if e.protocol == protocol], looks)} for protocol in protocols],
        "runs": [{"name": name, "look": looks[name], "title": _title(run), "facts": _facts(run)} for name, run in called.items()],
        "settings": _differing(called),
    }
    write_atomic(path, rendered("comparison.html.j2", content))


def _names(places: Sequence[str]) -> dict[str, str]:
    """Call each run by as few of the last parts of its place as tell them all apart."""
    parts = {place: [part for part in Path(place).parts if part != "metrics.json"] or [place] for place in places}
    for count in range(1, max(map(len, parts.values())) + 1):
        names = {place: printable("/".join(mine[-count:]), 60) for place, mine in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {place: f"run {number}" for number, place in enumerate(places, 1)}


def _drawn(found: Sequence[Compared], looks: Mapping[str, Look]) -> dict[str, Any]:
    """Draw one protocol, a picture a figure, and lay its table out."""
    methods = ordered({each.method for each in found})
    shown = [method for method in reversed(methods) if method not in REFERENCES] or methods
    cells = {(each.method, each.run, each.figure): each for each in found}
    figures = [key for key in FIGURES if any(each.figure == key for each in found)]
    runs = [run for run in looks if any(each.run == run for each in found)]
    pictures = []
    for key in figures:
        drawn = [cells[m, run, key] for m in shown for run in runs if (m, run, key) in cells and cells[m, run, key].values]
        first = next(iter(looks))
        contrasts = [Contrast(e.method, e.run, e.values, None if e.run == first else e.gaps) for e in drawn]
        floor = next((e.mean for e in found if (e.method, e.figure) == ("flag-all", key)), None) if key not in LOWER else None
        if contrasts:
            picture = contrast_figure(contrasts, looks, FIGURES[key], floor)
            pictures.append({"name": FIGURES[key], "figure": picture, "lower": key in LOWER, "floor": floor is not None})
    lines = []
    for method in methods:
        mine = [(run, [cells.get((method, run, key)) for key in figures]) for run in runs]
        held = [{"run": run, "cells": [_cell(each) for each in row], "pairs": _pairs(row)} for run, row in mine if any(row)]
        lines.append({"method": method, "reference": method in REFERENCES, "runs": held})
    return {"pictures": pictures, "figures": [FIGURES[key] for key in figures], "lines": lines}


def _cell(each: Compared | None) -> dict[str, str]:
    if each is None or each.mean is None:
        return {"mean": "–", "difference": ""}
    if each.difference is None:
        return {"mean": figure(each.mean, 3), "difference": ""}
    spread = f" ± {each.spread:.3f}" if each.spread is not None else ""
    return {"mean": figure(each.mean, 3), "difference": f"{_signed(each.difference)}{spread}" if any(each.gaps) else "the same"}


def _pairs(row: Sequence[Compared | None]) -> str:
    """Say how many pairs there are, from the fewest to the most where figures are not defined in all."""
    counts = sorted({each.pairs for each in row if each is not None and each.difference is not None})
    return f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "") if counts else ""


def _signed(value: float) -> str:
    return f"{'+' if round(value, 3) > 0 else ''}{figure(value, 3)}"


def _summary(found: Sequence[Compared], protocols: Sequence[str], names: Sequence[str]) -> list[str]:
    """Say of each further run what it makes of the method the first is about, in its first known figure."""
    said = []
    for name in names[1:]:
        here = [e for e in found if e.run == name and e.protocol == protocols[-1] and e.difference is not None and e.figure not in LOWER]
        focus = focus_of(e.method for e in here)
        each = next((e for e in here if e.method == focus), None)
        if each is None or each.difference is None or each.mean is None:
            said.append(f"{name} has no method in pairs with {names[0]}.")
            continue
        apart = figure(abs(each.difference), 3)
        higher = each.difference > 0
        how = "as high as" if round(each.difference, 3) == 0 else f"{apart} {'higher' if higher else 'lower'} than"
        alike = sum(gap > 0 if higher else gap < 0 for gap in each.gaps)
        many = f"on average over {each.pairs:,} pairs, {'higher' if higher else 'lower'} in {alike:,} of them"
        pairs = many if each.pairs > 1 else "one pair"
        where = f"; {protocols[-1]} protocol" if len(protocols) > 1 else ""
        said.append(f"{FIGURES[each.figure]} of {each.method} in {name} is {how} in {names[0]} ({pairs}{where}).")
    return said


def _title(run: Mapping[str, Any]) -> str:
    return str(run.get("title") or run.get("recipe") or "")


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    return facts_of(run, list(dict.fromkeys(row["protocol"] for row in run["rows"])))


def _differing(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """List the settings in which the runs differ, with each run's value."""
    settings = [dict(flat(run.get("settings") or {})) for run in runs.values()]
    keys = dict.fromkeys(key for held in settings for key in held)
    rows = [(key, [held.get(key, "–") for held in settings]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
