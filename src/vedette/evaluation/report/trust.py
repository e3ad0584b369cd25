"""Who was trusted: whose updates counted for little where nodes merge with care, and whether those were the attackers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from vedette.evaluation.plots import Standing, ordered, trust_figure
from vedette.evaluation.report.provenance import under
from vedette.evaluation.report.results import about_protocols, in_order

__all__ = ["trust_of"]

MOST_DRAWN = 6
MOST_NAMED = 8
MOST_REASONS = 10


class _Case(NamedTuple):
    """What one method made of the nodes under one protocol, seed by seed (and fold by fold)."""

    protocol: str
    method: str
    entries: Sequence[Mapping[str, Any]]
    attackers: frozenset[str]
    honest: int

    @property
    def named(self) -> Counter[str]:
        """In how many seeds each node was named."""
        return Counter(node for entry in self.entries for node in {*entry["suspected"], *entry["refused"]})


def trust_of(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out whom robust merging trusted, from ``trust`` in the content of a run: few cases in sentences and a figure, many in a table."""
    cases = _cases(run)
    if not cases:
        return None
    protocols, methods = in_order(run, (case.protocol for case in cases)), ordered(case.method for case in cases)
    few = len(cases) <= MOST_DRAWN
    several = len(protocols) > 1
    titles = {(case.protocol, case.method): case.method + (f", {case.protocol}" if several else "") for case in cases}
    drawn = [_standing(case, titles[case.protocol, case.method]) for case in cases] if few else []
    drawn = [each for each in drawn if each.counted]
    return {
        "sentences": [f"{titles[case.protocol, case.method]}: {_sentence(case)}" for case in cases] if few else [],
        "drill": any(case.attackers for case in cases),
        "seeds": max(len(case.entries) for case in cases),
        "figure": trust_figure(drawn) if drawn else None,
        "methods": methods,
        "lines": [] if few else [_line(protocol, methods, cases) for protocol in protocols],
        **_reasons(cases),
    }


def _cases(run: Mapping[str, Any]) -> list[_Case]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in run.get("trust") or []:
        entry = {key: each.get(key) or {} for key in ("counted", "refused")} | {
            key: each.get(key) or [] for key in ("suspected", "attackers")
        }
        entry["counted"] = {node: share for node, share in entry["counted"].items() if share is not None}
        found.setdefault((each["protocol"], each["method"]), []).append(entry)
    order = in_order(run, (protocol for protocol, _ in found))
    known = {protocol: _attacking(run, protocol) for protocol in order}
    cases = []
    for protocol in order:
        for method in ordered(method for at, method in found if at == protocol):
            entries = found[protocol, method]
            attackers = {node for entry in entries for node in entry["attackers"]} if known[protocol] else ()
            told = {node for entry in entries for node in (*entry["counted"], *entry["refused"])} | {*attackers}
            about = about_protocols(run).get(protocol) or {}
            # Where nothing but refusals is known, of all other nodes nothing is told.
            honest = max(len(told), about.get("nodes") or 0) - len(attackers)
            cases.append(_Case(protocol, method, entries, frozenset(attackers), honest))
    return cases


def _attacking(run: Mapping[str, Any], protocol: str) -> bool:
    """Say whether those who may attack do: in the undisturbed part of a drill they play by the rules."""
    attackers = under(run, protocol).get("attackers")
    attack = attackers.get("attack") if isinstance(attackers, Mapping) else None
    return not (isinstance(attack, Mapping) and attack.get("name") == "none")


def _sentence(case: _Case) -> str:
    named = case.named
    refused = {node for entry in case.entries for node in entry["refused"]}
    little = [node for node in sorted(named) if node not in refused]
    parts = []
    if little:
        parts.append(
            f"{_listed(little, named, len(case.entries))} counted for less than half of what the others did: look at {_them(little)}"
        )
    if refused:
        sent = "sent what cannot be used and was left out" if len(refused) == 1 else "sent what cannot be used and were left out"
        parts.append(f"{_listed(sorted(refused), named, len(case.entries))} {sent}")
    said = "; ".join(parts) if parts else _nobody(case)
    return f"{said}. {_drill(case)}".rstrip() if case.attackers else f"{said}."


def _nobody(case: _Case) -> str:
    counted = {node for entry in case.entries for node, share in entry["counted"].items() if share > 0}
    if all(entry["counted"] and median(entry["counted"].values()) == 0 for entry in case.entries):
        return f"most nodes never counted, only {_listed(sorted(counted), {}, 0)} did, so nobody can be named by it"
    return "no node counted for less than half of what the middle one did, nobody stands out"


def _drill(case: _Case) -> str:
    hits, wrong = _counts(case)
    mean = ", mean over seeds" if len(case.entries) > 1 else ""
    return f"Named: {_number(hits)} of {len(case.attackers)} attackers, {_number(wrong)} of {case.honest} honest nodes{mean}."


def _counts(case: _Case) -> tuple[float, float]:
    """Return how many attackers and how many honest nodes were named, mean over seeds."""
    named = [{*entry["suspected"], *entry["refused"]} for entry in case.entries]
    return fmean(len(each & case.attackers) for each in named), fmean(len(each - case.attackers) for each in named)


def _line(protocol: str, methods: Sequence[str], cases: Sequence[_Case]) -> dict[str, Any]:
    mine = {case.method: case for case in cases if case.protocol == protocol}
    return {"protocol": protocol, "cells": [_cell(mine[method]) if method in mine else None for method in methods]}


def _cell(case: _Case) -> dict[str, Any]:
    hits, wrong = _counts(case)
    if case.attackers:
        # Marked where it matters: an attacker that went unnoticed, or an honest node that is accused.
        said = {"hits": f"{_number(hits)} of {len(case.attackers)}", "missed": hits < len(case.attackers)}
    else:
        said = {"hits": None, "missed": False}
    return {**said, "wrong": f"{_number(wrong)} of {case.honest}", "names": sorted(case.named)[:MOST_NAMED]}


def _standing(case: _Case, title: str) -> Standing:
    shares: dict[str, list[float]] = {}
    for entry in case.entries:
        for node, share in entry["counted"].items():
            shares.setdefault(node, []).append(float(share))
    return Standing(title, {node: fmean(values) for node, values in shares.items()}, set(case.named), case.attackers)


def _reasons(cases: Iterable[_Case]) -> dict[str, Any]:
    found = sorted({(node, str(why)) for case in cases for entry in case.entries for node, why in entry["refused"].items()})
    # Most reasons name the node themselves.
    said = [why if node in why else f"{node}: {why}" for node, why in found]
    return {"reasons": said[:MOST_REASONS], "more_reasons": max(len(said) - MOST_REASONS, 0)}


def _listed(nodes: Sequence[str], named: Mapping[str, int], seeds: int) -> str:
    shown = [
        f"{node} (in {named[node]} of {seeds} seeds)" if node in named and named[node] < seeds else node for node in nodes[:MOST_NAMED]
    ]
    if len(nodes) > MOST_NAMED:
        shown.append(f"{len(nodes) - MOST_NAMED:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _them(nodes: Sequence[str]) -> str:
    return "it" if len(nodes) == 1 else "them"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"
