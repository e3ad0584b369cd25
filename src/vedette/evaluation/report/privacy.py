"""Privacy: what leaves a node, what hides it, what the coordinator and whoever gets the model could find out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vedette.evaluation.plots import Look, ordered, spent_figure
from vedette.evaluation.report.wording import figure, percentage, volume

__all__ = ["privacy_of"]

STAGES = {"prepare": "scaling", "groups": "grouping", "rounds": "rounds", "calibrate": "threshold"}
TELLS = {
    "scaling": "extremes, or means and spreads, of each feature and counts of its levels",
    "scaling-votes": "one vote a feature for how far it varies, and one for its middle",
    "weights": "the network’s weights",
    "norms": "the running means and variances of layers that keep such",
    "points": "points made up after rare readings",
    "model": "a summary of its readings, from which the detector follows",
    "facts": "how many rows it has, and its training loss",
    "rows": "how many rows it has",
    "group-rows": "the mean and spread of each of its features, in a vector of length 1 at most",
    "group-weights": "how training moved its network",
    "group-loss": "which cluster’s model fits its rows best",
    "clipped": "whether its change was cut",
    "residuals": "moments of what the detector could not rebuild",
    "residual-sizes": "how large each feature’s residuals are",
    "scores": "counts of its scores in fine bins",
    "level-votes": "one vote for the bin its own threshold falls into, in 24",
}
ADDED = {"coordinator": "by the coordinator", "node": "by each node, as much as it needs alone", "shares": "in shares by all nodes"}
ATTACKS = {"loss": "by loss", "calibrated": "against models without it"}


def privacy_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Lay out ``privacy`` and ``membership`` in the content of a run: a part a protocol, the methods that learn together below it."""
    found = run.get("privacy") or []
    parts = []
    for protocol in dict.fromkeys(each["protocol"] for each in found):
        mine = {each["method"]: each for each in found if each["protocol"] == protocol}
        attacks = [each for each in run.get("membership") or [] if each["protocol"] == protocol]
        methods = ordered(mine)
        spent = {method: [step[2] for step in mine[method]["spent"]] for method in methods if mine[method]["spent"]}
        parts.append(
            {
                "protocol": protocol,
                "known": [method for method in methods if _is_known(mine[method])],
                "methods": [_method(method, mine[method], attacks) for method in methods],
                "attacks": [_line(method, attacks) for method in [*methods, "control"] if _of(method, attacks)],
                "drawn": list(spent),
                "figure": spent_figure(spent, looks) if spent else None,
            }
        )
    return parts


def _is_known(account: Mapping[str, Any]) -> bool:
    rows = account.get("rows")
    return any(stage["noise"] and not stage["secret"] for stage in account["stages"]) or bool(rows and not rows["secret"])


def _method(method: str, account: Mapping[str, Any], attacks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "method": method,
        "bound": _bound(account),
        "stages": [_stage(stage, account) for stage in account["stages"]],
        "who": "the coordinator" if account["central"] else "a neighbour",
        "sees": _sees(account),
        "model": _model(account, _of(method, attacks), _of("control", attacks)),
        "rows": _rows(account.get("rows")),
    }


def _bound(account: Mapping[str, Any]) -> str:
    if account["epsilon"] is None:
        return "no bound"
    return f"epsilon {figure(account['epsilon'], 2)} at delta {account['delta']:g}"


def _rows(rows: Mapping[str, Any] | None) -> str:
    """Say what noise on gradients promises for each row of a node."""
    if rows is None:
        return ""
    if rows["most"] is None:
        return "nothing is promised: training had no noise, or some node did not train."
    most, least = (figure(rows[end], 2) for end in ("most", "least"))
    span = f"epsilon {most}" if most == least else f"epsilon {most}, by the node that spent least {least},"
    odds = f"{math.exp(min(rows['most'], 50)):,.1f}"
    text = f"little, by training with noise on the gradients (DP-SGD): {span} at delta {rows['delta']:g}. With the row no network that "
    text += (
        f"comes of training is more than {odds} times as likely as without it, for whoever sees the node’s weights, the coordinator too. "
    )
    text += "Scaling, threshold and how many rows there are are not covered."
    return text if rows["secret"] else f"{text} But the noise came from a known seed, and can be taken away again."


def _stage(stage: Mapping[str, Any], account: Mapping[str, Any]) -> dict[str, str]:
    learns = stage["stage"] == "rounds"
    noise, clip = "on the gradients, for each row (DP-SGD)" if learns and account.get("rows") else "none", "no"
    if stage["noise"]:
        noise = f"{figure(stage['multiplier'], 2)} × that length, {ADDED[stage['noise']]}"
        noise += "" if stage["secret"] else "; from the run’s seed, so anybody who knows it can take the noise away"
    if stage["clip"] is not None:
        clip = f"to length {stage['clip']:g}{' at first, then adapted' if stage['adapts'] else ''}"
    sums = "each cluster’s sum" if learns and account.get("clustered") else "the sum"
    hidden = f"masked: only {sums} is seen" if stage["masked"] else "no"
    if not stage["tells"]:
        noise = clip = hidden = "–"
    return {
        "name": STAGES.get(stage["stage"], stage["stage"]),
        "rounds": f"{stage['rounds']:,}",
        "tells": "; ".join(TELLS.get(name, name) for name in stage["tells"]) or "nothing",
        "packed": _packed(stage["packed"]),
        "sent": _bytes(stage["sent"]),
        "received": _bytes(stage["received"]),
        "noise": noise,
        "clip": clip,
        "masked": hidden,
    }


def _bytes(count: float | None) -> str:
    return "with the rounds’" if count is None else volume(count) if count else "none"


def _packed(packed: Mapping[str, Any] | None) -> str:
    if packed is None:
        return ""
    parts = [f"the {percentage(packed['top'])} that changed most"] if packed["top"] < 1 else []
    parts += [f"matrices of rank {packed['rank']}"] if packed["rank"] else []
    return f" (on the way up as {' and '.join([*parts, packed['values']])}; the way back is not compressed)"


def _sees(account: Mapping[str, Any]) -> str:
    """Say what whoever merges sees of a node."""
    telling = [stage for stage in account["stages"] if stage["tells"]]
    among = "all nodes of a cluster" if account.get("clustered") else "all nodes"
    if all(stage["masked"] or stage["stage"] == "groups" for stage in telling):
        text = f"sums over {among}, never what one of them sent, unless more nodes than assumed work together against it."
        if grouped := [stage for stage in telling if stage["stage"] == "groups"]:
            how = "under the node’s own noise" if grouped[0]["noise"] else "in the clear"
            text += f" What nodes tell to be grouped by it sees node by node, {how}."
        return text
    if telling and all(stage["noise"] == "node" for stage in telling):
        return "what each node sends, under the node’s own noise."
    clear = [STAGES.get(stage["stage"], stage["stage"]) for stage in telling if not stage["masked"] and stage["noise"] != "node"]
    text = f"what each node sends, in the clear ({', '.join(clear)}). Readings stay where they are"
    text += ", but much can be told of them from weights." if "rounds" in clear else "; of all else it sees only what is hidden."
    return text + (" It adds the noise only afterwards, so it must be trusted." if any(stage["noise"] for stage in telling) else "")


def _model(account: Mapping[str, Any], own: Sequence[Mapping[str, Any]], controls: Sequence[Mapping[str, Any]]) -> str:
    """Say what somebody could find out who gets the model."""
    if _is_known(account):
        text = "nothing is promised: the noise came from a known seed, and can be taken away again."
    elif account["epsilon"] is None:
        text = "nothing is promised: not all that nodes tell is under noise."
    else:
        text = "nothing that hangs on one node alone, within limits: "
        if account["most_auc"] is not None:
            most = figure(account["most_auc"], 2)
            text += f"no attack whatever tells whether a node took part with an AUC above {most} (0.50 is a guess); "
        odds = f"{math.exp(min(account['epsilon'], 50)):,.1f}"
        text += f"with it no result is more than {odds} times as likely as without it, but for a chance of {account['delta']:g}."
    if own:
        best, control = max(own, key=lambda each: each["auc"]), max(controls, key=lambda each: each["auc"], default=None)
        text += f" The best attack tried told members from others with AUC {figure(best['auc'], 2)}"
        text += f"; {figure(control['auc'], 2)} on a model that knows its rows by heart." if control else "."
    return text


def _of(method: str, attacks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [each for each in attacks if each["method"] == method]


def _line(method: str, attacks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [
        {
            "asked": f"which {each['level']}s, {ATTACKS[each['attack']]}",
            "auc": figure(each["auc"], 2),
            "interval": f"{figure(each['low'], 2)} to {figure(each['high'], 2)}",
            "count": f"{each['members']:,} and {each['outsiders']:,}",
        }
        for each in _of(method, attacks)
    ]
    return {"method": method, "cells": cells}
