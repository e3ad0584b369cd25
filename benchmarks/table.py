"""What the benchmarks share: time and memory of a piece of work, a table on the terminal, or JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["measured", "options", "told"]


def options(what: str) -> argparse.ArgumentParser:
    """Return a parser that knows --json and --repeats."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=5, help="how often each thing is measured; the fastest counts (default: 5)")
    return parser


def measured(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the fastest time in seconds, and the peak of traced memory in MiB."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return min(times), most


def told(name: str, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the rows, numbers to three figures."""
    if as_json:
        about = {"schema": "vedette.benchmark/1", "benchmark": name, "python": platform.python_version()}
        sys.stdout.write(json.dumps({**about, "rows": list(rows)}) + "\n")
        return
    head = list(rows[0])
    cells = [head, *([_text(row[key]) for key in head] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for first, *others in cells:
        numbers = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        sys.stdout.write("  ".join([first.ljust(widths[0]), *numbers]) + "\n")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
