"""What Prometheus is told of a federation: real processes, scraped over HTTP while they run, and held against history.json."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sites import port, until

from vedette.cli.metrics import serving
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import AddressError, RecipeError, VedetteError
from vedette.runtimes.base import plan_of
from vedette.runtimes.mesh.coordinator import REFUSED, Coordinator
from vedette.runtimes.mesh.lead import Lead, Quorum
from vedette.runtimes.mesh.prometheus import MeshCollector
from vedette.runtimes.mesh.rules import key
from vedette.runtimes.mesh.session import MeshSettings, open_session
from vedette.runtimes.mesh.status import Status, Tally
from vedette.strategies import FedAvg

SIZE = ("--set", "data.nodes=2", "--set", "data.train_hours=24")
NAMES = ("pump-1", "pump-2")


def scraped(url: str, strict: bool = True) -> str:
    accept = "application/openmetrics-text; version=1.0.0" if strict else "text/plain"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as reply:
        return str(reply.read().decode())


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return values by name and label, as the strict parser of the OpenMetrics format reads them."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def demand_valid(text: str) -> None:
    """Hold metrics against Prometheus' own rules for names, units and help texts, where its tool is there."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Site:
    """Processes of a federation without keys, each with its log as JSON lines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at = folder, port()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, who: str, command: str, *more: str) -> None:
        common = ("--insecure", who, "--out", str(self.folder / who), "--metrics", "0", "--log", "json", *SIZE)
        whole = [sys.executable, "-m", "vedette", command, "demo", *common, *more]
        with (self.folder / f"{who}.log").open("w") as log:
            self.running[who] = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=log, env=environment())

    def said(self, who: str) -> list[dict[str, Any]]:
        whole = (self.folder / f"{who}.log").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def url(self, who: str) -> str:
        found = until(lambda: [line for line in self.said(who) if line["message"] == "metrics are served"], f"{who} serves no metrics")
        return str(found[0]["url"])

    def metrics(self, who: str) -> dict[tuple[str, str], float]:
        return samples(scraped(self.url(who)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    for process in found.running.values():
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_federation_is_scraped_while_it_runs(site: Site) -> None:
    rounds = ("vedette_round", "rounds")
    site.begin("coordinator", "coordinator", "--listen", f"127.0.0.1:{site.at}", "--nodes", "2", "--deadline", "2", "--quorum", "0.5",
               "--linger", "2", "--set", "strategy.rounds=60")  # fmt: skip
    idle = site.metrics("coordinator")
    assert (idle["vedette_nodes_online", ""], idle["vedette_quorum", ""], idle["vedette_nodes_asked", ""]) == (0, 2, 0)
    assert math.isnan(idle["vedette_deadline_seconds", ""])
    assert "torch" not in Path(f"/proc/{site.running['coordinator'].pid}/maps").read_text()
    assert site.url("coordinator").startswith("http://127.0.0.1:")
    for name in NAMES:
        site.begin(name, "node", "--connect", f"127.0.0.1:{site.at}")
    first = until(lambda: (found := site.metrics("coordinator"))[rounds] >= 3 and found, "no rounds")
    assert first["vedette_nodes_online", ""] == 2
    # Who stops is late, and its answer is counted as such when it goes on.
    os.kill(site.running["pump-2"].pid, signal.SIGSTOP)
    until(
        lambda: any(line["message"] == "deadline over" and line["missing"] == ["pump-2"] for line in site.said("coordinator")),
        "no deadline",
    )
    stopped = site.metrics("coordinator")
    assert 0 <= stopped["vedette_deadline_seconds", ""] <= 2
    assert (stopped["vedette_nodes_asked", ""], stopped["vedette_quorum", ""]) == (2, 1)
    # As long as another is stopped: afterwards it may be through before it is asked.
    node = site.metrics("pump-1")
    os.kill(site.running["pump-2"].pid, signal.SIGCONT)
    second = until(lambda: (found := site.metrics("coordinator"))["vedette_answers_late_total", ""] and found, "nobody was late")
    seen = list[dict[tuple[str, str], float]]()
    while site.running["coordinator"].poll() is None:
        try:
            seen.append(site.metrics("coordinator"))
            site.running["coordinator"].wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        except (urllib.error.URLError, ConnectionError):
            break
    assert site.running["coordinator"].wait(60) == 0
    history = json.loads((site.folder / "coordinator" / "history.json").read_text())["history"]
    told = [line for line in site.said("coordinator") if line["message"] == "round over"]
    assert [{key: line[key] for key in history[0]} for line in told] == history
    for found in (first, second, *seen):
        over = int(found[rounds])
        assert found["vedette_loss", ""] == next(e["loss"] for e in history if (e["stage"], e["number"]) == ("rounds", over))
        assert found["vedette_rounds_total", "rounds"] == found["vedette_round_seconds_count", "rounds"] in (over, over - 1)
        sent = sum(entry["sent"] for entry in history if entry["number"] <= over and entry["stage"] != "calibrate")
        # Headers come on top, and what the round under way has brought.
        assert sent <= found["vedette_update_bytes_total", "in"] <= 3 * sent + 40_000
    rising = [first, second, *seen]
    for name in (
        rounds,
        ("vedette_update_bytes_total", "in"),
        ("vedette_update_bytes_total", "out"),
        ("vedette_round_seconds_sum", "rounds"),
    ):
        assert [found[name] for found in rising] == sorted(found[name] for found in rising), name
    assert rising[0][rounds] < rising[-1][rounds]
    assert node["vedette_rounds_total", "rounds"] >= 3
    assert node["vedette_update_bytes_total", "out"] > 0
    assert ("vedette_quorum", "") not in node


@pytest.fixture
def waiting() -> Iterator[tuple[Coordinator, str]]:
    """Serve a run that nobody has joined yet; yields where."""
    at = port()
    plan = plan_of(Autoencoder(hidden=(4, 2)), FedAvg(rounds=2), 7)
    session, name = open_session(MeshSettings(insecure=True, name="coordinator", coordinator="coordinator", listen=(f"127.0.0.1:{at}",)))
    found = Coordinator(plan, Lead(plan, Quorum(2)), session, name, "fleet", linger=0)
    ended = threading.Event()

    def stop(_: Coordinator) -> None:
        if ended.is_set():
            found.lead.place = len(found.lead.course)

    thread = threading.Thread(target=found.serve, args=(stop,))
    thread.start()
    yield found, f"127.0.0.1:{at}"
    ended.set()
    thread.join(10)
    session.close()  # type: ignore[no-untyped-call]
    assert not thread.is_alive()


def test_a_message_that_is_none_counts_for_its_sender(waiting: tuple[Coordinator, str]) -> None:
    coordinator, at = waiting
    settings = MeshSettings(insecure=True, name="liar", coordinator="coordinator", listen=(), connect=(at,))
    session, _ = open_session(settings)
    try:
        where = key("fleet", "coordinator", "liar", "ask/another-plan/0")
        said = until(lambda: [reply.ok for reply in session.get(where, timeout=5) if reply.ok is not None], "no reply")
        assert said[0].attachment is not None
        assert said[0].attachment.to_string() == REFUSED
    finally:
        session.close()  # type: ignore[no-untyped-call]
    with serving("0", MeshCollector(coordinator.status)) as url:
        found = samples(scraped(url))
        assert found["vedette_messages_refused_total", "liar"] >= 1
        assert found["vedette_update_bytes_total", "out"] > 0
        demand_valid(scraped(url, strict=False))


def test_before_a_node_has_the_plan_there_is_something_to_scrape() -> None:
    registry = CollectorRegistry()
    registry.register(MeshCollector(lambda: Status("node", "pump-1", "fleet", "looks for the coordinator", (), Tally())))
    found = samples(generate_latest(registry).decode())
    assert found["vedette_answers_late_total", ""] == 0
    assert math.isnan(found["vedette_loss", ""])


def test_rounds_are_counted_in_the_bucket_that_ends_where_they_do() -> None:
    tally = Tally()
    tally.seconds += [("rounds", 0.25), ("rounds", 0.3), ("prepare", 9.0), ("rounds", 9999.0)]
    plan = plan_of(Autoencoder(hidden=(4, 2)), FedAvg(rounds=2), 7)
    lead = Lead(plan, Quorum(1))
    status = Status("coordinator", "coordinator", "fleet", "", (), tally, lead.run, lead.course)
    family = next(family for family in MeshCollector(lambda: status).collect() if family.name == "vedette_round_seconds")
    found = {(sample.labels["stage"], sample.labels["le"]): sample.value for sample in family.samples if "le" in sample.labels}
    assert [found["rounds", edge] for edge in ("0.1", "0.25", "0.5", "3600.0", "+Inf")] == [0, 1, 2, 2, 3]
    assert [found["prepare", edge] for edge in ("5.0", "10.0", "+Inf")] == [0, 1, 1]
    assert {sample.value for sample in family.samples if sample.name.endswith("_sum")} == {0.25 + 0.3 + 9999.0, 9.0, 0.0}


@pytest.mark.parametrize(
    ("where", "error"),
    [*((where, RecipeError) for where in ("here", "localhost:", "127.0.0.1:70000", ":-1")), ("no such host:1", AddressError)],
)
def test_an_address_that_is_none_is_refused(where: str, error: type[VedetteError]) -> None:
    with pytest.raises(error, match=r"--metrics (takes )?\[HOST:\]PORT"), serving(where, MeshCollector(lambda: None)):  # type: ignore[arg-type, return-value]
        pass


def test_a_port_that_is_taken_is_refused_and_one_that_was_served_is_free_again() -> None:
    collector = MeshCollector(lambda: Status("node", "pump-1", "fleet", "", (), Tally()))
    with serving(":0", collector) as url:
        taken = url.split(":")[2].partition("/")[0]
        with pytest.raises(AddressError, match=rf"cannot serve metrics at {taken} \(Address already in use\)"), serving(taken, collector):
            pass
    with serving(f"127.0.0.1:{taken}", collector) as url:
        assert url == f"http://127.0.0.1:{taken}/metrics"
        assert "vedette_build_info" in scraped(url)
