"""What each method used: thresholds, bytes sent, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.evaluation.plots import ordered
from vedette.evaluation.report.results import REFERENCES, value_of
from vedette.evaluation.report.wording import duration, volume

__all__ = ["costs_of", "steps_of"]


def costs_of(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """Gather the thresholds in the test rows, the bytes sent and the time, a line a method."""
    traffic, timing = run.get("traffic_bytes") or {}, run.get("timing") or {}
    used: dict[str, list[float]] = {}
    for row in run["rows"]:
        threshold = value_of(row, "threshold")
        if row["split"] == "test" and threshold is not None:
            used.setdefault(row["method"], []).append(threshold)
    costs = []
    for method in ordered([*used, *traffic]):
        if method not in REFERENCES:
            low, high = (f"{pick(used[method]):.4g}" if method in used else "–" for pick in (min, max))
            costs.append(
                {
                    "method": method,
                    "threshold": low if low == high else f"{low} to {high}",
                    "traffic": "none" if traffic.get(method) == 0 else volume(traffic.get(method)),
                    "train": duration(timing.get(f"train {method}")),
                    "score": duration(timing.get(f"score {method}")),
                }
            )
    return costs


def steps_of(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the timed steps that belong to no method."""
    of_methods = {f"{step} {row['method']}" for row in run["rows"] for step in ("train", "score")}
    return [(name, duration(seconds)) for name, seconds in (run.get("timing") or {}).items() if name not in of_methods]
