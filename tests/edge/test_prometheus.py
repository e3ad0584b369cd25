"""What Prometheus is told of a sentry, and the rules and the dashboard that are made of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from listening import until
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from vedette.edge.agent import Agent
from vedette.edge.prometheus import EdgeCollector
from vedette.edge.watch import Watch
from vedette.settings import validated

LIVE = Path(__file__).parents[2] / "docs/live"


def promtool(*arguments: str, given: str | None = None) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([tool, *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """In both formats, what an agent says after it has watched a device that went wrong near the end."""
    folder = tmp_path_factory.mktemp("agent")
    values = np.random.default_rng(3).normal(size=(600, 3))
    values[-20:] += 40
    lines = [json.dumps({"t": 1.8e9 + place, **dict(zip("abc", row.tolist(), strict=True))}) for place, row in enumerate(values)]
    (folder / "lines.jsonl").write_text("\n".join([*lines, "garbage"]) + "\n")
    settings = {
        "source": {"name": "lines", "path": str(folder / "lines.jsonl"), "follow": False, "device": 'pump "1"'},
        "sensors": ["a", "b", "c"],
        "format": {"time": "t"},
        "sinks": [{"name": "eve", "path": str(folder / "eve.json")}],
    }
    agent = Agent(validated(Watch, settings, "settings"), folder / "out")
    agent.run(threading.Event())
    until(lambda: agent.store.outbox.counts() == {"eve": 0})
    registry = CollectorRegistry()
    registry.register(EdgeCollector(agent))
    found = generate_latest(registry).decode(), exposition.generate_latest(registry).decode()
    agent.close()
    return found


@pytest.fixture
def scraped(said: tuple[str, str]) -> str:
    return said[0]


def test_metrics_say_what_went_on(scraped: str, said: tuple[str, str]) -> None:
    values = {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
    }
    assert values["vedette_readings_total", ""] == 600
    assert values["vedette_readings_above_threshold_total", ""] >= 20
    assert values["vedette_readings_faulty_total", "garbage"] == 1
    assert values["vedette_devices", ""] == 1
    assert values["vedette_devices_silent", ""] == 0
    opened = values["vedette_events_total", "opened"]
    assert opened >= 1
    assert sum(values["vedette_incidents_open", severity] for severity in ("low", "medium", "high")) == 1
    told = sum(values["vedette_events_total", kind] for kind in ("opened", "updated", "closed"))
    # Updates that wait may give way to newer ones.
    assert opened <= values["vedette_events_accepted_total", "eve"] <= told
    assert values["vedette_events_waiting", "eve"] == 0
    assert 600 * 3 * 8 < values["vedette_store_bytes", ""] < values["vedette_store_limit_bytes", ""]
    assert any(name == "vedette_rate_promised" and value > 0 for (name, _), value in values.items())
    promtool("check", "metrics", given=said[1])


def metrics_of(text: str) -> set[str]:
    return set(re.findall(r"\bvedette_[a-z_]+", text))


def test_rules_fire_when_they_should(scraped: str, tmp_path: Path) -> None:
    rules = (LIVE / "alerts.yml").read_text()
    assert metrics_of(rules) <= metrics_of(scraped)
    shutil.copy(LIVE / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "alerts.yml"))
    promtool("test", "rules", str(tmp_path / "alerts_test.yml"))


def test_the_dashboard_asks_for_what_there_is(scraped: str, tmp_path: Path) -> None:
    board = json.loads((LIVE / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert metrics_of(" ".join(asked)) <= metrics_of(scraped)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    # No panel lies upon another or beyond the edge.
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    plain = [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in asked]
    rules = [{"record": f"panel:{place}", "expr": one} for place, one in enumerate(plain)]
    (tmp_path / "asked.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(tmp_path / "asked.yml"))
