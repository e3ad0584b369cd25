"""`vedette watch`, `incidents`, `explain` and `ack`: a sentry as its owner uses it, killed too."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from commands import refused, spawned, vedette

from vedette.cli.watch import settings_of, source_of
from vedette.data.simulate import Simulated
from vedette.data.table import concat
from vedette.detectors import Pca
from vedette.detectors.bundle import digest_of, load_bundle, save_bundle

FIELDS = ("--set", "format.device=node", "--set", "format.time=time", "--set", "calibration=fixed")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector for pumps and a recording of three of them, with faults."""
    folder = tmp_path_factory.mktemp("plant")
    pumps = Simulated(nodes=3, train_hours=24, test_hours=24, interval=60, fault_share=0.2)
    train, test = pumps.fleet("train", seed=1), pumps.fleet("test", seed=1)
    detector = Pca(scaling={"numbers": "standard"}, share=0.9).fit(concat([train[node] for node in train]))
    save_bundle(detector, folder / "bundle")
    rows = []
    for node in test:
        table = test[node]
        rows += [(float(at), node, *numbers) for at, numbers in zip(table.time, np.asarray(table.numbers).tolist(), strict=True)]
    with (folder / "plant.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["time", "node", *(feature.name for feature in table.features)])
        out.writerows(sorted(rows))
    return folder


def told(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def watched(plant: Path) -> list[dict[str, object]]:
    """What is told of the recording when nothing happens meanwhile; the state is left in ``state``."""
    done = vedette("watch", plant / "bundle", "--source", plant / "plant.csv", *FIELDS, "--out", plant / "state", "--json")
    assert done.returncode == 0, done.stderr
    return told(done.stdout)


def test_incidents_of_a_recording_are_told_and_kept(plant: Path, watched: list[dict[str, object]]) -> None:
    opened = [event for event in watched if event["kind"] == "opened"]
    assert len(opened) > 3
    assert {event["schema"] for event in watched} == {"vedette.event/1"}
    listed = json.loads(vedette("incidents", "--out", plant / "state", "--json", "--most", 1000).stdout)["incidents"]
    assert {event["incident"] for event in listed} == {event["incident"] for event in opened}
    shown = vedette("incidents", "--out", plant / "state", "--open").stdout
    ended = {event["incident"] for event in watched if event["kind"] == "closed"}
    assert all((str(event["incident"])[:8] in shown) == (event["incident"] not in ended) for event in opened)


def test_a_recording_that_was_watched_to_its_end_is_not_told_again(plant: Path, watched: list[dict[str, object]]) -> None:
    again = vedette("watch", plant / "bundle", "--source", plant / "plant.csv", *FIELDS, "--out", plant / "state", "--json")
    assert again.returncode == 0
    assert again.stdout == ""


def test_every_event_is_explained_by_the_very_score_it_was_told_with(plant: Path, watched: list[dict[str, object]]) -> None:
    # Also those that are told of as they were before: updates and ends.
    for event in watched[:12]:
        said = json.loads(vedette("explain", str(event["id"]), "--out", plant / "state", "--json").stdout)
        assert said["score"] == event["score"]
        assert said["same"] is True
        assert said["why"][:3] == event["cause"]
    shown = vedette("explain", str(event["id"])[:8], "--out", plant / "state").stdout
    assert "the same score" in shown


def test_a_newer_bundle_is_tried_in_shadow_and_takes_over_between_two_readings(plant: Path, tmp_path: Path) -> None:
    lines = (plant / "plant.csv").read_text().splitlines(keepends=True)
    first, second, bundle = tmp_path / "first.csv", tmp_path / "second.csv", tmp_path / "bundle"
    first.write_text("".join(lines[:1000]))
    second.write_text(lines[0] + "".join(lines[1000:]))
    shutil.copytree(plant / "bundle", bundle)
    run = ("watch", bundle, *FIELDS, "--set", "models.shadow=500", "--set", "models.probation=500", "--out", tmp_path / "state", "--json")
    assert vedette(*run, "--source", first).returncode == 0
    # A node that learned on has written its bundle anew.
    detector = load_bundle(plant / "bundle")
    save_bundle(detector, bundle, {"run": "later"})
    before, after = (json.loads((folder / "detector.json").read_text()) for folder in (plant / "bundle", bundle))
    assert before != after
    done = vedette(*run, "--set", f'source={{name="replay",files=["{first}","{second}"]}}')
    assert done.returncode == 0, done.stderr
    assert "a new model is scored in the shadow" in done.stderr
    assert "model swapped" in done.stderr
    assert "model kept" in done.stderr
    old, new = digest_of(plant / "bundle"), digest_of(bundle)
    models = [str(event["model"]) for event in told(done.stdout) if event["kind"] == "opened"]
    assert models[0] == old
    assert models[-1] == new
    assert models == sorted(models, key=[old, new].index)
    # What the old one scored can still be explained.
    event = next(event for event in told(done.stdout) if event["model"] == old)
    assert json.loads(vedette("explain", str(event["id"]), "--out", tmp_path / "state", "--json").stdout)["same"] is True


def test_what_is_acknowledged_is_heeded_with_the_next_readings(plant: Path, tmp_path: Path, watched: list[dict[str, object]]) -> None:
    lines = (plant / "plant.csv").read_text().splitlines(keepends=True)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("".join(lines[:3000]))
    second.write_text(lines[0] + "".join(lines[3000:]))
    run = ("watch", plant / "bundle", *FIELDS, "--out", tmp_path / "state", "--json")
    event = told(vedette(*run, "--source", first).stdout)[0]
    assert "is marked as true" in vedette("ack", str(event["id"])[:10], "--true", "--out", tmp_path / "state").stdout
    assert vedette(*run, "--set", f'source={{name="replay",files=["{first}","{second}"]}}').returncode == 0
    with sqlite3.connect(tmp_path / "state" / "sentry.db") as db:
        assert db.execute("select verdict, applied is not null from acknowledgements").fetchall() == [(1, 1)]
    assert "no event here begins" in refused("ack", "ffffffffffff", "--true", "--out", str(tmp_path / "state"))


def test_killed_at_any_moment_every_event_is_told_and_none_invented(plant: Path, tmp_path: Path, watched: list[dict[str, object]]) -> None:
    draw = random.Random(5)
    # The whole recording lasts some seconds; so each process comes to a part of it.
    source = f'source={{name="replay",files=["{plant / "plant.csv"}"],speed=30000}}'
    sink = f'sinks=[{{name="eve",path="{tmp_path / "eve.json"}",kinds=["opened","closed"]}}]'
    command = ("watch", plant / "bundle", *FIELDS, "--set", source, "--set", sink, "--out", tmp_path / "state", "--quiet")
    for _ in range(3):
        process = spawned(*command)
        begun = time.monotonic()
        while not (tmp_path / "state" / "sentry.db").exists() and process.poll() is None and time.monotonic() < begun + 60:
            time.sleep(0.005)
        with pytest.raises(Exception, match="timed out"):
            process.wait(draw.uniform(0.1, 0.7))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = spawned(*command)
    assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    process.communicate()
    heard = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
    ids = {line["vedette"]["id"] for line in heard}
    assert {event["id"] for event in watched if event["kind"] in ("opened", "closed")} <= ids
    assert ids <= {event["id"] for event in watched}


def test_this_machine_is_watched_without_any_set_up(tmp_path: Path) -> None:
    quick = ("--set", "source.every=0.05", "--set", "rolling.least=10", "--set", "rolling.every=5")
    done = vedette("watch", "--source", "host", *quick, "--seconds", "1.5", "--out", tmp_path / "state", "--quiet")
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.splitlines()[-1].split()[0].replace(",", ""))
    assert count >= 10


def test_columns_that_may_say_device_and_time_are_not_passed_over_in_silence(plant: Path, tmp_path: Path) -> None:
    lines = (plant / "plant.csv").read_text().splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join(lines[:21]) + "1,2\n3\n")
    command = ("watch", plant / "bundle", "--source", tmp_path / "rows.csv", "--out")
    done = vedette(*command, tmp_path / "one")
    assert done.stderr.count("fields are left alone") == 1
    assert "fields time, node, hint if one says the device (all are 'rows') or the time: --set format.device=NAME" in done.stderr
    assert "20 readings of 1 device; " in done.stdout
    # The log tells of each kind once a minute only; the last line tells how many there were.
    assert "; not as it should be: wrong-length 2; state in" in done.stdout
    done = vedette(*command, tmp_path / "three", *FIELDS)
    assert "left alone" not in done.stderr
    assert "20 readings of 3 devices; 0 incidents; " in done.stdout


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("host", {"name": "host"}),
        ("mqtt://10.0.0.7/plant/+/{device}", {"name": "mqtt", "host": "10.0.0.7", "topics": ("plant/+/{device}",), "tls": False}),
        (
            "mqtts://jo@broker:8884/spBv1.0/plant/#",
            {"name": "mqtt", "host": "broker", "topics": ("spBv1.0/plant/#",), "tls": True, "port": 8884, "user": "jo"},
        ),
        ("rows/a.csv", {"name": "replay", "files": ("rows/a.csv",)}),
        ("-", {"name": "lines", "path": "-"}),
        ("x.jsonl", {"name": "lines", "path": "x.jsonl"}),
        ("/var/log/suricata/eve.json", {"name": "eve", "path": "/var/log/suricata/eve.json"}),
        ("otlp://127.0.0.1:4318", {"name": "otlp", "address": "127.0.0.1:4318"}),
    ],
)
def test_a_source_is_said_in_short(text: str, source: dict[str, object]) -> None:
    assert source_of(text) == source
    more = [] if source["name"] in ("host", "eve") else ['sensors=["a"]']
    assert settings_of(None, text, more).source


def test_what_a_user_gets_wrong_is_one_line(plant: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "state"))
    assert "nothing to watch" in refused("watch", *out)
    assert "no source 'ftp://x/y'" in refused("watch", "--source", "ftp://x/y", *out)
    assert "seen by everybody" in refused("watch", "--source", "mqtt://jo:secret@x/y", *out)
    assert "'sensors' must say" in refused("watch", "--source", str(plant / "plant.csv"), *out)
    assert "unknown key" in refused("watch", "--source", "host", "--set", "incidents.quite=3", *out)
    assert f"cannot read {tmp_path / 'nothing' / 'detector.json'}" in refused("watch", str(tmp_path / "nothing"), "--source", "host", *out)
    assert "trained on 'load', which this source does not have" in refused("watch", str(plant / "bundle"), "--source", "host", *out)
    assert "holds no events" in refused("incidents", "--out", str(tmp_path / "nowhere"))
