"""Reports of made-up runs, and just enough of a browser to read them."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from vedette.evaluation.report import write_report

METHODS = ("federated", "random", "flag-all", "untrained", "pca", "variance-distance", "local", "centralised")
QUALITY = {"federated": 0.8, "centralised": 0.85, "local": 0.7, "pca": 0.6, "variance-distance": 0.5, "untrained": 0.3, "random": 0.15}
KEYS = ("accuracy", "precision", "recall", "f1", "mcc", "balanced_accuracy", "tnr", "fpr", "fnr", "auc_roc", "auc_pr")
HOSTILE = (
    "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "$x^2$ and $\\alpha", "n" * 5000, "ポンプ四号機", "a\nb\x00\u202ec",
    "</svg></style><style>*{display:none}", "{{ 7*7 }}{% if %}", "https://example.org/x", "\ud800", "",
)  # fmt: skip


class Page(HTMLParser):
    """Just enough of a browser: tags, attributes, visible text, and the cells of result tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.size = path.stat().st_size
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[dict[str, dict[str, str]]] = []
        self.best: set[tuple[int, str, str]] = set()
        self.pieces: list[str] = []
        self.method = self.key = ""
        self.bold = False
        self.closed = 0
        self.feed(self.source)
        self.text = " ".join("".join(self.pieces).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag == "table":
            self.cells.append({})
        if "data-method" in given:
            self.method = given["data-method"]
        if "data-key" in given:
            self.key = given["data-key"]
            if given.get("class") == "best":
                self.best.add((len(self.cells) - 1, self.method, self.key))
        self.bold = tag == "b"

    def handle_endtag(self, tag: str) -> None:
        self.closed += 1
        self.bold = False
        self.key = "" if tag == "td" else self.key

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)
        if self.key and data.strip():
            name = self.key if self.bold else f"{self.key}±" if "±" in data else f"{self.key}*"
            self.cells[-1].setdefault(self.method, {})[name] = data.replace("−", "-").replace("±", "").strip()


def make_run(
    nodes: tuple[str, ...] = ("pump-1", "pump-2", "pump-3"),
    methods: tuple[str, ...] = METHODS,
    seeds: tuple[int, ...] = (7, 8, 9),
    protocols: tuple[str, ...] = ("strict",),
    splits: tuple[str, ...] = ("test",),
    **changed: Any,
) -> dict[str, Any]:
    rng, rows = np.random.default_rng(0), []
    for protocol, split, method, seed in itertools.product(protocols, splits, methods, seeds):
        noise = rng.normal(0, 0.02, (1 + len(nodes), len(KEYS)))
        middle = QUALITY.get(method, 0.55) - 0.1 * np.arange(1 + len(nodes)) / len(nodes)
        for node, figures in zip(("*", *nodes), np.clip(middle[:, None] + noise, 0, 1).tolist(), strict=True):
            row: dict[str, Any] = dict(zip(KEYS, figures, strict=True))
            row["fpr"] = 0.2 * (1 - row["recall"])
            if method == "flag-all":
                row |= {"f1": 0.18, "recall": 1.0, "fpr": 1.0, "auc_roc": None, "auc_pr": None, "mcc": None}
            where = {"method": method, "protocol": protocol, "split": split, "node": node, "seed": seed}
            rows.append(where | row | {"rows": 1000, "anomalies": 50, "threshold": 0.25})
    data = {"name": "skab", "nodes": len(nodes), "rows_train": 12345, "rows_test": 6789, "anomaly_share": 0.0987}
    about = {"schema": "vedette.run/1", "recipe": "fed-lstm", "title": "Pumps", "description": "", "seed": seeds[0], "seeds": list(seeds)}
    rest = {
        "runtime": "local",
        "version": "0.1.0",
        "timing": {"train federated": 201.0, "data": 0.034},
        "traffic_bytes": {"federated": 34_567_890},
        "notes": [],
    }
    return about | rest | {"data": data, "rows": rows} | changed


def written(tmp_path: Path, run: dict[str, Any], *rest: Any) -> Page:
    write_report(tmp_path / "report.html", run, *rest)
    return Page(tmp_path / "report.html")


def harmless(page: Page) -> None:
    """Nothing runs, nothing is fetched, nothing is larger than agreed."""
    assert page.size <= 3_000_000
    assert not {"script", "img", "iframe", "object", "embed", "link", "base", "form", "foreignobject", "image", "a"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"src", "srcset", "data", "action", "formaction", "xmlns"}, (tag, name)
        assert name not in {"href", "xlink:href"} or value.startswith("#"), (tag, name, value)
        assert name not in {"style", "content"} or not re.search(r"https?:|url\((?!#)", value), (tag, value)
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert page.source.count("<style>") == 1
