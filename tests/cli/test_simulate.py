"""`vedette data simulate`: fleets as files, whole or gone on with, read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import refused, vedette

from vedette.data.datasets.table import TableFiles
from vedette.data.simulate import Nuisances, Simulated, export

SHORT = ["--set", "train_hours=2", "--set", "test_hours=30"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_what_is_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "valves"
    flags = ["--device", "valve", "--nodes", "3", *SHORT, "--set", "nuisances.missing=0.05", "--seed", "4"]
    done = vedette("data", "simulate", "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    assert f"wrote 3 devices to {out}: 2 files" in done.stdout
    data = TableFiles(
        files=("train/*.parquet",), test_files=("test/*.parquet",), node="node", time="time", label="kind", normal="normal"
    ).load(out)
    fleet = Simulated(device="valve", nodes=3, train_hours=2, test_hours=30, nuisances=Nuisances(missing=0.05))
    for part, table in fleet.load(None, seed=4).tables.items():
        np.testing.assert_array_equal(np.asarray(data.tables[part].numbers, dtype=np.float32), table.numbers)
        np.testing.assert_array_equal(data.tables[part].label, table.label)
        assert data.tables[part].kind.texts() == table.kind.texts()
        assert data.tables[part].group.texts() == table.group.texts()
        np.testing.assert_array_equal(data.tables[part].time, table.time)
    assert np.isnan(table.numbers).any()


@pytest.mark.slow
def test_the_recipe_beside_it_runs(tmp_path: Path) -> None:
    out = tmp_path / "fleet"
    written = vedette("data", "simulate", "--out", out, "--device", "motor", "--nodes", "2", "--json", *SHORT)
    said = json.loads(written.stdout)
    assert said["schema"] == "vedette.data-simulate/1"
    assert (said["nodes"], said["files"], said["recipes"]) == (2, 2, [str(out / "motor.toml")])
    ran = vedette("run", out / "motor.toml", "--data", out, "--out", tmp_path / "run", "--quick", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["data"]["nodes"] == 2


def test_a_mixed_fleet_has_files_and_a_recipe_for_each_type(tmp_path: Path) -> None:
    assert vedette("data", "simulate", "--out", tmp_path / "all", "--device", "mixed", "--nodes", "5", *SHORT).returncode == 0
    assert sorted(path.name for path in (tmp_path / "all").glob("*.toml")) == [
        "gateway.toml", "motor.toml", "pump.toml", "thermostat.toml", "valve.toml"
    ]  # fmt: skip
    gateway = pl.read_parquet(tmp_path / "all" / "test" / "gateway-00001.parquet")
    assert gateway.columns[:3] == ["node", "time", "connections"]
    assert gateway["node"].unique().to_list() == ["gateway-5"]


def test_many_nodes_share_files_and_a_broken_off_one_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROWS", 300)
    fleet, out, seen = Simulated(nodes=5, train_hours=2, test_hours=2), tmp_path / "fleet", list[str]()

    def broken_off(node: str) -> None:
        seen.append(node)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.write_fleet(fleet, out, on_node=broken_off)
    first = contents(out)
    assert "test/pump-00001.parquet" not in first
    export.write_fleet(fleet, out)
    after = contents(out)
    assert sorted(after) == ["fleet.json", "pump.toml", *(f"{part}/pump-0000{n}.parquet" for part in ("test", "train") for n in (1, 2, 3))]
    assert {name: after[name] for name in first} == first
    export.write_fleet(fleet, tmp_path / "other")
    assert contents(tmp_path / "other") == after
    rows = pl.concat([pl.read_parquet(path) for path in sorted((out / "test").iterdir())])
    assert rows["node"].unique(maintain_order=True).to_list() == fleet.node_names()


def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    assert "choose another folder" in refused("data", "simulate", "--out", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    vedette("data", "simulate", "--out", tmp_path / "fleet", *SHORT)
    assert "choose another folder" in refused("data", "simulate", "--out", tmp_path / "fleet", "--seed", "1", *SHORT)
    assert "did you mean 'thermostat'" in refused("data", "simulate", "--out", tmp_path / "x", "--device", "thermostate")
    assert "nodes" in refused("data", "simulate", "--out", tmp_path / "x", "--nodes", "0")
    assert "did you mean 'nuisances'" in refused("data", "simulate", "--out", tmp_path / "x", "--set", "nuisance.missing=0.1")
    assert not (tmp_path / "x").exists()
