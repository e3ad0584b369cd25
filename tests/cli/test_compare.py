"""`vedette compare`: the same figures side by side, differences by pairs of seed and node."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import refused, vedette


def put(folder: Path, figures: dict[tuple[str, int, str], float], data: str = "simulated", **more: Any) -> Path:
    """A finished run: F1 by method, seed and node."""
    rows = [
        {"split": "test", "protocol": "strict", "method": method, "seed": seed, "node": node, "f1": value, "fpr": None, "auc_roc": None}
        for (method, seed, node), value in figures.items()
    ]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"schema": "vedette.run/1", "data": {"name": data}, "rows": rows, **more}))
    return folder


ONE = {("m", 0, "*"): 0.5, ("m", 1, "*"): 0.7, ("m", 0, "a"): 0.4, ("m", 0, "b"): 0.6, ("m", 1, "a"): 0.6, ("m", 1, "b"): 0.8}


def test_differences_are_those_of_pairs(tmp_path: Path) -> None:
    better = {key: value + (0.1 if key[2] == "a" else 0.2) for key, value in ONE.items()}
    others = {("m", 0, "*"): 0.9, ("m", 0, "c"): 0.9, ("n", 0, "*"): 0.1}
    places = [put(tmp_path / name, figures) for name, figures in {"one": ONE, "better": better, "others": others}.items()]
    done = vedette("compare", *places, "--json")
    assert done.returncode == 0, done.stderr
    found = {each["run"]: each for each in json.loads(done.stdout)["compared"]}
    assert {each["method"] for each in found.values()} == {"m"}
    assert (found[str(places[0])]["mean"], found[str(places[0])]["difference"]) == (pytest.approx(0.6), None)
    paired = found[str(places[1])]
    assert (paired["difference"], paired["pairs"]) == (pytest.approx(0.15), 4)
    assert paired["spread"] == pytest.approx(0.05 * (4 / 3) ** 0.5)
    # Other nodes: all together, seed by seed.
    assert (found[str(places[2])]["difference"], found[str(places[2])]["pairs"]) == (pytest.approx(0.4), 1)
    text = vedette("compare", *places).stdout
    assert "0.750 (+0.150" in text or "(+0.150" in text


@pytest.mark.slow
def test_real_runs_compare(tmp_path: Path) -> None:
    small = ["--quick", "-q", "--set", "data.nodes=2", "--set", "data.train_hours=4", "--set", "data.test_hours=8"]
    for name, change in (("a", "strategy.rounds=1"), ("b", "strategy.rounds=3")):
        assert vedette("run", "demo", "--out", tmp_path / name, *small, "--set", change).returncode == 0
    said = json.loads(vedette("compare", tmp_path / "a", tmp_path / "b" / "metrics.json", "--json").stdout)["compared"]
    assert {each["figure"] for each in said} >= {"f1", "auc_roc", "vus_pr"}
    same = [each for each in said if each["method"] == "pca" and each["difference"] is not None]
    assert same
    assert all(each["difference"] == 0 for each in same)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, other = put(tmp_path / "one", ONE), put(tmp_path / "other", ONE, data="kdd99")
    assert "different data" in refused("compare", one, other)
    assert "at least two" in refused("compare", one)
    assert "no run at" in refused("compare", one, tmp_path / "nowhere")
    (tmp_path / "x.json").write_text("[]")
    assert "holds no figures" in refused("compare", one, tmp_path / "x.json")
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused("compare", one, one / "metrics.json", "--out", tmp_path / "file" / "page.html")
    apart = put(tmp_path / "apart", {("k", 0, "*"): 0.5})
    assert "in common" in refused("compare", one, apart)


def test_it_is_drawn_on_a_page(tmp_path: Path) -> None:
    settings = {"strategy": {"name": "fedavg", "rounds": 3}, "seeds": 2}
    changed = {"strategy": {"name": "<b>prox", "rounds": 3}, "seeds": 2}
    better = {key: value + (0.1 if key[2] == "a" else 0.2) for key, value in ONE.items()}
    one = put(tmp_path / "x" / "plain", {**ONE, ("flag-all", 0, "*"): 0.2}, settings=settings, seeds=[0, 1], version="0.1.0")
    other = put(tmp_path / "y" / "prox", better, settings=changed, title="<script>x</script>")
    done = vedette("compare", one, other, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path / 'page.html'}" in done.stdout.splitlines()
    page = (tmp_path / "page.html").read_text()
    assert "F1 of m in prox is 0.150 higher than in plain (on average over 4 pairs, higher in 4 of them)." in page
    assert "<b>0.800</b><small>+0.150 ± 0.058</small>" in page
    assert "<td>fedavg</td><td>&lt;b&gt;prox</td>" in page
    assert "strategy.rounds" not in page
    assert str(tmp_path) not in page
    assert "<script" not in page
    (picture,) = re.findall(r'<svg class="plot".*?</svg>', page, re.S)
    # Left: of two runs two seeds and a mean each; right: four pairs, of which two and two are the same, and their mean.
    assert len(re.findall("<use [^>]*fill: #d55e00", picture)) == 2 + 1 + 4 + 1
    assert "Dashed: what flagging everything scores" not in page  # the second run has none
    folder = vedette("compare", one, other, "--json", "--out", tmp_path / "folder")
    assert (tmp_path / "folder" / "compare.html").read_text() == page
    assert "values" not in json.loads(folder.stdout)["compared"][0]


@pytest.mark.slow
def test_many_runs_of_many_nodes_make_a_page_that_is_not_too_large(tmp_path: Path) -> None:
    figures = {
        (f"m{m}", seed, node): 0.5 + seed / 10 for m in range(6) for seed in range(2) for node in ("*", *(f"n{i}" for i in range(400)))
    }
    places = [put(tmp_path / f"{run}" / "run", {key: value + run / 50 for key, value in figures.items()}) for run in range(8)]
    assert vedette("compare", *places, "--out", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 3_000_000
    assert "7/run" in page  # told apart by the folder above
    assert "<td>800</td>" in page
