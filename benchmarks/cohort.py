"""Rounds of FedAvg over many small nodes: Vedette, a plain PyTorch loop and, with --peers, pfl-research and Flower's simulation.

    python benchmarks/cohort.py --peers --docs --json build/benchmarks/cohort.json

Rows of the table: A (115-32-115, 5 steps of 10 rows a node), B (41-32-16-8-8-16-32-41, 1,000 rows a node, batch 128, one epoch), C (a
round of 20 nodes that train nothing), D (A by plain SGD with 100 to 100,000 nodes whose rows are made when asked for), E (B likewise).

All start from the same weights, have the same rows, batches, optimiser and learning rate, and average weighted by rows, which here are
equally many. One process and one thread each. Vedette goes the public way, `vedette.federate` with a trainer; a round is timed from one
`on_round` to the next, so it holds all that a round takes, not training alone. Scaling is "none": the others have their rows scaled
already. The plain loop keeps one module and one optimiser, copies weights in and sums them up with `torch._foreach_*`. Vedette and the
loop take turns, so that a busy machine slows both; peers have a process of their own for each line. First rounds do not count; of the
others the fastest does, whoever ran it. After as many rounds from the same start all must come to the same loss within 1 %, and
whoever does not is reported.

Environments of the peers are made once, below build/benchmarks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import vedette
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Feature, Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import VedetteError
from vedette.message import Message
from vedette.runtimes.base import Round
from vedette.seeds import stream
from vedette.settings import assignments, build
from vedette.strategies.base import STRATEGIES, Turn
from vedette.strategies.fedavg import FedAvg
from vedette.training.layout import initial
from vedette.training.task import Done, Optimiser, Trainer, Work
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "build" / "benchmarks"
DOCS = ROOT / "docs" / "benchmarks.md"
PLOT = DOCS.parent / "figures" / "cohort.svg"
MARKS = "<!-- benchmarks/cohort.py writes from here -->", "<!-- to here -->"
TORCH = "torch==2.13.0"
PEERS = {"pfl": "pfl==0.6.0", "flower": "flwr[simulation]==1.41.0"}
RATES = {"sgd": 0.1, "adam": 1e-3}
STANDS_FOR = {"D": "A", "E": "B"}
"""What is trained in rows that go by the number of nodes."""
SIZES = {"D": (100, 1_000, 10_000, 100_000), "E": (1_000, 100_000)}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SAME = 0.01


class Case(NamedTuple):
    """What is trained: one row of the table."""

    widths: tuple[int, ...]
    detector: Autoencoder
    rows: int
    batch: int
    nodes: int
    flower: int
    """Nodes that Flower runs; its time a node does not depend on it by much."""


CASES = {
    "A": Case((115, 32, 115), Autoencoder(hidden=(32,)), 50, 10, 1_000, 300),
    "B": Case((41, 32, 16, 8, 8, 16, 32, 41), Autoencoder(hidden=(32, 16, 8), mirror="bottleneck"), 1_000, 128, 1_000, 100),
    "C": Case((115, 32, 115), Autoencoder(hidden=(32,)), 50, 10, 20, 20),
}


class Ways(NamedTuple):
    """How it is measured."""

    trainer: Trainer
    name: str
    repeats: int
    limit: float
    most: int
    peers: dict[str, Path]


@STRATEGIES.register("benchmark-still")
class Still(FedAvg):
    """FedAvg whose nodes take no step."""

    def work(self, turn: Turn, inbox: Message, mine: Any) -> Work:
        work = super().work(turn, inbox, mine)
        return work._replace(tasks=tuple(task._replace(epochs=0.0) for task in work.tasks))


@TRAINERS.register("benchmark-idle")
class Idle(Trainer):
    """Hands back the weights that it received, at once."""

    def refuses(self, detector: Any, work: Work) -> str | None:
        return None

    def run(self, detector: Any, jobs: Any, channels: Any, seed: int, round: int, phase: str) -> Any:
        for job in jobs:
            if job.work.tasks and job.work.tasks[0].start:
                yield job.node, Done(job.work.tasks[0].start, Message(facts={"rows": float(len(job.rows))})), job.memory
            else:
                yield from LoopTrainer().run(detector, [job], channels, seed, round, phase)


class Enough(Exception):
    """Ends a federation after its rounds: what follows (thresholds) is not measured."""


# --- Vedette and the plain loop ---


def detector_of(case: Case, optimiser: str) -> Autoencoder:
    wanted = Optimiser(name=optimiser, rate=RATES[optimiser], batch=case.batch)  # type: ignore[arg-type]
    return case.detector.model_copy(update={"optimiser": wanted, "scaling": Scaling(numbers="none")})


def first_weights(case: Case) -> np.ndarray:
    """Return the weights that Vedette begins with: seed 0."""
    return initial(case.detector.networks(case.widths[0])["model"], stream(0, "initial", "model")).values


def made_rows(case: Case, nodes: int) -> np.ndarray:
    """Return [nodes, rows, features] float32 that eight hidden numbers make up."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((8, case.widths[0]), dtype=np.float32) / np.float32(3)
    return rng.standard_normal((nodes, case.rows, 8), dtype=np.float32) @ mixed


def fleet_of(rows: np.ndarray) -> Fleet:
    features = tuple(Feature(f"x{i}") for i in range(rows.shape[2]))
    return Fleet.of({f"node-{i:06d}": Table(features, table) for i, table in enumerate(rows)})


def by_vedette(fleet: Fleet, detector: Autoencoder, strategy: FedAvg, trainer: Trainer) -> tuple[list[float], float | None]:
    """Return the seconds of each round but the first, and the loss in training of the last."""
    ends: list[float] = []
    losses: list[float | None] = []

    def on_round(entry: Round, _: Any) -> None:
        if entry.stage == "rounds":
            ends.append(time.perf_counter())
            losses.append(entry.loss)
            if entry.number == entry.of:
                raise Enough

    with suppress(Enough):
        vedette.federate(fleet, detector, strategy, trainer=trainer, on_round=on_round)
    return np.diff(ends).tolist(), losses[-1]


class Loop:
    """FedAvg as one would write it by hand with autograd."""

    def __init__(self, case: Case, optimiser: str) -> None:
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(case.widths):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        self.module, self.batch = torch.nn.Sequential(*layers[:-1]), case.batch
        self.moved = list(self.module.parameters())
        torch.nn.utils.vector_to_parameters(torch.from_numpy(first_weights(case).copy()), self.moved)
        # Each in its fastest form on one core: SGD is no faster fused.
        kind = partial(torch.optim.Adam, fused=True) if optimiser == "adam" else torch.optim.SGD
        self.optimiser = kind(self.moved, lr=RATES[optimiser])
        self.loss = 0.0

    def round(self, rows: torch.Tensor, watch: bool = False) -> float:
        """Train all nodes and average; return the seconds. `watch` also notes the loss in training."""
        begin = time.perf_counter()
        start = [p.detach().clone() for p in self.moved]
        total = [torch.zeros_like(p) for p in start]
        losses: list[float] = []
        for mine in rows:
            with torch.no_grad():
                torch._foreach_copy_(self.moved, start)
            self.optimiser.state.clear()
            shuffled = mine[torch.randperm(len(mine))]
            for at in range(0, len(mine), self.batch):
                batch = shuffled[at : at + self.batch]
                self.optimiser.zero_grad(set_to_none=True)
                loss = torch.nn.functional.mse_loss(self.module(batch), batch)
                loss.backward()
                self.optimiser.step()
                if watch:
                    losses.append(float(loss.detach()) * len(batch))
            with torch.no_grad():
                torch._foreach_add_(total, self.moved, alpha=len(mine))
        with torch.no_grad():
            torch._foreach_div_(total, float(rows.shape[0] * rows.shape[1]))
            torch._foreach_copy_(self.moved, total)
        if watch:
            self.loss = sum(losses) / (rows.shape[0] * rows.shape[1])
        return time.perf_counter() - begin

    @torch.no_grad()
    def error(self, rows: torch.Tensor) -> float:
        """Return the loss of the averaged network."""
        return float(torch.nn.functional.mse_loss(self.module(rows), rows))


# --- the peers ---


def commands(peer: str) -> list[list[str]]:
    """Say how a peer's environment is made: torch first and by itself, then named again so that nothing replaces it."""
    home = CACHE / peer
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return [[sys.executable, "-m", "venv", str(home)], [*pip, TORCH], [*pip, TORCH, PEERS[peer]]]


def environment(peer: str) -> Path | None:
    """Return a peer's Python, its environment made if it is not there; None, and why on the terminal, if it cannot be made."""
    home = CACHE / peer
    done, wanted = home / "made-of", f"{TORCH} {PEERS[peer]}\n"
    if done.exists() and done.read_text() == wanted:
        return home / "bin" / "python"
    say(f"making {home} ({PEERS[peer]}): some minutes")
    shutil.rmtree(home, ignore_errors=True)
    for command in commands(peer):
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            say(f"no environment for {peer}: 15 minutes were not enough for {' '.join(command)}")
            return None
        if ended.returncode:
            say(f"no environment for {peer}: {' '.join(command)} ended with {ended.returncode}\n{ended.stderr[-1500:]}")
            return None
    done.write_text(wanted)
    return home / "bin" / "python"


def by_peer(python: Path, peer: str, name: str, job: dict[str, Any], limit: float) -> dict[str, Any]:
    """Run a peer on a job; return what it printed, or why there is nothing."""
    path = CACHE / "jobs" / f"{name}.json"
    path.write_text(json.dumps(job))
    command = [str(python), str(ROOT / "benchmarks" / "peers" / f"{peer}_round.py"), str(path)]
    say(f"  {' '.join(command)}")
    # Their temporary files go when they do, even if they are stopped.
    with tempfile.TemporaryDirectory(prefix="c-", ignore_cleanup_errors=True) as scratch:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(command, start_new_session=True, env=os.environ | {"TMPDIR": scratch}, **pipes)
        try:
            out, err = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return {"failed": f"not done after {limit:.0f} s"}
    said = [line for line in out.splitlines() if line.startswith("{")]
    if child.returncode or not said:
        return {"failed": f"ended with {child.returncode}: {err[-1500:]}"}
    return json.loads(said[-1]) | {"command": " ".join(os.path.relpath(part, ROOT) for part in command), "job": job}


# --- rows A, B, C ---


def line(row: str, optimiser: str, by: str, nodes: int, seconds: Sequence[float], **more: Any) -> dict[str, Any]:
    """Return one line of the result; times in seconds a round."""
    return {"row": row, "optimiser": optimiser, "by": by, "nodes": nodes, "best": min(seconds), "rounds": list(seconds), **more}


def peer_lines(row: str, optimiser: str, case: Case, nodes: int, rounds: int, ways: Ways) -> list[dict[str, Any]]:
    found = []
    files = {what: CACHE / "jobs" / f"{row}-{what}.npy" for what in ("rows", "weights")}
    wanted = [("pfl", "pfl-research", nodes, 1), ("flower", "Flower, 1 worker", min(nodes, case.flower), 1)]
    if row != "C" and (os.cpu_count() or 1) > 1:
        wanted.append(("flower", f"Flower, {os.cpu_count()} workers", min(nodes, case.flower), os.cpu_count() or 1))
    for peer, by, count, workers in wanted:
        if peer not in ways.peers:
            continue
        job = {"widths": case.widths, "batch": case.batch, "optimiser": optimiser, "rate": RATES[optimiser], "trains": row != "C"}
        job |= {"warmup": 1, "rounds": rounds, "nodes": count, "workers": workers, **{what: str(path) for what, path in files.items()}}
        name = f"{peer}-{row}-{optimiser}-{workers}"
        said = by_peer(ways.peers[peer], peer, name, job, ways.limit)
        if "failed" in said:
            say(f"{name}: {said['failed']}")
            continue
        found.append(line(row, optimiser, by, said.pop("nodes"), said.pop("seconds"), **said))
    return found


def measured(row: str, optimiser: str, ways: Ways) -> list[dict[str, Any]]:
    """Measure all contenders on row A or B."""
    case, rounds = CASES[row], 2
    nodes = min(case.nodes, ways.most)
    rows = made_rows(case, nodes)
    kept(row, case, rows)
    fleet, tensors, detector = fleet_of(rows), torch.from_numpy(rows), detector_of(case, optimiser)
    loop = Loop(case, optimiser)
    loop.round(tensors[:50])
    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for _ in range(ways.repeats):
        times["ours"] += by_vedette(fleet, detector, FedAvg(rounds=1 + rounds, batch=case.batch), ways.trainer)[0]
        times["loop"] += [loop.round(tensors) for _ in range(rounds)]
    lines = [
        line(row, optimiser, f"Vedette, {ways.name}", nodes, times["ours"]),
        line(row, optimiser, "plain loop", nodes, times["loop"]),
        *peer_lines(row, optimiser, case, nodes, rounds + 1, ways),
    ]
    for each in lines:
        check(each, case, optimiser, rows, ways)
    return lines


def check(each: dict[str, Any], case: Case, optimiser: str, rows: np.ndarray, ways: Ways) -> None:
    """Compare with the plain loop after as many rounds on as many nodes (Vedette: 50), and say so if it is something else."""
    ours = each["by"].startswith("Vedette")
    if not ours and "loss" not in each:
        return
    nodes, rounds = (min(50, len(rows)), 3) if ours else (each["nodes"], 1 + len(each["rounds"]))
    tensors, loop = torch.from_numpy(rows[:nodes]), Loop(case, optimiser)
    for _ in range(rounds):
        loop.round(tensors, watch=ours)
    expected = loop.loss if ours else loop.error(tensors[:10].flatten(0, 1))
    if ours:
        strategy = FedAvg(rounds=rounds, batch=case.batch)
        each["loss"] = by_vedette(fleet_of(rows[:nodes]), detector_of(case, optimiser), strategy, ways.trainer)[1]
    each["loss of the loop"] = expected
    if abs(each["loss"] / expected - 1) > SAME:
        say(f"CAUTION: {each['by']} comes to a loss of {each['loss']:.4f}, the plain loop to {expected:.4f}: not the same work")


def overhead(ways: Ways) -> list[dict[str, Any]]:
    """Measure row C: rounds in which nothing is trained."""
    case, rounds = CASES["C"], 50
    rows = made_rows(case, case.nodes)
    kept("C", case, rows)
    fleet, detector, lines = fleet_of(rows), detector_of(case, "sgd"), []
    for by, strategy, trainer in (
        ("Vedette, a trainer that returns at once", FedAvg(rounds=1 + rounds, batch=case.batch), Idle()),
        (f"Vedette, {ways.name}, no steps", Still(rounds=1 + rounds, batch=case.batch), ways.trainer),
    ):
        seconds = itertools.chain.from_iterable(by_vedette(fleet, detector, strategy, trainer)[0] for _ in range(ways.repeats))
        lines.append(line("C", "", by, case.nodes, list(seconds)))
    return lines + [each | {"optimiser": ""} for each in peer_lines("C", "sgd", case, case.nodes, 20, ways)]


def kept(row: str, case: Case, rows: np.ndarray) -> None:
    """Leave rows and first weights for the peers."""
    (CACHE / "jobs").mkdir(parents=True, exist_ok=True)
    np.save(CACHE / "jobs" / f"{row}-rows.npy", rows)
    np.save(CACHE / "jobs" / f"{row}-weights.npy", first_weights(case))


# --- row D ---


def status(key: str) -> float:
    """Return a size of this process in MiB."""
    return next(int(entry.split()[1]) for entry in Path("/proc/self/status").read_text().splitlines() if entry.startswith(f"{key}:")) / 1024


def of_size(row: str, nodes: int, rounds: int, trainer: Trainer) -> dict[str, Any]:
    """Measure row D or E for one number of nodes, in this process; a node's rows are made when the fleet asks for them."""
    case, spent = CASES[STANDS_FOR[row]], [0.0, 0.0]
    features = tuple(Feature(f"x{i}") for i in range(case.widths[0]))

    def table_of(node: str) -> Table:
        begin = time.perf_counter()
        table = Table(features, np.random.default_rng(int(node)).standard_normal((case.rows, case.widths[0]), dtype=np.float32))
        spent[:] = spent[0] + time.perf_counter() - begin, spent[1] + 1
        return table

    before, marks = status("VmRSS"), [(0.0, 0.0, 0.0)]

    def on_round(entry: Round, _: Any) -> None:
        marks.append((time.perf_counter(), *spent))
        if entry.stage == "rounds" and entry.number == entry.of:
            raise Enough

    fleet = Fleet([f"{i:06d}" for i in range(nodes)], table_of)
    strategy = FedAvg(rounds=1 + rounds, batch=case.batch)
    with suppress(Enough):
        vedette.federate(fleet, detector_of(case, "sgd"), strategy, trainer=trainer, on_round=on_round)
    # The first are the preparation and the first round.
    apart = [
        dict(zip(("s", "making s", "made"), np.subtract(end, begin).tolist(), strict=True)) for begin, end in itertools.pairwise(marks[2:])
    ]
    return {
        "row": row,
        "nodes": nodes,
        "best": min(each["s"] - each["making s"] for each in apart),
        "making": spent[0] / spent[1],
        "made": apart[-1]["made"] / nodes,
        "rounds": apart,
        "before MiB": before,
        "most MiB": status("VmHWM"),
    }


def sizes(row: str, ways: Ways, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Measure row D or E, each number of nodes in a process of its own."""
    lines: list[dict[str, Any]] = []
    for nodes in [size for size in SIZES[row] if size <= ways.most] or [ways.most]:
        rounds = max(2, min(50, 20_000 // nodes))
        if lines:
            # Preparation and the first round look at all rows too.
            expected = (lines[-1]["best"] / lines[-1]["nodes"] + lines[-1]["making"]) * nodes * (rounds + 2)
            if expected > 2 * ways.limit:
                say(f"{row}, {nodes:,} nodes: left out, would take some {expected:.0f} s (--limit)")
                break
        command = [sys.executable, __file__, "--one-size", row, str(nodes), str(rounds), "--trainer", *chosen]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=3 * ways.limit)
        except subprocess.TimeoutExpired:
            say(f"{row}, {nodes:,} nodes: not done after {3 * ways.limit:.0f} s")
            break
        if ended.returncode:
            say(f"{row}, {nodes:,} nodes: ended with {ended.returncode}: {ended.stderr[-1500:]}")
            break
        lines.append(json.loads(ended.stdout))
    return lines


# --- what is told ---


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


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
                f"| {row}: nodes | µs a node and round | rows made in a round | making them, µs | resident at most, MiB | a node, KiB |"
            ]
            said += ["|---|---|---|---|---|---|"]
            for each in mine:
                more = (each["most MiB"] - each["before MiB"]) * 1024 / each["nodes"]
                figures = f"{micros(each):.1f} | {each['made']:.0%} | {each['making'] * 1e6:.1f} | {each['most MiB']:,.0f} | {more:.1f}"
                said.append(f"| {each['nodes']:,} | {figures} |")
            figures = [micros(each) for each in mine]
            said += ["", f"Most against least time a node: {max(figures) / min(figures):.2f}.", ""]
            continue
        unit, factor = ("ms a round", 1e3) if row == "C" else ("µs a node and round", 1e6)
        said += [f"| {row}{f', {optimiser}' if optimiser else ''} | nodes | {unit} (median) | times Vedette's |", "|---|---|---|---|"]
        for each in mine:
            share = 1 if row == "C" else each["nodes"]
            best, middle = (value / share * factor for value in (each["best"], statistics.median(each["rounds"])))
            times = each["best"] / each["nodes"] / (mine[0]["best"] / mine[0]["nodes"])
            said.append(f"| {each['by']} | {each['nodes']:,} | {figure(best)} ({figure(middle)}) | {figure(times)} |")
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


def chosen_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="also measure pfl-research and Flower, in environments of their own")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--docs", action="store_true", help="rewrite the measured part of docs/benchmarks.md")
    parser.add_argument("--rows", default="A,B,C,D,E", help="which rows of the table (default: A,B,C,D,E)")
    parser.add_argument(
        "--nodes", type=int, default=SIZES["D"][-1], help="most nodes in any row (default: 100,000 in D and E, 1,000 in A and B)"
    )
    parser.add_argument(
        "--trainer", nargs="+", default=["cohort" if "cohort" in TRAINERS else "torch"], help="name and settings: key=value"
    )
    parser.add_argument("--repeats", type=int, default=3, help="how often Vedette and the loop take turns (default: 3)")
    parser.add_argument(
        "--limit",
        type=float,
        default=300,
        help="seconds that a line of a peer may take, and half of what a size of D or E may (default: 300)",
    )
    parser.add_argument("--one-size", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    if any(os.environ.get(name) != wanted for name, wanted in ONE_THREAD.items()):
        # Libraries read these when they are loaded.
        os.execve(sys.executable, sys.orig_argv, os.environ | ONE_THREAD)
    chosen = chosen_options()
    torch.set_num_threads(1)
    name, *settings = chosen.trainer
    trainer = build(TRAINERS, {"name": name, **dict(assignments(settings, "together=16"))}, "--trainer")
    if chosen.one_size:
        row, nodes, rounds = chosen.one_size
        sys.stdout.write(json.dumps(of_size(row, int(nodes), int(rounds), trainer)) + "\n")
        return
    about = machine()
    pythons = {peer: environment(peer) for peer in PEERS} if chosen.peers else {}
    ways = Ways(trainer, " ".join(chosen.trainer), chosen.repeats, chosen.limit, chosen.nodes, {p: at for p, at in pythons.items() if at})
    measures: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
        row: [partial(measured, row, optimiser, ways) for optimiser in RATES] for row in ("A", "B")
    }
    measures |= {"C": [partial(overhead, ways)], **{row: [partial(sizes, row, ways, chosen.trainer)] for row in SIZES}}
    wanted = chosen.rows.upper().split(",")
    if set(wanted) - set(measures):
        sys.exit(f"--rows: {', '.join(measures)}")
    lines: list[dict[str, Any]] = []
    for row in wanted:
        for measure in measures[row]:
            try:
                found = measure()
            except VedetteError as error:
                say(f"{row}: {error}")
                continue
            lines += found
            sys.stdout.write(tables(found) + "\n")
            sys.stdout.flush()
    result = {
        "schema": "vedette.benchmark/1",
        "benchmark": "cohort",
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python benchmarks/cohort.py {' '.join(sys.argv[1:])}".rstrip(),
        "machine": about | {"load after": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), **{part: version(part) for part in ("vedette", "numpy", "torch")}},
        "peers": list(ways.peers),
        "rows": lines,
    }
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.docs:
        write_docs(result)


if __name__ == "__main__":
    main()
