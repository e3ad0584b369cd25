"""What is told: tables, the page of the docs, and the figure."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rounds.cases import CASES, ROOT
from rounds.contenders import commands
from rounds.sizes import SIZES, STANDS_FOR

DOCS = ROOT / "docs" / "benchmarks.md"
PLOT = DOCS.parent / "figures" / "cohort.svg"
MARKS = "<!-- benchmarks/cohort.py writes from here -->", "<!-- to here -->"


def machine() -> dict[str, Any]:
    about = dict(entry.split(":", 1) for entry in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines() if ":" in entry)
    model = next((value.strip() for key, value in about.items() if key.strip() == "model name"), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"cores": os.cpu_count(), "model": model, "memory GiB": round(memory, 1), "load before": os.getloadavg()[0]}


def micros(each: dict[str, Any]) -> float:
    return float(each["best"]) / each["nodes"] * 1e6


def tables(lines: Sequence[dict[str, Any]]) -> str:
    """Return the lines as Markdown."""
    said = []
    for row, optimiser in dict.fromkeys((each["row"], each.get("optimiser", "")) for each in lines):
        mine = [each for each in lines if (each["row"], each.get("optimiser", "")) == (row, optimiser)]
        if row in SIZES:
            said += [
                f"| {row}: nodes | training, µs a node and round | rows made in a round | making them, µs | scaling them, µs "
                "| resident at most, MiB | a node, KiB |"
            ]
            said += ["|---|---|---|---|---|---|---|"]
            for each in mine:
                more = (each["most MiB"] - each["before MiB"]) * 1024 / each["nodes"]
                apart = f"{each['making'] * 1e6:.1f} | {each['scaling'] * 1e6:.1f}"
                figures = f"{micros(each):.1f} | {each['made']:.0%} | {apart} | {each['most MiB']:,.0f} | {more:.1f}"
                said.append(f"| {each['nodes']:,} | {figures} |")
            figures = [micros(each) for each in mine]
            scaled = [cost + each["made"] * each["scaling"] * 1e6 for cost, each in zip(figures, mine, strict=True)]
            alone, both = (f"{max(costs) / min(costs):.2f}" for costs in (figures, scaled))
            said += ["", f"Most against least time a node: training {alone}; with the scaling of rows that are made anew {both}.", ""]
            continue
        unit, factor = ("ms a round", 1e3) if row == "C" else ("µs a node and round", 1e6)
        said += [
            f"| {row}{f', {optimiser}' if optimiser else ''} | nodes | {unit} (median) | of a processor | times Vedette's |",
            "|---|---|---|---|---|",
        ]
        for each in mine:
            share = 1 if row == "C" else each["nodes"]
            best, middle = (value / share * factor for value in (each["best"], statistics.median(each["rounds"])))
            times = each["best"] / each["nodes"] / (mine[0]["best"] / mine[0]["nodes"])
            cpu = figure(each["cpu"] / share * factor) if "cpu" in each else ""
            said.append(f"| {each['by']} | {each['nodes']:,} | {figure(best)} ({figure(middle)}) | {cpu} | {figure(times)} |")
        said.append("")
    return "\n".join(said)


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def page(result: dict[str, Any]) -> str:
    """Return the part of docs/benchmarks.md that is measured."""
    about, lines = result["machine"], result["rows"]
    versions = dict(result["versions"])
    for each in lines:
        versions |= {name: held for name, held in each.get("versions", {}).items() if name in ("pfl", "flwr", "ray")}
    ran = [each["command"] for each in lines if "command" in each]
    made = [
        " ".join(os.path.relpath(part, ROOT) if part.startswith("/") else part for part in c) for p in result["peers"] for c in commands(p)
    ]
    load = f"load {about['load before']:.1f} before, {about['load after']:.1f} after"
    said = [
        f"Measured {result['date']} on {about['model']}, {about['cores']} cores, {about['memory GiB']} GiB; {load}. "
        f"{', '.join(f'{name} {held}' for name, held in versions.items())}. `{result['command']}`",
        "",
        tables(lines),
    ]
    if draw(lines):
        said += [f"![Time a node and round against nodes]({PLOT.relative_to(DOCS.parent)})", ""]
    if ran:
        said += ["The peers' environments and command lines (`PYTHON` is Vedette's own; a job file says what is trained):", "", "```"]
        said += [each.replace(os.path.relpath(sys.executable, ROOT), "PYTHON") for each in [*made, *ran]] + ["```", ""]
    return "\n".join(said)


def draw(lines: Sequence[dict[str, Any]]) -> bool:
    """Draw what a node and round cost against the number of nodes; tell whether there is anything to draw."""
    from matplotlib.figure import Figure

    drawn = {row: [each for each in lines if each["row"] == row] for row in SIZES}
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for row, mine in drawn.items():
        if len(mine) > 1:
            nodes, costs = [each["nodes"] for each in mine], [micros(each) for each in mine]
            axes.plot(nodes, costs, marker="o", label=f"{row}: {'-'.join(map(str, CASES[STANDS_FOR[row]].widths))}")
    if not axes.lines:
        return False
    axes.set(xscale="log", xlabel="nodes", ylabel="µs a node and round")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})
    return True


def write_docs(result: dict[str, Any]) -> None:
    """Replace what stands between the two marks in docs/benchmarks.md."""
    before, _, rest = DOCS.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCS.write_text(f"{before}{MARKS[0]}\n\n{page(result)}\n{MARKS[1]}{after}")
