"""What is known of official files: it fits the loaders, and files are held against it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from vedette.data.datasets import LOADERS
from vedette.data.loading import FileLoader
from vedette.data.published import Published, fault_of, published, steps_of
from vedette.errors import StorageError

FILES = [name for name in LOADERS if LOADERS[name].folder and issubclass(LOADERS[name], FileLoader)]


@pytest.mark.parametrize("name", FILES)
def test_each_data_set_can_be_fetched_or_says_what_a_person_must_do(name: str) -> None:
    known, steps = published(name), steps_of(name, Path("/data") / LOADERS[name].folder)
    assert all(file.url for file in known.values()) == (not steps) or not known
    assert known or steps
    assert set(known) <= set(LOADERS[name].official_files)
    assert all(file.sha256 is None or (len(file.sha256) == 64 and file.size) for file in known.values())
    assert all("{" not in step for step in steps)
    if steps:
        assert any(f"/data/{LOADERS[name].folder}" in step for step in steps)


def test_what_is_sent_may_be_called_otherwise_and_be_packed() -> None:
    kdd = published("kdd99")["kddcup.data_10_percent"]
    assert kdd.path == "kddcup.data_10_percent.gz"
    assert kdd.url is not None
    assert kdd.url.endswith("/kddcup.data_10_percent.gz")
    assert kdd.served != kdd.sha256
    assert published("kdd99")["corrected"].served is None
    train = published("nsl-kdd")["KDDTrain+.txt"]
    assert train.url is not None
    assert train.url.endswith("/KDDTrain%2B.txt")
    assert train.served == train.sha256
    assert published("table") == {}


def test_a_file_is_held_against_what_was_published(tmp_path: Path) -> None:
    text = b"a,b\n1,2\n" * 1000
    known = Published("x.csv", None, len(text), hashlib.sha256(text).hexdigest(), None)
    (tmp_path / "x.csv").write_bytes(text)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text))
    for name in ("x.csv", "x.csv.gz"):
        assert fault_of(tmp_path / name, known) is None
    (tmp_path / "x.csv").write_bytes(text[:-1])
    assert fault_of(tmp_path / "x.csv", known) == "7,999 bytes of text where 8,000 were published"
    (tmp_path / "x.csv").write_bytes(text.replace(b"1", b"7", 1))
    assert "SHA-256" in str(fault_of(tmp_path / "x.csv", known))
    for damaged in (gzip.compress(text)[:-5], b"no gzip at all", gzip.compress(text)[:20] + b"\xff" * 30):
        (tmp_path / "x.csv.gz").write_bytes(damaged)
        assert "gzip" in str(fault_of(tmp_path / "x.csv.gz", known))
    (tmp_path / "x.csv").write_bytes(b"anything")
    assert fault_of(tmp_path / "x.csv", Published("x.csv", None, None, None, None)) is None
    with pytest.raises(StorageError):
        fault_of(tmp_path / "none.csv", known)
