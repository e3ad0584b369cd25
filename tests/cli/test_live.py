"""The live view of a federation, drawn into a string and on a real terminal."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from rich.console import Console

from vedette.cli import STOPPED
from vedette.cli.live import view
from vedette.detectors.autoencoder import Autoencoder
from vedette.runtimes.base import Round, plan_of
from vedette.runtimes.mesh.lead import Lead, Quorum
from vedette.runtimes.mesh.status import Condition, Status, Tally
from vedette.strategies import FedAvg

LEAD = Lead(plan_of(Autoencoder(hidden=(4, 2)), FedAvg(rounds=20), 7), Quorum(3))
LINES = 15
"""As many as the view may have: a terminal of 24 keeps room for what is logged above it."""


def drawn(status: Status, width: int, seconds: float = 83.2) -> list[str]:
    terminal = Console(width=width, file=io.StringIO(), highlight=False)
    terminal.print(view(status, width, seconds))
    return [line.rstrip() for line in terminal.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def amid(count: int) -> Status:
    """Return a run in its tenth round: the second node is late, the third gone, every fourth of the others works."""
    tally = Tally()
    tally.count(12_345_678, 9_876, late=2, refused=["pump-000"] * 3)
    tally.seconds.append(("rounds", 1.25))
    names = [f"pump-{number:03}" for number in range(count)]
    nodes: dict[str, Condition] = {name: "answered" if number % 4 else "working" for number, name in enumerate(names)}
    nodes |= {"pump-001": "late", "pump-002": "gone"}
    history = [Round("prepare", 1, 1, None, 1, 1), *(Round("rounds", number, 20, 1 / number, 1, 1) for number in range(1, 10))]
    place = next(at for at, step in enumerate(LEAD.course) if LEAD.run.stages[step.stage].name == "rounds" and step.round == 9)
    return Status(
        "coordinator", "coordinator", "plant", "waits for nodes", history, tally, LEAD.run, LEAD.course, place,
        nodes, count - 1, count, list(nodes.values()).count("answered"), math.ceil(count * 2 / 3), 42.4,
    )  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("count", [3, 100])
def test_what_there_is_to_see_has_room(count: int, width: int) -> None:
    lines = drawn(amid(count), width)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= width
    rows = {line.split()[0]: line for line in lines}
    assert rows.keys() >= {"now", "run", "heard", "loss", "round", "bytes", "answers", "working", "late", "gone"}
    assert rows["coordinator,"].startswith("coordinator, run plant, 1:23 ─")
    assert rows["late"].split() == ["late", "1", "pump-001"]
    assert rows["gone"].split() == ["gone", "1", "pump-002"]
    assert rows["loss"].split() == ["loss", "0.111", "█▄▂▂▁▁▁▁▁"]
    if width >= 80:
        assert rows["run"].split()[-5:] == ["rounds:", "10", "of", "20,", "train"]
        assert rows["answers"].split("answers")[1].strip() == "2 late, 3 refused of pump-000"
        assert rows["bytes"].split("bytes")[1].strip() == "12.3 MB in, 9.9 kB out"
        heard, needed = (0, 2) if count == 3 else (73, 67)
        assert f"{heard} of {count}, {needed} needed at the deadline in 0:42" in rows["heard"]


def test_nodes_are_named_as_far_as_there_is_room() -> None:
    rows = {line.split()[0]: line for line in drawn(amid(100), 80)}
    names = rows["answered"].split(maxsplit=2)[2]
    listed, _, more = names.partition(" and ")
    assert listed.split(", ")[:2] == ["pump-003", "pump-005"]
    assert len(listed.split(", ")) + int(more.removesuffix(" more")) == 73


def test_long_runs_have_their_whole_loss_in_sight() -> None:
    history = [Round("rounds", number, 900, 1.0 if number <= 450 else 0.0, 1, 1) for number in range(1, 901)]
    status = amid(3)._replace(history=history)
    line = next(line for line in drawn(status, 80) if line.startswith("loss"))
    assert line.split()[1] == "0"
    bars = line.split()[2]
    assert len(bars) <= 40
    assert set(bars[: len(bars) // 2]) == {"█"}
    assert set(bars[(len(bars) + 1) // 2 :]) == {"▁"}


def test_before_and_after_a_run() -> None:
    node = Status("node", "pump-1", "plant", "looks for the coordinator", (), Tally())
    assert drawn(node, 80, 3725)[0].startswith("node pump-1, run plant, 1:02:05 ─")
    assert [line.split()[0] for line in drawn(node, 80)[1:]] == ["now", "bytes"]
    over = amid(3)._replace(place=len(LEAD.course), asked=0, left=math.nan, nodes=dict.fromkeys(["pump-1", "pump-2"], "done"))
    lines = drawn(over, 80)
    assert any(line.startswith("run") and line.endswith("100%  over") for line in lines)
    assert lines[-1].split() == ["done", "2", "pump-1,", "pump-2"]
    assert not any(line.startswith("heard") for line in lines)
    peer = amid(3)._replace(party="peer", name="pump-9", quorum=0)
    assert "goes on without the others at the deadline in 0:42" in "".join(drawn(peer, 80))
    assert any(line.split() == ["heard", "0", "of", "3"] for line in drawn(peer._replace(left=math.nan), 80))


def test_whoever_waits_says_so_before_the_run() -> None:
    waiting = Status("coordinator", "coordinator", "plant", "waits", (), Tally(), LEAD.run, LEAD.course, nodes={"[red]": "there"})
    assert drawn(waiting, 80)[-1].split() == ["there", "1", "[red]"]


COORDINATOR = ("coordinator", "demo", "--insecure", "coordinator")


def command(*arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "vedette", *map(str, arguments)]
    return subprocess.Popen(whole, text=True, env={**environment(), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}, **streams)


def read(terminal: int, process: subprocess.Popen[str], stop_at: str = "") -> str:
    """Return all that a process writes to a terminal; it is interrupted once it has written what it shall be stopped at."""
    said, deadline = "", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            said += os.read(terminal, 1 << 16).decode(errors="replace")
            if stop_at and stop_at in said:
                process.send_signal(signal.SIGINT)
                stop_at = ""
    except OSError:
        # Its other end is closed: the process is at its end.
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return said


def test_a_terminal_has_the_view_below_the_log(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("w") as out:
        process = command(*COORDINATOR, "--listen", "127.0.0.1:0", "--out", tmp_path, "--metrics", "0", stdout=out, stderr=theirs)
    os.close(theirs)
    said = read(ours, process, "begins with 1")
    assert process.returncode == STOPPED, said
    assert said.index("metrics are served: url http://127.0.0.1:") < said.index("coordinator, run fleet, 0:0")
    # The cursor is shown again.
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "Traceback" not in said
    assert "vedette: stopped; the same command goes on where it was" in said


def test_whoever_wants_lines_gets_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = command(*COORDINATOR, "--listen", "127.0.0.1:0", "--out", tmp_path, "--metrics", "0", "--quiet", stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = read(ours, process, "metrics are served")
    assert process.returncode == STOPPED, said
    assert "\x1b" not in said
    assert "run fleet" not in said


@pytest.mark.slow
def test_where_the_run_is_drawn_rounds_are_no_lines_but_those_in_a_file(tmp_path: Path) -> None:
    """A node has both its streams on a terminal, its coordinator has the standard output in a file."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{one.getsockname()[1]}"
    (ours, theirs), (seen, drawing) = pty.openpty(), pty.openpty()
    size = ("--set", "data.nodes=2", "--set", "data.train_hours=24", "--set", "strategy.rounds=3")
    with (tmp_path / "lines").open("w") as lines:
        leads = command(*COORDINATOR, "--listen", at, "--out", tmp_path / "c", *size, stdout=lines, stderr=drawing)
    node = command("node", "demo", "--insecure", "pump-1", "--connect", at, "--out", tmp_path / "n", *size, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.close(drawing)
    with ThreadPoolExecutor() as pool:
        said, led = pool.map(read, (ours, seen), (node, leads))
    assert (node.returncode, leads.returncode) == (0, 0), said + led
    assert "the run is over" in said
    assert "wrote " in said
    assert "rounds: round 2 of 3" not in said + led
    told = (tmp_path / "lines").read_text().splitlines()
    assert [line.partition(",")[0] for line in told if line.startswith("rounds")] == [
        f"rounds: round {number} of 3" for number in (1, 2, 3)
    ]
    assert "done      1   pump-1" in re.sub(r"\x1b\[\d+m", "", led)
