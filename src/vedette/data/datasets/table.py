"""A person's own tables: CSV (any separator, with a header) and Parquet files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from vedette.data.dataset import Dataset
from vedette.data.datasets.columns import need_polars
from vedette.data.datasets.gathered import Gathered
from vedette.data.datasets.lines import header
from vedette.data.datasets.pieces import Piece, columns, parquet, texts
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataBroken, DataMissing, RecipeError, UnknownName
from vedette.message import Array
from vedette.registry import suggestion

__all__ = ["TableFiles"]

LONGEST_NAME = 200
PARQUET = (".parquet", ".pq")


class TableFiles(FileLoader):
    """Your own CSV or Parquet files.

    Parameters
    ----------
    files
        Glob patterns, relative to the data root, or absolute. Names ending in ``.parquet`` or ``.pq`` are read as
        Parquet, all others as text with a header; ``.gz`` may follow.
    test_files
        More of them: if given, the data set has the tables ``train`` and ``test`` (a file named by both belongs to ``test``), else ``all``.
    separator
        One character.
    node
        The column that names the device of a row; ``"file"`` makes each file one device.
    time
        The column that says when: ISO 8601 text (UTC where it gives no offset) or a number of seconds. Rows are put in its order.
    label
        The column that says whether a row is an anomaly.
    normal
        What it says if not; compared as a number where both are numbers. Everything else becomes the kind of the anomaly.
    features
        The columns to learn from; default: all that are not node, time or label.
    drop
        Columns to leave out.
    categories
        Columns whose numbers are names of something: ports, error codes.
    units
        Physical units by column.
    ordered
        Whether the rows of a device follow each other in time; default: whether there is a `time`.
    """

    title: ClassVar[str] = "your own CSV or Parquet files"
    licence: ClassVar[str] = "your own"
    source: ClassVar[str] = "you"
    how: ClassVar[str] = "name them: files = ['plant/*.csv'], relative to the data root or absolute"

    files: tuple[str, ...] = Field(min_length=1)
    test_files: tuple[str, ...] = ()
    separator: str = ","
    node: str | None = None
    time: str | None = None
    label: str | None = None
    normal: str = "0"
    features: tuple[str, ...] | None = Field(default=None, min_length=1)
    drop: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    units: Mapping[str, str] = {}
    ordered: bool | None = None

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) != 1 or not value.isascii() or value in '"\r\n' or value.isalnum():
            raise ValueError("needs one ASCII character that is no letter, digit, quote or line end")
        return value

    @model_validator(mode="after")
    def _columns_apart(self) -> TableFiles:
        named = [name for name in (self.node, self.time, self.label) if name is not None]
        twice = next((name for name in named if named.count(name) > 1 or name in (self.features or ())), None)
        if twice is not None:
            raise ValueError(f"column '{twice}' cannot be two things at once (node, time, label, feature)")
        return self

    @property
    def _node_column(self) -> str | None:
        return None if self.node == "file" else self.node

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the files, by the part they belong to and their name as a device; see `FileLoader.sources`."""
        test = self._matched(root, self.test_files)
        held_out = {path.resolve() for path in test}
        train = [path for path in self._matched(root, self.files) if path.resolve() not in held_out]
        if not train:
            raise DataMissing("every file of 'files' is one of 'test_files' too; nothing is left to learn from")
        paths = [*train, *test]
        parts = ["train" if test else "all"] * len(train) + ["test"] * len(test)
        return {f"{part}:{group}": path for part, group, path in zip(parts, _groups(paths), paths, strict=True)}

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read the tables; see `FileLoader.read`.

        Raises
        ------
        UnknownName
            A column of these settings that the files do not have.
        """
        need_polars()
        first = next(iter(sources.values()))
        names = self._columns(first)
        features = self._features(first, names)
        kinds: dict[str, str] = {}
        parts: dict[str, _Part] = {}
        for key, path in sources.items():
            part, _, group = key.partition(":")
            parts.setdefault(part, _Part(self, Gathered(features, self.categories, kinds, matrix))).read(path, group, names)
        described = tuple(Feature(n, "category" if kinds.get(n) == "category" else "number", self.units.get(n, "")) for n in features)
        self._check_normal(first, list(parts.values()))
        tables = {part: read.table(described) for part, read in parts.items()}
        return Dataset("table", tables, ordered=self.time is not None if self.ordered is None else self.ordered)

    def _matched(self, root: Path | None, patterns: Sequence[str]) -> list[Path]:
        """Return the files of some patterns, each once, in order."""
        base = Path() if root is None else root
        found: dict[Path, Path] = {}
        for pattern in patterns:
            exact = base / pattern
            matches = [exact] if exact.is_file() else _matches(base, pattern)
            matches = [path for path in matches if path.is_file()]
            if not matches:
                raise DataMissing(f"no file matches '{exact}'; correct the pattern or the data root")
            for path in matches:
                found.setdefault(path.resolve(), path)
        return list(found.values())

    def _columns(self, path: Path) -> tuple[str, ...]:
        names = columns(path) if path.suffix in PARQUET else header(path, self.separator)
        for i, name in enumerate(names, start=1):
            if not name.strip():
                raise DataBroken(f"{path}:1: column {i} has no name; name it in the header (and in 'drop' if it only counts the rows)")
            if not name.isprintable() or len(name) > LONGEST_NAME:
                raise DataBroken(f"{path}:1: {name[:40]!r} is no name for column {i}; at most {LONGEST_NAME} printable characters")
            if names.index(name) != i - 1:
                raise DataBroken(f"{path}:1: two columns are called '{name}'; rename one")
        if all(_is_number(name) for name in names):
            raise DataBroken(f"{path}:1: the first line holds numbers; a line of column names belongs there")
        return names

    def _features(self, path: Path, names: Sequence[str]) -> tuple[str, ...]:
        used: dict[str, Iterable[str | None]] = {"node": [self._node_column], "time": [self.time], "label": [self.label]}
        used |= {"features": self.features or (), "drop": self.drop, "categories": self.categories, "units": self.units}
        if len(names) == 1 and path.suffix not in PARQUET and any(used.values()):
            other = max(";\t|", key=names[0].count)
            if other in names[0]:
                raise DataBroken(f"{path}:1: '{names[0][:80]}' is one column by '{self.separator}'; set separator = {json.dumps(other)}")
        for setting, wanted in used.items():
            for column in wanted:
                if column is not None and column not in names:
                    raise UnknownName(f"{path}: no column '{column}' (named in '{setting}'); {suggestion(column, names)}")
        chosen = self.features or [name for name in names if name not in (self.node, self.time, self.label)]
        features = tuple(name for name in dict.fromkeys(chosen) if name not in self.drop)
        if not features:
            raise DataBroken(f"{path}: no column is left to learn from; it has {', '.join(names)}")
        return features

    def _check_normal(self, path: Path, parts: Sequence[_Part]) -> None:
        levels = sorted({level for part in parts for piece in part.kinds for level in piece.levels})
        if self.label is not None and not any(_same(level, self.normal) for level in levels):
            known = ", ".join(f"'{level:.40}'" for level in levels[:8])
            raise DataBroken(f"{path}: column '{self.label}' never says '{self.normal}' but {known}; set 'normal' to what means normal")


class _Part:
    """The files of one table, read one after the other.

    Parameters
    ----------
    settings
        Which column is what.
    gathered
        Takes what is learnt from.
    """

    def __init__(self, settings: TableFiles, gathered: Gathered) -> None:
        self.settings, self.gathered = settings, gathered
        self.kinds: list[Coded] = []
        self.groups: list[Coded] = []
        self.times: list[Array] = []

    def read(self, path: Path, group: str, known: Sequence[str]) -> None:
        """Read a file, given its name as a device and the columns of the first file."""
        for piece in self._pieces(path, known):
            self.gathered.add(piece)
            if self.settings.label is not None:
                self.kinds.append(piece.names(self.settings.label, "no label"))
            if self.settings.node == "file":
                self.groups.append(Coded(np.zeros(piece.frame.height, dtype=np.int32), (group,)))
            elif self.settings.node is not None:
                self.groups.append(piece.names(self.settings.node, "no device"))
            if self.settings.time is not None:
                self.times.append(piece.moments(self.settings.time, self.gathered.kinds))

    def _pieces(self, path: Path, known: Sequence[str]) -> Iterator[Piece]:
        names = self.settings._columns(path)
        for name in known:
            if name not in names:
                raise DataBroken(f"{path}: no column '{name}', which the other files have; {suggestion(name, names)}")
        for name in names:
            if name not in known:
                raise DataBroken(f"{path}: column '{name}', which the other files do not have; {suggestion(name, known)}")
        if path.suffix not in PARQUET:
            return texts(path, self.settings.separator, names, self.gathered.kinds)
        wanted = {*self.gathered.features, self.settings._node_column, self.settings.time, self.settings.label}
        return parquet(path, [name for name in names if name in wanted])

    def table(self, features: tuple[Feature, ...]) -> Table:
        """Return the rows of all files, those of a device together, in the order of time; rows of the same time stay as they were."""
        settings = self.settings
        numbers, categories = self.gathered.columns(features)
        kind = Coded.concat(self.kinds) if settings.label is not None else None
        label = None
        if kind is not None:
            label = np.array([not _same(level, settings.normal) for level in kind.levels], dtype=np.int8)[kind.codes]
        group = Coded.concat(self.groups) if settings.node is not None else None
        time = np.concatenate(self.times) if settings.time is not None else None
        table = Table(features, numbers, categories, label=label, kind=kind, group=group, time=time)
        keys = [key for key in (time, None if group is None else group.codes) if key is not None]
        order = np.lexsort(keys) if keys else np.arange(len(table))
        if (np.diff(order) == 1).all():
            return table
        # In this order they were recorded, whatever the order of the file.
        taken = table.take(order)
        return replace(taken, numbers=taken.matrix, place=None)


def _groups(paths: Sequence[Path]) -> list[str]:
    """Name files as devices: the shortest path that tells them apart, without suffix where that stays clear."""
    base = os.path.commonpath([path.absolute().parent for path in paths])
    full = [path.absolute().relative_to(base) for path in paths]
    short = [path.with_name(path.name.removesuffix(".gz")).with_suffix("").as_posix() for path in full]
    return short if len(set(short)) == len(short) else [path.as_posix() for path in full]


def _matches(base: Path, pattern: str) -> list[Path]:
    anchor = Path(pattern).anchor
    try:
        return sorted(Path(anchor).glob(pattern.removeprefix(anchor)) if anchor else base.glob(pattern))
    except ValueError as error:
        raise RecipeError(f"'{pattern}' is no pattern of file names ({error})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _same(text: str, other: str) -> bool:
    return text == other or (_is_number(text) and _is_number(other) and float(text) == float(other))
