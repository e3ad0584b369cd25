"""What the main figures mean, in a sentence, and what to take care of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.evaluation.report.results import REFERENCES, Line, Lines, focus_of
from vedette.evaluation.report.wording import percentage

__all__ = ["summary_of", "warnings_of"]

LEAD = {
    "federated": "Trained together",
    "distributed": "Trained by many workers",
    "centralised": "Trained on all data in one place",
    "local": "Trained alone",
}
THEN = {"local": "trained alone", "centralised": "trained on all data in one place"}


def summary_of(run: Mapping[str, Any], lines: Lines) -> str:
    """Say in one sentence what the main figures mean."""
    tested = {(protocol, method): line for (protocol, split, method), line in lines.items() if split == "test"}
    protocols = sorted({protocol for protocol, _ in tested})
    here = {method: line for (at, method), line in tested.items() if at == protocols[-1]}  # strict before published
    focus = focus_of(here)
    if focus is None:
        return "No method was scored on test readings."
    parts = [f"{LEAD.get(focus, f'With {focus}')}, {_verdict(here[focus], (run.get('data') or {}).get('nodes'))}"]
    for other, words in THEN.items():
        found, alarms = (here.get(other, {}).get(key) for key in ("recall", "fpr"))
        if other != focus and found and alarms and here[focus]["recall"]:
            parts.append(f"{words} {percentage(found.value)} and {percentage(alarms.value)}")
            break
    everything, f1 = here.get("flag-all", {}).get("f1"), here[focus]["f1"]
    if everything:
        parts.append(
            f"flagging everything would score F1\u00a0{everything.value:.2f}" + (f", this scores\u00a0{f1.value:.2f}" if f1 else "")
        )
    return "; ".join(parts) + (f" ({protocols[-1]} protocol)." if len(protocols) > 1 else ".")


def _verdict(line: Line, nodes: int | None) -> str:
    """Say what the nodes find and what they raise for nothing."""
    who = "the node" if nodes == 1 else f"{nodes:,} nodes" if nodes else "the nodes"
    find, raised = ("finds", "raises") if nodes == 1 else ("find", "raise")
    found, alarms = line["recall"], line["fpr"]
    if found and alarms:
        caught = f"{find} {percentage(found.value)} of the anomalous test readings"
        return f"{who} {caught} and {raised} a false alarm on {percentage(alarms.value)} of the normal ones"
    if alarms:
        wrongly = f"{raised} a false alarm on {percentage(alarms.value)} of the normal test readings"
        return f"{who} {wrongly}; there were no anomalous ones to find"
    if found:
        return f"{who} {find} {percentage(found.value)} of the anomalous test readings; there were no normal ones"
    return "what is found and what is a false alarm could not be told from these test readings"


def warnings_of(run: Mapping[str, Any], lines: Lines, protocols: list[str]) -> list[str]:
    """Say so where good figures come for free, or where what was learned is no better than not learning."""
    said = [text for protocol in protocols if (text := _no_better(lines, protocol, len(protocols) > 1))]
    share = (run.get("data") or {}).get("anomaly_share")
    if share is not None and share > 0.5:
        said.append(
            f"{percentage(share)} of the test readings are anomalous, so F1, precision and PR-AUC are high for free: "
            "compare them with flag-all, or read balanced accuracy, MCC and ROC-AUC."
        )
    return said


def _no_better(lines: Lines, protocol: str, named: bool) -> str | None:
    here = {method: line["f1"] for (at, split, method), line in lines.items() if (at, split) == (protocol, "test")}
    focus = focus_of(here)
    if focus is None or focus == "untrained" or not (mean := here[focus]):
        return None
    others = [(method, other.value) for method in (*REFERENCES, "untrained") if (other := here.get(method))]
    better = [f"{method} (F1 {value:.3f})" for method, value in others if value >= mean.value]
    where = f" under the {protocol} protocol" if named else ""
    return f"{focus} (F1 {mean.value:.3f}) is no better{where} than {' and '.join(better)}." if better else None
