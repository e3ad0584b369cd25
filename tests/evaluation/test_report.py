"""What a reader must find in the report, and what must never be in it."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import HOSTILE, KEYS, METHODS, harmless, make_run, written
from vedette.errors import StorageError
from vedette.evaluation import plots
from vedette.evaluation.plots.canvas import WIDTH
from vedette.evaluation.plots.stretches import stretches_of
from vedette.evaluation.plots.thinning import banded, decimate
from vedette.evaluation.report import Curve, Holding, Trace, write_report
from vedette.evaluation.report.wording import duration, figure, percentage, volume


def make_trace(node: str = "pump-1", method: str = "federated", rows: int = 2000, **changed: Any) -> Trace:
    rng, label = np.random.default_rng(1), np.zeros(rows, dtype=np.int64)
    label[rows // 2 : rows // 2 + rows // 10] = 1
    score = rng.gamma(4, 0.03, rows) + label * 0.4
    return Trace(method, "strict", node, np.arange(rows) * 1.0, score, label, 0.4)._replace(**changed)


def curves(methods: tuple[str, ...] = ("federated", "local"), rounds: int = 20, protocols: tuple[str, ...] = ("strict",)) -> list[Curve]:
    return [Curve(m, p, seed, [1 / (r + 1 + seed) for r in range(rounds)]) for m in methods for p in protocols for seed in (0, 1)]


def test_the_table_holds_the_mean_and_deviation_of_every_method(tmp_path: Path) -> None:
    run = make_run()
    cells = written(tmp_path, run).cells[0]
    assert list(cells) == ["flag-all", "random", "untrained", "variance-distance", "pca", "local", "centralised", "federated"]
    for method in METHODS:
        for key, scale, digits in (("f1", 1, 3), ("recall", 100, 1), ("fpr", 100, 2), ("precision", 100, 1), ("auc_pr", 1, 3)):
            values = [row[key] for row in run["rows"] if row["method"] == method and row["node"] == "*"]
            if values[0] is None:
                assert cells[method][key] == "–"
                continue
            assert float(cells[method][key]) == pytest.approx(scale * sum(values) / 3, abs=0.51 * 10**-digits)
            spread = math.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 2)
            assert float(cells[method][f"{key}±"]) == pytest.approx(scale * spread, abs=0.51 * 10**-digits)


def test_best_is_marked_where_there_is_one_and_never_on_a_reference(tmp_path: Path) -> None:
    best = written(tmp_path, make_run()).best
    # recall, false alarms, precision and accuracy are bought at each other's cost: no best
    assert best == {(0, "centralised", key) for key in ("f1", "balanced_accuracy", "mcc", "auc_roc", "auc_pr")}


def test_the_summary_says_what_was_found_and_what_flagging_everything_scores(tmp_path: Path) -> None:
    run = make_run()

    def share(method: str, key: str) -> str:
        return percentage(statistics.fmean(row[key] for row in run["rows"] if row["method"] == method and row["node"] == "*"))

    text = written(tmp_path, run).text
    assert (
        f"Trained together, 3 nodes find {share('federated', 'recall')} of the anomalous test readings and raise a false alarm on "
        f"{share('federated', 'fpr')} of the normal ones; trained alone {share('local', 'recall')} and {share('local', 'fpr')}; "
        "flagging everything would score F1 0.18, this scores 0." in text
    )
    for fact in ("skab", "12,345", "6,789", "9.9 %", "7, 8, 9", "local", "0.1.0", "strict", "3 min 21 s", "34.6 MB", "besides, data 34 ms"):
        assert fact in text


def test_a_method_no_better_than_a_reference_is_named(tmp_path: Path) -> None:
    run = make_run()
    assert "Take care" not in written(tmp_path, run).text
    for row in run["rows"]:
        row["f1"] = 0.9 if row["method"] == "untrained" else row["f1"]
    assert "is no better than untrained (F1 0.900)" in written(tmp_path, run).text


def test_the_worst_node_is_called_out(tmp_path: Path) -> None:
    run = make_run(nodes=("north", "south", "east"))
    for row in run["rows"]:
        if row["node"] == "south" and row["method"] == "federated":
            row["f1"] = 0.1 + 0.01 * row["seed"]
    page = written(tmp_path, run)
    assert "Under federated, the worst of 3 nodes is south with F1 0.180" in page.text
    assert "ROC-AUC of each node" not in page.text


def test_nodes_are_compared_by_auc_where_f1_is_undefined(tmp_path: Path) -> None:
    run = make_run()
    for row in run["rows"]:
        row["f1"] = None
    assert "ROC-AUC of each node" in written(tmp_path, run).text


def test_each_node_stands_beside_the_others(tmp_path: Path) -> None:
    run = make_run(nodes=("a", "b"), methods=("flag-all", "local", "federated"), seeds=(1,))
    for row in run["rows"]:
        row["auc_pr"] = {"a": 0.25, "b": 0.75}.get(row["node"], 0.1)
    page = written(tmp_path, run)
    assert '<th scope="row">a</th><td>0.250</td><td>0.250</td>' in page.source
    assert '<th scope="row">mean of the nodes</th><td>0.500</td><td>0.500</td>' in page.source


def test_both_protocols_and_all_splits_stand_apart(tmp_path: Path) -> None:
    run = make_run(protocols=("published", "strict"), splits=("train", "test", "validation"))
    page = written(tmp_path, run, curves(protocols=("published", "strict")), [make_trace(), make_trace(protocol="published")])
    assert len([table for table in page.cells if "federated" in table]) == 6
    assert len([tag for tag in page.tags if tag == "details"]) == 2 + 2 * 4  # four tables of nodes a protocol
    assert "(strict protocol)." in page.text
    assert "pump-1, published protocol" in page.text
    harmless(page)


def test_a_lone_seed_has_no_deviation(tmp_path: Path) -> None:
    page = written(tmp_path, make_run(seeds=(7,)))
    assert not [key for row in page.cells[0].values() for key in row if key.endswith("±")]
    assert "means over seeds" not in page.text


def test_a_lone_node_stands_for_all(tmp_path: Path) -> None:
    run = make_run(nodes=("only",))
    run["rows"] = [row for row in run["rows"] if row["node"] == "only"]
    page = written(tmp_path, run, (), (), [Holding("only", 10, 0, 5)])
    assert "Trained together, the node finds" in page.text
    assert "Node by node" not in page.text


def test_undefined_figures_are_dashes(tmp_path: Path) -> None:
    run = make_run()
    for row in run["rows"]:
        row.update(dict.fromkeys((*KEYS, "threshold")))
    page = written(tmp_path, run)
    assert set(page.cells[0]["federated"].values()) == {"–"}
    assert "could not be told" in page.text
    for row in run["rows"]:
        row.update(fpr=0.25, f1=float("nan") if row["seed"] == 7 else 0.5)
    page = written(tmp_path, run)
    assert "raise a false alarm on 25.0 % of the normal test readings; there were no anomalous ones to find" in page.text
    assert page.cells[0]["federated"]["f1*"] == "*"


def test_diagnostics_stand_apart_and_none_is_best(tmp_path: Path) -> None:
    run = make_run()
    plain = written(tmp_path, run)
    assert "Diagnostics" not in plain.text
    for row in run["rows"]:
        row["point_adjusted_f1"] = 0.75 if row["method"] == "random" else 0.5
    page = written(tmp_path, run)
    assert "Diagnostics – not to be compared by" in page.text
    assert "random scores reach the state of the art (Kim et al., AAAI 2022)" in page.text
    assert "Affiliation" not in page.text
    (place,) = (i for i, cells in enumerate(page.cells) if any("point_adjusted_f1" in each for each in cells.values()))
    assert {method: cells["point_adjusted_f1"] for method, cells in page.cells[place].items()} == {
        method: "0.750" if method == "random" else "0.500" for method in METHODS
    }
    assert not any(at == place for at, _, _ in page.best)
    for row in run["rows"]:
        del row["point_adjusted_f1"]
        row |= {"affiliation_precision": 0.5, "affiliation_recall": None, "affiliation_f1": None}
    page = written(tmp_path, run)
    assert "Affiliation precision" in page.text
    assert "Point-adjusted" not in page.text


def test_scores_of_change_points_stand_where_there_are_any(tmp_path: Path) -> None:
    run = make_run()
    for row in run["rows"]:
        row |= {"events": 3, "event_f1": 0.5}
    page = written(tmp_path, run)
    assert "nab_standard" not in page.cells[1]["federated"]
    for row in run["rows"]:
        row["nab_standard"] = -12.34
    page = written(tmp_path, run)
    assert page.cells[1]["federated"]["nab_standard"] == "-12.3"


def test_an_empty_run_still_makes_a_page(tmp_path: Path) -> None:
    assert "No method was scored on test readings" in written(tmp_path, {"rows": []}).text


def test_names_from_users_cannot_leave_their_place(tmp_path: Path) -> None:
    run = make_run(nodes=HOSTILE, methods=("flag-all", "federated", *HOSTILE[:4]), seeds=(1,), title=HOSTILE[0], notes=list(HOSTILE))
    run["data"]["name"] = run["runtime"] = run["description"] = HOSTILE[1]
    traces = [make_trace(node) for node in HOSTILE[:4]]
    traces.append(make_trace(HOSTILE[0], HOSTILE[1]))
    page = written(tmp_path, run, curves(HOSTILE[:3]), traces, [Holding(node, 100, 3, 40) for node in HOSTILE])
    harmless(page)
    for shown in ("<script>alert(1)</script>", "$x^2$ and $\\alpha", "ポンプ四号機", "{{ 7*7 }}", "a b\ufffd\ufffdc", "nnnn…"):
        assert shown in page.text
    assert page.closed == len(page.tags) - page.tags.count("meta") - page.tags.count("input")


def test_hostile_names_stay_text_inside_figures() -> None:
    from xml.etree import ElementTree

    scores = {"federated": dict.fromkeys(HOSTILE, 0.5)}
    svg = plots.node_figure(scores, {}, plots.styles(["federated"]), "F1").replace("xlink:href", "href")
    texts = ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter("text")]
    assert {"$x^2$ and $\\alpha", "ポンプ四号機", "<script>alert(1)</script>"} <= set(texts)


def test_a_band_holds_all_that_was_thinned_out() -> None:
    """Two series of four steps in two bins, one value unknown; a bin without any value stays unknown."""
    table = np.array([[1.0, 3.0, np.nan, np.nan], [2.0, np.nan, np.nan, np.nan]])
    starts, mean, low, high = banded(table, 2)
    assert starts.tolist() == [0, 2]
    assert (mean[0], low[0], high[0]) == (2.0, 1.0, 3.0)
    assert np.isnan([mean[1], low[1], high[1]]).all()


@pytest.mark.parametrize("rows", [1, 2, 799, 800, 801, 12_345])
def test_thinning_out_keeps_every_peak(rows: int) -> None:
    score = np.random.default_rng(rows).random(rows)
    score[rows // 3] = 7.0
    starts, highest = decimate(score, plots.BINS)
    assert len(starts) == min(rows, plots.BINS)
    for start, end, value in zip(starts, [*starts[1:], rows], highest, strict=True):
        assert value == max(score[start:end])


def test_a_lone_peak_among_a_million_readings_is_drawn_and_counted_in_time(tmp_path: Path) -> None:
    score = np.random.default_rng(3).uniform(0.05, 0.1, 1_000_000)
    score[654_321] = 900.0
    trace = make_trace(time=np.arange(1e6), score=score, label=np.zeros(1_000_000), threshold=5.0)
    started = time.thread_time()
    svg = plots.trace_figure([trace], plots.styles(["federated"]))
    assert time.thread_time() - started < 2
    assert len(svg) < 100_000
    assert "1 false alarm on 1,000,000 normal ones" in svg
    paths = [re.findall(r"([\d.]+) ([\d.]+)", path) for path in re.findall(r' d="([^"]*)"', svg)]
    points = np.array([point for path in paths if len(path) > 2 for point in path], dtype=float)  # not the grid
    near_top = points[(points[:, 1] > 40) & (points[:, 1] < 60)]
    assert len(near_top)
    assert np.abs(near_top[:, 0] - (70 + (WIDTH - 90) * 0.654321)).max() < 3


def test_a_threshold_far_below_the_scores_is_drawn_where_it_is() -> None:
    trace = make_trace(score=np.geomspace(100, 1e5, 2000), threshold=1.0)
    svg = plots.trace_figure([trace], plots.styles(["federated"]))
    (line,) = re.findall(r'd="M ([\d.]+) ([\d.]+) +L ([\d.]+) ([\d.]+) +"[^>]*stroke-dasharray', svg.replace("\n", " "))
    bottom = 40 + 100  # pixels: the axes end there, at 1 / 1.5; they start at 2e5
    wanted = bottom - 100 * math.log(1.5) / math.log(2e5 * 1.5)
    assert (float(line[1]), float(line[3])) == (pytest.approx(wanted, abs=0.1), pytest.approx(wanted, abs=0.1))


@pytest.mark.parametrize(
    "changed",
    [
        {"time": None},
        {"label": None},
        {"score": np.full(2000, 0.3)},
        {"score": np.zeros(2000), "threshold": 0.0},
        {"threshold": 1e6},
        {"threshold": float("inf")},
        {"threshold": float("nan")},
        {"score": np.full(2000, np.nan)},
        {"score": np.where(np.arange(2000) % 7, 0.2, np.inf)},
        {"score": np.geomspace(1e-8, 1e8, 2000)},
        {"time": np.zeros(2000)},
        {"time": np.arange(2000)[::-1] * 1.0},
        {"time": np.repeat([1.6e9, 1.7e9], 1000) + np.arange(2000)},
        {"time": np.arange(2000), "label": np.ones(2000)},
        {"time": np.array([3.0]), "score": np.array([0.7]), "label": np.array([1])},
        {"time": np.array([]), "score": np.array([]), "label": np.array([])},
    ],
)
def test_odd_traces_are_drawn(tmp_path: Path, changed: dict[str, Any]) -> None:
    page = written(tmp_path, make_run(("only",), ("federated",), (7,)), (), [make_trace(**changed)])
    harmless(page)
    assert ("threshold: a score above it" in page.text) == bool(len(changed.get("score", [1])))
    assert ("Scores over time" in page.text) == (changed.get("time", [1]) is not None and bool(len(changed.get("score", [1]))))


def test_what_is_found_of_each_kind_is_counted(tmp_path: Path) -> None:
    score = np.array([0.1, 0.9, 0.9, 0.2, 0.9])
    about = {"method": "federated", "protocol": "strict", "split": "test"}
    kinds = [{**about, "seed": seed, "kind": "leak", "rows": 3, "found": found} for seed, found in ((7, 2), (8, 3), (9, 1))]
    page = written(
        tmp_path,
        make_run(kinds=[*kinds, {**kinds[0], "split": "validation", "kind": "spike"}]),
        (),
        [make_trace(score=score, label=np.array([0, 1, 1, 1, 0]), time=None, threshold=0.8)],
    )
    assert '<th scope="row">leak</th><td>3</td><td>66.7\u00a0%</td>' in page.source
    assert "spike" not in page.text
    assert "finds 2 of 3 anomalous readings · 1 false alarm on 2 normal ones" in page.text


@pytest.mark.parametrize("loss", [[0.5], [float("nan"), 1.0, float("inf")], [float("nan")], [0.0, 0.0], [-1.0, 2.0], [1e-9, 1e9] * 5000])
def test_odd_losses_are_drawn(tmp_path: Path, loss: list[float]) -> None:
    page = written(tmp_path, {"rows": []}, [Curve("federated", "strict", 7, loss), Curve("federated", "strict", 8, loss[:1])])
    assert "How training went" in page.text
    assert page.size < 300_000


@pytest.mark.slow
def test_a_large_fleet_with_many_methods_stays_small(tmp_path: Path) -> None:
    nodes, methods = tuple(f"node-{i}" for i in range(1000)), (*METHODS, *(f"strategy-{i}" for i in range(12)))
    run = make_run(nodes, methods, (1,))
    traces = [make_trace(node, method, 3000) for node in nodes[:6] for method in methods[:6]]
    holdings = [Holding(node, 1000 // (place + 1), place % 7, 10) for place, node in enumerate(nodes)]
    page = written(tmp_path, run, curves(methods[:1] + methods[6:], 1000), traces, holdings)
    harmless(page)
    assert "the worst of 1,000 nodes is" in page.text
    assert "Drawn: 4 of 1,000 nodes" in page.text
    assert len({plots.styles(methods)[method] for method in methods}) == len(methods)


def test_the_same_input_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    code = (
        "import sys; import vedette.evaluation.report; assert not {'matplotlib', 'jinja2'} & set(sys.modules), 'imported early'; "
        "sys.path[:0] = sys.argv[2:]; import test_report as t; from pathlib import Path; "
        "t.write_report(Path(sys.argv[1]), t.make_run(), t.curves(), [t.make_trace()], [t.Holding('pump-1', 5, 1, 2)]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    written(tmp_path, make_run(), curves(), [make_trace()], [Holding("pump-1", 5, 1, 2)])
    other = tmp_path / "other.html"
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"}
    subprocess.run(
        [sys.executable, "-c", code, str(other), str(Path(__file__).parent), str(Path(__file__).parents[1])], check=True, env=environment
    )
    assert other.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_matplotlibs_settings_are_left_alone(tmp_path: Path) -> None:
    import matplotlib

    def settings() -> dict[str, Any]:
        return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}  # asking for it would import pyplot

    with matplotlib.rc_context({"font.size": 31.0}):
        before = settings()
        plain = written(tmp_path, make_run(), curves()).source
        assert settings() == before
    assert written(tmp_path, make_run(), curves()).source == plain


def test_no_text_in_a_figure_is_smaller_than_eleven_pixels(tmp_path: Path) -> None:
    page = written(tmp_path, make_run(), curves(), [make_trace()], [Holding("pump-1", 5, 1, 2)])
    sizes = [float(size) for size in re.findall(r"<text[^>]*font-size: ([\d.]+)px", page.source)]
    assert len(sizes) > 50
    assert min(sizes) >= 11
    assert {value for _, name, value in page.attributes if name == "viewbox"} - {"0 0 26 10"}
    assert not [v for _, n, v in page.attributes if n == "viewbox" and not v.startswith(("0 0 1100 ", "0 0 26 "))]


def settings(threshold: dict[str, Any], strict: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    protocols = {"strict": {"split": "time", "validation": 0.0, "calibration": 0.15, "set": {}} | (strict or {})}
    return {"detector": {"name": "autoencoder", "threshold": threshold}, "protocols": protocols, "test": "own"} | changed


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (settings({"name": "quantile", "fit": "federated", "q": 0.98}), ("the 0.98 quantile (so that 2 % of such rows raise a false alarm)",
         "the 15 % of the training part left out of training", "one for all nodes", "Under local each node sets its own.",
         "end of each group’s time")),
        (settings({"name": "mean-std", "fit": "local", "k": 1.0}, {"calibration": 0.0, "split": "rows"}),
         ("mean plus 1 × standard deviation", "trained on, which tend to score lower; each node sets its own.",
         "equal rows may stand on both sides")),
        (settings({"name": "fixed", "fit": "federated", "score": 0.5}), ("the fixed score 0.5; nothing is fitted",)),
        (settings({"name": "newest", "fit": "federated", "z": 3}), ("by the rule ‘name newest, fit federated, z 3’",)),
        (settings({"name": "quantile", "fit": "federated", "q": 0.98}, {"set": {"detector.threshold.q": 0.5}}), ("the 0.5 quantile",)),
        (settings({"name": "quantile", "q": 0.9}, {"set": {"detector.threshold": {"name": "fixed", "score": 2.0}}}), ("fixed score 2;",)),
        ({}, ("Under the strict protocol it comes from training scores alone",)),
        ({"detector": None, "protocols": None}, ("Under the strict protocol it comes from training scores alone",)),
        (settings({"name": "quantile", "q": 0.9}, test="shared"), ("Every node is tested on all test readings",)),
    ],
)  # fmt: skip
def test_it_is_said_where_thresholds_and_held_out_rows_come_from(tmp_path: Path, given: dict[str, Any], wanted: tuple[str, ...]) -> None:
    text = written(tmp_path, make_run(("a", "b"), seeds=(7,), settings=given)).text
    assert [part for part in wanted if part not in text] == []


def test_all_settings_are_shown(tmp_path: Path) -> None:
    given = settings({"name": "quantile", "q": 0.98}, seeds=3, features=["x", "<b>y</b>"])
    page = written(tmp_path, make_run(("a", "b"), seeds=(7,), settings=given))
    for row in (
        "detector.threshold.q0.98",
        "protocols.strict.calibration0.15",
        "protocols.strict.validation0.0",
        "seeds3",
        "featuresx, <b>y</b>",
    ):
        assert row in page.text
    harmless(page)


def test_a_test_set_of_mostly_anomalies_is_warned_of(tmp_path: Path) -> None:
    run = make_run()
    run["data"]["anomaly_share"] = 0.805185
    assert (
        "Take care: 80.5 % of the test readings are anomalous, so F1, precision and PR-AUC are high for free" in written(tmp_path, run).text
    )


@pytest.mark.parametrize(
    ("trained", "said"), [(300, "anomalous, left out of training"), (330, "anomalous, to train on"), (None, "anomalous, to train on")]
)
def test_it_is_said_whether_anomalous_rows_are_learned_from(tmp_path: Path, trained: int | None, said: str) -> None:
    run = make_run()
    run["data"]["rows_train"] = trained
    page = written(tmp_path, run, (), (), [Holding("a", 100, 30, 50), Holding("b", 200, 0, 50)])
    assert said in page.text
    assert "The largest node holds 60.6 % of the training rows." in page.text  # 200 of 330
    assert "1 of 2 nodes hold no anomalous training row." in page.text
    assert "130, 23.1 % anomalous" in page.text


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", make_run())


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (percentage(0.9312), "93.1 %"),
        (percentage(0.0004), "0.04 %"),
        (percentage(0.9999), "99.99 %"),
        (percentage(0), "0.0 %"),
        (duration(0.034), "34 ms"),
        (duration(12.34), "12.3 s"),
        (duration(59.97), "1 min 0 s"),
        (duration(7500), "2 h 5 min"),
        (duration(None), "–"),
        (figure(-0.0001, 3), "0.000"),
        (figure(-0.25, 1, percent=True), "−25.0"),
        (volume(999), "999 bytes"),
        (volume(3_400_000), "3.4 MB"),
        (volume(None), "–"),
        (plots.printable("a\u202eb\tc"), "a\ufffdb c"),
        (plots.printable("ポンプ四", 5), "ポ…"),
    ],
)
def test_figures_are_written_for_people(shown: str, wanted: str) -> None:
    assert shown == wanted


@pytest.mark.slow
def test_what_nodes_hold_is_drawn_for_few_and_for_many(tmp_path: Path) -> None:
    def held(nodes: int, classes: int) -> list[Holding]:
        return [Holding(f"n{i}", 10, 0, 5, {f"kind-{j}": 1 + (i * j) % 7 for j in range(classes) if (i + j) % 3}) for i in range(nodes)]

    assert "Of what" not in written(tmp_path, make_run(), (), (), held(5, 0)).text
    assert "Of what" not in written(tmp_path, make_run(), (), (), [Holding("only", 1, 1, 1, {"a": 1, "b": 2})]).text
    few = written(tmp_path, make_run(), (), (), held(5, 3))
    assert "Of what" in few.text
    assert "kind-2" in few.text
    many = written(tmp_path, make_run(), (), (), held(1000, 40))
    assert "25 rarer ones" in many.text
    assert "1,000 nodes, in bundles" in many.text
    assert "Nodes that hold alike are bundled" in many.text
    assert many.size < 600_000
    harmless(many)


def test_the_most_telling_stretches_are_chosen() -> None:
    label, score = np.zeros(3000), np.full(3000, 0.1)
    label[500:520] = label[900:940] = label[1500:1530] = label[2000:2010] = 1
    score[505] = score[1510:1530] = 0.9  # 20 and 30 rows long: found
    score[100], score[2500:2503], score[2009:2013] = 0.8, [0.7, 2.0, 0.7], 9.0  # the last touches an anomaly
    found, missed, false = stretches_of(score, label, 0.5, None)
    assert (found.kind, found.begin, found.end) == ("found", 1500, 1530)
    assert (missed.kind, missed.begin, missed.end) == ("missed", 900, 940)
    assert (false.kind, false.begin, false.end) == ("false", 2500, 2503)
    assert (found.first, found.last) == (1440, 1590)
    # Readings of another recording are no surroundings.
    time = np.arange(3000.0)
    time[1495:] += 1e6
    time[1540:] -= 2e6
    assert stretches_of(score, label, 0.5, time)[0][3:] == (1495, 1540)
    # Without truth, the highest alert; what a closer look would not show closer, not at all.
    assert [(each.kind, each.begin) for each in stretches_of(score, None, 0.5, None)] == [("alert", 2009)]
    assert stretches_of(score[440:590], label[440:590], 0.5, None) == []


def test_a_false_alarm_beside_an_anomaly_is_shown_where_there_is_no_other() -> None:
    label, score = np.zeros(2000), np.zeros(2000)
    label[800:850], score[820:900] = 1, 1.0
    found, false = stretches_of(score, label, 0.5, None)
    assert (found.begin, false.kind, false.begin, false.end) == (800, "false", 850, 900)
    # A gap in time ends an alarm, so that this one began without an anomaly.
    time = np.arange(2000.0) + 1e6 * (np.arange(2000) >= 870)
    assert stretches_of(score, label, 0.5, time)[1][1:] == (870, 900, 870, 960)


def test_a_late_alert_is_within_the_closer_look() -> None:
    label, score = np.zeros(5000), np.zeros(5000)
    label[1000:2500], score[1900] = 1, 1.0
    (found,) = stretches_of(score, label, 0.5, None)
    assert found.first == 940
    assert 1900 < found.last < 2000


def test_the_report_looks_closer_reading_by_reading(tmp_path: Path) -> None:
    label, score = np.zeros(20_000, dtype=np.int64), np.full(20_000, 0.1)
    label[4000:4040] = label[9000:9030] = 1
    score[4010:4030], score[15_000:15_004] = 0.9, 0.8
    page = written(tmp_path, make_run(), (), [make_trace(rows=20_000, score=score, label=label, time=np.arange(20_000) * 60.0)])
    for text in (
        "A: longest anomaly found", "at 2.78 days, alert on 20 of 40 readings", "B: longest anomaly missed", "at 6.25 days, 30 readings",
        "C: highest false alarm", "at 10.42 days, 4 readings", "min since it began", "Letters below a picture",
    ):  # fmt: skip
        assert text in page.text
    harmless(page)
    # Each reading is a corner of the line: 60 before it, 40 in it, 60 after it.
    noisy = make_trace(rows=20_000, score=score + np.random.default_rng(0).random(20_000) * 0.1, label=label)
    figure = plots.detail_figure([noisy], plots.styles(["federated"])) or ""
    assert 160 in [len(re.findall(r"[ML] ", path)) for path in re.findall(r' d="([^"]*)"', figure)]
    names = [value for tag, name, value in page.attributes if (tag, name) == ("input", "name")]
    assert names == ["zoom-0"] * 3
    assert page.source.count(" checked>") == 1
    assert "Letters below" not in written(tmp_path, make_run(), (), [make_trace(rows=90)]).text


LEAKS = [
    {"method": method, "split": split, "figure": key, "mean": mean, "spread": 0.01, "gap": None if split == "random" else 0.9 - mean}
    | {"values": [mean - 0.01, mean + 0.01]}
    for method in ("local", "federated")
    for key in ("f1", "auc_roc")
    for split, mean in (("random", 0.9), ("distinct", 0.88), ("temporal", 0.7), ("grouped", 0.45 if method == "local" else 0.9))
]


def test_the_leak_meter_is_drawn_and_said(tmp_path: Path) -> None:
    assert "Leak meter" not in written(tmp_path, make_run()).text
    stored = json.loads(json.dumps(make_run(protocols=("random", "distinct", "temporal", "grouped"), leak=LEAKS)))
    page = written(tmp_path, stored)
    harmless(page)
    assert "Leak meter: what the random split gives for free" in page.text
    assert (
        "Trained alone: a table made with rows split at random would promise F1 0.900; with equal rows kept on one side it is 0.880, "
        "on later readings of the same machines it is 0.700, on machines or experiments that nobody has learned from it is 0.450. "
        "What the random split gives for free: up to 0.450, 50.0 % of what it promises." in page.text
    )
    assert "<td><b>0.450</b><small>± 0.010</small></td><td>0.450</td>" in page.source
    assert 'aria-label="F1, ROC-AUC, PR-AUC under random, distinct, temporal, grouped splits"' in page.source
    assert "nobody has learned from, each in turn" in page.text


@pytest.mark.slow
def test_a_split_that_gives_nothing_is_said_to_give_nothing(tmp_path: Path) -> None:
    level = [{**each, "mean": 0.9, "gap": None if each["split"] == "random" else 0.0} for each in LEAKS]
    assert "To F1 the random split gives nothing for free here." in written(tmp_path, make_run(leak=level)).text
    ranked = [each if each["figure"] == "auc_roc" else {**each, "mean": 0.5, "gap": 0.0} for each in LEAKS]
    said = "ROC-AUC shows more of it: 0.450 higher at random than on machines or experiments that nobody has learned from."
    assert said in written(tmp_path, make_run(leak=ranked)).text
    unknown = [{**each, "mean": None, "spread": None, "gap": None, "values": []} for each in LEAKS]
    assert "what it gives for free is not known" in written(tmp_path, make_run(leak=unknown)).text
    assert "Leak meter" not in written(tmp_path, make_run(leak=[each for each in LEAKS if each["split"] == "random"])).text
