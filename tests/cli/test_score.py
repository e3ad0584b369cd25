"""`vedette score`: every row once and in order, with the same scores whoever scores them and whatever becomes of these."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import refused, vedette
from test_workers import gone, pids

from conftest import correlated, with_category
from vedette.data.table import Coded, Table
from vedette.data.windows import Window
from vedette.detectors import Autoencoder, Detector, LstmAutoencoder, load_bundle, save_bundle
from vedette.errors import DataUnusable, DetectorMisused, VedetteError
from vedette.runtimes.cluster.dispatch import TRIES
from vedette.runtimes.cluster.ledger import proof_in
from vedette.runtimes.cluster.pool import close_idle
from vedette.runtimes.cluster.scoring import score_blocks
from vedette.runtimes.workers import Workers

DENSE = Autoencoder(hidden=(4, 2), epochs=1)
LSTM = LstmAutoencoder(window=Window(size=6, average=5, pause=3), hidden=(6, 3), epochs=1)
ROWS = correlated(30_000, 5, 1, anomalies=0.1)
NAMES = [feature.name for feature in ROWS.features]


@pytest.fixture(autouse=True)
def _no_worker_left() -> Any:
    yield
    close_idle()
    assert pids() == []


def bundle_of(detector: Detector, folder: Path, table: Table) -> Path:
    save_bundle(detector.fit(table.take(slice(0, 2_000))), folder)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(DENSE, tmp_path_factory.mktemp("dense") / "bundle", ROWS)


def written(table: Table, path: Path) -> Path:
    frame = pl.DataFrame({**dict(zip(NAMES, table.numbers.T, strict=True)), "site": ["x"] * len(table)})
    if path.suffix == ".npy":
        np.save(path, np.ascontiguousarray(table.numbers))
    elif path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("file", "workers"), [("rows.csv", []), ("rows.parquet", ["--workers", "2"]), ("rows.npy", ["--runtime", "cluster"])]
)
def test_every_row_is_scored_once_and_proved(bundle: Path, tmp_path: Path, file: str, workers: list[str]) -> None:
    out = tmp_path / "new" / "scores.parquet"
    done = vedette("score", bundle, written(ROWS, tmp_path / file), "--out", out, "--json", *workers)
    assert done.returncode == 0, done.stderr
    said, detector = json.loads(done.stdout), load_bundle(bundle)
    found, due = pl.read_parquet(out), detector.decision_function(ROWS)
    assert found.schema == {"row": pl.Int64, "score": pl.Float64, "flag": pl.Boolean}
    assert np.array_equal(found["row"].to_numpy(), np.arange(len(ROWS)))
    assert np.array_equal(found["score"].to_numpy(), due)
    assert np.array_equal(found["flag"].to_numpy(), detector.predict(ROWS) == 1)
    ids, scores = hashlib.sha256(np.arange(len(ROWS), dtype="<i8").tobytes()), hashlib.sha256(due.astype("<f8").tobytes())
    proof = {"rows": len(ROWS), "scored": len(ROWS), "ids": ids.hexdigest(), "scores": scores.hexdigest()}
    assert {key: said[key] for key in proof} == proof
    kept = proof_in(out)
    assert {key: kept[key] for key in proof} == proof
    assert said["schema"] == kept["schema"] == "vedette.score/1"
    assert said["flagged"] == int((due > detector.threshold_).sum())
    assert said["incidents"] == []
    assert [each.name for each in out.parent.iterdir()] == ["scores.parquet"]


def test_it_says_what_it_did(bundle: Path, tmp_path: Path) -> None:
    done = vedette("score", bundle, written(ROWS, tmp_path / "rows.npy"), "--out", tmp_path / "scores.parquet")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("30,000 of 30,000 rows scored in ")
    assert lines[1].split()[-1] == proof_in(tmp_path / "scores.parquet")["ids"]
    assert lines[3] == f"wrote {tmp_path / 'scores.parquet'}"


def in_order(rows: int, groups: bool) -> Table:
    """Rows of several recordings, with pauses and rows that are missing."""
    rng = np.random.default_rng(0)
    table = with_category(correlated(rows, 5, 2), 3)
    group = Coded(np.sort(rng.integers(0, 7, rows)).astype(np.int32), tuple("abcdefg")) if groups else None
    time = np.cumsum(rng.choice([1.0, 20.0], rows, p=[0.99, 0.01]))
    place = np.cumsum(1 + (rng.random(rows) < 0.01))
    return Table(table.features, table.numbers, table.categories, group=group, time=time, place=place)


@pytest.mark.parametrize(
    ("groups", "size"), [(True, 600), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((True, 1), (False, 1), (False, 600)))]
)
def test_windows_and_averages_reach_back_over_blocks(tmp_path: Path, groups: bool, size: int) -> None:
    table = in_order(20_000 if size == 1 else 6_000, groups)
    window = Window(size=size, average=700, pause=3) if size > 1 else LSTM.window
    detector: Detector = Autoencoder(window=window, hidden=(3,), epochs=0) if size > 1 else LSTM
    folder = bundle_of(detector, tmp_path / "bundle", table)
    due = load_bundle(folder).decision_function(table)
    for workers in (Workers(1), Workers(2)):
        found = list(score_blocks(folder, table, workers, block=256))
        assert len(found) > 4
        assert [first for first, _ in found] == [first * len(found[0][1]) for first in range(len(found))]
        assert np.array_equal(np.concatenate([scores for _, scores in found]), due)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_workers_that_are_killed_or_stopped_midway_are_not_missed(bundle: Path, sign: signal.Signals) -> None:
    workers, found, hit = Workers(3, "cluster", deadline=3.0), list[Any](), 0
    many = Table(ROWS.features, np.tile(ROWS.numbers, (20, 1)))
    for first, scores in score_blocks(bundle, many, workers):
        assert first == sum(map(len, found))
        found.append(scores)
        if not hit and first > len(many) // 3:
            hit = pids()[1]
            os.kill(hit, sign)
    assert np.array_equal(np.concatenate(found), load_bundle(bundle).decision_function(many))
    assert gone(hit) or sign == signal.SIGSTOP
    assert all(incident.pid == hit and incident.unit.startswith("rows ") for incident in workers.incidents)


def test_kdd99_over_three_workers_one_of_them_killed(data_root: Path, tmp_path: Path) -> None:
    from vedette.data.datasets.kdd99 import Kdd99

    test = Kdd99().load(data_root).tables["test"]
    assert len(test) == 311_029
    folder = bundle_of(Autoencoder(hidden=(32, 16, 8), epochs=1), tmp_path / "bundle", test)
    workers, found, killed = Workers(3, "cluster"), list[Any](), 0
    for first, scores in score_blocks(folder, test, workers):
        found.append(scores)
        if not killed and first > 100_000:
            killed = pids()[0]
            os.kill(killed, signal.SIGKILL)
    assert np.array_equal(np.concatenate(found), load_bundle(folder).decision_function(test))
    assert {incident.pid for incident in workers.incidents} <= {killed}


def test_what_cannot_be_scored_is_said(bundle: Path, tmp_path: Path) -> None:
    rows = written(ROWS.take(slice(0, 10)), tmp_path / "rows.csv")
    assert "no file '" in refused("score", bundle, tmp_path / "none.npy")
    assert "no file matches" in refused("score", bundle, tmp_path / "none.csv")
    np.save(tmp_path / "wide.npy", np.zeros((3, 6)))
    assert "holds float64 [rows, 6] where the detector takes 5" in refused("score", bundle, tmp_path / "wide.npy")
    (tmp_path / "torn.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-8])
    assert "no array of NumPy's format" in refused("score", bundle, tmp_path / "torn.npy")
    pl.DataFrame({"s0": [1.0]}).write_csv(tmp_path / "few.csv")
    assert "no column 's1'" in refused("score", bundle, tmp_path / "few.csv")
    assert vedette("score", bundle, rows, "--out", tmp_path / "a.parquet").returncode == 0
    for sign in ";\t":
        (tmp_path / "other.csv").write_text(rows.read_text().replace(",", sign))
        assert vedette("score", bundle, tmp_path / "other.csv", "--out", tmp_path / "b.parquet").returncode == 0
        assert pl.read_parquet(tmp_path / "a.parquet").equals(pl.read_parquet(tmp_path / "b.parquet"))
    (tmp_path / "file").touch()
    assert "cannot write" in refused("score", bundle, rows, "--out", tmp_path / "file" / "scores.parquet")
    assert "--out scores.parquet" in refused("score", bundle, rows, "--out", "scores.csv")
    assert "add --runtime cluster" in refused("score", bundle, rows, "--ray", "auto")
    assert "a bundle is a folder" in refused("score", tmp_path, rows)
    odd = with_category(ROWS, 0)
    with pytest.raises(DetectorMisused, match="other features"):
        list(score_blocks(bundle, odd, Workers(1)))
    lamps = bundle_of(Autoencoder(hidden=(2,), epochs=0), tmp_path / "lamps", odd)
    assert "an array cannot hold" in refused("score", lamps, tmp_path / "wide.npy")


def test_scores_that_are_no_numbers_stop_it(bundle: Path, tmp_path: Path) -> None:
    """Here at once; of workers, once three have said so."""
    detector = load_bundle(bundle, engine="torch")
    folder = tmp_path / "mad"
    save_bundle(detector.restored({**detector.memory, "network.model": np.full_like(detector.memory["network.model"], 1e30)}), folder)
    with np.errstate(all="ignore"), pytest.raises(DataUnusable, match=r"the score of row 0 is no finite number"):
        list(score_blocks(folder, ROWS, Workers(1)))
    workers = Workers(2, "cluster")
    with pytest.raises(VedetteError, match=rf"^rows 0 to 16,383: {TRIES} workers in turn .* the score of row 0 is no finite number"):
        list(score_blocks(folder, ROWS, workers))
    assert len([incident for incident in workers.incidents if incident.unit == "rows 0 to 16,383"]) == TRIES
