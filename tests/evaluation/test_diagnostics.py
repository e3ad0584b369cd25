"""Diagnostics: worked out on request alone, by recording, and refused early where they cannot be."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from vedette.errors import DataUnusable, MissingExtra, RecipeError
from vedette.evaluation.diagnostics import Diagnosed, diagnostic_figures
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.recipe import Recipe, load_recipe
from vedette.evaluation.recordings import Recordings
from vedette.evaluation.scoring import Scored, metric_rows

ABOUT = {"method": "m", "protocol": "strict", "split": "test", "seed": 0}
AFFILIATION = {"affiliation_precision", "affiliation_recall", "affiliation_f1"}
QUICK = ["data.nodes=2", "data.train_hours=1", "data.test_hours=1", 'methods=["flag-all", "random"]', "seeds=1"]


def scored(node: str, label: list[int], flags: list[int]) -> Scored:
    recordings = Recordings(np.array([0, len(label)]), None)
    return Scored(node, np.array(flags, dtype=np.float64), 0.5, np.array(label), recordings=recordings)


def keys(row: dict[str, Any]) -> set[str]:
    return {key for key in row if key in AFFILIATION or key == "point_adjusted_f1"}


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ((), set()),
        (("affiliation",), AFFILIATION),
        (("point-adjusted",), {"point_adjusted_f1"}),
        (("affiliation", "point-adjusted"), AFFILIATION | {"point_adjusted_f1"}),
    ],
)
def test_what_is_not_asked_for_is_not_there(wanted: Any, shown: set[str]) -> None:
    parts = [scored("a", [0, 1, 1, 0], [0, 0, 1, 0]), scored("b", [0, 1, 0, 0], [1, 0, 0, 0])]
    assert all(keys(row) == shown for row in metric_rows(parts, ABOUT, wanted))
    unordered = [part._replace(recordings=None) for part in parts]
    assert not any(keys(row) for row in metric_rows(unordered, ABOUT, wanted))


def test_counts_of_nodes_are_added_up() -> None:
    # a: two rows adjusted to found. b: one missed, one false alarm. Together tp 2, fp 1, fn 1.
    parts = [scored("a", [0, 1, 1, 0], [0, 0, 1, 0]), scored("b", [0, 1, 0, 0], [1, 0, 0, 0])]
    whole, first, second = metric_rows(parts, ABOUT, ("point-adjusted",))
    assert (first["point_adjusted_f1"], second["point_adjusted_f1"]) == (1.0, 0.0)
    assert whole["point_adjusted_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_an_event_ends_with_its_recording() -> None:
    label, flagged = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    apart, together = (
        Diagnosed.of(Recordings(np.array(edges), None), label, flagged, ("affiliation", "point-adjusted")) for edges in ([0, 2, 4], [0, 4])
    )
    assert (apart.adjusted, together.adjusted) == ((1, 0, 1, 2), (2, 0, 0, 2))
    assert apart.affiliation is not None
    assert (apart.affiliation.events, apart.affiliation.flagged) == (2, 1)
    assert diagnostic_figures([apart])["affiliation_recall"] == 0.5


def test_a_run_shows_them_on_request() -> None:
    plain, asked = (load_recipe("demo", changes=[*QUICK, *more]) for more in ([], ['diagnostics=["point-adjusted"]']))
    assert plain.diagnostics == ()
    assert asked.diagnostics == ("point-adjusted",)
    assert not any(keys(row) for row in Experiment(plain).run().run["rows"])
    rows = [row for row in Experiment(asked).run().run["rows"] if row["split"] == "test"]
    assert all(keys(row) == {"point_adjusted_f1"} for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [('diagnostics=["afiliation"]', "affiliation"), ("diagnostics=affiliation", "tuple"), ('methods=["federated"]', "flag-all")],
)
def test_what_cannot_be_asked_for(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe("demo", changes=['diagnostics=["point-adjusted"]', change])


def test_rows_out_of_order_are_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.evaluation.experiment.Bench", None)
    recipe = load_recipe("demo", changes=[*QUICK, 'diagnostics=["point-adjusted"]', "partition={name = 'iid', nodes = 2}"])
    with pytest.raises(DataUnusable, match="'strict' do not: leave 'diagnostics' empty"):
        Experiment(recipe).run()


def test_a_missing_library_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: Recipe = load_recipe("demo", changes=[*QUICK, 'diagnostics=["affiliation"]'])
    monkeypatch.setitem(sys.modules, "telemeval", None)
    monkeypatch.setattr(Experiment, "_dataset", None)
    with pytest.raises(MissingExtra, match="telemeval"):
        Experiment(recipe).run()
