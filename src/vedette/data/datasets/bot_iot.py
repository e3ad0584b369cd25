"""BoT-IoT: flows of a smart home test bed under botnet attack, the official selection of ten features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import field_validator

from vedette.data.dataset import Dataset
from vedette.data.datasets.lines import find_header
from vedette.data.datasets.official import Column, Content, read
from vedette.data.loading import FileLoader
from vedette.data.stored import NewMatrix
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataBroken
from vedette.message import Array
from vedette.registry import suggestion

__all__ = ["ANY", "CATEGORY", "BotIot", "Flows"]

ANY = r"[ -~]{0,64}"
CATEGORY = r" ?(Normal|DoS|DDoS|Reconnaissance|Theft) ?"
TEN = ("seq", "stddev", "N_IN_Conn_P_SrcIP", "min", "state_number", "mean", "N_IN_Conn_P_DstIP", "drate", "srate", "max")
STEM = "UNSW_2018_IoT_Botnet_Final_10"


class Flows(FileLoader):
    """Base of labelled network flows, some of whose columns would give the attacker away.

    Parameters
    ----------
    keep
        Columns to learn from although they are left out by default.
    check
        Demand the published number of rows and attacks; False accepts a sample.

    Attributes
    ----------
    columns
        Every column, as features, label and kind are read from them.
    left_out
        Those that are no features unless `keep` names them.
    label
        The column of 0 and 1.
    kinds
        The columns that together name the kind of attack; the first says "normal" of exactly the rows whose label is 0.
    units
        Physical units by column.
    """

    columns: ClassVar[tuple[Column, ...]]
    left_out: ClassVar[frozenset[str]]
    label: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()
    units: ClassVar[dict[str, str]] = {}

    keep: tuple[str, ...] = ()
    check: bool = True

    @field_validator("keep")
    @classmethod
    def _left_out_by_default(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in cls.left_out:
                raise ValueError(f"'{name}' is no column that is left out by default; {suggestion(name, cls.left_out)}")
        return value

    def _flows(self, path: Path, matrix: NewMatrix) -> Table:
        """Read one file."""
        dropped = self.left_out - set(self.keep)
        columns = [Column(column.name, "skip") if column.name in dropped else column for column in self.columns]
        found = find_header(path, columns[0].name or columns[1].name)
        content = read(path, columns, with_header=found, matrix=matrix)
        label = content.flags[self.label]
        kind = _joined([content.texts[name] for name in self.kinds]) if self.kinds else None
        if kind is not None:
            self._check_agreement(path, found.line + 1, content, label)
        learnt = [column for column in columns if column.kind in ("number", "text") and column.name not in self.kinds]
        features = [Feature(c.name, "category" if c.kind == "text" else "number", self.units.get(c.name, "")) for c in learnt]
        categories = tuple(content.texts[feature.name] for feature in features if feature.kind == "category")
        return Table(tuple(features), content.numbers, categories, label=label, kind=kind)

    def _check_agreement(self, path: Path, first: int, content: Content, label: Array) -> None:
        kind = content.texts[self.kinds[0]]
        normal = np.array([level.strip().lower() == "normal" for level in kind.levels])[kind.codes]
        wrong = normal == label.astype(bool)
        if wrong.any():
            row = int(wrong.argmax())
            said = f"column '{self.label}' says {label[row]} where '{self.kinds[0]}' says '{kind.levels[kind.codes[row]]}'"
            raise DataBroken(f"{path}:{first + row}: {said}; the file was changed, get the official one")

    def _check_published(self, where: Path | str, tables: Sequence[Table], rows: int, attacks: int) -> None:
        found = sum(len(table) for table in tables)
        attacked = sum(int(table.label.sum()) for table in tables if table.label is not None)
        if self.check and (found, attacked) != (rows, attacks):
            raise DataBroken(
                f"{where}: {found:,} rows, {attacked:,} of them attacks, where {rows:,} and {attacks:,} were published; "
                "get the whole data set, or set check = false if it is meant to be a sample"
            )


def _joined(columns: Sequence[Coded]) -> Coded:
    """Join texts of a row by "-", the spaces around them left out: DDoS and HTTP become DDoS-HTTP."""
    codes, texts = columns[0].codes.astype(np.int64), [level.strip() for level in columns[0].levels]
    for column in columns[1:]:
        codes = codes * len(column.levels) + column.codes
        texts = [f"{text}-{level.strip()}" for text in texts for level in column.levels]
    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    known = Coded.of([texts[code] for code in used])
    places = np.zeros(len(texts), dtype=np.int32)
    places[used] = known.codes
    return Coded(places[codes], known.levels)


class BotIot(Flows):
    """BoT-IoT, 5 % set with the ten best features: ``train`` and ``test``, or ``all`` from the single file.

    Only the ten features that the authors chose are learnt from. ``pkSeqID`` counts the flows in the order of the attacks;
    ``saddr``, ``daddr``, ``sport`` and ``dport`` name the attacker and the victim, four machines each and always the same:
    with them a rule of one line is perfect here and useless anywhere else. ``proto`` is none of the ten.
    ``seq`` is, although it counts the records of a capture and so says roughly when.

    Parameters
    ----------
    split
        True reads the training and the testing file, False the single file; None the two where both are there, else the single one.
    keep
        Columns to learn from although they are left out by default: pkSeqID, proto, saddr, sport, daddr, dport.
    check
        Demand the published number of rows and attacks (of both files together); False accepts a sample.
    """

    title: ClassVar[str] = "BoT-IoT network flows, 5 % set, ten best features"
    licence: ClassVar[str] = "free for academic research, commercial use only with the authors' agreement"
    source: ClassVar[str] = "Koroniotis, Moustafa, Sitnikova, Turnbull, Future Generation Computer Systems 100:779-796, 2019"
    how: ClassVar[str] = (
        "given out by UNSW Canberra (research.unsw.edu.au/projects/bot-iot-dataset), folder '10-best features': "
        f"bot-iot/{STEM}_best_Training.csv and bot-iot/{STEM}_best_Testing.csv, or the single file bot-iot/{STEM}_Best.csv"
    )
    folder: ClassVar[str] = "bot-iot"
    official_files: ClassVar[tuple[str, ...]] = (f"{STEM}_best_Training.csv", f"{STEM}_best_Testing.csv")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("pkSeqID"),
        *(Column(name, "text", ANY) for name in ("proto", "saddr", "sport", "daddr", "dport")),
        *(Column(name) for name in TEN),
        Column("attack", "flag"),
        Column("category", "text", CATEGORY),
        Column("subcategory", "text", r"[A-Za-z_ ]{1,32}"),
    )
    left_out: ClassVar[frozenset[str]] = frozenset({"pkSeqID", "proto", "saddr", "sport", "daddr", "dport"})
    label: ClassVar[str] = "attack"
    kinds: ClassVar[tuple[str, ...]] = ("category", "subcategory")

    split: bool | None = None

    def sources(self, root: Path | None) -> dict[str, Path]:
        """Find the two files, or the single one; see `FileLoader.sources`."""
        single = self._spelt(root, f"{STEM}_Best.csv")
        pair = [self._spelt(root, name) for name in self.official_files]
        if self.split is False or (self.split is None and single is not None and None in pair):
            return {"all": single or self.find(root, f"{STEM}_Best.csv")}
        found = [path or self.find(root, name) for path, name in zip(pair, self.official_files, strict=True)]
        return dict(zip(("train", "test"), found, strict=True))

    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read ``train`` and ``test``, or ``all``; see `FileLoader.read`."""
        tables = {part: self._flows(path, matrix) for part, path in sources.items()}
        self._check_published(" and ".join(str(path) for path in sources.values()), list(tables.values()), 3_668_522, 3_668_522 - 477)
        return Dataset("bot-iot", tables)

    @classmethod
    def _spelt(cls, root: Path | None, name: str) -> Path | None:
        """Return where a file lies; copies call it 10_best or 10-best, best or Best."""
        names = (name.replace("10_", joint).replace("best", best) for joint in ("10_", "10-") for best in ("best", "Best"))
        return next((path for path in (cls.place_of(root, each) for each in names) if path is not None), None)
