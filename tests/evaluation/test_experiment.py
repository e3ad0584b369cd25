"""Experiments on three small nodes: what labels may move, who is scored on what, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

import vedette
from conftest import correlated
from vedette.data.dataset import Dataset, Loader
from vedette.data.datasets import LOADERS
from vedette.data.fleet import Fleet
from vedette.data.summaries import Sketch
from vedette.data.table import Coded, Table, concat
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.base import DETECTORS, Detector
from vedette.errors import CheckpointError, DataUnusable, RecipeError, UnknownName
from vedette.evaluation import experiment
from vedette.evaluation.experiment import Experiment, Result
from vedette.evaluation.methods import METHODS, method_named
from vedette.evaluation.recipe import Recipe
from vedette.evaluation.report.results import REFERENCES
from vedette.evaluation.scoring import Scored
from vedette.runtimes.base import Round

NODES = ("left", "middle", "right")
CLOSE = 2.01 * Sketch.ACCURACY


def made(seed: int, rows: int, anomalies: float) -> Table:
    """Rows of three nodes of different size, each with its own part of the plane; the time is the row's number."""
    tables = [correlated(rows * (i + 2) // 3, 4, seed=10 * seed + i, anomalies=anomalies, nodes_shift=0.5 * i) for i in range(3)]
    table = concat([replace(each, group=Coded.of([name] * len(each))) for name, each in zip(NODES, tables, strict=True)])
    assert table.label is not None
    kind = Coded.of(np.where(table.label == 1, "leak", "normal").tolist())
    return replace(table, kind=kind, time=np.arange(len(table), dtype=np.float64))


CLEAN = Dataset("made-up", {"train": made(1, 150, 0.05), "test": made(2, 90, 0.2)}, ordered=True)
HELD: dict[str, Dataset] = {"clean": CLEAN}


class MadeUp(Loader):
    """What stands in `HELD` under a name."""

    title: ClassVar[str] = "made up"
    licence: ClassVar[str] = "none"
    source: ClassVar[str] = "this test"
    how: ClassVar[str] = "nothing to get"

    which: str = "clean"

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        return HELD[self.which]


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    LOADERS.register("made-up")(MadeUp)
    yield
    LOADERS._entries.pop("made-up")


SETTINGS = {
    "name": "autoencoder",
    "hidden": [3],
    "residual": "variance",
    "optimiser": {"rate": 0.01, "batch": 32},
    "scaling": {"numbers": "standard"},
    "threshold": {"name": "quantile", "q": 0.95},
}


BRIEF = {"vae", "deep-svdd"}
"""Detectors that are trained for long unless they are told otherwise."""


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "small",
        "title": "Small",
        "data": "made-up",
        "detector": SETTINGS,
        "strategy": {"name": "fedavg", "rounds": 2},
        "protocols": {"strict": {"split": "time", "validation": 0.2, "calibration": 0.2}},
        "methods": list(METHODS),
        "variants": {name: {"detector": {"name": name, "epochs": 2}} for name in BRIEF & set(changes.get("methods", ()))},
        "seeds": 1,
    }
    return Recipe.model_validate({**values, **changes})


def run(chosen: Recipe, **settings: Any) -> Result:
    return Experiment(chosen, **settings).run()


def pooled(result: Result, method: str = "federated", protocol: str = "strict", split: str = "test") -> Mapping[str, Any]:
    wanted = {"method": method, "protocol": protocol, "split": split, "node": "*"}
    (row,) = (row for row in result.run["rows"] if wanted.items() <= row.items())
    return row


def by_node(result: Result, method: str) -> dict[str, Mapping[str, Any]]:
    return {row["node"]: row for row in result.run["rows"] if (row["method"], row["split"]) == (method, "test") and row["node"] != "*"}


def share_of(table: Table, node: str) -> Table:
    return table.take(np.flatnonzero(np.array(table.column("group").texts()) == node))


def held_out(table: Table, share: float) -> np.ndarray:
    """The last rows of each node, as the split by time holds them out: [rows] bool."""
    out = np.zeros(len(table), dtype=bool)
    for node in NODES:
        rows = np.flatnonzero(np.array(table.column("group").texts()) == node)
        out[rows[len(rows) - round(share * len(rows)) :]] = True
    return out


def poisoned(table: Table, rows: np.ndarray) -> Table:
    """The table with the labels of some rows turned round."""
    assert table.label is not None
    return replace(table, label=np.where(rows, 1 - table.label, table.label).astype(np.int8), kind=None)


# Rule 4: nothing reads a test label before the report.


SUPERVISED = {name for name in DETECTORS if DETECTORS[name].learning == "supervised"}
EVERYTHING = sorted({*METHODS, *DETECTORS} - SUPERVISED)  # these recipes train on normal rows


@pytest.mark.parametrize("test", ["own", pytest.param("shared", marks=pytest.mark.slow)])
def test_poisoned_labels_move_figures_and_nothing_else(test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, tested = CLEAN.tables["train"], CLEAN.tables["test"]
    wrong = Dataset("made-up", {"train": poisoned(train, held_out(train, 0.2)), "test": poisoned(tested, np.ones(len(tested), dtype=bool))})
    monkeypatch.setitem(HELD, "poisoned", wrong)
    clean, bad = (run(recipe(test=test, methods=EVERYTHING, data={"name": "made-up", "which": which})) for which in ("clean", "poisoned"))
    key = ("method", "split", "node")
    assert [[row[part] for part in (*key, "threshold", "rows")] for row in clean.run["rows"]] == [
        [row[part] for part in (*key, "threshold", "rows")] for row in bad.run["rows"]
    ]
    assert {row["split"] for row in clean.run["rows"]} == {"validation", "test"}
    assert set(clean.detectors) == set(bad.detectors) == set(EVERYTHING) - set(REFERENCES)
    for method, detectors in clean.detectors.items():
        for node in NODES:
            scores = detectors[node].decision_function(tested)
            assert np.array_equal(scores, bad.detectors[method][node].decision_function(tested)), method
    # A false alarm is now a find, and a row missed is now rightly left alone: recall and the false alarm rate change places.
    for before, after in zip(clean.run["rows"], bad.run["rows"], strict=True):
        assert after["anomalies"] == before["rows"] - before["anomalies"]
        assert [after["recall"], after["fpr"]] == pytest.approx([before["fpr"], before["recall"]])
        if before["auc_roc"] is not None:
            assert after["auc_roc"] == pytest.approx(1 - before["auc_roc"])


def test_poisoned_labels_move_no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervised detector reads the labels of its training rows, and of no others."""
    train, tested = CLEAN.tables["train"], CLEAN.tables["test"]
    outer, all_tests = held_out(train, 0.2), np.ones(len(tested), dtype=bool)
    some = ~outer & (np.arange(len(train)) % 3 == 0)
    for which, rows in (("tests", np.zeros(len(train), dtype=bool)), ("both", outer), ("training", some)):
        monkeypatch.setitem(HELD, which, Dataset("made-up", {"train": poisoned(train, rows), "test": poisoned(tested, all_tests)}))
    detector = {"name": "mlp", "hidden": [4], "optimiser": {"rate": 0.01, "batch": 32}}
    methods = ["untrained", "local", "centralised", "federated"]
    found = {}
    for which in ("clean", "tests", "both", "training"):
        result = run(recipe(detector=detector, methods=methods, data={"name": "made-up", "which": which}))
        found[which] = {method: detectors["left"].decision_function(tested).tolist() for method, detectors in result.detectors.items()}
    assert found["clean"] == found["tests"] == found["both"]
    assert found["clean"]["federated"] != found["training"]["federated"]


# Who is scored on what.


@pytest.mark.parametrize("test", ["own", pytest.param("shared", marks=pytest.mark.slow)])
def test_every_method_is_scored_on_the_same_rows(test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = CLEAN.tables["test"]
    labels: dict[str, list[Any]] = {}
    rows_of = experiment.metric_rows

    def watched(scored: list[Scored], about: Mapping[str, Any], *rest: Any) -> list[dict[str, Any]]:
        if about["split"] == "test":
            labels[about["method"]] = [(part.node, part.label.tolist()) for part in scored]
        return rows_of(scored, about, *rest)

    monkeypatch.setattr(experiment, "metric_rows", watched)
    result = run(recipe(test=test, methods=EVERYTHING))
    assert list(labels) == EVERYTHING
    assert set(METHODS) | set(DETECTORS) == {*EVERYTHING, *SUPERVISED}, "a method is left out"
    assert tested.label is not None
    for method, parts in labels.items():
        if test == "own":
            assert parts == [(node, share_of(tested, node).label.tolist()) for node in NODES], method  # type: ignore[union-attr]
            assert pooled(result, method)["rows"] == len(tested)
        else:
            assert all(label == tested.label.tolist() for _, label in parts), method
            assert pooled(result, method)["rows"] == len(tested) * len(parts)
            assert [node for node, _ in parts] in (["*"], list(NODES)), method
    assert [node for node, _ in labels["local"]] == list(NODES)
    assert [node for node, _ in labels["federated"]] == (["*"] if test == "shared" else list(NODES))


def test_flagging_all_and_tossing_a_coin_are_worth_what_they_are_worth() -> None:
    result = run(recipe(methods=["flag-all", "random"]))
    label = CLEAN.tables["test"].label
    assert label is not None
    share = label.mean()
    everything, coin = pooled(result, "flag-all"), pooled(result, "random")
    assert (everything["recall"], everything["fpr"], everything["precision"]) == (1, 1, pytest.approx(share))
    assert coin["recall"] == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / label.sum()))
    assert coin["fpr"] == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / (label == 0).sum()))
    assert result.detectors == {}
    assert run(recipe(methods=["random"])).run["rows"] == [row for row in result.run["rows"] if row["method"] == "random"]
    assert pooled(run(recipe(methods=["random"]), seed=1), "random") != coin | {"seed": 1}


# What the methods are.


@pytest.fixture(scope="module")
def finished() -> tuple[Result, list[tuple[str, Round]]]:
    said: list[tuple[str, Round]] = []
    return run(recipe(), on_progress=lambda label, entry: said.append((label, entry))), said


def calibration_of(node: str) -> Table:
    """The last fifth of the four fifths that are left of a node's training rows, the normal ones."""
    train = CLEAN.tables["train"]
    kept = train.take(~held_out(train, 0.2))
    return share_of(kept.take(held_out(kept, 0.2)), node).normal()


def quantile(scores: np.ndarray, q: float = 0.95) -> float:
    return float(np.sort(scores)[int(np.ceil(q * len(scores))) - 1])


def test_an_own_threshold_leaves_the_federated_scores_as_they_are(finished: tuple[Result, list[tuple[str, Round]]]) -> None:
    result, said = finished
    ours, own = result.detectors["federated"], result.detectors["federated-own-threshold"]
    everyones = np.concatenate([ours[node].decision_function(calibration_of(node)) for node in NODES])
    for node in NODES:
        scores = ours[node].decision_function(calibration_of(node))
        assert np.array_equal(own[node].decision_function(calibration_of(node)), scores)
        assert ours[node].threshold_ == pytest.approx(quantile(everyones), rel=CLOSE)
        assert own[node].threshold_ == pytest.approx(quantile(scores), rel=CLOSE)
    assert len({ours[node].threshold_ for node in NODES}) == 1
    assert len({own[node].threshold_ for node in NODES}) == 3
    assert pooled(result, "federated")["threshold"] == ours["left"].threshold_
    assert pooled(result, "federated-own-threshold")["threshold"] is None
    for node, row in by_node(result, "federated").items():
        assert by_node(result, "federated-own-threshold")[node]["auc_roc"] == row["auc_roc"]
    # They come of one run: prepare, two rounds, calibrate.
    labels = [label for label, _ in said]
    assert {label: labels.count(label) for label in labels} == {
        "strict, seed 0, untrained": 2, "strict, seed 0, local": 4, "strict, seed 0, centralised": 4, "strict, seed 0, federated": 4,
        "strict, seed 0, fine-tuned": 2,
    }  # fmt: skip
    assert Experiment(recipe()).steps == len(set(labels))


def test_nodes_by_themselves_share_nothing(finished: tuple[Result, list[tuple[str, Round]]]) -> None:
    result, _ = finished
    train = CLEAN.tables["train"]
    kept = train.take(~held_out(train, 0.2))
    learned = kept.take(~held_out(kept, 0.2))
    for node in NODES:
        alone, mine = result.detectors["local"][node], share_of(learned, node).normal().numbers
        np.testing.assert_allclose(alone.scaler.fitted[0], mine.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(alone.scaler.fitted[1], mine.std(axis=0), rtol=1e-6)
        assert alone.threshold_ == pytest.approx(quantile(alone.decision_function(calibration_of(node))), rel=CLOSE)
    everything = learned.normal().numbers
    for method in ("untrained", "centralised", "federated"):
        for node in NODES:
            np.testing.assert_allclose(result.detectors[method][node].scaler.fitted[0], everything.mean(axis=0), rtol=1e-6)
    assert result.run["traffic_bytes"]["local"] == 0
    assert set(result.run["traffic_bytes"]) == {"untrained", "local", "federated"}


def test_losses_are_told_by_round(finished: tuple[Result, list[tuple[str, Round]]]) -> None:
    result, said = finished
    assert {curve.method for curve in result.curves} == {"local", "centralised", "federated"}
    for curve in result.curves:
        label = f"strict, seed 0, {curve.method}"
        assert list(curve.loss) == [entry.loss for said_of, entry in said if said_of == label and entry.stage == "rounds"]
        assert curve.loss[1] < curve.loss[0]


@pytest.mark.parametrize("batch", [32, 10_000])
def test_where_there_is_one_node_all_rows_at_one_place_are_its_own(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are drawn by the node's name; so they differ, unless they hold all rows or the names are the same."""
    name = "centralised" if batch == 32 else "alone"
    tables = {part: replace(table, group=Coded.of([name] * len(table))) for part, table in CLEAN.tables.items()}
    monkeypatch.setitem(HELD, "one", Dataset("made-up", tables))
    detector = {**SETTINGS, "optimiser": {"rate": 0.01, "batch": batch}}
    result = run(recipe(data={"name": "made-up", "which": "one"}, detector=detector, methods=["local", "centralised"]))
    mine, all_rows = (result.detectors[method][name] for method in ("local", "centralised"))
    scores = mine.decision_function(tables["test"])
    np.testing.assert_allclose(all_rows.decision_function(tables["test"]), scores, rtol=0 if batch == 32 else 1e-4)
    assert all_rows.threshold_ == pytest.approx(mine.threshold_, rel=0 if batch == 32 else 3e-3)


def test_a_detectors_name_is_that_detector_fitted_at_one_place() -> None:
    result = run(recipe(methods=["variance-distance"], protocols={"strict": {"split": "time"}}))
    chosen = recipe().detector
    expected = DETECTORS["variance-distance"](scaling=chosen.scaling, threshold=chosen.threshold).fit(CLEAN.tables["train"])
    found = result.detectors["variance-distance"]
    assert len({id(found[node]) for node in NODES}) == 1
    tested = CLEAN.tables["test"]
    np.testing.assert_allclose(found["left"].decision_function(tested), expected.decision_function(tested), rtol=1e-6)
    assert found["left"].threshold_ == pytest.approx(expected.threshold_, rel=1e-6)
    with pytest.raises(UnknownName, match="did you mean 'federated'"):
        method_named("federatd", recipe())
    with pytest.raises(UnknownName, match="unknown method"):
        Experiment(recipe(methods=["federated", "magic"]))


# What a recipe says.


def test_keys_that_a_protocol_sets_take_effect_there_alone() -> None:
    wider = {"detector.threshold.q": 0.5, "test": "shared", "strategy.rounds": 1}
    protocols = {"strict": {"split": "time", "calibration": 0.2}, "published": {"split": "time", "calibration": 0.2, "set": wider}}
    chosen = recipe(protocols=protocols, protocol="both", methods=["federated", "local"])
    result = run(chosen)
    strict, published = pooled(result, protocol="strict"), pooled(result, protocol="published")
    assert (strict["rows"], published["rows"]) == (len(CLEAN.tables["test"]),) * 2
    assert [len(curve.loss) for curve in result.curves if curve.method == "federated"] == [2, 1]
    assert strict == pooled(run(chosen, protocols=["strict"]))
    # Under 'published' all nodes are tested on all rows, by a threshold that half of the calibration rows reach.
    assert {row["rows"] for row in result.run["rows"] if (row["method"], row["protocol"]) == ("local", "published")} == {
        len(CLEAN.tables["test"]),
        3 * len(CLEAN.tables["test"]),
    }
    only = run(recipe(protocols=protocols, protocol="published", methods=["federated"]))
    assert pooled(only, protocol="published") == published
    detector = only.detectors["federated"]["left"]
    train = CLEAN.tables["train"]
    assert detector.threshold_ == pytest.approx(
        quantile(detector.decision_function(train.take(held_out(train, 0.2)).normal()), 0.5), rel=CLOSE
    )


@pytest.mark.parametrize("test", ["own", "shared"])
def test_features_that_are_not_chosen_are_not_looked_at(test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = {}
    for part, table in CLEAN.tables.items():
        numbers = table.numbers.copy()
        numbers[:, [1, 3]] = np.random.default_rng(0).normal(size=(len(table), 2))
        wild[part] = replace(table, numbers=numbers)
    monkeypatch.setitem(HELD, "wild", Dataset("made-up", wild, ordered=True))
    methods = ["pca", "local", "federated"]
    chosen = [
        run(recipe(features=["s2", "s0"], methods=methods, test=test, data={"name": "made-up", "which": which}))
        for which in ("clean", "wild")
    ]
    assert chosen[0].run["rows"] == chosen[1].run["rows"]
    for method in methods:
        assert [feature.name for feature in chosen[0].detectors[method]["left"].scaler.features] == ["s2", "s0"]
    with pytest.raises(UnknownName, match="unknown feature 's9'"):
        run(recipe(features=["s0", "s9"], methods=methods))


def test_a_seed_is_a_run() -> None:
    result = run(recipe(seeds=2, methods=["federated", "random"]), seed=5)
    assert result.run["seeds"] == [5, 6]
    assert {row["seed"] for row in result.run["rows"]} == {5, 6}
    again = run(recipe(seeds=1, methods=["federated", "random"]), seed=6)
    assert [row for row in result.run["rows"] if row["seed"] == 6] == again.run["rows"]


# What is drawn and told.


@pytest.mark.parametrize("test", ["own", "shared"])
def test_holdings_add_up_to_the_rows_there_are(test: str) -> None:
    result = run(recipe(test=test, methods=["flag-all"]))
    train, tested = CLEAN.tables["train"], CLEAN.tables["test"]
    kept = train.take(~held_out(train, 0.2))
    learned = kept.take(~held_out(kept, 0.2))
    assert [holding[0] for holding in result.holdings] == list(NODES)
    for node, normal, anomalous, rows, classes in result.holdings:
        assert sum(classes.values()) == normal + anomalous
        assert classes.get("leak", 0) == anomalous
        mine = share_of(learned, node)
        assert mine.label is not None
        assert (normal, anomalous) == (int((mine.label == 0).sum()), int(mine.label.sum()))
        assert rows == (len(share_of(tested, node)) if test == "own" else len(tested))
    assert sum(holding[1] + holding[2] for holding in result.holdings) == len(learned)
    about = result.run["data"]
    assert (about["nodes"], about["rows_train"], about["rows_test"]) == (3, sum(holding[1] for holding in result.holdings), len(tested))
    assert tested.label is not None
    assert about["anomaly_share"] == pytest.approx(tested.label.mean(), abs=1e-6)


@pytest.mark.parametrize("test", ["own", "shared"])
def test_traces_are_of_the_rows_and_scores_of_their_node(test: str) -> None:
    result = run(recipe(test=test, methods=["federated"]))
    tested = CLEAN.tables["test"]
    assert sorted(trace.node for trace in result.traces) == (list(NODES) if test == "own" else ["*"])
    for trace in result.traces:
        rows = tested if trace.node == "*" else share_of(tested, trace.node)
        detector = result.detectors["federated"]["left" if trace.node == "*" else trace.node]
        assert trace.time is not None
        assert trace.time.tolist() == rows.time.tolist()  # type: ignore[union-attr]
        assert np.array_equal(trace.score, detector.decision_function(rows))
        assert trace.label.tolist() == rows.label.tolist()  # type: ignore[union-attr]
        assert trace.threshold == detector.threshold_
    if test == "own":  # the worst first, the best last
        right = [float(((trace.score >= trace.threshold) == (trace.label == 1)).mean()) for trace in result.traces]
        assert right == sorted(right)


# From Python.


DETECTOR = Autoencoder.model_validate({key: value for key, value in SETTINGS.items() if key != "name"})


def fleet_of(table: Table) -> Fleet:
    return Fleet.of({node: share_of(table, node) for node in NODES})


class Stopped(Exception):
    """What a test raises to break a run off."""


def test_rows_out_of_order_are_no_events() -> None:
    assert all("vus_pr" in row for row in run(recipe(methods=["pca"])).run["rows"])
    at_random = run(recipe(methods=["pca"], partition={"name": "iid", "nodes": 2}))
    assert all("vus_pr" not in row for row in at_random.run["rows"])


def test_a_federation_from_python(tmp_path: Path) -> None:
    """The README's example, on simulated pumps."""
    dataset = vedette.load("simulated", nodes=3, train_hours=4, test_hours=6)
    train, tests = (Fleet.of({f"pump-{i}": pump(dataset.tables[part], i) for i in (1, 2, 3)}) for part in ("train", "test"))
    detector = vedette.detectors.Autoencoder(hidden=(3,), scaling={"numbers": "standard"})
    said: list[Round] = []
    result = vedette.federate(train, detector, vedette.strategies.FedAvg(rounds=2), seed=7, on_round=lambda entry, _: said.append(entry))
    assert set(result.detectors) == {"pump-1", "pump-2", "pump-3"}
    assert [(entry.stage, entry.number, entry.of) for entry in said] == [
        ("prepare", 1, 1), ("rounds", 1, 2), ("rounds", 2, 2), ("calibrate", 1, 1)
    ]  # fmt: skip
    assert list(result.history) == said
    for node, fitted in result.detectors.items():
        assert fitted.decision_function(tests[node]).shape == (360,)
        assert np.isfinite(fitted.threshold_)
    page = result.report(tmp_path / "deep" / "fleet.html", tests=tests)
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "deep" / "fleet.html"
    assert all(node in text for node in tests)
    assert "federated" in text
    assert "Privacy: what leaves a node, and what could be found out" in text
    assert "What the coordinator sees:</b> what each node sends, in the clear (scaling, rounds, threshold)" in text
    assert result.report(str(tmp_path / "train.html")).is_file()  # the simulated training rows are labelled too


@pytest.mark.parametrize("fit", ["federated", "local"])
@pytest.mark.parametrize("missing", [0.0, 0.02])
def test_missing_readings_are_masked_or_filled(fit: str, missing: float) -> None:
    nuisances = {"missing": missing}
    dataset = vedette.load("simulated", nodes=2, train_hours=4, test_hours=6, nuisances=nuisances)
    fleet = Fleet.of({f"pump-{i}": pump(dataset.tables["train"], i) for i in (1, 2)})
    for treated in ("middle", "mask"):
        scaling = {"numbers": "standard", "fit": fit, "missing": treated}
        detector = vedette.detectors.Autoencoder(hidden=(3,), scaling=scaling)
        fitted = vedette.federate(fleet, detector, vedette.strategies.FedAvg(rounds=1)).detectors["pump-1"]
        scores = fitted.decision_function(pump(dataset.tables["test"], 1))
        assert scores.shape == (360,)
        assert np.isfinite(scores).all()


def pump(table: Table, number: int) -> Table:
    return table.take(np.flatnonzero(table.column("group").codes == table.column("group").levels.index(f"pump-{number}")))


def test_a_federation_does_what_the_experiment_does() -> None:
    chosen = recipe(methods=["federated"], protocols={"strict": {"split": "time", "calibration": 0.2}})
    expected = run(chosen, seed=3).detectors["federated"]
    train = CLEAN.tables["train"]
    out = held_out(train, 0.2)
    result = vedette.federate(fleet_of(train.take(~out)), DETECTOR, chosen.strategy, seed=3, calibration=fleet_of(train.take(out)))
    for node in NODES:
        assert result.detectors[node].threshold_ == expected[node].threshold_
        scores = expected[node].decision_function(CLEAN.tables["test"])
        assert np.array_equal(result.detectors[node].decision_function(CLEAN.tables["test"]), scores)


def test_a_federation_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    fleet, strategy, file = fleet_of(CLEAN.tables["train"]), recipe().strategy, tmp_path / "state"

    def stop(entry: Round, memories: object) -> None:
        if (entry.stage, entry.number) == ("rounds", 1):
            raise Stopped

    with pytest.raises(Stopped):
        vedette.federate(fleet, DETECTOR, strategy, checkpoint=str(file), on_round=stop)
    said: list[Round] = []
    resumed = vedette.federate(fleet, DETECTOR, strategy, checkpoint=file, resume=True, on_round=lambda entry, _: said.append(entry))
    # Whoever was told of round 1 did not get to the end, so it is told of once more.
    assert [(entry.stage, entry.number) for entry in said] == [("rounds", 1), ("rounds", 2), ("calibrate", 1)]
    whole = vedette.federate(fleet, DETECTOR, strategy)
    assert resumed.history == whole.history
    assert same_detectors(resumed.detectors, whole.detectors)
    with pytest.raises(CheckpointError, match="other settings"):
        vedette.federate(fleet, DETECTOR, strategy, seed=1, checkpoint=file, resume=True)


def same_detectors(some: Mapping[str, Detector], others: Mapping[str, Detector]) -> bool:
    rows = CLEAN.tables["test"]
    return some.keys() == others.keys() and all(
        np.array_equal(some[node].decision_function(rows), others[node].decision_function(rows))
        and some[node].threshold_ == others[node].threshold_
        for node in some
    )


def test_what_cannot_be_federated_or_reported_is_said(tmp_path: Path) -> None:
    fleet = fleet_of(CLEAN.tables["train"])
    with pytest.raises(RecipeError, match="unknown runtime 'moon'; known: local"):
        vedette.federate(fleet, DETECTOR, recipe().strategy, runtime="moon")
    unlabelled = fleet.map(lambda table: replace(table, label=None, kind=None))
    result = vedette.federate(unlabelled, DETECTOR, recipe().strategy)
    for tests in (None, unlabelled):
        with pytest.raises(RecipeError, match="a report needs labelled rows"):
            result.report(tmp_path / "fleet.html", tests)
    assert not (tmp_path / "fleet.html").exists()
    assert result.report(tmp_path / "fleet.html", fleet_of(CLEAN.tables["test"])).is_file()


def test_tables_that_do_not_belong_to_the_nodes_are_said(tmp_path: Path) -> None:
    strategy, tested = recipe().strategy, fleet_of(CLEAN.tables["test"])
    fleet = fleet_of(CLEAN.tables["train"])
    two = Fleet.of({node: fleet[node] for node in NODES[:2]})
    with pytest.raises(DataUnusable, match="node 'right' has training rows but no calibration rows"):
        vedette.federate(fleet, DETECTOR, strategy, calibration=two)
    with pytest.raises(DataUnusable, match="different features"):
        vedette.federate(Fleet.of({**two, "right": fleet["right"].select(["s0"])}), DETECTOR, strategy)
    with pytest.raises(RecipeError, match="'pca' learns in one step: take the strategy 'merge'"):
        vedette.federate(fleet, vedette.detectors.Pca(), strategy)
    with pytest.raises(RecipeError, match="'autoencoder' is trained in rounds"):
        vedette.federate(fleet, DETECTOR, vedette.strategies.Merge())
    result = vedette.federate(two, DETECTOR, strategy, checkpoint=tmp_path / "state")
    with pytest.raises(RecipeError, match="node 'right' has rows to report on but took no part"):
        result.report(tmp_path / "fleet.html", tested)
    with pytest.raises(RecipeError, match="tables of all nodes are empty"):
        result.report(tmp_path / "fleet.html", Fleet.of({"left": tested["left"].take(slice(0, 0))}))
    for other in (fleet, Fleet.of({"left": fleet["left"]})):
        with pytest.raises(CheckpointError, match="a run among other nodes"):
            vedette.federate(other, DETECTOR, strategy, checkpoint=tmp_path / "state", resume=True)


def test_a_classifier_is_no_method_of_a_recipe_without_labels() -> None:
    with pytest.raises(RecipeError, match="'mlp' learns from labels"):
        run(recipe(methods=["mlp"]))


# Folds and variants.


def test_a_device_left_out_is_tried_by_the_detectors_of_the_others() -> None:
    chosen = recipe(protocols={"strict": {"leave_out": "group", "calibration": 0.2}}, methods=["random", "local", "federated"])
    result = run(chosen)
    figures = by_node(result, "federated")
    assert set(figures) == set(NODES) == set(by_node(result, "local")) == set(by_node(result, "random"))
    whole = pooled(result)
    for key in ("recall", "fpr", "f1", "auc_roc"):
        assert whole[key] == pytest.approx(np.mean([figures[node][key] for node in NODES]))
    assert whole["threshold"] is None
    tested = CLEAN.tables["test"]
    assert {node: figures[node]["rows"] for node in NODES} == {node: len(share_of(tested, node)) for node in NODES}
    assert whole["rows"] == len(tested) == result.run["data"]["rows_test"]
    assert (result.run["data"]["folds"], result.run["data"]["nodes"]) == (3, 2)
    assert set(result.detectors["local"]) == {"middle", "right"}  # of the first fold
    detector = result.detectors["federated"]["right"]
    left = share_of(tested, "left")
    flagged = detector.decision_function(left) > detector.threshold_
    assert left.label is not None
    assert figures["left"]["recall"] == pytest.approx(flagged[left.label == 1].mean())
    kinds = {row["method"]: row for row in result.run["kinds"]}
    anomalies = sum(int((share_of(tested, node).label == 1).sum()) for node in NODES)  # type: ignore[operator]
    assert kinds["federated"]["rows"] == anomalies
    assert kinds["local"]["rows"] == 2 * anomalies  # two detectors each
    assert len({curve.method for curve in result.curves}) == len(result.curves) == 2


def test_a_variant_is_another_detector_trained_as_it_says() -> None:
    variants = {
        "own-pca": {"detector": {"name": "pca", "share": 0.5}, "trained": "local"},
        "windowed": {"detector": {"name": "autoencoder", "hidden": [3], "window": 4}, "trained": "federated"},
        "windowed-tuned": {"detector": {"name": "autoencoder", "hidden": [3], "window": 4}, "trained": "fine-tuned"},
        "pca": {"detector": {"name": "pca", "share": 0.9}, "trained": "centralised"},
    }
    labels: list[str] = []
    chosen = recipe(methods=[*variants, "federated"], variants=variants)
    result = run(chosen, on_progress=lambda label, _: labels.append(label))
    assert set(result.detectors) == {*variants, "federated"}
    train = CLEAN.tables["train"]
    learned = train.take(~held_out(train, 0.2))
    learned = learned.take(~held_out(learned, 0.2))
    for node in NODES:
        expected = DETECTORS["pca"](share=0.5, scaling=chosen.detector.scaling, threshold=chosen.detector.threshold)
        expected = expected.fit(share_of(learned, node))
        scores = expected.decision_function(CLEAN.tables["test"])
        np.testing.assert_allclose(result.detectors["own-pca"][node].decision_function(CLEAN.tables["test"]), scores, rtol=1e-9)
        assert result.detectors["windowed"][node].window.size == 4
        assert result.detectors["windowed"][node].threshold == chosen.detector.threshold
    assert len({id(detector) for detector in result.detectors["windowed"].values()}) == 1
    assert len({id(detector) for detector in result.detectors["windowed-tuned"].values()}) == 3
    # The federation that is fine-tuned is the one scored as 'windowed': it is run once.
    assert {label.rpartition(", ")[2] for label in labels} == {"windowed", "windowed-tuned", "federated"}
    assert json.loads(json.dumps(result.run["settings"]))["variants"].keys() == variants.keys()


def test_what_learns_in_one_step_is_federated_exactly_as_centralised() -> None:
    scaling = {"numbers": "standard", "fit": "federated"}
    variants = {
        f"{trained}-{name}": {"detector": {**settings, "scaling": scaling}, "trained": trained}
        for trained in ("federated", "centralised")
        for name, settings in {
            "pca": {"name": "pca", "share": 0.7},
            "t2": {"name": "pca", "share": 0.7, "statistic": "combined", "window": 3},
            "distance": {"name": "variance-distance"},
        }.items()
    }
    result = run(recipe(methods=[*variants, "federated"], variants=variants))
    tested = CLEAN.tables["test"]
    for name in ("pca", "t2", "distance"):
        federated, centralised = (result.detectors[f"{trained}-{name}"] for trained in ("federated", "centralised"))
        assert len({id(detector) for detector in federated.values()}) == 1
        pooled = centralised["left"].decision_function(tested)
        np.testing.assert_allclose(federated["left"].decision_function(tested), pooled, rtol=1e-6)
        assert federated["left"].threshold_ == pytest.approx(centralised["left"].threshold_, rel=1e-6)


def test_a_recipe_of_one_step_has_no_rounds() -> None:
    chosen = {"detector": {"name": "pca"}, "strategy": {"name": "merge"}}
    result = run(recipe(methods=["local", "centralised", "federated"], **chosen))
    assert set(result.detectors) == {"local", "centralised", "federated"}
    figures = {method: pooled(result, method)["auc_roc"] for method in result.detectors}
    assert figures["federated"] == pytest.approx(figures["centralised"], abs=1e-9)
    with pytest.raises(ValidationError, match="no 'untrained'"):
        recipe(methods=["untrained"], **chosen)
    with pytest.raises(ValidationError, match="must be 'merge'"):
        recipe(detector={"name": "pca"})
    with pytest.raises(ValidationError, match="trained in rounds"):
        recipe(strategy={"name": "merge"})


def test_fine_tuning_goes_on_from_the_federation() -> None:
    result = run(recipe(methods=["federated", "fine-tuned"], fine_tuning=3, detector={**SETTINGS, "residual": "squared"}))
    common = result.detectors["federated"]["left"]
    for node in NODES:
        tuned = result.detectors["fine-tuned"][node]
        assert np.array_equal(tuned.scaler.fitted, common.scaler.fitted)
        mine = share_of(CLEAN.tables["train"], node).normal()
        assert tuned.decision_function(mine).mean() < common.decision_function(mine).mean()
        assert tuned.threshold_ != common.threshold_


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"detector": {"name": "pcaa"}}, "did you mean 'pca'"),
        ({"detector": {"share": 0.5}}, "unknown key 'share'"),
        ({"strategy": "fedtl", "trained": "federated"}, "needs a detector with a 'local' network"),
        ({"detector": {"name": "pca", "shares": 0.5}}, "did you mean 'share'"),
        ({"detector": {"name": "mlp"}}, "learns from labels"),
        ({"detector": {"name": "pca"}, "trained": "fine-tuned"}, "nothing to tune"),
    ],
)
def test_an_impossible_variant_is_said(variant: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, UnknownName), match=message):
        recipe(variants={"mine": variant})
