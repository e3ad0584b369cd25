"""The cache of parsed data sets: the same tables, read once; whatever is amiss with it, the files are read."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from samples import kdd_lines, put, skab_lines
from vedette.data import cache
from vedette.data.dataset import Dataset
from vedette.data.datasets import lines
from vedette.data.datasets.block import Block
from vedette.data.datasets.kdd99 import Kdd99
from vedette.data.datasets.nbaiot import NBaiot
from vedette.data.datasets.skab import Skab
from vedette.data.datasets.table import TableFiles
from vedette.data.stored import Stored
from vedette.data.table import Coded, Table
from vedette.errors import DataBroken

ROWS = [f"{i % 7},{'ab'[i % 2]},{i / 8},{'on' if i % 3 else 'off'},{i % 5 == 0:d}" for i in range(60)]
OWN = "\n".join(["when,device,flow,state,label", *ROWS, ""])
SKAB = {"skab/valve1/0.csv": skab_lines(), "skab/anomaly-free/anomaly-free.csv": skab_lines(labelled=False)}
MINE = TableFiles(files=("own.csv",), node="device", time="when", label="label")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own, which keeps small files too."""
    monkeypatch.setenv("VEDETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH", 0)
    return tmp_path / "cache" / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(
        tmp_path / "root", {"own.csv": OWN, "kdd99/kddcup.data_10_percent.gz": kdd_lines(), "kdd99/corrected": kdd_lines() * 2, **SKAB}
    )


def content(dataset: Dataset) -> object:
    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        return (plain(value.codes), value.levels) if isinstance(value, Coded) else repr(value)

    tables = {part: [plain(getattr(table, field.name)) for field in fields(Table)] for part, table in dataset.tables.items()}
    return dataset.name, dataset.ordered, tables


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that grows by each file whose rows are parsed."""
    seen: list[Path] = []
    original = lines.Lines.parsed

    def spied(self: lines.Lines, work: Callable[[Block], object]) -> object:
        seen.append(self.path)
        return original(self, work)

    monkeypatch.setattr(lines.Lines, "parsed", spied)
    return seen


def settle(*paths: Path) -> None:
    """Let files look as if they had stood for a while; their times tell from then on whether they changed."""
    past = time.time() - 60
    for path in paths:
        os.utime(path, (past, past))


@pytest.mark.parametrize("loader", [MINE, Kdd99(check=False), Skab(check=False, folders=("valve1",))], ids=["own", "kdd99", "skab"])
def test_the_second_load_is_the_first_to_the_bit(root: Path, loader: TableFiles | Kdd99 | Skab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEDETTE_CACHE", "off")
    plain = loader.load(root)
    monkeypatch.undo()
    monkeypatch.setattr(cache, "WORTH", 0)
    monkeypatch.setenv("VEDETTE_CACHE", str(root / "cache"))
    first = loader.load(root)
    seen = parsed(monkeypatch)
    second = loader.load(root)
    assert not seen
    assert content(plain) == content(first) == content(second)
    assert all(isinstance(table.matrix, Stored) for table in second.tables.values())
    assert not any(isinstance(table.matrix, Stored) for table in plain.tables.values())


def test_files_are_the_owners_alone(root: Path, place: Path) -> None:
    Kdd99(check=False).load(root)
    for path in (place, *place.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_small_files_are_not_worth_it(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH", len(OWN) + 1)
    MINE.load(root)
    assert not place.exists()
    monkeypatch.setattr(cache, "WORTH", len(OWN))
    MINE.load(root)
    assert [entry.name for entry in cache.entries()] == ["table"]


@pytest.mark.parametrize("word", ["off", "0", "OFF"])
def test_it_can_be_switched_off(root: Path, place: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEDETTE_CACHE", word)
    monkeypatch.chdir(root)
    assert not isinstance(MINE.load(root).tables["all"].matrix, Stored)
    assert cache.folder() is None
    assert cache.entries() == cache.clear() == []
    assert not place.exists()
    assert not (root / word).exists()


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.folder() == tmp_path / "cache" / "data"
    monkeypatch.setenv("VEDETTE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.folder() == tmp_path / "x" / "vedette" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "vedette" / "data"


# What decides whether an entry is opened.


def test_a_changed_file_of_the_same_size_is_read_again(root: Path) -> None:
    before, path = MINE.load(root).tables["all"].numbers[:, 0].max(), root / "own.csv"
    for text, largest in ((OWN.replace("7.375", "9.375"), 9.375), (OWN.replace("7.375", "8.375"), 8.375)):
        assert len(text) == len(OWN)
        times = path.stat().st_mtime_ns
        path.write_text(text)
        os.utime(path, ns=(times, times))  # as a tool that keeps times would
        assert MINE.load(root).tables["all"].numbers[:, 0].max() == largest != before


def test_a_copy_or_a_touched_file_is_known_by_its_content(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MINE.load(root)
    seen = parsed(monkeypatch)
    settle(root / "own.csv")
    MINE.load(root)
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    MINE.load(copy)
    assert not seen
    (copy / "own.csv").rename(copy / "other.csv")
    TableFiles(**{**MINE.model_dump(), "files": ("other.csv",)}).load(copy)
    assert seen, "names of files are names of devices"


def test_the_hash_is_remembered_once_a_file_stood_for_a_while(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    original = cache._sha256
    monkeypatch.setattr(cache, "_sha256", lambda path, stop: (hashed.append(path), original(path, stop))[1])
    MINE.load(root)
    assert len(hashed) == 1
    MINE.load(root)
    assert len(hashed) == 2, "as young as it is, it may change without a trace"
    monkeypatch.setattr(cache, "SETTLED", 0)
    MINE.load(root)
    assert len(hashed) == 3
    MINE.load(root)
    assert len(hashed) == 3


def test_settings_and_code_are_part_of_the_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = parsed(monkeypatch)
    assert len(MINE.load(root).tables["all"].features) == 2
    other = TableFiles(**{**MINE.model_dump(), "drop": ("state",)})
    assert len(other.load(root).tables["all"].features) == 1
    assert len(seen) == len(cache.entries()) == 2
    monkeypatch.setattr(cache, "_code", lambda: "later")
    MINE.load(root)
    assert len(seen) == 3
    assert len(cache.entries()) == 2, "the old entry is replaced"


def test_what_cannot_be_read_is_not_kept(root: Path, place: Path) -> None:
    (root / "own.csv").write_text(OWN + "1,2\n")
    for _ in range(2):
        with pytest.raises(DataBroken, match=r"own.csv:62: 2 columns where 5 belong"):
            MINE.load(root)
    assert list(place.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = lines.Lines.parsed

    def parsed(self: lines.Lines, work: Callable[[Block], object]) -> object:
        yield from original(self, work)
        self.path.write_text(OWN.replace("7.375", "9.375"))

    with monkeypatch.context() as patch:
        patch.setattr(lines.Lines, "parsed", parsed)
        assert MINE.load(root).tables["all"].numbers[:, 0].max() == 7.375
    assert cache.entries() == []
    assert MINE.load(root).tables["all"].numbers[:, 0].max() == 9.375


# Damage, death, crowds and full disks.


@pytest.mark.parametrize("how", ["flip", "cut", "longer", "empty", "gone", "folder", "unreadable"])
def test_a_damaged_entry_is_read_anew(root: Path, place: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Kdd99(check=False)
    right = content(loader.load(root))
    files = [path.relative_to(place) for path in place.rglob("*") if path.is_file()]
    assert len(files) > 10
    seen = parsed(monkeypatch)
    for name in files:
        seen.clear()
        damage(place / name, how)
        assert content(loader.load(root)) == right, name
        assert seen or (how == "unreadable" and os.geteuid() == 0), name
        assert content(loader.load(root)) == right


def damage(path: Path, how: str) -> None:
    data, times = path.read_bytes(), path.stat()
    match how:
        case "flip":
            at = len(data) - 1 if path.suffix == ".npy" else len(data) // 2
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            os.utime(path, ns=(times.st_mtime_ns, times.st_mtime_ns))
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "longer":
            path.write_bytes(data + b"0")
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
        case "unreadable":
            path.chmod(0)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"check": 1}', "\x00", "[" * 100_000])
def test_nonsense_about_an_entry_is_as_if_there_were_none(root: Path, place: Path, text: str) -> None:
    right = content(MINE.load(root))
    (path,) = place.rglob("about.json")
    path.write_text(text)
    assert cache.entries() == []
    assert content(MINE.load(root)) == right
    assert len(cache.entries()) == 1


def test_a_foreign_folder_in_its_place_stays(root: Path, place: Path) -> None:
    right = content(MINE.load(root))
    (path,) = place.iterdir()
    (path / "mine.txt").write_text("do not touch")
    (path / "about.json").unlink()
    assert content(MINE.load(root)) == right
    assert content(MINE.load(root)) == right
    assert [file.read_text() for file in place.rglob("mine.txt")] == ["do not touch"]
    cache.clear()
    assert [file.read_text() for file in place.rglob("mine.txt")] == ["do not touch"]


def test_what_is_open_stays_readable_when_the_cache_is_cleared(root: Path, place: Path) -> None:
    table = MINE.load(root).tables["all"]
    assert len(cache.clear()) == 1
    assert list(place.iterdir()) == []
    assert table.numbers[:, 0].max() == 7.375
    assert len(table.column("state").texts()) == 60


def test_clear_removes_entries_and_nothing_else(root: Path, place: Path, tmp_path: Path) -> None:
    MINE.load(root)
    Kdd99(check=False).load(root)
    others = {"data/notes.txt": "a", "data/mine/about.json": "{}", "data/n-baiot/0.npy": "b", "elsewhere/x.npy": "c"}
    put(place.parent, others)
    (place / ("link-" + "0" * 32)).symlink_to(tmp_path / "root", target_is_directory=True)
    assert sorted(entry.name for entry in cache.clear()) == ["kdd99", "table"]
    assert {name: (place.parent / name).read_text() for name in others} == others
    assert (root / "own.csv").exists()
    assert cache.entries() == []


RUN = """
import sys, time
from pathlib import Path
import vedette.data.cache as cache
from vedette.data.datasets import lines
from vedette.data.datasets.table import TableFiles
cache.WORTH = 0
loader = TableFiles(files=("own.csv",), node="device", time="when", label="label")
{}
table = loader.load(Path(sys.argv[1])).tables["all"]
print(float(table.numbers[:, 0].sum()), type(table.matrix).__name__)
"""


def start(root: Path, code: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", RUN.format(code), str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once(root: Path, place: Path) -> None:
    runs = [start(root) for _ in range(3)]
    said = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said == {f"{sum(range(60)) / 8} Stored\n"}
    assert len(list(place.iterdir())) == 1


def test_a_writer_that_is_killed_leaves_nothing_that_is_used(root: Path, place: Path) -> None:
    slow = """
original = lines.Lines.parsed
def parsed(self, work):
    yield from original(self, work)
    print("half way", flush=True)
    time.sleep(60)
lines.Lines.parsed = parsed
"""
    run = start(root, slow)
    assert run.stdout is not None
    assert run.stdout.readline() == "half way\n"
    (draft,) = place.iterdir()
    assert (draft / "matrix-1.npy").exists()
    assert cache.entries() == []
    cache.clear()
    assert draft.exists(), "it is in use"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert MINE.load(root).tables["all"].numbers[:, 0].sum() == sum(range(60)) / 8
    assert draft.exists(), "it is young"
    cache.clear()
    assert list(place.iterdir()) == []


def test_what_dead_writers_left_goes_with_the_next_load(root: Path, place: Path) -> None:
    draft = put(place / ".part-dead", {"matrix-1.npy": "half"})
    past = time.time() - 3600
    os.utime(draft, (past, past))
    MINE.load(root)
    assert not draft.exists()
    assert len(cache.entries()) == 1


@pytest.mark.parametrize("room", [0, 100, 200, 700, 1000, 5000])
def test_a_full_disk_is_no_reason_to_stop(root: Path, place: Path, room: int) -> None:
    """As large as a file may be, so large is the disk."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    out, error = start(root, code).communicate()
    assert (out.split()[0], error) == (str(sum(range(60)) / 8), "")
    assert list(place.iterdir()) == [] or room == 5000
    assert len(cache.entries()) == (room == 5000)


def test_a_full_disk_in_the_middle_of_a_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.test_nbaiot import OFFICIAL

    put(tmp_path, OFFICIAL)
    right = content(NBaiot().load(tmp_path))
    cache.clear()
    monkeypatch.setattr(lines, "BLOCK", 700)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        dataset = NBaiot().load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(dataset.tables["all"].matrix, Stored)
    assert content(dataset) == right
    assert cache.entries() == []


def test_a_place_that_cannot_be_written(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VEDETTE_CACHE", str(tmp_path / "file"))
    assert MINE.load(root).tables["all"].numbers[:, 0].max() == 7.375
    assert cache.entries() == cache.clear() == []
    monkeypatch.delenv("VEDETTE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert MINE.load(root).tables["all"].numbers[:, 0].max() == 7.375
