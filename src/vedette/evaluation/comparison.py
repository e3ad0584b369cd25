"""Runs side by side: the same figures of several runs, and their differences pair by pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from vedette.errors import DataUnusable, RecipeError

__all__ = ["FIGURES", "Compared", "compared", "read_run"]

FIGURES = {"f1": "F1", "fpr": "false alarms", "auc_roc": "ROC-AUC", "auc_pr": "PR-AUC", "vus_pr": "VUS-PR"}


class Compared(NamedTuple):
    """One figure of one method in one run, beside that of the first run.

    Attributes
    ----------
    protocol, method, figure, run
        Of what.
    mean
        Over the seeds, of all nodes together.
    difference, spread
        This run less the first: mean and standard deviation over pairs of the same seed and node; None for the first run, or without pairs.
    pairs
        How many.
    values, gaps
        What the means are of: seed by seed, and pair by pair.
    """

    protocol: str
    method: str
    figure: str
    run: str
    mean: float | None
    difference: float | None
    spread: float | None
    pairs: int
    values: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()


def read_run(place: str) -> dict[str, Any]:
    """Read a run's metrics: a folder with ``metrics.json``, the file itself, or the name of a recipe that was run into ``runs/``.

    Raises
    ------
    RecipeError
        There is no such run, or the file is none of ours.
    """
    path = Path(place)
    for file in (path / "metrics.json", path, Path("runs") / place / "metrics.json"):
        if file.is_file():
            try:
                run = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise RecipeError(f"cannot read {file}: {error}") from None
            if not isinstance(run, dict) or run.get("schema") != "vedette.run/1" or not isinstance(run.get("rows"), list):
                raise RecipeError(f"{file} holds no figures of a run ('vedette.run/1')")
            return run
    raise RecipeError(f"no run at '{place}': give the folder of a finished run, or run it first: vedette run {place}")


def compared(runs: Mapping[str, Mapping[str, Any]]) -> list[Compared]:
    """Set runs side by side, by protocols and methods that the first has in common with another.

    Parameters
    ----------
    runs
        Contents of metrics.json, by the name to show; the first is what the others are compared with.

    Raises
    ------
    DataUnusable
        Fewer than two, on different data, or nothing in common.
    """
    if len(runs) < 2:
        raise DataUnusable("a comparison needs at least two runs")
    first, *others = runs
    names = {run["data"]["name"] for run in runs.values()}
    if len(names) > 1:
        raise DataUnusable(f"these runs are on different data ({', '.join(sorted(names))}): their figures do not compare")
    found = []
    for key in dict.fromkeys((row["protocol"], row["method"]) for row in _tested(runs[first])):
        rows = {name: [row for row in _tested(run) if (row["protocol"], row["method"]) == key] for name, run in runs.items()}
        if not any(rows[name] for name in others):
            continue
        for figure in FIGURES:
            if not any(row.get(figure) is not None for held in rows.values() for row in held):
                continue
            found += [_compared(key, figure, name, rows[name], rows[first] if name != first else None) for name in runs if rows[name]]
    if not found:
        raise DataUnusable("these runs have no protocol and method in common")
    return found


def _compared(
    key: tuple[str, str], figure: str, name: str, rows: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]] | None
) -> Compared:
    whole = [row[figure] for row in rows if row["node"] == "*" and row.get(figure) is not None]
    mean = fmean(whole) if whole else None
    if base is None:
        return Compared(*key, figure, name, mean, None, None, 0, tuple(whole))
    mine, theirs = _pairs(rows, figure), _pairs(base, figure)
    # Node by node where the runs have the same nodes, else all nodes together.
    nodes = {node for _, node in mine} - {"*"}
    wanted = {pair for pair in mine.keys() & theirs.keys() if (pair[1] != "*") == (bool(nodes) and nodes == {n for _, n in theirs} - {"*"})}
    gaps = [mine[pair] - theirs[pair] for pair in sorted(wanted)]
    spread = stdev(gaps) if len(gaps) > 1 else None
    return Compared(*key, figure, name, mean, fmean(gaps) if gaps else None, spread, len(gaps), tuple(whole), tuple(gaps))


def _tested(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in run["rows"] if row["split"] == "test"]


def _pairs(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[tuple[int, str], float]:
    return {(row["seed"], row["node"]): row[figure] for row in rows if row.get(figure) is not None}
