"""The figures Vedette answers for: runs the recipes with all their seeds and writes docs/proof.md and docs/proof/*.json.

``python tools/proof.py [RECIPE …]`` needs VEDETTE_DATA; without names all recipes are run, with names the others' figures are kept.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from vedette.evaluation.experiment import Experiment
from vedette.evaluation.recipe import load_recipe
from vedette.runtimes.base import Round

DOCS = Path(__file__).parent.parent / "docs"
COLUMNS = ("accuracy", "f1", "precision", "recall", "fpr", "auc_roc", "auc_pr", "mcc")
Means = Callable[[str, str], float]


class Claim(NamedTuple):
    """One promise: what it is about, how its figure comes from a recipe's means, and the bound."""

    recipe: str
    says: str
    figure: Callable[[Means], float]
    sign: str
    bound: float

    def holds(self, figure: float) -> bool:
        """Tell whether the figure keeps the bound."""
        return figure >= self.bound if self.sign == "≥" else figure <= self.bound


CLAIMS = (
    Claim("kdd99-autoencoder", "centralised, accuracy", lambda m: m("centralised", "accuracy"), "≥", 0.915),
    Claim("kdd99-autoencoder", "centralised, F1", lambda m: m("centralised", "f1"), "≥", 0.945),
    Claim("kdd99-autoencoder", "federated, accuracy", lambda m: m("federated", "accuracy"), "≥", 0.915),
    Claim("kdd99-autoencoder", "federated, F1", lambda m: m("federated", "f1"), "≥", 0.945),
    Claim(
        "kdd99-autoencoder",
        "centralised and federated apart, accuracy",
        lambda m: abs(m("centralised", "accuracy") - m("federated", "accuracy")),
        "≤",
        0.01,
    ),
    Claim(
        "kdd99-autoencoder", "centralised and federated apart, F1", lambda m: abs(m("centralised", "f1") - m("federated", "f1")), "≤", 0.01
    ),
    Claim("kdd99-all-features", "federated, accuracy", lambda m: m("federated", "accuracy"), "≥", 0.94),
    Claim("kdd99-all-features", "federated, F1", lambda m: m("federated", "f1"), "≥", 0.96),
    Claim("kdd99-all-features", "federated, FPR", lambda m: m("federated", "fpr"), "≤", 0.06),
    Claim("nsl-kdd-autoencoder", "federated, ROC-AUC", lambda m: m("federated", "auc_roc"), "≥", 0.965),
    Claim("nsl-kdd-autoencoder", "federated, F1", lambda m: m("federated", "f1"), "≥", 0.89),
    Claim("nsl-kdd-autoencoder", "federated, FPR", lambda m: m("federated", "fpr"), "≤", 0.13),
    Claim(
        "nsl-kdd-autoencoder", "local-only below federated, ROC-AUC", lambda m: m("federated", "auc_roc") - m("local", "auc_roc"), "≥", 0.03
    ),
    Claim("nsl-kdd-autoencoder", "local-only to federated, FPR ratio", lambda m: m("local", "fpr") / m("federated", "fpr"), "≥", 1.5),
)
RECIPES = tuple(dict.fromkeys(claim.recipe for claim in CLAIMS))


def measured(name: str, root: Path) -> dict[str, Any]:
    """Run one recipe under all its protocols and return what is kept of it."""
    recipe = load_recipe(name)
    with tempfile.TemporaryDirectory() as scratch:

        def said(label: str, entry: Round) -> None:
            if entry.stage == "calibrate":
                print(f"  {label}", flush=True)

        begin = time.perf_counter()
        protocols = recipe.chosen_protocols("both")
        run = Experiment(recipe, root, 0, protocols, Path(scratch), on_progress=said).run().run
    rows = [row for row in run["rows"] if row["node"] == "*" and row["split"] != "train"]
    kept = {
        key: run[key] for key in ("schema", "recipe", "version", "seed", "seeds", "runtime", "data", "timing", "traffic_bytes", "settings")
    }
    return {**kept, "seconds": round(time.perf_counter() - begin, 1), "rows": rows}


def means_of(run: Mapping[str, Any], protocol: str) -> Means:
    """Return the mean over the seeds of a method's pooled test figure."""

    def mean(method: str, key: str) -> float:
        return fmean(row[key] for row in run["rows"] if (row["method"], row["protocol"], row["split"]) == (method, protocol, "test"))

    return mean


def table(run: Mapping[str, Any], protocol: str, split: str) -> list[str]:
    """Return a Markdown table of one protocol and split."""
    rows = [row for row in run["rows"] if row["protocol"] == protocol and row["split"] == split]
    lines = ["| method | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for key in COLUMNS:
            values = [row[key] for row in rows if row["method"] == method and row[key] is not None]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.4f}{spread}" if values else "–")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def page(runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """Return docs/proof.md and whether every claim holds."""
    lines = ["# Proof", "", "Written by `make proof`; the rows behind it are in `docs/proof/`. Means over the seeds, on the test set.", ""]
    lines += ["| recipe (its first protocol) | figure | must be | is |  |", "|---|---|---|---|---|"]
    good = True
    for claim in CLAIMS:
        run = runs[claim.recipe]
        figure = claim.figure(means_of(run, run["settings"]["protocol"]))
        good &= claim.holds(figure)
        mark = "yes" if claim.holds(figure) else "**no**"
        lines.append(f"| {claim.recipe} | {claim.says} | {claim.sign} {claim.bound} | {figure:.4f} | {mark} |")
    for name, run in runs.items():
        data = run["data"]
        lines += ["", f"## {name}", "", run["settings"]["title"] + ".", ""]
        lines += [
            f"{data['nodes']} nodes, {data['rows_train']:,} training rows, {data['rows_test']:,} test rows "
            f"({data['anomaly_share']:.1%} anomalous), seeds {', '.join(map(str, run['seeds']))}, runtime {run['runtime']}, "
            f"Vedette {run['version']}; {run['seconds']:.0f} s on 2 cores. "
            f"Command: `vedette run {name} --data ROOT --protocol {'both' if len(run['settings']['protocols']) > 1 else 'strict'}`.",
        ]
        for protocol in run["settings"]["protocols"]:
            for split in ("test", "validation"):
                if any(row["split"] == split and row["protocol"] == protocol for row in run["rows"]):
                    lines += ["", f"### {protocol} protocol, {split}", "", *table(run, protocol, split)]
    return "\n".join(lines) + "\n", good


def main() -> int:
    """Run what is asked for and write the page."""
    root = os.environ.get("VEDETTE_DATA")
    if not root:
        print("proof: set VEDETTE_DATA to the folder that holds kdd99 and nsl-kdd", file=sys.stderr)
        return 2
    wanted = sys.argv[1:] or RECIPES
    (DOCS / "proof").mkdir(exist_ok=True)
    runs = {}
    for name in RECIPES:
        file = DOCS / "proof" / f"{name}.json"
        if name in wanted or not file.exists():
            print(name, flush=True)
            file.write_text(json.dumps(measured(name, Path(root)), indent=1) + "\n", encoding="utf-8")
        runs[name] = json.loads(file.read_text(encoding="utf-8"))
    text, good = page(runs)
    (DOCS / "proof.md").write_text(text, encoding="utf-8")
    print(text.split("\n## ")[0])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
