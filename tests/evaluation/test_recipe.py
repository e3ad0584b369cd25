"""Recipes: the shipped ones hold together; what is wrong is said in one line, with the nearest name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vedette.detectors.base import DETECTORS
from vedette.errors import RecipeError, UnknownName, VedetteError
from vedette.evaluation.methods import METHODS
from vedette.evaluation.recipe import Recipe, load_recipe, recipe_names

FILE = """
title = "Three lines"
data = "simulated"
detector = "autoencoder"
strategy = { name = "fedavg", rounds = 4 }

[protocols.strict]
calibration = 0.1

[protocols.published]
set = { "detector.threshold.q" = 0.95 }

[quick]
"strategy.rounds" = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(FILE, encoding="utf-8")
    return str(path)


def at(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def holds(found: Any, said: Any) -> bool:
    """Tell whether all that was said is there, defaults beside it."""
    return all(holds(found[name], value) for name, value in said.items()) if isinstance(said, dict) else found == said


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_hold_together_under_each_of_their_protocols(name: str, quick: bool) -> None:
    recipe = load_recipe(name, quick)
    assert recipe.name == name
    assert recipe.title
    assert set(recipe.methods) <= {*METHODS, *DETECTORS, *recipe.variants}
    assert recipe.chosen_protocols() == [recipe.protocol] or recipe.protocol == "both"
    for protocol in recipe.chosen_protocols("both"):
        under = recipe.under(protocol)
        for key, value in recipe.protocols[protocol].set.items():
            found = at(under, key)
            # A number stands for a window of so many rows, a text for what has this name.
            short = {"name" if isinstance(value, str) else "size": value}
            said = value if isinstance(value, dict) or not isinstance(found, dict) else short
            assert holds(found, said), key
        for each in (recipe, under):
            again = Recipe.model_validate(json.loads(json.dumps(each.model_dump(mode="json"))))
            assert again == each
            assert again.model_dump(mode="json") == each.model_dump(mode="json")


def test_a_path_to_a_file_is_a_recipe(file: str) -> None:
    recipe = load_recipe(file)
    assert (recipe.name, recipe.seeds, at(recipe, "strategy.rounds"), at(recipe, "data.name")) == ("mine", 5, 4, "simulated")
    quick = load_recipe(file, quick=True)
    assert (quick.seeds, at(quick, "strategy.rounds")) == (1, 2)
    assert at(load_recipe(file, quick=True, changes=["strategy.rounds=7", "seeds=2"]), "strategy.rounds") == 7  # --set comes last


def test_a_run_is_quick_or_full_or_neither(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(FILE + '\n[full]\n"strategy.rounds" = 77\n', encoding="utf-8")
    assert at(load_recipe(str(path), full=True), "strategy.rounds") == 77
    assert at(load_recipe(str(path)), "strategy.rounds") == 4
    with pytest.raises(RecipeError, match="not both"):
        load_recipe(str(path), quick=True, full=True)


def test_a_protocol_changes_keys_of_its_own_alone(file: str) -> None:
    recipe = load_recipe(file)
    assert at(recipe, "detector.threshold.q") == at(recipe.under("strict"), "detector.threshold.q") == 0.99
    assert at(recipe.under("published"), "detector.threshold.q") == 0.95
    assert recipe.chosen_protocols("both") == ["strict", "published"]
    only = recipe.model_copy(update={"protocols": {"strict": recipe.protocols["strict"]}})
    with pytest.raises(RecipeError, match="recipe 'mine' has no protocol 'published'; it has: strict"):
        only.chosen_protocols("published")


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("seeds=3", "seeds", 3),
        (" seeds = 3 ", "seeds", 3),
        ("title=A title, no TOML", "title", "A title, no TOML"),
        ('title="quoted = text"', "title", "quoted = text"),
        ("strategy.rounds=9", "strategy.rounds", 9),
        ("strategy=local", "strategy.name", "local"),
        ("detector.hidden=[8, 2]", "detector.hidden", [8, 2]),
        ("detector.threshold.q=0.5", "detector.threshold.q", 0.5),  # the file names the detector alone
        ("detector.threshold=mean-std", "detector.threshold.name", "mean-std"),
        ("detector.optimiser.rate=0.1", "detector.optimiser.rate", 0.1),
        ("protocols.strict.calibration=0.3", "protocols.strict.calibration", 0.3),
        ("data.nodes=2", "data.nodes", 2),
    ],
)
def test_any_key_can_be_set(file: str, change: str, key: str, value: Any) -> None:
    changes = ["detector.threshold.name=quantile", change] if key == "detector.threshold.q" else [change]
    assert at(load_recipe(file, changes=changes), key) == value


@pytest.mark.parametrize(
    ("change", "near"),
    [
        ("sedes=3", "seeds"),
        ("stratgy.rounds=3", "strategy"),
        ("strategy.round=3", "rounds"),
        ("detector.hiden=[8]", "hidden"),
        ("detector.scaling.number=standard", "numbers"),
        ("detector.optimiser.rat=0.1", "rate"),
        ("strategy=fedavgg", "fedavg"),
        ("detector=autoencodr", "autoencoder"),
        ("data=simulatedz", "simulated"),
        ("partition=idd", "iid"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(file: str, change: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{near}'") as caught:
        load_recipe(file, changes=[change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "seeds=three", "seeds=0", "seeds=1.5", "seeds.more=1", "seeds", "methods=federated", "protocol=strickt", "test=none",
        "features=[[1]]", "strategy=3", "strategy.rounds=many", "strategy.rounds=-1", "strategy.name=7", "detector.hidden=4",
        "detector.threshold.q=x", "detector.threshold={name = 'quantile', q = 2}", "detector.optimiser=fast", "data=[1]", "partition={}",
        "protocols={}", "protocols.strict.split=odd", "protocols.strict=5", "protocols.My own.split=rows", "quick=fast", "title=[1, 2]",
    ],
)  # fmt: skip
def test_an_impossible_value_is_said_in_one_line(file: str, change: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, changes=[change])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "Invalid value"),
        ('title = "a"\ntitle = "b"', "overwrite"),
        ("[data", "Expected"),
        (FILE.replace('data = "simulated"', ""), "data: field required"),
        (FILE.replace('data = "simulated"', "data = { nodes = 3 }"), "needs a 'name'"),
        (FILE + "\nunknown = 1", "unknown"),
    ],
)
def test_a_broken_file_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(VedetteError, match=said) as caught:
        load_recipe(str(path), quick=True)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe .*absent\.toml"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes('title = "Gerät"'.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"cannot read recipe .*latin\.toml"):
        load_recipe(str(tmp_path / "latin.toml"))


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown recipe 'dmo'; did you mean 'demo'"):
        load_recipe("dmo")


@pytest.mark.parametrize(("key", "near"), [("strategy.round", "rounds"), ("stratgy.rounds", "strategy")])
def test_unknown_keys_of_a_protocol_and_of_quick_are_found_when_used(tmp_path: Path, key: str, near: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE.replace('"strategy.rounds" = 2', f'"{key}" = 2').replace("detector.threshold.q", key), encoding="utf-8")
    with pytest.raises(UnknownName, match=f"did you mean '{near}'"):
        load_recipe(str(path), quick=True)
    with pytest.raises(UnknownName, match=f"did you mean '{near}'"):
        load_recipe(str(path)).under("published")
