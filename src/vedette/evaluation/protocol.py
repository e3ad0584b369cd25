"""Protocols: how data are split and which rows set thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vedette.data.dataset import Dataset
from vedette.data.table import Table, concat
from vedette.errors import DataUnusable
from vedette.message import Array
from vedette.seeds import stream
from vedette.settings import Settings

__all__ = ["Parts", "Protocol"]


class Protocol(Settings):
    """One way to split a data set.

    Parameters
    ----------
    split
        How rows are held out of the training table: ``"rows"`` at random, ``"distinct"`` at random but equal rows together (so that none is
        on both sides), ``"time"`` the last rows of each group, ``"groups"`` whole groups at random, from each kind of them (what stands
        before the last ``/`` in their names) as many as its share.
    validation
        Share of the training table held out for validation figures.
    test
        Share held out as test set where the data set's authors did not split it.
    first
        So many first rows of each group are for training, and taken as normal whatever their labels say; all others are the test set, whose
        share `test` then does not matter (SKAB's leaderboard: 400).
    calibration
        Share of the training rows left out of training to set thresholds by; 0: thresholds are set by the training rows themselves.
    leave_out
        What each fold tests on: one ``"group"`` (device, machine, experiment) that no node of the fold has seen, each in turn; or one
        stretch of ``"time"`` of every group, each in turn. "": one split, no folds.
    within
        ``"group"``: each group (device, machine, experiment) is an experiment of its own, a fold; its rows alone are split, and dealt out
        to the nodes. "": all rows are split together.
    blocks
        Stretches of time, for ``leave_out = "time"``. No anomaly is cut in two: a border inside one moves to its end.
    anew
        Whether what the authors split into training and test is put together first and split anew.
    labelled
        Whether the authors' test rows are all there is, split anew: where only these tell anomalies, detectors that learn from labels
        are tried on them alone.
    sample
        So many rows are drawn at random from those that are split here; 0 takes all.
    set
        Recipe keys that differ under this protocol: ``{"detector.threshold.q" = 0.95}``.
    """

    split: Literal["rows", "distinct", "time", "groups"] = "rows"
    validation: float = Field(default=0.0, ge=0, lt=0.9)
    test: float = Field(default=0.3, gt=0, lt=1)
    first: int = Field(default=0, ge=0)
    calibration: float = Field(default=0.0, ge=0, lt=0.9)
    leave_out: Literal["", "group", "time"] = ""
    within: Literal["", "group"] = ""
    blocks: int = Field(default=5, ge=2)
    anew: bool = False
    labelled: bool = False
    sample: int = Field(default=0, ge=0)
    set: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind_of_folds(self) -> Self:
        if self.within and self.leave_out:
            raise ValueError("folds are either groups left out ('leave_out') or groups by themselves ('within'), not both")
        return self

    def folds(self, dataset: Dataset, seed: int) -> dict[str, Callable[[], Parts]]:
        """Return, by the name of each fold, what makes its parts; a single split has the name "".

        Raises
        ------
        DataUnusable
            As `parts`; or there are no groups to leave out, or too few rows for so many blocks.
        """
        if "test" in dataset.tables and (self.anew or self.labelled):
            parts_used = [dataset.tables["test"]] if self.labelled else [dataset.tables["train"], dataset.tables["test"]]
            dataset = Dataset(dataset.name, {"all": concat(parts_used)}, dataset.ordered)
        if self.sample and "all" in dataset.tables and self.sample < len(dataset.tables["all"]):
            drawn = stream(seed, "sample").choice(len(dataset.tables["all"]), self.sample, replace=False)
            dataset = Dataset(dataset.name, {"all": dataset.tables["all"].take(np.sort(drawn))}, dataset.ordered)
        if self.within:
            return {name: partial(self._alone, dataset, name, seed) for name in _names(dataset)}
        if not self.leave_out:
            return {"": lambda: self.parts(dataset, seed)}
        tested = dataset.tables["all" if "all" in dataset.tables else "test"]
        member, names = _groups(dataset.name, tested) if self.leave_out == "group" else _stretches(dataset.name, tested, self.blocks)

        def parts(place: int) -> Parts:
            rest, test = (tested.take(np.flatnonzero(rows)) for rows in (member != place, member == place))
            if "all" not in dataset.tables and self.leave_out == "group":
                train = dataset.tables["train"]
                rest = train.take(np.flatnonzero(_groups(dataset.name, train, names)[0] != place))
            elif "all" not in dataset.tables:
                # Where the authors split, only their test rows tell anomalies: all of their training rows stay in training.
                rest = concat([dataset.tables["train"], rest])
            return self.parts(Dataset(dataset.name, {"train": rest, "test": test}, dataset.ordered), seed)

        return {name: partial(parts, place) for place, name in enumerate(names)}

    def _alone(self, dataset: Dataset, group: str, seed: int) -> Parts:
        """Split the rows of one group."""
        tables = {}
        for name, table in dataset.tables.items():
            assert table.group is not None
            tables[name] = table.take(np.flatnonzero(table.group.places([group]) == 0))
        return self.parts(Dataset(dataset.name, tables, dataset.ordered), seed)

    def in_order(self, dataset: Dataset) -> bool:
        """Tell whether test rows follow each other in time, none left out between them."""
        whole = (
            ("test" in dataset.tables and not self.anew and not self.labelled)
            or bool(self.first)
            or bool(self.leave_out)
            or self.split in ("time", "groups")
        )
        return dataset.ordered and whole and not self.sample

    def parts(self, dataset: Dataset, seed: int) -> Parts:
        """Split a data set.

        Raises
        ------
        DataUnusable
            A part stays empty, or the test rows have no labels.
        """
        tables: Mapping[str, Table] = dataset.tables
        if "test" in tables:
            train, test = tables["train"], tables["test"]
        elif self.first:
            train, test = _beginnings(dataset.name, tables["all"], self.first)
        else:
            train, test = self._held_out(tables["all"], self.test, stream(seed, "split", "test"), "test")
        if test.label is None:
            raise DataUnusable(f"the test rows of '{dataset.name}' have no labels: there is nothing to report on")
        train, validation = self._held_out(train, self.validation, stream(seed, "split", "validation"), "validation")
        train, calibration = self._held_out(train, self.calibration, stream(seed, "split", "calibration"), "calibration")
        if not len(train.normal()):
            raise DataUnusable(f"'{dataset.name}' has no normal training rows left after the split")
        return Parts(train, calibration if len(calibration) else train, validation, test)

    def _held_out(self, table: Table, share: float, rng: np.random.Generator, what: str) -> tuple[Table, Table]:
        if not share:
            return table, table.take(slice(0, 0))
        out = _HELD_OUT[self.split](table, share, rng)
        if not out.any() or out.all():
            raise DataUnusable(
                f"{len(table)} rows cannot be split so that a share of {share:g} is held out as {what} rows ('{self.split}')"
            )
        return table.take(np.flatnonzero(~out)), table.take(np.flatnonzero(out))


@dataclass(frozen=True)
class Parts:
    """A split data set.

    Parameters
    ----------
    train
        All training rows, anomalous ones included.
    calibration
        Rows that set thresholds (`train` itself if none were left out).
    validation
        Held-out rows of the training table; may be empty.
    test
        Rows that only the report sees the labels of.
    """

    train: Table
    calibration: Table
    validation: Table
    test: Table


def _beginnings(name: str, table: Table, rows: int) -> tuple[Table, Table]:
    """Take the first rows of each group, as normal ones, from the others."""
    codes = np.zeros(len(table), dtype=np.int64) if table.group is None else table.group.codes
    first = np.zeros(len(table), dtype=bool)
    for code in np.unique(codes):
        first[np.flatnonzero(codes == code)[:rows]] = True
    if first.all():
        raise DataUnusable(f"no group of '{name}' has more than {rows} rows: there is nothing to test on")
    begun = table.take(np.flatnonzero(first))
    return replace(begun, label=np.zeros(len(begun), dtype=np.int8), kind=None, change=None), table.take(np.flatnonzero(~first))


def _random_rows(table: Table, share: float, rng: np.random.Generator) -> Array:
    out = np.zeros(len(table), dtype=bool)
    out[rng.permutation(len(table))[: round(share * len(table))]] = True
    return out


def _random_distinct(table: Table, share: float, rng: np.random.Generator) -> Array:
    """Hold out whole sets of equal rows."""
    _, member = np.unique(_fingerprints(table, rng), return_inverse=True)
    return np.asarray(rng.random(len(table))[member] < share)


def _fingerprints(table: Table, rng: np.random.Generator) -> Array:
    """Return [rows] uint64, equal for equal rows and (but for one chance in 2**64 a pair) different for others."""
    odd = [rng.integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1) for _ in table.features]
    return np.concatenate([_marks(chunk, odd) for chunk in table.chunks()]) if len(table) else np.zeros(0, dtype=np.uint64)


def _marks(table: Table, odd: Sequence[np.uint64]) -> Array:
    columns = [*table.numbers.T, *(column.codes for column in table.categories)]
    marks = np.zeros(len(table), dtype=np.uint64)
    for column, factor in zip(columns, odd, strict=True):
        # Adding zero turns -0.0 into 0.0, which is equal to it but has other bits.
        bits = (np.asarray(column, dtype=np.float64) + 0.0).view(np.uint64)
        # Multiplying twice by odd numbers with a shift between spreads each bit over the word.
        mixed = (bits ^ (bits >> np.uint64(29))) * factor
        marks = (marks ^ (mixed ^ (mixed >> np.uint64(32)))) * np.uint64(0x9E3779B97F4A7C15)
    return marks


def _last_in_time(table: Table, share: float, rng: np.random.Generator) -> Array:
    """Hold out the last rows of each group."""
    codes = np.zeros(len(table), dtype=np.int64) if table.group is None else table.group.codes
    out = np.zeros(len(table), dtype=bool)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        out[rows[len(rows) - round(share * len(rows)) :]] = True
    return out


def _whole_groups(table: Table, share: float, rng: np.random.Generator) -> Array:
    """Hold out whole groups, of each kind of them at least one if there are two."""
    if table.group is None:
        raise DataUnusable("the rows know no devices or groups: no whole ones can be held out (split = 'groups')")
    kinds: dict[str, list[int]] = {}
    for code in np.unique(table.group.codes).tolist():
        kinds.setdefault(table.group.levels[code].rpartition("/")[0], []).append(code)
    out: list[int] = []
    for codes in kinds.values():
        held = min(max(round(share * len(codes)), 1), len(codes) - 1)
        out += rng.permutation(codes)[:held].tolist()
    return np.isin(table.group.codes, out)


def _names(dataset: Dataset) -> list[str]:
    """Return the names of all groups."""
    found: dict[str, None] = {}
    for table in dataset.tables.values():
        if table.group is None:
            raise DataUnusable(f"the rows of '{dataset.name}' know no devices or groups: none can be looked at by itself")
        found |= dict.fromkeys(table.group.levels[code] for code in np.unique(table.group.codes))
    return sorted(found)


def _groups(name: str, table: Table, known: Sequence[str] = ()) -> tuple[Array, list[str]]:
    """Return [rows] int, the place of each row's group among the known ones (those there), and their names."""
    if table.group is None:
        raise DataUnusable(f"the rows of '{name}' know no devices or groups: there is none to leave out")
    names = list(known) or [table.group.levels[code] for code in np.unique(table.group.codes)]
    if len(names) < 2:
        raise DataUnusable(f"'{name}' has one group alone: leaving it out leaves nothing to learn from")
    return table.group.places(names), names


def _stretches(name: str, table: Table, blocks: int) -> tuple[Array, list[str]]:
    """Return [rows] int, which stretch of its group's time each row belongs to, and names for them."""
    codes = np.zeros(len(table), dtype=np.int64) if table.group is None else table.group.codes
    member = np.empty(len(table), dtype=np.int64)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        borders = np.rint(np.linspace(0, len(rows), blocks + 1)).astype(np.int64)[1:-1]
        if table.label is not None:
            ends = np.flatnonzero(table.label[rows] == 0)
            for place, border in enumerate(borders):
                if table.label[rows[border - 1]] and table.label[rows[border]]:
                    # The anomaly ends where the next normal row stands.
                    after = np.searchsorted(ends, border)
                    borders[place] = ends[after] if after < len(ends) else len(rows)
        if not (np.diff(borders, prepend=0, append=len(rows)) > 0).all():
            raise DataUnusable(f"'{name}' has too few rows, or too long an anomaly, for {blocks} stretches of time; take fewer (blocks)")
        member[rows] = np.searchsorted(borders, np.arange(len(rows)), side="right")
    return member, [f"stretch {place + 1} of {blocks}" for place in range(blocks)]


_HELD_OUT = {"rows": _random_rows, "distinct": _random_distinct, "time": _last_in_time, "groups": _whole_groups}
