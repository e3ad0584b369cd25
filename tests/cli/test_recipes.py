"""`vedette recipes`: what is listed can be shown, and what is shown can be run; the template for one's own files holds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import refused, vedette

from vedette.evaluation.recipe import load_recipe, recipe_names, recipe_text


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_shown_is_the_recipe(name: str, tmp_path: Path) -> None:
    shown = recipe_text(name)
    (tmp_path / f"{name}.toml").write_text(shown, encoding="utf-8")
    assert load_recipe(str(tmp_path / f"{name}.toml")) == load_recipe(name)


def test_a_recipe_is_printed_as_it_is_written() -> None:
    assert vedette("recipes", "show", "my-data").stdout == recipe_text("my-data")
    assert "did you mean 'my-data'" in refused("recipes", "show", "my-dat")


def test_the_template_runs_on_files_as_it_describes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for device in ("pump-1", "pump-2", "pump-3"):
        load = rng.normal(size=400).cumsum() / 8
        with (tmp_path / f"{device}.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["time", "device", "flow", "pressure", "mode", "label"])
            for row in range(400):
                wrong = row % 40 > 36
                flow = round(47 + load[row] + rng.normal() / 10 + 3 * wrong, 3)
                pressure = "" if row % 50 == 7 else round(3.9 + load[row] / 10 + rng.normal() / 100, 4)
                lines.writerow(
                    [f"2026-03-01T{row // 60:02}:{row % 60:02}:00Z", device, flow, pressure, "auto" if row % 3 else "manual", int(wrong)]
                )
    recipe = tmp_path / "mine.toml"
    recipe.write_text(vedette("recipes", "show", "my-data").stdout, encoding="utf-8")
    done = vedette("run", recipe, "--data", tmp_path, "--out", tmp_path / "run", "--quick", "--protocol", "both", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["data"]["nodes"] == 3
    assert {row["protocol"] for row in run["rows"]} == {"strict", "left-out"}
    assert (tmp_path / "run" / "report.html").is_file()


def test_all_that_the_template_offers_can_be_said(tmp_path: Path) -> None:
    offered = re.sub(r"^# (?=\[gaps\]|[a-z_]+ = )", "", recipe_text("my-data"), flags=re.MULTILINE)
    assert offered.count("\n[gaps]") == 1
    (tmp_path / "all.toml").write_text(offered.replace("\ntest = 0.3", ""), encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "all.toml"))
    data = recipe.data.model_dump()
    assert (data["test_files"], data["separator"], data["drop"]) == (("november/*.csv",), ";", ("row_id", "operator"))
    assert (recipe.gaps.resample, recipe.gaps.fill, recipe.gaps.limit) == (60.0, "forward", 5)
    assert recipe.detector.window.size == 10
