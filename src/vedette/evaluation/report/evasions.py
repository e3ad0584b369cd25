"""Evasion: how many anomalies classifiers miss once an attacker has changed them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from vedette.evaluation.plots import ordered
from vedette.evaluation.report.wording import percentage

__all__ = ["evasions_of"]


def evasions_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay out what ``evasions`` in the content of a run says: a part a protocol, a line a method, a column an attack."""
    found = run.get("evasions") or []
    return [_part(protocol, found) for protocol in dict.fromkeys(each["protocol"] for each in found)]


def _part(protocol: str, found: list[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [each for each in found if each["protocol"] == protocol and each["anomalies"]]
    attacks = list(dict.fromkeys((each["attack"], each["budget"]) for each in mine))
    lines = []
    for method in ordered(each["method"] for each in mine):
        own = [each for each in mine if each["method"] == method]
        first = [each for each in own if (each["attack"], each["budget"]) == attacks[0]]
        after = [[each for each in own if (each["attack"], each["budget"]) == attack] for attack in attacks]
        lines.append({"method": method, "before": _share(first, "missed"), "after": [_share(each, "missed_after") for each in after]})
    columns = [{"attack": attack.upper(), "budget": percentage(budget)} for attack, budget in attacks]
    return {"protocol": protocol, "attacks": columns, "lines": lines, "seeds": len({each["seed"] for each in mine})}


def _share(found: list[Mapping[str, Any]], key: str) -> dict[str, str]:
    """Return the share of all nodes' anomalies that were missed: mean and spread over the seeds."""
    shares = []
    for seed in sorted({each["seed"] for each in found}):
        of_seed = [each for each in found if each["seed"] == seed]
        shares.append(sum(each[key] for each in of_seed) / sum(each["anomalies"] for each in of_seed))
    if not shares:
        return {"mean": "–", "spread": ""}
    return {"mean": percentage(fmean(shares)), "spread": percentage(stdev(shares)) if len(shares) > 1 else ""}
