"""How the figures were made: facts of the run, where thresholds come from, how data were split, all settings."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vedette.detectors.threshold import THRESHOLDS
from vedette.errors import VedetteError
from vedette.evaluation.plots import ordered
from vedette.evaluation.report.wording import percentage
from vedette.settings import build

__all__ = ["facts_of", "flat", "methods_of", "splits_of", "thresholds_of", "under"]

METHODS = {
    "majority": "what most training rows are, for every row",
    "timetable": "the place of a row in its recording alone, as training rows have it; no reading is looked at",
    "untrained": "the same detector before any training",
    "variance-distance": "the distance from the mean in units of each feature’s spread, from all data in one place",
    "pca": "what the main components of all data in one place cannot rebuild",
    "local": "each node learns from its own data only",
    "centralised": "all data in one place, for comparison only",
    "federated-own-threshold": "as federated, but each node sets its threshold from its own data",
    "federated": "nodes learn together and their data stay where they are",
    "fine-tuned": "as federated, then each node trains on alone and sets its own threshold",
}
OWN_THRESHOLD = ("local", "federated-own-threshold", "fine-tuned")
TRAINED = {
    "local": "by each node from its own data only",
    "centralised": "from all data in one place",
    "federated": "by the nodes together",
    "fine-tuned": "by the nodes together, then by each alone",
}
LEFT_OUT = {
    "group": "Each device (or other natural group) is left out in turn: the others learn, and their detectors are tried on its rows",
    "time": "Each stretch of time is left out in turn: the rest is learned from, no anomaly is cut in two",
}
SPLITS = {
    "rows": "at random, so that equal rows may stand on both sides",
    "distinct": "at random, equal rows together, so that no row stands on both sides",
    "groups": "whole devices or experiments at random, some of each kind",
    "time": "from the end of each group’s time, so that nothing is learned from the future",
}
UNKNOWN = (
    "Under the strict protocol it comes from training scores alone and no test label is seen before this report; under the published "
    "protocol it is chosen as the paper did, which may flatter the figures."
)


def facts_of(run: Mapping[str, Any], protocols: Sequence[str]) -> list[tuple[str, str]]:
    """List what a reader must know to place or repeat the run."""
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
        ("source", run.get("source")),
        ("Vedette", run.get("version")),
    ]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value not in (None, "")]


def methods_of(run: Mapping[str, Any], used: Iterable[str]) -> list[tuple[str, str]]:
    """Explain the methods of a run, those that are known."""
    names = set(used)
    variants = {name: _variant(variant) for name, variant in _at(run, "settings", "variants").items() if name in names}
    return [*((name, meaning) for name, meaning in METHODS.items() if name in names and name not in variants), *variants.items()]


def _variant(variant: Mapping[str, Any]) -> str:
    """Say what a variant is: its detector, its window, who trains it and how."""
    detector, strategy = _at(variant, "detector"), _at(variant, "strategy").get("name")
    changed = ", ".join(f"{key} = {value}" for key, value in detector.items())
    name = detector.get("name") or "the recipe’s detector" + (f" with {changed}" if changed else "")
    window = detector.get("window") or 1
    rows = window.get("size", 1) if isinstance(window, Mapping) else window
    seen = f" over windows of {rows} rows" if rows != 1 else ""
    how = f" ({strategy})" if strategy else ""
    return f"{name}{seen}, trained {TRAINED.get(str(variant.get('trained')), 'in a way of its own')}{how}"


def thresholds_of(run: Mapping[str, Any], protocols: Sequence[str], used: Iterable[str]) -> list[str]:
    """Say where the thresholds come from: the rule, the rows it is set by and whose it is; a sentence a protocol."""
    names = ordered(used)
    said = {protocol: text for protocol in protocols if (text := _threshold(under(run, protocol), names))}
    if not said:
        return [UNKNOWN]
    if len(said) == len(protocols) and len(set(said.values())) == 1:
        return list(said.values())[:1]
    return [f"{protocol.capitalize()} protocol: {text}" for protocol, text in said.items()]


def splits_of(run: Mapping[str, Any], protocols: Sequence[str]) -> list[str]:
    """Say how rows were held out, a sentence a protocol."""
    said = []
    for protocol in protocols:
        split = _at(run, "settings", "protocols", protocol)
        if (left := split.get("leave_out")) in LEFT_OUT:
            shown = f"Under the {protocol} protocol: " if len(protocols) > 1 else ""
            said.append(f"{shown}{LEFT_OUT[left]}. Figures are means over these folds, and so is the spread over seeds.")
        if split.get("within"):
            shown = f"Under the {protocol} protocol, each" if len(protocols) > 1 else "Each"
            said.append(f"{shown} {split['within']} is an experiment of its own; figures are means over them.")
        if (rule := split.get("split")) in SPLITS:
            purposes = (("validation", "for validation"), ("calibration", "to set thresholds by"))
            shares = [f"{share * 100:g} % of the training rows {purpose}; " for key, purpose in purposes if (share := split.get(key))]
            where = f"Under the {protocol} protocol, rows" if len(protocols) > 1 else "Rows"
            said.append(f"{where} held out ({''.join(shares)}test rows where the data set comes without its own) are taken {SPLITS[rule]}.")
    return said


def flat(settings: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Write nested settings as dotted keys and values."""
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif settings not in (None, "", [], {}) or isinstance(settings, bool | int | float):
        yield path, ", ".join(map(str, settings)) if isinstance(settings, list | tuple) else str(settings)


def _at(values: Any, *path: str) -> Mapping[str, Any]:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def under(run: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    """Return the settings with the keys that a protocol sets."""
    settings: dict[str, Any] = copy.deepcopy(dict(_at(run, "settings")))
    for key, value in _at(settings, "protocols", protocol, "set").items():
        *path, last = key.split(".")
        at = settings
        for part in path:
            if not isinstance(at.get(part), dict):
                at[part] = {"name": at.get(part)}
            at = at[part]
        at[last] = value
    return {**settings, "calibration": _at(settings, "protocols", protocol).get("calibration")}


def _threshold(settings: Mapping[str, Any], methods: Sequence[str]) -> str:
    rule = _at(settings, "detector", "threshold")
    if not rule:
        return ""
    name, share, own = rule.get("name"), settings["calibration"], rule.get("fit") == "local"
    if name == "fixed" and "score" in rule:
        return f"It is the fixed score {rule['score']:g}; nothing is fitted."
    try:
        words = build(THRESHOLDS, rule, "threshold").says
    except VedetteError:  # of another version
        words = f"by the rule ‘{', '.join(f'{key} {value}' for key, value in flat(rule))}’"
    rows = f"the {share * 100:g} % of the training part left out of training" if share else "those trained on, which tend to score lower"
    whose = "each node sets its own" if own else "one for all nodes, from the scores of all"
    parts = [f"It is {words} of the scores of normal rows, {rows}; {whose}."]
    alone = [method for method in methods if method in OWN_THRESHOLD]
    if alone and not own:
        parts.append(f"Under {' and '.join(alone)} each node sets its own.")
    return " ".join(parts)
