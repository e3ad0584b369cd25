"""Effort: what training and scoring take of time, processors and network where one detector is trained by many workers."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.message import Array
from vedette.runtimes.base import Outcome, Round
from vedette.strategies.base import Strategy

__all__ = ["BLOCKS", "MEASURES", "Watch", "accuracies", "blockwise", "by_lap", "scoring"]

BLOCKS = (4096, 65_536, 0)
"""Rows scored at once, as in Holdren 2022, table 4.2; 0: all of them."""

REPEATS = 3
MEASURES = ("accuracy", "precision", "recall")


class Watch:
    """Measures a run in rounds from when it is made."""

    def __init__(self) -> None:
        self._begun, self._chief, self._others = time.perf_counter(), time.process_time(), _seconds_of_others()
        self._rounds: list[float] = []

    def round_done(self, entry: Round) -> None:
        """Note when a round ended."""
        if entry.stage == "rounds":
            self._rounds.append(time.perf_counter() - self._begun)

    def skip(self, seconds: float) -> None:
        """Leave out a time in which something else was done, such as following what is learned."""
        self._begun += seconds

    def pace(self, outcome: Outcome, nodes: int) -> dict[str, Any] | None:
        """Say how long the rounds took.

        Parameters
        ----------
        outcome
            What came of the run.
        nodes
            Of how many.

        Returns
        -------
        dict or None
            ``ends``: seconds from the beginning to the end of each round; ``loss`` after each; ``bytes`` that a node sent and was sent
            in a round, on average. None for a run that was resumed, or had no rounds.
        """
        rounds = [entry for entry in outcome.history if entry.stage == "rounds"]
        if not rounds or len(rounds) != len(self._rounds):
            return None
        sent = sum(entry.sent + entry.received for entry in rounds) / (nodes * len(rounds))
        return {"ends": self._rounds, "loss": [entry.loss for entry in rounds], "bytes": sent}

    def told(self, outcome: Outcome, strategy: Strategy) -> dict[str, Any]:
        """Say what the run took.

        Parameters
        ----------
        outcome
            What came of it.
        strategy
            Whose rounds they were.

        Returns
        -------
        dict
            ``seconds`` of all; ``first_epoch`` from the beginning (with starting workers and fitting the scaling) and ``later_epochs``,
            each (both None for a run that was resumed); ``chief_cpu``, processor seconds of this process, and ``worker_cpu``, of those it
            began (None where these cannot be seen); ``bytes`` that nodes sent and received; ``loss`` of each epoch; ``arrivals``, whose
            answers were taken in, where that was one by one (`Round.late`).
        """
        seconds, chief, others = time.perf_counter() - self._begun, time.process_time() - self._chief, _seconds_of_others()
        rounds = [entry for entry in outcome.history if entry.stage == "rounds"]
        epochs = strategy.laps
        ends = [float(part[-1]) for part in np.array_split(self._rounds, max(epochs, 1)) if len(part)]
        whole = len(self._rounds) == len(rounds) and len(ends) == epochs > 1
        losses = [entry.loss for entry in rounds if entry.loss is not None]
        return {
            "seconds": seconds,
            "first_epoch": ends[0] if whole else None,
            "later_epochs": (ends[-1] - ends[0]) / (epochs - 1) if whole else None,
            "chief_cpu": chief,
            "worker_cpu": None if others is None or self._others is None else others - self._others,
            "bytes": sum(entry.sent + entry.received for entry in outcome.history),
            "loss": by_lap(losses, epochs),
            **({"arrivals": arrivals} if (arrivals := [node for entry in rounds for node in entry.late]) else {}),
        }


def by_lap(losses: Sequence[float], laps: int) -> list[float]:
    """Return the mean of each part of a course (`Strategy.laps`)."""
    return [float(np.mean(part)) for part in np.array_split(losses, max(laps, 1)) if len(part)]


def scoring(detector: Detector, table: Table, cluster: Callable[[], Iterable[Any]] | None = None) -> list[dict[str, Any]]:
    """Measure scoring on this machine, in blocks of different size, and on a cluster.

    Parameters
    ----------
    detector
        Fitted.
    table
        Rows to score.
    cluster
        Scores them on a cluster as what it returns is gone through, if there is one.

    Returns
    -------
    list
        For each way ``where`` (``"cluster"`` or ``"host"``), ``block`` (rows, 0: all), ``rows``, and medians of ``seconds`` and of this
        process's ``chief_cpu``.
    """
    ways: list[tuple[str, int, Callable[[], Any]]] = [("cluster", BLOCKS[0], lambda: list(cluster()))] if cluster else []
    ways += [("host", block, lambda block=block: blockwise(detector, table, block)) for block in BLOCKS]  # type: ignore[misc]
    return [{"where": where, "block": block, "rows": len(table), **_median(score)} for where, block, score in ways]


def blockwise(detector: Detector, table: Table, block: int) -> Array:
    """Score a table block by block, each with the rows before it that its first windows hold; [rows] float64."""
    before, size = detector.window.size + detector.window.average - 2, block or max(len(table), 1)
    scores = []
    for first in range(0, len(table), size):
        lead = max(first - before, 0)
        scores.append(detector.decision_function(table.take(slice(lead, first + size)))[first - lead :])
    return np.concatenate(scores) if scores else np.zeros(0)


def accuracies(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return accuracy, precision and recall as Holdren 2022, table 4.1: of the seed that is most accurate on a split, and means over seeds.

    Parameters
    ----------
    rows
        Of metrics.json.
    methods
        Which of them.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["method"] in methods and row["node"] == "*":
            groups.setdefault((row["protocol"], row["split"], row["method"]), []).append(row)
    found = []
    for (protocol, split, method), runs in groups.items():
        best = max(runs, key=lambda row: row["accuracy"])
        about = {"method": method, "protocol": protocol, "split": split}
        found.append({**about, "case": "best", **{key: best[key] for key in MEASURES}})
        means = {key: [row[key] for row in runs if row[key] is not None] for key in MEASURES}
        found.append({**about, "case": "mean", **{key: statistics.fmean(values) if values else None for key, values in means.items()}})
    return found


def _median(work: Callable[[], Any]) -> dict[str, float]:
    taken = []
    for _ in range(REPEATS):
        begun, chief = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - begun, time.process_time() - chief))
    seconds, cpu = (statistics.median(each) for each in zip(*taken, strict=True))
    return {"seconds": seconds, "chief_cpu": cpu}


def _seconds_of_others() -> float | None:
    """Return the processor seconds of the processes that this one began, and of those they began; None where it cannot be seen."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # What stands in brackets is the program's name, and may hold blanks.
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(file.parent.name)] = int(fields[1])
        # Its own and those of its children that ended, in user mode and in the kernel.
        ticks[int(file.parent.name)] = sum(map(int, fields[11:15]))
    if os.getpid() not in parents:
        return None
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(ticks[pid] for pid in parents if _below(pid, parents)) / os.sysconf("SC_CLK_TCK")


def _below(pid: int, parents: Mapping[int, int]) -> bool:
    at = parents[pid]
    while at in parents and at != os.getpid():
        at = parents[at]
    return at == os.getpid()
