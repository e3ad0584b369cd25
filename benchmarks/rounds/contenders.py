"""The peers that rounds are measured beside: their environments, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rounds.cases import CACHE, RATES, ROOT, Case, Times, first_weights, say
from vedette.training.task import Trainer

TORCH = "torch==2.13.0"
PEERS = {"pfl": "pfl==0.6.0", "flower": "flwr[simulation]==1.41.0"}


class Ways(NamedTuple):
    """How it is measured."""

    trainer: Trainer
    name: str
    repeats: int
    limit: float
    most: int
    peers: dict[str, Path]


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


def line(row: str, optimiser: str, by: str, nodes: int, seconds: Sequence[float] | Sequence[Times], **more: Any) -> dict[str, Any]:
    """Return one line of the result; times in seconds a round."""
    timed = [each for each in seconds if isinstance(each, Times)]
    if timed:
        seconds, more = [each.seconds for each in timed], {"cpu": min(each.cpu for each in timed), **more}
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


def kept(row: str, case: Case, rows: np.ndarray) -> None:
    """Leave rows and first weights for the peers."""
    (CACHE / "jobs").mkdir(parents=True, exist_ok=True)
    np.save(CACHE / "jobs" / f"{row}-rows.npy", rows)
    np.save(CACHE / "jobs" / f"{row}-weights.npy", first_weights(case))
