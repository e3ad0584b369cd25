"""Simulated fleets as Parquet files, with recipes that read them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from vedette.data.datasets.columns import need_polars
from vedette.data.simulate.device import DEVICES
from vedette.data.simulate.fleet import Simulated
from vedette.data.simulate.recording import Part
from vedette.data.table import Table
from vedette.errors import StorageError
from vedette.files import write_atomic

if TYPE_CHECKING:
    import polars as pl

__all__ = ["write_fleet"]

ROWS = 1_000_000
"""Of a file; the last of a part has fewer."""

OnNode = Callable[[str], None]


def write_fleet(fleet: Simulated, out: Path, seed: int = 0, on_node: OnNode = lambda _: None) -> list[Path]:
    """Write a fleet to ``train/TYPE-00001.parquet`` …, ``test/…`` and a recipe for each type; one file's rows are in memory at a time.

    What was begun with the same settings is gone on with: files that are there stay. Columns are ``node``, ``time`` (s), the features,
    ``kind`` (``"normal"``, or the fault); a missing reading is null.

    Parameters
    ----------
    fleet
        What to simulate.
    out
        The folder.
    seed
        Root of the seed tree.
    on_node
        Called with the name of each node when one of its parts is done.

    Returns
    -------
    list of Path
        The recipes.

    Raises
    ------
    StorageError
        The folder holds something else, or cannot be written.
    MissingExtra
        Polars is not installed.
    """
    need_polars()
    about = json.dumps({"schema": "vedette.simulated/1", "seed": seed, **fleet.model_dump(mode="json")}, indent=1)
    _claim(out, about)
    by_type: dict[str, list[str]] = {}
    for node in fleet.node_names():
        by_type.setdefault(node.rpartition("-")[0], []).append(node)
    parts: tuple[Part, ...] = get_args(Part)
    for part in parts:
        for kind, nodes in by_type.items():
            for number, frame in enumerate(_files(fleet, nodes, part, seed, out / part / kind, on_node), start=1):
                if frame is not None:
                    content = io.BytesIO()
                    frame.write_parquet(content)
                    write_atomic(_file(out / part / kind, number), content.getvalue())
    recipes = []
    for kind in by_type:
        recipes.append(out / f"{kind}.toml")
        write_atomic(recipes[-1], _recipe(kind))
    return recipes


def _claim(out: Path, about: str) -> None:
    """Make the folder this fleet's own."""
    mark = out / "fleet.json"
    try:
        same = mark.is_file() and mark.read_text(encoding="utf-8") == about
        taken = not same and out.exists() and any(out.iterdir())
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot look into {out}: {getattr(error, 'strerror', None) or error}") from None
    if taken:
        raise StorageError(f"{out} holds something else already; choose another folder with --out")
    write_atomic(mark, about)


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-{number:05d}.parquet")


def _files(fleet: Simulated, nodes: list[str], part: Part, seed: int, path: Path, on_node: OnNode) -> Iterator[pl.DataFrame | None]:
    """Yield what each file holds, whole nodes and more than `ROWS` rows only if one node has them; None for a file that is there."""
    import polars as pl

    per = max(1, ROWS // fleet.plan(part).rows)
    for number, first in enumerate(range(0, len(nodes), per), start=1):
        there = _file(path, number).exists()
        frames = []
        for node in nodes[first : first + per]:
            if not there:
                frames.append(_frame(fleet.node_table(node, part, seed)))
            on_node(node)
        yield None if there else pl.concat(frames)


def _frame(table: Table) -> pl.DataFrame:
    import polars as pl

    assert table.group is not None
    assert table.time is not None
    assert table.kind is not None
    numbers = {feature.name: np.ascontiguousarray(table.numbers[:, place]) for place, feature in enumerate(table.features)}
    return pl.DataFrame(
        {
            "node": pl.Series(table.group.texts(), dtype=pl.String),
            "time": table.time,
            **{name: pl.Series(values).fill_nan(None) for name, values in numbers.items()},
            "kind": pl.Series(table.kind.texts(), dtype=pl.String),
        }
    )


def _recipe(kind: str) -> str:
    units = ", ".join(f"{feature.name} = {json.dumps(feature.unit, ensure_ascii=False)}" for feature in DEVICES[kind].features)
    return f"""title = "Simulated fleet: {kind}s"
description = "vedette run {kind}.toml --data FOLDER, where FOLDER is the one this file lies in."
seeds = 3
protocol = "strict"

[data]
name = "table"
files = ["train/{kind}-*.parquet"]
test_files = ["test/{kind}-*.parquet"]
node = "node"
time = "time"
label = "kind"
normal = "normal"
units = {{ {units} }}

[partition]
name = "natural"

[detector]
name = "autoencoder"
hidden = [16, 4]
residual = "variance"
optimiser = {{ name = "adam", rate = 0.005, batch = 128 }}
scaling = {{ numbers = "standard", fit = "federated", missing = "mask" }}
threshold = {{ name = "quantile", q = 0.98, fit = "federated" }}

[strategy]
name = "fedavg"
rounds = 10
epochs = 2
momentum = 0.5

[protocols.strict]
split = "time"
calibration = 0.15

[quick]
"strategy.rounds" = 3
"""
