"""A sentry at work, on this machine: pumps learn together, their telemetry goes through Mosquitto, faults are injected, incidents are told.

    python tools/live_demo.py

Three pumps train in a federation of real processes with mutual TLS. Then they publish two days of telemetry, some 2,000 times as fast as it
was recorded, and a sentry watches with what they learned while a second, longer federation trains beside; its bundle goes on trial in the
sentry's shadow when it is there. The demo ends by itself and says which faults were found. All is left in runs/live-demo.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho

from vedette.data.simulate import Simulated
from vedette.data.table import Table

FOLDER = Path("runs/live-demo")
NAMES = ["pump-1", "pump-2", "pump-3"]
HOURS, INTERVAL, SECONDS = 48.0, 60.0, 75.0
START = 1_767_225_600.0
"""The recorded days are set to begin with the year 2026."""
LIMIT = 240.0


def main() -> None:
    broker = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
    if broker is None:
        sys.exit("the live demo needs Mosquitto: apt-get install mosquitto (Debian, Ubuntu), brew install mosquitto (macOS)")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    running: list[subprocess.Popen[bytes]] = []
    try:
        keys()
        print("1. three pumps learn together, each from its own rows (mutual TLS)", flush=True)
        finished(running, federation(running, "first", rounds=4))
        bundle = FOLDER / "bundle"
        shutil.copytree(FOLDER / "first" / "pump-1" / "detector", bundle)
        at = port()
        settings = FOLDER / "mosquitto.conf"
        # Its usual queue drops most of a burst without a word.
        settings.write_text(f"listener {at} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n")
        running.append(subprocess.Popen([broker, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        print("2. a sentry watches what they publish; incidents are told here", flush=True)
        sentry = watching(bundle, at)
        running.append(sentry)
        heard(FOLDER / "sentry.log", "connected")
        later = Later(federation(running, "second", rounds=40), bundle)
        faults = publish(at, later)
        print("3. the telemetry is over; the sentry ends", flush=True)
        sentry.send_signal(signal.SIGTERM)
        if sentry.wait(60):
            sys.exit(f"the sentry failed; see {FOLDER / 'sentry.log'}")
        summary(faults)
    finally:
        for process in running:
            process.kill()
            process.wait()


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def vedette(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vedette", *arguments]


def keys() -> None:
    for made in (["init", str(FOLDER / "keys")], ["add", str(FOLDER / "keys"), "coordinator", *NAMES]):
        subprocess.run(vedette("keys", *made), check=True, stdout=subprocess.DEVNULL)


def federation(running: list[subprocess.Popen[bytes]], part: str, rounds: int) -> list[subprocess.Popen[bytes]]:
    """Start a coordinator and a node for each pump."""
    where, found = f"127.0.0.1:{port()}", []
    settings = ["--set", f"data.nodes={len(NAMES)}", "--set", f"strategy.rounds={rounds}"]
    for who in ("coordinator", *NAMES):
        joins = ["--listen", where, "--nodes", str(len(NAMES))] if who == "coordinator" else ["--connect", where]
        out = FOLDER / part / who
        out.mkdir(parents=True)
        command = "coordinator" if who == "coordinator" else "node"
        about = ["demo", *settings, "--keys", str(FOLDER / "keys" / "devices" / who), "--out", str(out), "--quiet", *joins]
        with (out / "log.txt").open("wb") as log:
            found.append(subprocess.Popen(vedette(command, *about), stdout=log, stderr=subprocess.STDOUT))
    running.extend(found)
    return found


def finished(running: list[subprocess.Popen[bytes]], processes: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + LIMIT
    for process in processes:
        if process.wait(max(1.0, end - time.monotonic())):
            sys.exit(f"a federation failed; see the logs in {FOLDER}")
        running.remove(process)


def watching(bundle: Path, at: int) -> subprocess.Popen[bytes]:
    source = f"mqtt://127.0.0.1:{at}/plant/{{device}}/telemetry"
    settings = [
        "--set",
        "format.time=time",
        "--set",
        "models.shadow=1500",
        "--set",
        "models.probation=1500",
        "--set",
        'incidents.related="none"',
        "--set",
        'calibration={name="contract",per=86400}',
    ]
    sinks = f'sinks=[{{name="stdout",kinds=["opened","closed"]}},{{name="eve",path="{FOLDER / "eve.json"}"}}]'
    out = ["--out", str(FOLDER / "sentry"), "--metrics", "0"]
    with (FOLDER / "sentry.log").open("wb") as log:
        return subprocess.Popen(vedette("watch", str(bundle), "--source", source, *settings, "--set", sinks, *out, "--quiet"), stderr=log)


def heard(log: Path, what: str) -> None:
    """Wait until something stands in a log."""
    end = time.monotonic() + LIMIT
    while what not in log.read_text():
        if time.monotonic() > end:
            sys.exit(f"the sentry did not begin; see {log}")
        time.sleep(0.05)


class Later:
    """A federation that trains while the sentry watches with what the one before it learned."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], bundle: Path) -> None:
        self.processes, self.bundle, self.over = processes, bundle, False

    def look(self) -> None:
        """Give its detector to the sentry once it is there."""
        if self.over or any(process.poll() is None for process in self.processes):
            return
        self.over = True
        made = FOLDER / "second" / "pump-1" / "detector"
        if any(process.returncode for process in self.processes):
            sys.exit(f"a federation failed; see the logs in {FOLDER}")
        for name in ("weights.safetensors", "model.onnx", "score.onnx", "detector.json"):
            shutil.copyfile(made / name, self.bundle / name)
        print("   a longer federation is over: its detector is tried in the shadow of the one at work", flush=True)


def publish(at: int, later: Later) -> list[tuple[str, str, float, float]]:
    """Publish all rows in the order of time; returns the faults: device, kind, begin and end."""
    fleet = Simulated(nodes=len(NAMES), test_hours=HOURS, interval=INTERVAL, fault_share=0.06, severity=(0.5, 1.0)).fleet("test", seed=11)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="pumps")
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", at)
    client.loop_start()
    rows, faults = [], []
    for name in NAMES:
        table = fleet[name]
        times = START + np.asarray(table.time)
        fields = [feature.name for feature in table.features]
        rows += [
            (at, name, dict(zip(fields, values, strict=True))) for at, values in zip(times, np.asarray(table.numbers).tolist(), strict=True)
        ]
        faults += faults_of(name, table, times)
    begin, sent = time.monotonic(), None
    for when, name, values in sorted(rows, key=lambda row: row[:2]):
        due = begin + (when - START) / (HOURS * 3600) * SECONDS
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        later.look()
        sent = client.publish(f"plant/{name}/telemetry", json.dumps({"time": when, **values}), qos=1)
    if sent is not None:
        sent.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    return faults


def faults_of(name: str, table: Table, times: np.ndarray) -> list[tuple[str, str, float, float]]:
    assert table.label is not None
    assert table.kind is not None
    edges = np.flatnonzero(np.diff(table.label.astype(int), prepend=0, append=0))
    found = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(name, table.kind.levels[table.kind.codes[first]], float(times[first]), float(times[end - 1])) for first, end in found]


def met(fault: tuple[str, str, float, float], incident: tuple[str, float, float]) -> bool:
    """Whether an incident has an alarm in a fault: an alarm takes two readings of three."""
    return incident[0] == fault[0] and incident[1] <= fault[3] + 3 * INTERVAL and incident[2] >= fault[2]


def summary(faults: list[tuple[str, str, float, float]]) -> None:
    """Say which faults an incident fell into."""
    said = subprocess.run(
        vedette("incidents", "--out", str(FOLDER / "sentry"), "--json", "--most", "1000"), check=True, stdout=subprocess.PIPE
    )
    incidents = [(event["device"], event["began"], event["last"]) for event in json.loads(said.stdout)["incidents"]]
    found = {fault for fault in faults if any(met(fault, each) for each in incidents)}
    # An incident that a spike opened is not false, though nobody promises that all spikes are found.
    false = [each for each in incidents if not any(met(fault, each) for fault in faults)]
    long = {fault for fault in faults if fault[3] - fault[2] >= 5 * INTERVAL}
    days = len(NAMES) * HOURS / 24
    models = [line.partition(" info    ")[2] for line in (FOLDER / "sentry.log").read_text().splitlines() if " model " in line]
    print(*(f"sentry: {line}" for line in models), sep="\n")
    print(
        f"{len(found & long)} of {len(long)} faults of five minutes or more were found; {len(false)} incidents in {days:g} device-days "
        f"belong to no fault (contract: {days:g})\nvedette incidents --out {FOLDER / 'sentry'} lists them; logs are in {FOLDER}"
    )


if __name__ == "__main__":
    main()
