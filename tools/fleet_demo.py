"""A federation of real processes on this machine, with mutual TLS: a coordinator and five nodes, then five peers.

    python tools/fleet_demo.py

Keys, logs, states and detectors are left in runs/fleet-demo.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("runs/fleet-demo")
NAMES = [f"pump-{number}" for number in range(1, 6)]
SIZE = ["--set", "data.nodes=5"]
GOSSIP = ["--set", 'strategy={name="gossip-fedavg",rounds=10}', "--set", 'topology.name="full"']
LIMIT = 120.0


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def begun(who: str, part: str, command: str, *more: str) -> subprocess.Popen[bytes]:
    out, keys = FOLDER / part / who, FOLDER / "keys" / "devices" / who
    out.mkdir(parents=True)
    whole = [sys.executable, "-m", "vedette", command, "demo", *SIZE, "--keys", str(keys), "--out", str(out), *more]
    with (out / "log.txt").open("wb") as log:
        return subprocess.Popen(whole, stdout=log, stderr=subprocess.STDOUT)


def ended(part: str, running: dict[str, subprocess.Popen[bytes]], begin: float) -> None:
    """Wait for all, and say how it went."""
    try:
        for who, process in running.items():
            if process.wait(max(1.0, LIMIT - (time.monotonic() - begin))):
                sys.exit(f"{part}: {who} ended with {process.returncode}; see {FOLDER / part / who / 'log.txt'}")
    except subprocess.TimeoutExpired:
        sys.exit(f"{part}: not done after {LIMIT:.0f} s; see the logs in {FOLDER / part}")
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    print(f"{part}: {len(running)} processes, {time.monotonic() - begin:.1f} s; detectors in {FOLDER / part}/*/detector")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for keys in (["init", str(FOLDER / "keys")], ["add", str(FOLDER / "keys"), "coordinator", *NAMES]):
        subprocess.run([sys.executable, "-m", "vedette", "keys", *keys], check=True, stdout=subprocess.DEVNULL)
    begin, where = time.monotonic(), f"127.0.0.1:{port()}"
    running = {"coordinator": begun("coordinator", "led", "coordinator", "--listen", where, "--nodes", str(len(NAMES)))}
    running |= {name: begun(name, "led", "node", "--connect", where) for name in NAMES}
    ended("led", running, begin)
    print((FOLDER / "led" / "coordinator" / "log.txt").read_text(), end="")
    begin, where = time.monotonic(), f"127.0.0.1:{port()}"
    at = {name: ["--listen" if name == NAMES[0] else "--connect", where] for name in NAMES}
    running = {name: begun(name, "peers", "peer", "--peers", ",".join(NAMES), *GOSSIP, *at[name]) for name in NAMES}
    ended("peers", running, begin)


if __name__ == "__main__":
    main()
