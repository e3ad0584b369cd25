"""The figures Vedette answers for: runs the recipes with all their seeds and writes docs/proof.md and docs/proof/*.json.

``python tools/proof.py [RECIPE …]`` needs VEDETTE_DATA; without names all recipes are run but those in `LONG`, with names the others'
figures are kept.
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


class Means:
    """Means over the seeds of what one recipe found on the test rows of one protocol.

    Parameters
    ----------
    run
        What `measured` kept.
    protocol
        Its name.
    """

    def __init__(self, run: Mapping[str, Any], protocol: str) -> None:
        self._rows = [row for row in run["rows"] if (row["protocol"], row["split"]) == (protocol, "test")]
        self._kinds = [row for row in run["kinds"] if (row["protocol"], row["split"]) == (protocol, "test")]

    def __call__(self, method: str, key: str) -> float:
        """Return a figure of all nodes' rows together (of folds: the mean over the folds)."""
        return fmean(row[key] for row in self._rows if (row["method"], row["node"]) == (method, "*"))

    def by_node(self, method: str, key: str) -> dict[str, float]:
        """Return a figure of each node."""
        rows = [row for row in self._rows if row["method"] == method and row["node"] != "*"]
        return {node: fmean(row[key] for row in rows if row["node"] == node) for node in sorted({row["node"] for row in rows})}

    def over_nodes(self, method: str, key: str) -> float:
        """Return the mean over the nodes."""
        return fmean(self.by_node(method, key).values())

    def worst(self, method: str, *keys: str) -> float:
        """Return the mean over the seeds of the worst node's figure (the largest; of several figures, of their sum)."""
        mine = [row for row in self._rows if row["method"] == method]
        # Where all nodes have one detector and one test set there is but one row.
        rows = [row for row in mine if row["node"] != "*"] or mine
        seeds = sorted({row["seed"] for row in rows})
        return fmean(max(sum(row[key] for key in keys) for row in rows if row["seed"] == seed) for seed in seeds)

    def found(self, method: str, without: tuple[str, ...]) -> float:
        """Return the share found of the anomalies that are not of certain kinds."""
        rows = [row for row in self._kinds if row["method"] == method and row["kind"] not in without]
        return float(sum(row["found"] for row in rows) / sum(row["rows"] for row in rows))


class Claim(NamedTuple):
    """One promise: what it is about, how its figure comes from a recipe's means, the bound, and the protocol if not the recipe's first."""

    recipe: str
    says: str
    figure: Callable[[Means], float]
    sign: str
    bound: float
    protocol: str | None = None

    def holds(self, figure: float) -> bool:
        """Tell whether the figure keeps the bound."""
        return figure >= self.bound if self.sign == "≥" else figure <= self.bound


FLOODS = ("gafgyt tcp", "gafgyt udp")
PR = "auc_pr"
PEERS = "p2pk-smote"
ALONE = ("none", "oversample", "undersample", "smote", "fedavg")
"""What P2PK-SMOTE is compared with."""


def peers(scenario: str, bound: float, protocol: str = "published") -> tuple[Claim, ...]:
    """Return what is promised of P2PK-SMOTE in one of its scenarios."""
    recipe = f"p2pk-smote-{scenario}"
    return (
        Claim(recipe, "P2PK-SMOTE, worst client, FNR", lambda m: m.worst(PEERS, "fnr"), "≤", bound, protocol),
        Claim(recipe, "P2PK-SMOTE, worst client, FPR", lambda m: m.worst(PEERS, "fpr"), "≤", bound, protocol),
        Claim(recipe, "peers and server apart, ROC-AUC", lambda m: abs(m(PEERS, "auc_roc") - m("fedavg", "auc_roc")), "≤", 0.005, protocol),
    )


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
    Claim("nbaiot-autoencoder", "known devices, federated, TPR", lambda m: m("federated", "recall"), "≥", 0.99, "known"),
    Claim("nbaiot-autoencoder", "known devices, federated, TNR", lambda m: 1 - m("federated", "fpr"), "≥", 0.95, "known"),
    Claim("nbaiot-autoencoder", "left-out device, mean of nine, TPR", lambda m: m("federated", "recall"), "≥", 0.93, "left-out"),
    Claim("nbaiot-autoencoder", "the same without gafgyt tcp/udp", lambda m: m.found("federated", without=FLOODS), "≥", 0.98, "left-out"),
    Claim("nbaiot-autoencoder", "left-out device, mean of nine, TNR", lambda m: 1 - m("federated", "fpr"), "≥", 0.90, "left-out"),
    Claim(
        "smd-autoencoder",
        "windowed-autoencoder above PCA, mean PR-AUC",
        lambda m: m.over_nodes("windowed-autoencoder", PR) - m.over_nodes("pca", PR),
        "≥",
        0.0,
    ),
    Claim(
        "smd-autoencoder",
        "federated less local, mean PR-AUC",
        lambda m: m.over_nodes("federated", PR) - m.over_nodes("local", PR),
        "≥",
        -0.03,
    ),
    Claim("skab-anomaly", "T² and Q combined, averaged, causal: F1", lambda m: m("combined-average", "f1"), "≥", 0.79, "leaderboard"),
    Claim("skab-anomaly", "the same: false alarms", lambda m: m("combined-average", "fpr"), "≤", 0.30, "leaderboard"),
    Claim("smd-anomaly", "windowed PCA, mean PR-AUC", lambda m: m.over_nodes("windowed-pca", PR), "≥", 0.45),
    Claim(
        "smd-anomaly",
        "windowed PCA, local and federated apart, mean PR-AUC",
        lambda m: abs(m.over_nodes("windowed-pca", PR) - m.over_nodes("federated-pca", PR)),
        "≤",
        0.03,
    ),
    *peers("s1", 0.01),
    *peers("s2", 0.01),
    *peers("s3", 0.01),
    *peers("s4", 0.005, "balanced"),
    Claim("p2pk-smote-s4", "one family a client: worst client, FNR + FPR", lambda m: m.worst(PEERS, "fnr", "fpr"), "≤", 0.03, "one-family"),
    Claim(
        "p2pk-smote-s4",
        "the same: less than without sharing",
        lambda m: m.worst("none", "fnr", "fpr") - m.worst(PEERS, "fnr", "fpr"),
        "≥",
        0.0,
        "one-family",
    ),
    Claim(
        "p2pk-smote-s4",
        "the same: less than the best baseline",
        lambda m: min(m.worst(each, "fnr", "fpr") for each in ALONE) - m.worst(PEERS, "fnr", "fpr"),
        "≥",
        0.0,
        "one-family",
    ),
    Claim("mtad-fl-smd-periodic", "with waves, less boosting, F1", lambda m: m("mtad-fl-periodic", "f1") - m("boosting", "f1"), "≥", 0.0),
    Claim("mtad-fl-skab-periodic", "MTAD-FL, mixture, F1 (paper: 0.844)", lambda m: m("mtad-fl-mixture", "f1"), "≥", 0.844),
    *(
        Claim(
            "mtad-fl-skab-periodic",
            f"the same less {other}",
            lambda m, other=other: m("mtad-fl-mixture", "f1") - m(other, "f1"),
            "≥",
            0.0,
        )
        for other in ("fedavg", "fedtl", "fedkd")
    ),
    *(
        Claim("mtad-fl-mixed", f"MTAD-FL less {other}, F1", lambda m, other=other: m("mtad-fl", "f1") - m(other, "f1"), "≥", 0.0)
        for other in ("fedavg", "fedtl", "fedkd")
    ),
)
RECIPES = (*dict.fromkeys(claim.recipe for claim in CLAIMS), "kitsune-autoencoder", "unsw-nb15-autoencoder")
BY_NODE = {"nbaiot-autoencoder": ("recall", "fpr"), "smd-autoencoder": (PR,), "smd-anomaly": (PR, "vus_pr")}
BY_NODE |= dict.fromkeys(("p2pk-smote-s1", "p2pk-smote-s2", "p2pk-smote-s3", "p2pk-smote-s4"), ("fnr", "fpr"))
"""Figures that the page shows node by node."""
ONLY = {"smd-anomaly": ("strict",), "p2pk-smote-s4": ("balanced", "one-family")}
"""Protocols that are run, if not all."""
LONG = {
    "mtad-fl-skab-periodic": ['methods=["flag-all", "random", "boosting", "fedavg", "fedtl", "fedkd", "mtad-fl", "mtad-fl-mixture"]'],
    "mtad-fl-smd-periodic": ['methods=["flag-all", "random", "boosting", "mtad-fl-periodic"]'],
    "mtad-fl-mixed": ['methods=["flag-all", "random", "fedavg", "fedtl", "fedkd", "mtad-fl"]'],
}
"""Recipes that are run only where they are named, for they take long; what is changed in each."""


def measured(name: str, root: Path) -> dict[str, Any]:
    """Run one recipe under all its protocols and return what is kept of it."""
    recipe = load_recipe(name, changes=LONG.get(name, ()))
    with tempfile.TemporaryDirectory() as scratch:

        def said(label: str, entry: Round) -> None:
            if entry.stage == "calibrate":
                print(f"  {label}", flush=True)

        begin = time.perf_counter()
        protocols = [protocol for wanted in ONLY.get(name, ("both",)) for protocol in recipe.chosen_protocols(wanted)]
        run = Experiment(recipe, root, 0, protocols, Path(scratch), on_progress=said).run().run
    by_node = name in BY_NODE
    rows = [row for row in run["rows"] if row["split"] != "train" and (row["node"] == "*" or (by_node and row["split"] == "test"))]
    kinds = [row for row in run["kinds"] if row["split"] == "test"] if by_node else []
    kept = {
        key: run[key] for key in ("schema", "recipe", "version", "seed", "seeds", "runtime", "data", "timing", "traffic_bytes", "settings")
    }
    return {**kept, "seconds": round(time.perf_counter() - begin, 1), "rows": rows, "kinds": kinds}


def table(run: Mapping[str, Any], protocol: str, split: str) -> list[str]:
    """Return a Markdown table of one protocol and split."""
    rows = [row for row in run["rows"] if row["protocol"] == protocol and row["split"] == split and row["node"] == "*"]
    lines = ["| method | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for key in COLUMNS:
            values = [row[key] for row in rows if row["method"] == method and row[key] is not None]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.4f}{spread}" if values else "–")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def node_table(run: Mapping[str, Any], protocol: str, key: str) -> list[str]:
    """Return a Markdown table of one figure, a row for each node."""
    methods = list(dict.fromkeys(row["method"] for row in run["rows"] if row["protocol"] == protocol and row["node"] != "*"))
    means = {method: Means(run, protocol).by_node(method, key) for method in methods}
    lines = [f"| {key} | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for node in means[methods[0]]:
        lines.append(f"| {node} | " + " | ".join(f"{means[method][node]:.3f}" for method in methods) + " |")
    lines.append("| **mean** | " + " | ".join(f"**{fmean(means[method].values()):.3f}**" for method in methods) + " |")
    return lines


def kind_table(run: Mapping[str, Any], protocol: str) -> list[str]:
    """Return a Markdown table of the share found of each kind of anomaly."""
    rows = [row for row in run["kinds"] if row["protocol"] == protocol]
    methods, kinds = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "kind"))
    lines = ["| found of | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for kind in kinds:
        others = tuple(name for name in kinds if name != kind)
        lines.append(f"| {kind} | " + " | ".join(f"{Means(run, protocol).found(method, without=others):.3f}" for method in methods) + " |")
    return lines


def page(runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """Return docs/proof.md and whether every claim holds."""
    lines = ["# Proof", "", "Written by `make proof`; the rows behind it are in `docs/proof/`. Means over the seeds, on the test set.", ""]
    lines += ["| recipe | figure | must be | is |  |", "|---|---|---|---|---|"]
    good = True
    for claim in (claim for claim in CLAIMS if claim.recipe in runs):
        run = runs[claim.recipe]
        figure = claim.figure(Means(run, claim.protocol or run["settings"]["protocol"]))
        good &= claim.holds(figure)
        mark = "yes" if claim.holds(figure) else "**no**"
        lines.append(f"| {claim.recipe} | {claim.says} | {claim.sign} {claim.bound} | {figure:.4f} | {mark} |")
    for name, run in runs.items():
        data, changed = run["data"], "".join(f" --set '{change}'" for change in LONG.get(name, ()))
        lines += ["", f"## {name}", "", run["settings"]["title"] + ".", ""]
        lines += [
            f"{data['nodes']} nodes, {data['rows_train']:,} training rows, {data['rows_test']:,} test rows "
            f"({data['anomaly_share']:.1%} anomalous), seeds {', '.join(map(str, run['seeds']))}, runtime {run['runtime']}, "
            f"Vedette {run['version']}; {run['seconds']:.0f} s on 2 cores. "
            f"Command: `vedette run {name} --data ROOT --protocol {' (and) '.join(ONLY.get(name, ('both',)))}{changed}`.",
        ]
        for protocol in dict.fromkeys(row["protocol"] for row in run["rows"]):
            for split in ("test", "validation"):
                if any(row["split"] == split and row["protocol"] == protocol for row in run["rows"]):
                    lines += ["", f"### {protocol} protocol, {split}", "", *table(run, protocol, split)]
            for key in BY_NODE.get(name, ()):
                lines += ["", f"Each node, {protocol} protocol, {key}:", "", *node_table(run, protocol, key)]
            if any(row["protocol"] == protocol for row in run["kinds"]):
                lines += ["", f"Each kind of anomaly, {protocol} protocol:", "", *kind_table(run, protocol)]
    return "\n".join(lines) + "\n", good


def main() -> int:
    """Run what is asked for and write the page."""
    root = os.environ.get("VEDETTE_DATA")
    if not root:
        print("proof: set VEDETTE_DATA to the folder that holds the data sets' folders", file=sys.stderr)
        return 2
    wanted = sys.argv[1:] or [name for name in RECIPES if name not in LONG]
    (DOCS / "proof").mkdir(exist_ok=True)
    runs = {}
    for name in RECIPES:
        file = DOCS / "proof" / f"{name}.json"
        if name in wanted or not (file.exists() or name in LONG):
            print(name, flush=True)
            file.write_text(json.dumps(measured(name, Path(root)), indent=1) + "\n", encoding="utf-8")
        if file.exists():
            runs[name] = json.loads(file.read_text(encoding="utf-8"))
    text, good = page(runs)
    (DOCS / "proof.md").write_text(text, encoding="utf-8")
    print(text.split("\n## ")[0])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
