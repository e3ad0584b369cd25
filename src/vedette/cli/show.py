"""What the commands print for people: tables and progress bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

    from vedette.evaluation.experiment import OnPhase, OnProgress
    from vedette.runtimes.base import Round

__all__ = ["console", "counting", "fetching", "headline", "listing", "progress", "results"]

COLUMNS = {
    "f1": "F1",
    "recall": "found",
    "fpr": "false alarms",
    "auc_roc": "ROC-AUC",
    "auc_pr": "PR-AUC",
    "precision": "precision",
    "accuracy": "accuracy",
    "mcc": "MCC",
}
"""What the table shows, the most telling first; a narrow terminal shows the first five."""

NARROW, WIDE = 5, 124

WIDE_BAR = 110
"""Terminals so wide have room for a long bar beside what it is about."""

LONG, EVERY = 2.0, 0.1
"""Seconds a phase takes for its nodes to be counted before all eyes, and between two looks at them."""


def console(error: bool = False) -> Console:
    """Return the terminal, or the error stream."""
    from rich.console import Console

    found = Console(stderr=error, highlight=False)
    # Without a terminal nothing limits the width.
    return found if found.is_terminal else Console(stderr=error, highlight=False, width=160)


def listing(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of texts; the first column is never wrapped."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text) for text in row))
    return table


def results(run: Mapping[str, Any], width: int) -> Iterator[tuple[str, Table]]:
    """Yield one table a protocol: the pooled test figures of each method, mean and spread over the seeds.

    Parameters
    ----------
    run
        The content of metrics.json.
    width
        Of the terminal, in characters.
    """
    from rich import box
    from rich.table import Table

    pooled = [row for row in run["rows"] if row["split"] == "test" and row["node"] == "*"]
    columns = dict(list(COLUMNS.items())[: None if width >= WIDE else NARROW])
    for protocol in dict.fromkeys(row["protocol"] for row in pooled):
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column("method", no_wrap=True)
        for name in columns.values():
            table.add_column(name, justify="right", no_wrap=True)
        for method in dict.fromkeys(row["method"] for row in pooled):
            rows = [row for row in pooled if row["method"] == method and row["protocol"] == protocol]
            style = "dim" if method in ("flag-all", "random", "untrained") else "bold" if method == "federated" else None
            table.add_row(method, *(_spread([row[key] for row in rows]) for key in columns), style=style)
        yield protocol, table


def headline(run: Mapping[str, Any], protocol: str) -> str:
    """Say in a line what a table is about."""
    about, seeds = run["data"]["protocols"][protocol], run["seeds"]
    spread = f"{len(seeds)} seeds, mean ± standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"
    share = "" if about["anomaly_share"] is None else f" ({about['anomaly_share']:.1%} anomalous)"
    line = f"{run['recipe']}, {protocol} protocol: {about['nodes']} nodes, {about['rows_test']:,} test rows{share}, {spread}"
    return line + _composed(run, about)


def _composed(run: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Say who holds how much, where a recipe says it in numbers: they may have been scaled to what is there."""
    if (run.get("settings") or {}).get("partition", {}).get("name") != "counts" or not about.get("holdings"):
        return ""
    shared = run["settings"]["test"] == "shared"
    nodes = [
        f"{node} {normal:,} + {anomalous:,}" + ("" if shared else f" ({test:,})")
        for node, (normal, anomalous, test) in about["holdings"].items()
    ]
    return f"\ntraining rows, normal + anomalous{'' if shared else ' (test rows)'}, first seed: " + ", ".join(nodes)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{fmean(known):.3f}" + (f" ±{stdev(known):.3f}" if len(known) > 1 else "")


@contextmanager
def progress(steps: Callable[[], int], quiet: bool) -> Iterator[tuple[OnProgress, OnPhase]]:
    """Show a bar over the rounds of all methods and seeds, and one over the nodes of a round where that takes its time.

    Yields what to call after each round, and after each node.

    Parameters
    ----------
    steps
        Tells the runs in rounds that will come, as far as is known yet.
    quiet
        Show nothing.
    """
    if quiet:
        yield lambda *_: None, lambda *_: None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    percent = TextColumn("{task.percentage:>3.0f} %", table_column=Column(no_wrap=True))
    times = [kind(table_column=Column(no_wrap=True)) for kind in (TimeElapsedColumn, TimeRemainingColumn)]
    with _bar(BarColumn(30 if console(error=True).width >= WIDE_BAR else 10), percent, *times, _line()) as bar:
        task, done = bar.add_task("loading the data", total=float(steps())), dict[str, float]()

        def on_round(label: str, entry: Round) -> None:
            if entry.stage == "rounds":
                done[label] = entry.number / entry.of
                loss = "" if entry.loss is None else f", loss {entry.loss:.4g}"
                text = f"{label}, round {entry.number} of {entry.of}{loss}"
                bar.update(task, completed=sum(done.values()), total=float(steps()), description=text)
            elif entry.stage == "calibrate":
                done[label] = 1.0
                bar.update(task, completed=sum(done.values()), description=f"{label}, threshold set")

        nodes = _Nodes(bar)

        def on_phase(label: str, finished: int, of: int) -> None:
            if not finished and label not in done:
                done[label] = 0.0
                bar.update(task, description=label)
            nodes(finished, of)

        yield on_round, on_phase


def _line() -> ProgressColumn:
    """Return a column that says what a bar is about in one line: what finds no room is cut off, and nothing else for its sake."""
    from rich.progress import Task, TextColumn
    from rich.text import Text

    class Line(TextColumn):
        def render(self, task: Task) -> Text:
            text = super().render(task)
            # Said of the text, not of the column: columns that do not wrap all give way where there is too little room.
            text.no_wrap, text.overflow = True, "ellipsis"
            return text

    return Line("{task.description}", markup=False)


class _Nodes:
    """A bar over the nodes of the current phase, in sight if that takes longer than `LONG`.

    Parameters
    ----------
    bar
        Where it is shown.
    """

    def __init__(self, bar: Progress) -> None:
        self.bar, self.task = bar, bar.add_task("", total=None, visible=False)
        self.begin = self.shown = 0.0

    def __call__(self, done: int, of: int) -> None:
        """Say how far the phase is."""
        now = time.monotonic()
        if not done:
            self.begin = self.shown = now
            self.bar.reset(self.task, total=of, description=f"0 of {of:,} nodes")
        elif now - self.shown >= EVERY or done == of:
            self.shown, took = now, max(now - self.begin, 1e-9)
            speed = f"{done / took:,.0f} a second" if done >= took else f"{took / done:,.1f} s each"
            self.bar.update(self.task, completed=done, description=f"{done:,} of {of:,} nodes, {speed}", visible=took * of / done >= LONG)


def _bar(*columns: ProgressColumn) -> Progress:
    """Return a bar on the error stream, gone when it is done; without a terminal there is none."""
    from rich.progress import Progress

    terminal = console(error=True)
    return Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)


@contextmanager
def counting(total: int, what: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar over things that are counted; yields what to call with how many more are done.

    Parameters
    ----------
    total
        How many there are.
    what
        What happens to them.
    quiet
        Show nothing.
    """
    if quiet:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with _bar(*columns) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.update(task, advance=more)


@contextmanager
def fetching(quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file that is fetched; yields what to call with its name, the bytes that are there, and how many will be."""
    if quiet:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bar(*columns) as bar:
        tasks: dict[str, TaskID] = {}

        def on_bytes(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                for finished in tasks.values():
                    bar.update(finished, visible=False)
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield on_bytes
