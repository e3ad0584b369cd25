"""The recipes of Fed-LSTM on small files: every account of table 1 and figure 1 is there, and SVMs see labels that nothing else does."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from samples import put
from vedette.data.datasets import unsw_nb15
from vedette.errors import RecipeError
from vedette.evaluation.effort import Watch
from vedette.evaluation.experiment import Experiment, Result
from vedette.evaluation.latency import latency
from vedette.evaluation.recipe import Recipe, load_recipe
from vedette.evaluation.setting import Setting, shared_out
from vedette.runtimes.base import Outcome, Round

NAMES = unsw_nb15.NAMES.split()
METHODS = ("flag-all", "linear-svm", "rbf-svm", "dense", "local", "centralised", "no-clusters", "federated")
SMALL = [
    "data.check=false", "partition.nodes=10", "partition.min_rows=12", "partition.alpha=2.0", "strategy.after=1", "strategy.by.clusters=2",
    "detector.hidden=[6]", "detector.optimiser.batch=32", "detector.window.size=4", "variants.dense.strategy.rounds=2",
    f"methods={json.dumps(METHODS)}",
]  # fmt: skip


def flows(rows: int, seed: int) -> str:
    """Flows of three services that swing, each its own way; attacks stand higher in some columns."""
    rng, lines = np.random.default_rng(seed), [f"id,{','.join(NAMES)},attack_cat,label"]
    for row in range(rows):
        service, attack = int(rng.integers(3)), bool(rng.random() < 0.3)
        numbers = np.abs(np.sin(row / 9 + service) + rng.normal(0, 0.1, len(NAMES)) + 2 + (np.arange(len(NAMES)) < 9) * 3 * attack)
        texts = {"proto": "tcp", "service": ("-", "dns", "http")[service], "state": "FIN"}
        cells = [texts.get(name, f"{value:.4f}") for name, value in zip(NAMES, numbers, strict=True)]
        lines.append(f"{row + 1},{','.join(cells)},{'Exploits' if attack else 'Normal'},{int(attack)}")
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("fed-lstm-unsw", quick=True, changes=SMALL)


@pytest.fixture(scope="module")
def result(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("data")
    put(folder, {"unsw-nb15/UNSW_NB15_testing-set.csv": flows(600, 1)})
    with pytest.MonkeyPatch.context() as patch:
        # What it measures of each method takes six seconds, most of them waiting for readings.
        patch.setattr("vedette.evaluation.experiment.latency", partial(latency, loads=(), readings=20))
        return Experiment(recipe, folder).run()


@pytest.mark.slow
def test_every_account_is_there(result: Result) -> None:
    run = json.loads(json.dumps(result.run))
    latencies = {each["method"]: each for each in run["latencies"]}
    assert set(latencies) == {"dense", "local", "centralised", "no-clusters", "federated"}  # SVMs cannot be stored
    assert all(0 < each["p50"] <= each["p99"] for each in latencies.values())
    paces = {each["method"]: each for each in run["paces"]}
    assert set(paces) == set(latencies)
    assert all(len(each["ends"]) == len(each["loss"]) == 2 and each["ends"] == sorted(each["ends"]) for each in paces.values())
    assert paces["local"]["bytes"] == paces["centralised"]["bytes"] == 0
    history = next(each for each in run["privacy"] if each["method"] == "no-clusters")["stages"][1]
    assert paces["no-clusters"]["bytes"] == pytest.approx(history["sent"] + history["received"])
    (order,) = run["orders"]
    assert (order["method"], order["lookahead"]) == ("federated", 0)
    (clusters,) = run["clusters"]
    assert [each["round"] for each in clusters["groupings"]] == [1]
    assert sorted(node for members in clusters["groupings"][0]["clusters"].values() for node in members) == [
        f"node-{number:02}" for number in range(1, 11)
    ]
    local = [row for row in run["rows"] if row["method"] == "local"]
    assert local[0]["f1_worst_tenth"] == min(row["f1"] for row in local[1:])


def test_rounds_are_timed_without_what_was_done_between_them() -> None:
    first, second = (Round("rounds", number, 2, 1 / number, 10, 20) for number in (1, 2))
    watch = Watch()
    watch.round_done(first)
    watch.skip(5.0)
    watch.round_done(second)
    pace = watch.pace(Outcome({}, [Round("prepare", 1, 1, None, 7, 7), first, second]), 3)
    assert pace is not None
    assert pace["ends"][1] - pace["ends"][0] == pytest.approx(-5, abs=1)
    assert (pace["loss"], pace["bytes"]) == ([1, 0.5], 60 / (3 * 2))
    # A run that was resumed saw but some of its rounds.
    assert watch.pace(Outcome({}, [first, second, second]), 3) is None
    assert Watch().pace(Outcome({}, []), 3) is None


def test_machines_that_learn_from_labels_find_the_attacks_they_were_shown(result: Result) -> None:
    found = {row["method"]: row for row in result.run["rows"] if row["node"] == "*"}
    for method in ("linear-svm", "rbf-svm"):
        assert found[method]["f1"] > 0.95, method
        assert found[method]["threshold"] == 0.5


def test_others_learn_from_normal_rows_alone(recipe: Recipe, tmp_path: Path) -> None:
    put(tmp_path, {"unsw-nb15/UNSW_NB15_testing-set.csv": flows(300, 1)})
    dataset = recipe.data.load(tmp_path, 0)
    setting: Setting = shared_out(recipe, "strict", 0, "", recipe.protocols["strict"].parts(dataset, 0), False)
    normal, labelled = setting.train.pooled(), setting.labelled.pooled()
    assert normal.label is not None
    assert labelled.label is not None
    assert not normal.label.any()
    assert labelled.label.any()
    assert len(normal) == int((labelled.label == 0).sum())


def test_rounds_among_normal_rows_cannot_use_labels() -> None:
    for detector, trained in (("mlp", "centralised"), ("mlp", "federated"), ("svm", "federated")):
        changes = [f'variants.odd={{detector={{name="{detector}"}},trained="{trained}"}}', 'methods=["odd"]']
        with pytest.raises(RecipeError, match=r"learns from labels in rounds|cannot be learned together"):
            load_recipe("fed-lstm-unsw", changes=changes)


@pytest.mark.parametrize("name", ["fed-lstm-nsl-kdd", "fed-lstm-kdd99", "fed-lstm-unsw", "fed-lstm-skab"])
def test_each_recipe_says_what_a_window_of_ten_sees(name: str) -> None:
    recipe = load_recipe(name)
    window = recipe.detector.window
    assert (window.size, window.scored, recipe.latency, recipe.order) == (10, "last", True, True)
    # Where rows are dealt out to nodes their windows reach over those of others.
    assert window.across is (name != "fed-lstm-skab")
