"""The pictures of docs/simulation.md: every kind of fault, every nuisance, every type of device (docs/figures/simulation-*.png)."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from vedette.data.simulate import DEVICES, FAULTS, Nuisances, Plan, simulate_device
from vedette.data.simulate.faults import parts_of, schedule
from vedette.data.table import Table
from vedette.message import Array

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
SHOWN, EXPECTED, LABELLED, MEANT = "#1f5fa8", "#8a8a8a", "#f4c7b8", "#dfe7ee"
HOURS, SHARE = 24.0 * 10, 0.12

# Where each kind is seen best: type of device, sensor (None: the one that has it).
BEST = {
    "spike": ("motor", None),
    "stuck": ("pump", None),
    "drift": ("valve", None),
    "bias": ("thermostat", None),
    "noise": ("motor", None),
    "leak": ("pump", "flow"),
    "cavitation": ("pump", "vibration"),
    "wear": ("motor", "vibration"),
    "overload": ("motor", "current"),
    "scan": ("gateway", "refused"),
}


def column(table: Table, name: str) -> Array:
    """Return the readings of a sensor."""
    return table.numbers[:, [feature.name for feature in table.features].index(name)]


def named(axes: Axes, title: str, label: str) -> None:
    """Give axes a title and a label, and no frame above and right."""
    axes.set_title(textwrap.fill(title, 74), fontsize=9, loc="left")
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def shade(axes: Axes, hours: Array, label: Array, colour: str = LABELLED) -> None:
    """Colour the rows that are labelled, or meant."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], label, [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        axes.axvspan(hours[start], hours[min(stop, len(hours) - 1)], color=colour, lw=0)


def fault(axes: Axes, kind: str) -> None:
    """Draw one fault of middling or greater strength, with what the device would have shown without it."""
    device, sensor = BEST[kind]
    node, seed = f"{device}-1", 3
    table, twin = (simulate_device(device, node, seed, Plan(HOURS, fault_share=share)) for share in (SHARE, 0.0))
    names = [feature.name for feature in table.features]
    found = schedule(DEVICES[device], node, seed, len(table), 60.0, SHARE, parts_of(DEVICES[device], ()))
    texts = np.array(table.kind.texts()) if table.kind is not None else np.array([])
    chosen = max(
        (one for one in found if one.kind == kind and (texts[one.start : one.stop] == kind).any()),
        key=lambda one: (min(one.strength, 0.6), (texts[one.start : one.stop] == kind).mean(), one.stop - one.start),
    )
    place = names.index(sensor) if sensor else chosen.sensor
    around = 90 if kind != "spike" else 45
    rows = slice(max(chosen.start - around, 0), min(chosen.stop + around, len(table)))
    hours = (np.arange(len(table))[rows] - chosen.start) / 60
    shade(axes, hours, (texts[rows] == kind).astype(int))
    axes.plot(hours, twin.numbers[rows, place], color=EXPECTED, lw=0.8)
    axes.plot(hours, table.numbers[rows, place], color=SHOWN, lw=1.0)
    feature = table.features[place]
    named(axes, f"{kind}: {FAULTS[kind]}", f"{device}\n{feature.name.replace('_', ' ')}, {feature.unit or 'count'}")


def faults() -> None:
    """Draw all kinds."""
    figure, grid = plt.subplots(5, 2, figsize=(11, 11.5), constrained_layout=True)
    for axes, kind in zip(grid.flat, FAULTS, strict=True):
        fault(axes, kind)
    for axes in grid[-1]:
        axes.set_xlabel("hours since it began", fontsize=8)
    kept(figure, "faults")


def severities() -> None:
    """Draw the same leak and the same bias at three strengths."""
    figure, grid = plt.subplots(1, 2, figsize=(11, 2.8), constrained_layout=True)
    for axes, (device, kind, name) in zip(grid, [("valve", "leak", "flow"), ("thermostat", "bias", None)], strict=True):
        node = f"{device}-2"
        for strength, colour in ((0.0, "#9cc3e6"), (0.5, "#4a8cc9"), (1.0, "#123a66")):
            plan = Plan(24.0, fault_share=0.12, faults=(kind,), severity=(strength, strength))
            table = simulate_device(device, node, 5, plan)
            one = schedule(DEVICES[device], node, 5, len(table), 60.0, 0.12, parts_of(DEVICES[device], (kind,)), (strength, strength))[0]
            place = [feature.name for feature in table.features].index(name) if name else one.sensor
            rows = slice(max(one.start - 120, 0), one.stop + 120)
            hours = (np.arange(len(table))[rows] - one.start) / 60
            axes.plot(hours, table.numbers[rows, place], color=colour, lw=1.0, label=f"severity {strength:g}")
        feature = table.features[place]
        named(axes, kind, f"{device}\n{feature.name.replace('_', ' ')}, {feature.unit}")
        axes.set_xlabel("hours since it began", fontsize=8)
        axes.legend(fontsize=7, frameon=False)
    kept(figure, "severity")


def nuisances() -> None:
    """Draw what goes wrong without being an anomaly."""
    figure, grid = plt.subplots(3, 2, figsize=(11, 7.6), constrained_layout=True)
    plain = simulate_device("pump", "pump-1", 1, Plan(24.0 * 7))

    def met(hours: float = 24.0 * 7, node: str = "pump-1", **settings: float) -> Table:
        return simulate_device("pump", node, 1, Plan(hours, nuisances=Nuisances(**settings)))

    rows = slice(600, 780)
    hours = np.arange(600, 780) / 60
    axes = grid[0, 0]
    axes.plot(hours, column(plain, "flow")[rows], color=EXPECTED, lw=0.8)
    axes.plot(hours, column(met(missing=0.2), "flow")[rows], color=SHOWN, lw=1.2, marker=".", ms=3)
    named(axes, "missing = 0.2: single readings are not there", "flow, m³/h")
    axes.set_xlabel("hours", fontsize=8)
    left, axes = met(lost=0.3), grid[0, 1]
    inside = (np.asarray(left.time) >= 36_000) & (np.asarray(left.time) < 46_800)
    axes.plot(hours, column(plain, "flow")[rows], color=EXPECTED, lw=0.8)
    axes.plot(np.asarray(left.time)[inside] / 3600, column(left, "flow")[inside], color=SHOWN, marker=".", ms=3, lw=0)
    named(axes, "lost = 0.3: whole rows never arrive, about ten at a time", "flow, m³/h")
    axes.set_xlabel("hours", fontsize=8)
    axes = grid[1, 0]
    for number in range(1, 6):
        table = met(node=f"pump-{number}", clock_drift=60.0, clock_jumps=0.5)
        axes.plot(np.arange(len(table)) / 1440, (np.asarray(table.time) - 60.0 * np.arange(len(table))) / 60, lw=1.0)
    named(axes, "clock_drift = 60, clock_jumps = 0.5: five clocks", "minutes off")
    axes.set_xlabel("days", fontsize=8)
    axes = grid[1, 1]
    days = slice(2 * 1440 - 720, 2 * 1440 + 1440)
    spared = [column(met(node=f"pump-{number}"), "load") for number in range(1, 4)]
    struck = [column(met(node=f"pump-{number}", events=4.0), "load") for number in range(1, 4)]
    touched = np.any([one != other for one, other in zip(struck, spared, strict=True)], axis=0)
    shade(axes, np.arange(len(touched))[days] / 1440, touched[days].astype(int), MEANT)
    for load in struck:
        axes.plot(np.arange(len(load))[days] / 1440, load[days], lw=0.8)
    named(axes, "events = 4 a week: rushes and brown-outs come to all devices at once", "load, %")
    axes.set_xlabel("days", fontsize=8)
    axes = grid[2, 0]
    axes.plot(np.arange(len(plain)) / 1440, column(plain, "load"), color=EXPECTED, lw=0.7)
    axes.plot(np.arange(len(plain)) / 1440, column(met(weekend=0.5), "load"), color=SHOWN, lw=0.7)
    named(axes, "weekend = 0.5: less to do on two of seven days", "load, %")
    axes.set_xlabel("days", fontsize=8)
    axes = grid[2, 1]
    year = simulate_device("pump", "pump-1", 1, Plan(8766.0, 3600.0, nuisances=Nuisances(season=12.0)))
    axes.plot(np.arange(len(year)) / 24, column(year, "temperature"), color=SHOWN, lw=0.3)
    named(axes, "season = 12: a year, from spring on", "temperature, °C")
    axes.set_xlabel("days", fontsize=8)
    kept(figure, "nuisances")


def devices() -> None:
    """Draw two days of three devices of each type."""
    shown = {
        "pump": ("flow", "temperature"),
        "valve": ("position", "flow"),
        "motor": ("current", "winding_temperature"),
        "thermostat": ("room_temperature", "co2"),
        "gateway": ("packets", "peers"),
    }
    figure, grid = plt.subplots(5, 2, figsize=(11, 10), constrained_layout=True, sharex=True)
    for line, (device, names) in zip(grid, shown.items(), strict=True):
        for axes, name in zip(line, names, strict=True):
            for number in (1, 2, 3):
                table = simulate_device(device, f"{device}-{number}", 2, Plan(48.0))
                axes.plot(np.arange(len(table)) / 60, column(table, name), lw=0.6)
            unit = next(feature.unit for feature in table.features if feature.name == name)
            named(axes, device if name == names[0] else "", f"{name.replace('_', ' ')}, {unit or 'count'}")
    for axes in grid[-1]:
        axes.set_xlabel("hours since midnight", fontsize=8)
    kept(figure, "devices")


def kept(figure: plt.Figure, name: str) -> None:
    """Store a picture; the same data give the same bytes."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"simulation-{name}.png", dpi=80, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    faults()
    severities()
    nuisances()
    devices()
