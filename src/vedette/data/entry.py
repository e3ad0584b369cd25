"""A data set as a folder of plain NumPy files and ``about.json``; its matrices are opened where they lie."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vedette.data.dataset import Dataset
from vedette.data.stored import Matrix, Stored
from vedette.data.table import Coded, Feature, Table
from vedette.files import write_atomic
from vedette.message import Array

__all__ = ["ABOUT", "about", "opened", "written", "write_about"]

ABOUT = "about.json"

SAMPLES, PAGE = 4096, 4096
"""A file is recognised by its size, its time and so many pages of so many bytes, evenly spread; by all of them if it has no more."""

BLOCK = 65_536
"""Rows written at once."""


def about(path: Path) -> dict[str, Any]:
    """Return what a folder says of itself.

    Raises
    ------
    OSError, ValueError, KeyError
        There is no such folder, or what it says is damaged.
    """
    said: dict[str, Any] = json.loads((path / ABOUT).read_bytes())
    if said.pop("check") != _check(said):
        raise ValueError("its description is damaged")
    return said


def write_about(path: Path, said: Mapping[str, Any]) -> None:
    """Let a folder say something of itself, besides what `written` returned.

    Raises
    ------
    StorageError
        The disk is full or the place not writable.
    """
    write_atomic(path / ABOUT, json.dumps({**said, "check": _check(said)}), mode=0o600)


def opened(path: Path, said: Mapping[str, Any]) -> Dataset:
    """Return the data set of a folder, as `about` says it.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        A file is absent, or not as it was written.
    """
    for name, mark in said["files"].items():
        if _mark(path / name) != mark:
            raise ValueError(f"'{name}' is damaged")
    tables = {part: _table(path, described) for part, described in said["tables"].items()}
    return Dataset(str(said["dataset"]), tables, bool(said["ordered"]))


def written(path: Path, dataset: Dataset) -> dict[str, Any]:
    """Write a data set into a folder, but for matrices that lie in it already, and return what the folder shall say of itself.

    Raises
    ------
    OSError
        The disk is full or the place not writable.
    """
    files: dict[str, Any] = {}
    tables = {}

    def save(name: str, numbers: Matrix) -> str:
        kept = numbers.path if isinstance(numbers, Stored) else None
        if kept is not None and kept.parent == path:
            name = kept.name
        else:
            _save(path / name, numbers)
        files[name] = _mark(path / name)
        return name

    def array(name: str, column: Array | None) -> str | None:
        return None if column is None else save(name, column)

    def coded(name: str, column: Coded | None) -> dict[str, Any] | None:
        return None if column is None else {"codes": save(name, column.codes), "levels": column.levels}

    for i, (part, table) in enumerate(dataset.tables.items()):
        tables[part] = {
            "rows": len(table),
            "features": [[feature.name, feature.kind, feature.unit] for feature in table.features],
            "numbers": save(f"{i}-numbers.npy", table.matrix),
            "categories": [coded(f"{i}-category-{k}.npy", column) for k, column in enumerate(table.categories)],
            "label": array(f"{i}-label.npy", table.label),
            "kind": coded(f"{i}-kind.npy", table.kind),
            "change": array(f"{i}-change.npy", table.change),
            "group": coded(f"{i}-group.npy", table.group),
            "time": array(f"{i}-time.npy", table.time),
            "place": array(f"{i}-place.npy", table.place),
        }
    for file in path.iterdir():
        if file.name not in files:
            file.unlink()
    return {"dataset": dataset.name, "ordered": dataset.ordered, "tables": tables, "files": files}


def _table(path: Path, said: Mapping[str, Any]) -> Table:
    def array(name: str | None) -> Array | None:
        return None if name is None else np.asarray(np.load(path / name, mmap_mode="r", allow_pickle=False))

    def coded(column: Mapping[str, Any] | None) -> Coded | None:
        codes = array(column["codes"]) if column else None
        return None if column is None or codes is None else Coded(codes, tuple(column["levels"]))

    return Table(
        tuple(Feature(*feature) for feature in said["features"]),
        Stored(path / said["numbers"]),
        tuple(column for each in said["categories"] if (column := coded(each)) is not None),
        label=array(said["label"]),
        kind=coded(said["kind"]),
        change=array(said["change"]),
        group=coded(said["group"]),
        time=array(said["time"]),
        place=array(said["place"]),
    )


def _save(path: Path, numbers: Matrix) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        if not isinstance(numbers, Stored):
            np.save(stream, np.ascontiguousarray(numbers), allow_pickle=False)
            return
        header = {"descr": numbers.dtype.str, "fortran_order": False, "shape": numbers.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(numbers), BLOCK):
            stream.write(numbers.take(slice(start, start + BLOCK)).array().tobytes())


def _mark(path: Path) -> list[int]:
    """Return what tells a file from itself damaged: size, time and a sum over pages of it."""
    with path.open("rb", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        pages = -(-status.st_size // PAGE)
        found = 0
        for page in range(pages) if pages <= SAMPLES else np.linspace(0, pages - 1, SAMPLES).astype(int).tolist():
            found = zlib.crc32(os.pread(stream.fileno(), PAGE, page * PAGE), found)
    return [status.st_size, status.st_mtime_ns, found]


def _check(said: Mapping[str, Any]) -> str:
    # Through JSON and back, so that what was written and what was read look the same.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(said)), sort_keys=True).encode()).hexdigest()
