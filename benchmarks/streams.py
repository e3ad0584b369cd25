"""Delay and false alarms on streams of network flows, federated against local: NSL-KDD and N-BaIoT.

The files tell no times, and N-BaIoT's are a random sample, so the streams are made: a node's benign test rows in random order, one every
`--pace` seconds, and among them bursts of attacks of one kind at random places. Detectors are those of a recipe's seed 0, trained as by
`vedette run`; each device's judge has seen its training rows before. A scorer that draws its scores at random stands beside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from table import options, told

from vedette.data.table import Table, concat
from vedette.detectors.base import Detector
from vedette.edge.calibration import Calibration, Fixed, Rate
from vedette.edge.incidents import IncidentSettings
from vedette.edge.judge import Judge, Judged
from vedette.edge.readings import Devices, Readings
from vedette.edge.scorer import Scorer
from vedette.evaluation.recipe import Recipe, load_recipe
from vedette.evaluation.setting import Setting, in_order, shared_out, with_shared_tests
from vedette.message import Array

LENGTH, APART = 30, 120
"""Rows of a burst at most, and benign rows for each burst."""
FEWEST = 10
"""Rows of a kind of attack that make a burst."""
RATE = Rate(rate=0.001, rows=5000, least=999)


class Stream(NamedTuple):
    """What a device sends: rows, and where its bursts begin and end."""

    table: Table
    begins: Array
    ends: Array


class Told(NamedTuple):
    """What an agent made of one stream.

    Attributes
    ----------
    bursts
        How many there were.
    delays
        In readings until an incident opened, for each burst that was met; its first reading is 1.
    false
        Incidents that opened outside of bursts.
    benign
        Readings that belong to no burst.
    above, late
        Share of these above the threshold, in the whole stream and in its second half.
    """

    bursts: int
    delays: list[int]
    false: int
    benign: int
    above: float
    late: float


def trained(name: str, folder: Path) -> Path:
    """Train a recipe's local and federated detectors, unless the folder holds them; return where they are."""
    if not (folder / "detectors").exists():
        changes = ["--set", "seeds=1", "--set", 'methods=["local","federated"]', "--protocol", load_recipe(name).chosen_protocols()[0]]
        command = [str(Path(sys.executable).with_name("vedette")), "run", name, "--workers", "1", "--out", str(folder), *changes]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "detectors"


def shared(name: str, root: Path) -> tuple[Recipe, Setting]:
    """Share a recipe's rows out among its nodes as seed 0 does."""
    recipe = load_recipe(name)
    protocol = recipe.chosen_protocols()[0]
    recipe = recipe.under(protocol)
    dataset = recipe.prepared(recipe.data.load(root, 0))
    fold, parts_of = next(iter(recipe.protocols[protocol].folds(dataset, 0).items()))
    parts = with_shared_tests(recipe, parts_of(), 0)
    return recipe, shared_out(recipe, protocol, 0, fold, parts, in_order(recipe, protocol, dataset))


def streamed(table: Table, rng: np.random.Generator) -> Stream:
    """Put a node's benign test rows in random order, with a burst of one kind of attack somewhere in each stretch of them."""
    assert table.label is not None
    assert table.kind is not None
    benign, strange = rng.permutation(np.flatnonzero(table.label == 0)), np.flatnonzero(table.label == 1)
    kinds, counts = np.unique(table.kind.codes[strange], return_counts=True)
    kinds = kinds[counts >= FEWEST]
    rows, begins, ends, sent = [], [], [], 0
    for stretch in np.array_split(benign, max(1, len(benign) // APART)):
        # In the middle half, so that bursts lie apart.
        at = int(rng.integers(len(stretch) // 4, 3 * len(stretch) // 4 + 1))
        of_kind = strange[table.kind.codes[strange] == rng.choice(kinds)]
        burst = rng.choice(of_kind, min(LENGTH, len(of_kind)), replace=False)
        begins.append(sent + at)
        ends.append(sent + at + len(burst))
        rows += [stretch[:at], burst, stretch[at:]]
        sent += len(stretch) + len(burst)
    return Stream(table.take(np.concatenate(rows)), np.array(begins), np.array(ends))


def readings_of(table: Table, begin: int, pace: float) -> Readings:
    """Return the rows of a table as readings of one device, from some place in its sequence on."""
    times = (begin + np.arange(len(table))) * pace
    return Readings(np.zeros(len(table), np.int32), times, np.asarray(table.numbers, dtype=np.float64), table.categories)


def judged(detector: Detector | None, scores: Sequence[Array], readings: Sequence[Readings], calibration: Calibration) -> Judged:
    """Judge the rows a device was trained on, then its stream; return what came of the stream."""
    settings = IncidentSettings()
    judge = Judge.of(calibration, settings, Devices(["device"]), detector)
    judge.judge(readings[0], scores[0])
    return judge.judge(readings[1], scores[1])


def told_of(stream: Stream, found: Judged, begin: int, pace: float) -> Told:
    """Hold incidents against bursts: one is met where an incident opens within it; one that was open already does not count."""
    opened = np.array([round(event.time / pace) - begin for event in found.events if event.kind == "opened"], dtype=np.int64)
    within = [opened[(opened >= first) & (opened < last)] for first, last in zip(stream.begins, stream.ends, strict=True)]
    benign = np.asarray(stream.table.label) == 0
    delays = [int(each[0] - first) + 1 for each, first in zip(within, stream.begins, strict=True) if len(each)]
    above = (found.scores > found.thresholds)[benign]
    late = above[len(above) // 2 :]
    return Told(len(within), delays, len(opened) - sum(map(len, within)), len(above), float(above.mean()), float(late.mean()))


def row(about: dict[str, Any], found: Sequence[Told], pace: float) -> dict[str, Any]:
    """Add the devices up."""
    delays = [delay for each in found for delay in each.delays]
    bursts, false, benign = sum(each.bursts for each in found), sum(each.false for each in found), sum(each.benign for each in found)
    days = benign * pace / 86_400
    return {
        **about,
        "devices": len(found),
        "bursts": bursts,
        "recall": len(delays) / bursts,
        "delay p50": float(np.median(delays)) if delays else float("nan"),
        "p90": float(np.quantile(delays, 0.9)) if delays else float("nan"),
        "benign above": sum(each.above * each.benign for each in found) / benign,
        "late": sum(each.late * each.benign for each in found) / benign,
        "false": false,
        "device-days": days,
        "false a device-day": false / days,
    }


def measured(name: str, runs: Path, root: Path, pace: float, seed: int) -> list[dict[str, Any]]:
    """Watch every node's stream by each model and threshold."""
    detectors = trained(name, runs / name)
    recipe, setting = shared(name, root)
    share: float = getattr(recipe.detector.threshold, "q")  # noqa: B009 - the shipped recipes set quantiles
    models = {"federated": {"fleet": Scorer.of(detectors / "federated" / "fleet")}}
    models["local"] = {node: Scorer.of(detectors / "local" / node) for node in setting.train.nodes}
    found: dict[tuple[str, str], list[Told]] = {}
    for place, node in enumerate(setting.train.nodes):
        rng = np.random.default_rng([seed, place])
        tests = setting.tests["test"]
        stream = streamed(tests if isinstance(tests, Table) else tests[node], rng)
        train, calibration = setting.train[node], setting.calibration[node]
        known = train if calibration is train else concat([train, calibration])
        known = known.take(rng.permutation(len(known))[: RATE.rows])
        readings = readings_of(known, 0, pace), readings_of(stream.table, len(known), pace)
        for model in ("federated", "local", "random"):
            own = models.get(model, {})
            scorer = own.get(node, own.get("fleet"))
            scores = [rng.random(len(each)) if scorer is None else scorer.score(each) for each in readings]
            for threshold in ("fixed", "rate"):
                chosen = RATE if threshold == "rate" else Fixed(threshold=share if scorer is None else None)
                result = judged(scorer and scorer.detector, scores, readings, chosen)
                found.setdefault((model, threshold), []).append(told_of(stream, result, len(known), pace))
    about = ({"data": name.removesuffix("-autoencoder"), "model": model, "threshold": threshold} for model, threshold in found)
    return [row(each, devices, pace) for each, devices in zip(about, found.values(), strict=True)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--data", nargs="+", choices=["nsl-kdd", "nbaiot"], default=["nsl-kdd", "nbaiot"], help="which streams")
    parser.add_argument("--runs", type=Path, help="folder of `vedette run`s of the recipes; what is not there is trained into it")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds from one flow of a device to the next")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the rows and the places of the bursts")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        runs, root = chosen.runs or Path(fresh), Path(os.environ["VEDETTE_DATA"])
        rows = [each for name in chosen.data for each in measured(f"{name}-autoencoder", runs, root, chosen.pace, chosen.seed)]
    told("streams", rows, chosen.json)


if __name__ == "__main__":
    main()
