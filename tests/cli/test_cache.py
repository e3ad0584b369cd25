"""`vedette data cache`: where, how many, how large, and gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import vedette

from samples import OWN, put
from vedette.data import cache
from vedette.data.datasets.table import TableFiles


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VEDETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH", 0)
    return tmp_path / "cache" / "data"


def test_what_is_kept_and_how_to_be_rid_of_it(tmp_path: Path, place: Path) -> None:
    empty = json.loads(vedette("data", "cache", "--json").stdout)
    assert empty == {"schema": "vedette.data-cache/1", "folder": str(place), "bytes": 0, "entries": []}
    TableFiles(files=("own.csv",), label="label").load(put(tmp_path, {"own.csv": OWN}))
    (entry,) = place.iterdir()
    size = sum(file.stat().st_size for file in entry.iterdir())
    said = json.loads(vedette("data", "cache", "--json").stdout)
    assert said["entries"] == [{"name": "table", "rows": 4, "bytes": size, "path": str(entry)}]
    assert said["bytes"] == size
    text = vedette("data", "cache").stdout
    assert f"1 kept in {place}" in text
    assert entry.name in text
    assert vedette("data", "cache", "clear").stdout == "1 removed, 0.0 MB freed\n"
    gone = json.loads(vedette("data", "cache", "clear", "--json").stdout)
    assert gone == {"schema": "vedette.data-cache-clear/1", "removed": 0, "bytes": 0}
    assert not entry.exists()


def test_switched_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEDETTE_CACHE", "off")
    assert json.loads(vedette("data", "cache", "--json").stdout)["folder"] is None
    assert "switched off" in vedette("data", "cache").stdout
    assert vedette("data", "cache", "clear").returncode == 0
