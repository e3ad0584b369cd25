"""What a script gives away: anomalies told by the place in a recording alone."""

from __future__ import annotations

from typing import cast

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Coded, Table
from vedette.evaluation.methods import METHODS, Bench
from vedette.evaluation.recipe import Recipe
from vedette.evaluation.setting import Setting


def recordings(begin: list[int], readings: int) -> Table:
    """Recordings of a hundred rows, anomalous for twenty from some row on; the readings tell nothing."""
    label = np.zeros(100 * len(begin), dtype=np.int8)
    for place, first in enumerate(begin):
        label[100 * place + first : 100 * place + first + 20] = 1
    group = Coded.of(f"run-{place}" for place in range(len(begin)) for _ in range(100))
    table = Table.from_array(np.random.default_rng(readings).normal(size=(len(label), 2)), label)
    return Table(table.features, table.numbers, label=label, group=group)


def found(train: list[int], test: list[int]) -> float:
    """Share of rows that the timetable of some recordings judges rightly in others."""
    recipe = Recipe.model_validate({"name": "x", "title": "x", "data": "simulated", "detector": "mlp", "strategy": "local"})
    fleet = Fleet.of({"a": recordings(train, 1)})
    tests = Fleet.of({"a": recordings(test, 2)})
    setting = Setting(recipe, "strict", 0, fleet, fleet, fleet, {"test": tests})
    (scored,) = METHODS["timetable"](Bench(setting, cast("object", None))).score(tests)  # type: ignore[arg-type]
    return float(((scored.score > scored.threshold) == (scored.label != 0)).mean())


def test_one_script_gives_everything_away_and_different_ones_nothing() -> None:
    assert found([30, 30, 30], [30, 30]) == 1.0
    assert found([30, 30, 30], [31, 29]) == 0.98
    assert found([0, 25, 50, 75], [10, 60]) == 0.8  # none is likelier than not: nothing is flagged
