"""The mesh measured by real processes of this machine with mutual TLS: rounds, start, memory, fifty nodes at once, and a soak.

    python benchmarks/mesh.py                       # all rows, about fifteen minutes
    python benchmarks/mesh.py --rows round,start --repeats 5

`round`: from one round to the next as the coordinator (each peer) tells of them, less nothing: one step of 128 rows is trained in it, and
a step is under a millisecond. `start`: from the start of five processes until the last has told of the first round, less what five times
`import torch` takes at once just before; the bytecode is there, as where Vedette is installed. `resident`: whoever waits. `fifty`: fifty
nodes begun at once. `soak`, `soak-peers`: nodes and, in the first half, the coordinator are SIGKILLed at random and begun again; who
never is shows whether memory and files stay flat. All must come to the weights of a `LocalRuntime`, to the last bit: nobody was left out.

All processes run one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from table import told

from vedette.data.fleet import Fleet
from vedette.detectors.bundle import load_bundle
from vedette.evaluation.recipe import load_recipe
from vedette.evaluation.setting import rows_of
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime

JSON = Path(__file__).parent.parent / "build" / "benchmarks" / "mesh.json"
WIDE, SMALL = "detector.hidden=[128,90]", "detector.hidden=[4]"
"""100 kB of parameters, and few."""
STEP = "epochs=0.001"
"""A task takes at least one step."""
FIRST = 10
"""Rounds that do not count: libraries are loaded in them."""
SAMPLES = 10
"""Rounds between two looks at memory and files in a soak."""


class Party:
    """A process, and what it said when."""

    def __init__(self, command: Sequence[str]) -> None:
        # Bytecode is kept, as where Vedette is installed.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))

    def when(self, what: str, limit: float = 300.0) -> float:
        """Wait for a line that begins so; return when it came."""
        seen, end = 0, time.monotonic() + limit
        while True:
            over = self.process.poll() is not None or time.monotonic() > end
            if over and self.process.returncode is not None:
                self.reader.join()
            for at, line in self.lines[seen:]:
                seen += 1
                if line.startswith(what):
                    return at
            if over:
                self.fail(f"never said '{what}'")
            time.sleep(0.002)

    def rounds(self) -> list[float]:
        """Return when it told of each round."""
        return [at for at, line in list(self.lines) if line.startswith("rounds: ")]

    def round(self) -> int:
        """Return the round it told of last."""
        return next((int(line.split()[2]) for _, line in reversed(self.lines) if line.startswith("rounds: ")), 0)

    def resident(self) -> float:
        """Return its resident memory in MB; 0 when it has ended."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next((int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)

    def settled(self) -> float:
        """Return its resident memory in MB when it has been the same for two seconds."""
        before, since = 0.0, time.monotonic()
        while time.monotonic() - since < 2:
            if self.process.poll() is not None:
                self.fail("ended")
            if abs(self.resident() - before) > 0.1:
                before, since = self.resident(), time.monotonic()
            time.sleep(0.05)
        return before

    def has_torch(self) -> bool:
        return "libtorch" in Path(f"/proc/{self.process.pid}/maps").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def end(self) -> None:
        """Wait for its end, and for its last words."""
        if self.process.wait(300):
            self.fail(f"ended with {self.process.returncode}")
        self.reader.join()

    def fail(self, what: str) -> NoReturn:
        """Stop: this should not have happened."""
        sys.exit(f"{what}: {self.process.args}\n{''.join(line for _, line in self.lines[-20:])}")


class Site:
    """A fleet on this machine: its keys and its processes."""

    def __init__(self, folder: Path, nodes: int = 5, *changes: str) -> None:
        self.folder, self.names = folder, [f"pump-{number}" for number in range(1, nodes + 1)]
        self.changes = [f"data.nodes={nodes}", "data.train_hours=24", *changes]
        self.running: dict[str, Party] = {}
        for command in (["init", f"{folder}/keys"], ["add", f"{folder}/keys", "coordinator", *self.names]):
            Party(["-m", "vedette", "keys", *command]).end()
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.at = f"127.0.0.1:{one.getsockname()[1]}"

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        for party in self.running.values():
            party.kill()

    def begin(self, who: str, command: str, *more: str) -> Party:
        """Begin a process, or begin it again."""
        settings = [part for change in self.changes for part in ("--set", change)]
        own = ["--keys", f"{self.folder}/keys/devices/{who}", "--out", f"{self.folder}/{who}"]
        self.running[who] = Party(["-m", "vedette", command, "demo", *settings, *own, *more])
        return self.running[who]

    def coordinator(self, *more: str) -> Party:
        return self.begin("coordinator", "coordinator", "--listen", self.at, "--nodes", str(len(self.names)), *more)

    def node(self, who: str) -> Party:
        return self.begin(who, "node", "--connect", self.at)

    def peer(self, who: str, *more: str) -> Party:
        where = ["--listen" if who == self.names[0] else "--connect", self.at]
        return self.begin(who, "peer", "--peers", ",".join(self.names), *where, *more)

    def end(self) -> None:
        for party in self.running.values():
            party.end()

    def bytes(self) -> int:
        """Return the size of all that is kept."""
        total = 0
        for who in self.running:
            for path in (self.folder / who).rglob("*"):
                # A file that is being replaced may be gone.
                with suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def apart(self) -> float:
        """Return the largest deviation of any node's weights from those that this process comes to alone."""
        recipe = load_recipe("demo", changes=self.changes)
        rows = {name: rows_of(recipe, None, 0, name) for name in self.names}
        alone = LocalRuntime(Fleet.of({n: train for n, (train, _) in rows.items()}), Fleet.of({n: held for n, (_, held) in rows.items()}))
        memories = alone.run(plan_of(recipe.detector, recipe.strategy, 0, recipe.topology, trainer=recipe.trainer)).memories
        both = [(load_bundle(self.folder / n / "detector").memory["network.model"], memories[n]["network.model"]) for n in self.names]
        return max(float(np.abs(np.asarray(there) - np.asarray(here)).max()) for there, here in both)


def fedavg(rounds: int) -> list[str]:
    return [f'strategy={{name="fedavg",rounds={rounds},{STEP}}}']


def gossip(rounds: int) -> list[str]:
    return [f'strategy={{name="gossip-fedavg",rounds={rounds},{STEP},merging=1.0}}', 'topology.name="full"']


def line(what: str, values: Sequence[float], unit: str, wanted: str = "") -> dict[str, Any]:
    """Return a row of the table: a median, and where there are several values what a tenth of them is below and above."""
    low, high = np.percentile(values, [10, 90]).tolist() if len(values) > 1 else ("", "")
    return {"measured": what, "median": float(np.median(values)), "p10": low, "p90": high, "of": len(values), "unit": unit, "aim": wanted}


def rounds(chosen: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    count = FIRST + chosen.count
    with Site(folder / "led", 5, WIDE, *fedavg(count)) as site:
        site.coordinator()
        for name in site.names:
            site.node(name)
        site.end()
        told_at = site.running["coordinator"].rounds()
    yield line("round, 5 nodes and a coordinator, 100 kB, one step", np.diff(told_at[FIRST - 1 :]) * 1e3, "ms", "<= 50")
    with Site(folder / "peers", 5, WIDE, *gossip(count)) as site:
        for name in site.names:
            site.peer(name)
        site.end()
        gaps = [gap for party in site.running.values() for gap in np.diff(party.rounds()[FIRST - 1 :])]
    yield line("round, 5 peers, all with all, 100 kB, one step", np.array(gaps) * 1e3, "ms", "<= 50")


def start(chosen: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    imports, peers, nodes = [], [], []
    # The first time fills the caches of files, and does not count.
    for turn in range(chosen.repeats + 1):
        begin = time.monotonic()
        loading = [Party(["-c", "import torch; print('loaded')"]) for _ in range(5)]
        imports.append(max(party.when("loaded") for party in loading) - begin)
        for party in loading:
            party.end()
        with Site(folder / f"peers-{turn}", 5, *gossip(3)) as site:
            begin = time.monotonic()
            peers.append(max(party.when("rounds: round 1 ") for party in [site.peer(name) for name in site.names]) - begin)
        with Site(folder / f"nodes-{turn}", 5, *fedavg(3)) as site:
            coordinator = site.coordinator()
            coordinator.settled()
            begin = time.monotonic()
            for name in site.names:
                site.node(name)
            nodes.append(coordinator.when("rounds: round 1 ") - begin)
    imported = np.array(imports[1:])
    yield line("import torch, five at once", imported, "s")
    yield line("five peers begun until the first round is over, beyond that", np.array(peers[1:]) - imported, "s", "<= 3")
    yield line("five nodes begun, the coordinator was there, beyond that", np.array(nodes[1:]) - imported, "s", "<= 3")


def resident(chosen: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    alone, leading, waiting = list[float](), list[float](), list[float]()
    for turn in range(chosen.repeats):
        with Site(folder / str(turn), 5) as site:
            node = site.node("pump-1")
            alone.append(node.settled())
            coordinator = site.coordinator()
            coordinator.when("", 60)
            leading.append(coordinator.settled())
            waiting.append(node.settled())
            if node.has_torch() or coordinator.has_torch():
                sys.exit("torch is loaded where nobody trains")
    yield line("resident, a coordinator that waits for nodes, no torch", leading, "MB", "<= 90")
    yield line("resident, a node that waits for a coordinator, no torch", alone, "MB", "<= 90")
    yield line("resident, a node that waits for others, no torch", waiting, "MB", "<= 90")


def fifty(chosen: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    available = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    nodes = chosen.nodes
    if available * 1024 < nodes * 250e6:
        sys.exit(f"{nodes} processes may need {nodes * 0.25:.0f} GB, {available * 1024 / 1e9:.1f} are free: choose fewer with --nodes")
    with Site(folder / "fifty", nodes, SMALL, *fedavg(5)) as site:
        coordinator = site.coordinator("--deadline", "600", "--grace", "600")
        idle, begin, most = coordinator.settled(), time.monotonic(), 0.0
        for name in site.names:
            site.node(name)
        first = coordinator.when("prepare: round 1 ", 600) - begin
        joined = coordinator.resident()
        trained = coordinator.when("rounds: round 1 ", 600) - begin
        while coordinator.process.poll() is None:
            most = max(most, sum(party.resident() for party in site.running.values()))
            time.sleep(0.2)
        site.end()
        ended = coordinator.lines[-1][0] - begin
        apart = site.apart()
    yield line(f"{nodes} node processes begun at once: all joined and prepared", [first], "s")
    yield line("their first round over, torch imported by all", [trained], "s")
    yield line("five rounds, calibrated, all ended", [ended], "s")
    yield line(f"resident, coordinator, {nodes} names, nobody there", [idle], "MB", "<= 90")
    yield line(f"resident, coordinator with {nodes} nodes", [joined], "MB", "<= 90")
    yield line("most memory of all together, shared pages counted each time", [most], "MB")
    yield line("largest deviation from LocalRuntime", [apart], "", "0")


class Look(NamedTuple):
    """What was seen at a round of a soak: MB, open files and bytes on disk, of whoever tells of rounds and of a node that always lives."""

    round: int
    led: float
    lived: float
    led_files: int
    lived_files: int
    kept: int


def soak(chosen: argparse.Namespace, folder: Path, among_peers: bool = False) -> Iterator[dict[str, Any]]:
    rng, count, kind = random.Random(chosen.seed), chosen.soaked, "peers" if among_peers else "nodes"
    with Site(folder / kind, 5, SMALL, *(gossip(count) if among_peers else fedavg(count))) as site:
        first, *others = site.names
        patience = "--deadline", "600", "--grace", "600"
        begins: dict[str, Callable[[], Party]] = {name: lambda name=name: site.node(name) for name in site.names}
        if among_peers:
            begins = {name: lambda name=name: site.peer(name, *patience) for name in site.names}
        else:
            begins = {"coordinator": lambda: site.coordinator(*patience, "--linger", "60"), **begins}
        # Neither right at the beginning nor when others may have ended.
        deaths = [(at, rng.choice(others)) for at in range(20, count - 20, 20) if rng.random() < 0.8]
        if not among_peers:
            deaths += [(at, "coordinator") for at in rng.sample(range(20, count // 2), 3)]
        deaths.sort()
        leader = next(iter(begins))
        begun, looks, last = time.monotonic(), list[Look](), -SAMPLES
        for begin in begins.values():
            begin()
        left = list(deaths)
        while (reached := site.running[leader].round()) < count:
            if time.monotonic() - begun > chosen.limit:
                sys.exit(f"soak: round {reached} of {count} after {chosen.limit:.0f} s")
            for party in site.running.values():
                if party.process.poll():
                    party.end()
            if reached >= last + SAMPLES and reached:
                looks.append(looked(site, leader, first, reached))
                last = reached
            if left and reached >= left[0][0]:
                who = left.pop(0)[1]
                # Anywhere in a round.
                time.sleep(rng.uniform(0, 0.05))
                site.running[who].kill()
                begins[who]()
            time.sleep(0.005)
        site.end()
        seconds, apart = time.monotonic() - begun, site.apart()
    # What is loaded in the first rounds does not count.
    begun_at = max([at for at, who in deaths if who == leader], default=0)
    settled = begun_at + (count - begun_at) // 10
    flat, lived = ([look for look in looks if look.round >= since] for since in (settled, count // 10))
    yield line(f"soak, 5 {kind}: {count:,} rounds, {len(deaths)} times killed and begun again", [seconds], "s")
    yield line("largest deviation from LocalRuntime", [apart], "", "0")
    if not among_peers:
        yield line(f"resident, coordinator, from round {settled}", [look.led for look in flat], "MB")
        yield line("its slope", [slope(flat, "led") * 1e3], "kB a 100 rounds")
        yield line("its open files", [look.led_files for look in flat], "")
    yield line(f"resident, {first}, never killed, from round {count // 10}", [look.lived for look in lived], "MB")
    yield line("its slope", [slope(lived, "lived") * 1e3], "kB a 100 rounds")
    yield line("its open files", [look.lived_files for look in lived], "")
    yield line("bytes kept by all, at the end", [looks[-1].kept / 1e3], "kB")
    yield line("their slope", [slope(lived, "kept") / 1e3], "kB a 100 rounds")


def looked(site: Site, leader: str, first: str, reached: int) -> Look:
    led, lived = site.running[leader], site.running[first]
    files = [len(list(Path(f"/proc/{party.process.pid}/fd").iterdir())) for party in (led, lived)]
    return Look(reached, led.resident(), lived.resident(), *files, site.bytes())


def slope(looks: Sequence[Look], of: str) -> float:
    """Return by how much it grows in a hundred rounds."""
    return float(np.polyfit([look.round for look in looks], [getattr(look, of) for look in looks], 1)[0]) * 100


ROWS: dict[str, Callable[[argparse.Namespace, Path], Iterator[dict[str, Any]]]] = {
    "round": rounds,
    "start": start,
    "resident": resident,
    "fifty": fifty,
    "soak": soak,
    "soak-peers": lambda chosen, folder: soak(chosen, folder, among_peers=True),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS), help=f"which (default: {','.join(ROWS)})")
    parser.add_argument("--json", type=Path, default=JSON, help="file to write all figures to (default: build/benchmarks/mesh.json)")
    parser.add_argument("--repeats", type=int, default=3, help="how often start and resident are measured (default: 3)")
    parser.add_argument("--count", type=int, default=150, help="rounds that count in row 'round' (default: 150)")
    parser.add_argument("--soaked", type=int, default=1000, help="rounds of a soak (default: 1,000)")
    parser.add_argument("--nodes", type=int, default=50, help="of row 'fifty' (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of who is killed when in a soak (default: 0)")
    parser.add_argument("--limit", type=float, default=1200, help="seconds a soak may take (default: 1,200)")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    wanted = chosen.rows.split(",")
    if set(wanted) - set(ROWS):
        sys.exit(f"--rows: {', '.join(ROWS)}")
    load, lines = os.getloadavg()[0], list[dict[str, Any]]()
    for row in wanted:
        with tempfile.TemporaryDirectory() as folder:
            found = list(ROWS[row](chosen, Path(folder)))
        told(row, found, as_json=False)
        sys.stdout.flush()
        lines += [{"row": row, **each} for each in found]
    about = {"cores": os.cpu_count(), "load before": load, "load after": os.getloadavg()[0], "python": platform.python_version()}
    result = {"schema": "vedette.benchmark/1", "benchmark": "mesh", "date": time.strftime("%Y-%m-%d"), **about, "rows": lines}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
