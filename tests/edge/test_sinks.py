"""Sinks, against those they tell: a real broker, a real Alertmanager, a real web server, real files."""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import json
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening import Listening, until
from mosquitto import Listener, Mosquitto, certificate, free_port
from told import event

from vedette.edge.endpoint import Endpoint
from vedette.edge.sinks.alertmanager import Alertmanager
from vedette.edge.sinks.base import SINKS, Sink, Unaccepted
from vedette.edge.sinks.eve import EveLines
from vedette.edge.sinks.mqtt import MqttEvents
from vedette.edge.sinks.stdout import Stdout
from vedette.edge.sinks.webhook import Webhook
from vedette.errors import KeysError, RecipeError, StorageError
from vedette.settings import build


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()


def test_lines_for_people_say_what_happened_where(capsys: pytest.CaptureFixture[str]) -> None:
    outlet = Stdout().open()
    outlet.send([event("opened"), event("closed", updates=90), event("alert", device="bad\x1b[2J\n")])
    opened, closed, alert = capsys.readouterr().out.splitlines()
    assert opened == (
        "2027-01-15 08:00:00Z  opened   pump-1  medium  score 3, threshold 1; 2 alerts in 0 s; "
        f"flow 63 %: 31.2 m³/h where 46.8 was expected  [{event('opened').id[:8]}]"
    )
    assert "2 alerts in 90 s" in closed
    assert "bad\ufffd[2J\ufffd" in alert
    Stdout(form="json").open().send([event("opened")])
    assert json.loads(capsys.readouterr().out) == event("opened").said()


def test_a_pipe_that_nobody_reads_is_no_end_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(Unaccepted, match="nobody reads") as caught:
            Stdout().open().send([event("opened")])
        assert caught.value.lasting
        monkeypatch.undo()
        # What is left in its buffer cannot go anywhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())


def test_eve_lines_read_like_those_of_suricata(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    outlet = EveLines(path=path, host="gateway").open()
    outlet.send([event("opened"), event("closed", score=9.0)])
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["timestamp"], first["event_type"], first["host"]) == ("2027-01-15T08:00:00.000000+0000", "alert", "gateway")
    assert first["alert"]["signature"] == "VEDETTE incident opened at pump-1"
    assert (first["alert"]["severity"], second["alert"]["severity"]) == (2, 1)
    assert {one["alert"]["signature_id"] for one in (first, second)} == {2, 4}
    assert first["vedette"] == event("opened").said()
    # It may be rotated, and a line that a killed process left without its end stays apart from what follows.
    path.rename(tmp_path / "eve.json.1")
    path.write_text('{"timestamp": "20')
    outlet.send([event("opened")])
    torn, whole = path.read_text().splitlines()
    assert torn == '{"timestamp": "20'
    assert json.loads(whole)["vedette"]["id"] == event("opened").id
    with pytest.raises(StorageError, match="folder is not there"):
        EveLines(path=tmp_path / "nowhere/eve.json").open()


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    outlet = EveLines(path=path).open()
    outlet.send([event("opened")])
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, limits[1]))
    try:
        with pytest.raises(Unaccepted, match="bytes could be written") as caught:
            outlet.send([event("closed")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not caught.value.lasting
    assert path.stat().st_size == size
    outlet.send([event("closed")])
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_a_webhook_is_a_signed_cloud_event(tmp_path: Path) -> None:
    key = os.urandom(32)
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(key).decode()}\n")
    (tmp_path / "token").write_text("letmein\n")
    for name in ("secret", "token"):
        (tmp_path / name).chmod(0o600)
    web = Listening()
    url = f"http://127.0.0.1:{web.port}/hook?a=b"
    outlet = Webhook(url=url, secret_file=tmp_path / "secret", token_file=tmp_path / "token", source="/site/north").open()
    outlet.send([event("opened"), event("closed", updates=5)])
    outlet.close()
    web.close()
    opened, closed = web.requests
    assert opened.path == "/hook?a=b"
    assert opened.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert opened.headers["authorization"] == "Bearer letmein"
    assert {key: opened.json[key] for key in ("specversion", "id", "source", "type", "subject", "time", "datacontenttype")} == {
        "specversion": "1.0",
        "id": event("opened").id,
        "source": "/site/north",
        "type": "org.vedette.incident.opened.v1",
        "subject": "pump-1",
        "time": "2027-01-15T08:00:00.000000Z",
        "datacontenttype": "application/json",
    }
    assert opened.json["data"] == event("opened").said()
    assert closed.json["type"] == "org.vedette.incident.closed.v1"
    # As a receiver checks it, from the specification of Standard Webhooks.
    signed = f"{opened.headers['webhook-id']}.{opened.headers['webhook-timestamp']}.".encode() + opened.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert opened.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("status", "headers", "lasting", "after"),
    [
        (503, {"Retry-After": "7"}, False, 7.0),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, False, 0.0),
        (500, {}, False, 0.0),
        (400, {}, True, 0.0),
        (422, {}, True, 0.0),
        (401, {}, False, 0.0),
        (404, {}, False, 0.0),
        (301, {"Location": "https://elsewhere/"}, False, 0.0),
    ],
)
def test_what_a_server_answers_says_whether_to_come_again(status: int, headers: dict[str, str], lasting: bool, after: float) -> None:
    web = Listening([(status, headers)])
    outlet = Webhook(url=f"http://127.0.0.1:{web.port}/").open()
    with pytest.raises(Unaccepted, match=f"status {status}") as caught:
        outlet.send([event("opened")])
    assert (caught.value.lasting, caught.value.after) == (lasting, after)
    assert ("say that" in str(caught.value)) == (status == 301)
    outlet.send([event("opened")])
    outlet.close()
    web.close()
    assert len(web.requests) == 2


def test_a_server_that_was_away_is_reached_again() -> None:
    web = Listening()
    outlet = Webhook(url=f"http://127.0.0.1:{web.port}/", timeout=5).open()
    outlet.send([event("opened", 1)])
    port = web.port
    web.close()
    with pytest.raises(Unaccepted):
        outlet.send([event("opened", 2)])
    web = Listening(port=port)
    outlet.send([event("opened", 2)])
    outlet.close()
    web.close()
    assert [one.json["id"] for one in web.requests] == [event("opened", 2).id]


def test_certificates_are_checked(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    web = Listening(context=context)
    url = f"https://127.0.0.1:{web.port}/"
    with pytest.raises(Unaccepted, match=r"(?i)certificate"):
        Webhook(url=url).open().send([event("opened")])
    with pytest.raises(Unaccepted, match=r"(?i)mismatch"):
        Webhook(url=url.replace("127.0.0.1", "localhost"), ca=cert).open().send([event("opened")])
    outlet = Webhook(url=url, ca=cert).open()
    outlet.send([event("opened")])
    outlet.close()
    web.close()
    assert len(web.requests) == 1


def test_addresses_and_secrets_that_cannot_work_are_said_at_once(tmp_path: Path) -> None:
    for url in ("ftp://host/", "https://", "https://me:secret@host/", "https://host/ä", "http://host\n/"):
        with pytest.raises(RecipeError, match="without a user or password"):
            build(SINKS, {"name": "webhook", "url": url}, "[[sinks]]")
    with pytest.raises(RecipeError, match="without TLS"):
        Endpoint(url="http://10.0.0.1/").connected()
    Endpoint(url="http://10.0.0.1/", insecure=True).connected()
    with pytest.raises(RecipeError, match="without TLS"):
        MqttEvents(host="broker.example", tls=False).open()
    (tmp_path / "open").write_text("whsec_AAAA")
    with pytest.raises(KeysError, match="read by others"):
        Webhook(url="https://host/", secret_file=tmp_path / "open").open()
    (tmp_path / "open").chmod(0o600)
    with pytest.raises(KeysError, match="no key for webhooks"):
        Webhook(url="https://host/", secret_file=tmp_path / "open").open()
    with pytest.raises(KeysError, match="cannot read"):
        Webhook(url="https://host/", token_file=tmp_path / "none").open()
    with pytest.raises(KeysError, match="cannot use"):
        Webhook(url="https://host/", ca=tmp_path / "open").open()
    with pytest.raises(RecipeError, match="part of a topic"):
        build(SINKS, {"name": "mqtt", "prefix": "a/#"}, "[[sinks]]")
    with pytest.raises(RecipeError, match="label"):
        build(SINKS, {"name": "alertmanager", "url": "http://127.0.0.1", "labels": {"device": "x"}}, "[[sinks]]")


def test_every_sink_is_said_and_built_again(tmp_path: Path) -> None:
    needs: dict[str, dict[str, Any]] = {
        "eve": {"path": str(tmp_path / "e")},
        "webhook": {"url": "https://h/"},
        "alertmanager": {"url": "https://h/"},
    }
    for name in SINKS:
        sink = build(SINKS, {"name": name, **needs.get(name, {})}, "[[sinks]]")
        assert isinstance(sink, Sink)
        assert build(SINKS, {"name": name, **sink.model_dump(mode="json")}, "[[sinks]]") == sink


class Manager:
    """A real Alertmanager."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        if program is None:
            pytest.skip("needs Alertmanager (Debian: prometheus-alertmanager)")
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "am.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        settings = (f"--config.file={folder / 'am.yml'}", f"--storage.path={folder / 'data'}", "--cluster.listen-address=")
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        self.process = subprocess.Popen([program, *settings, listen], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alerts(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=30) as reply:
            return json.load(reply)

    def ready(self) -> bool:
        try:
            return self.alerts() == []
        except OSError:
            return False


def test_alertmanager_holds_an_incident_until_it_is_closed(tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    try:
        until(manager.ready)
        outlet = Alertmanager(url=manager.url, labels={"site": "north"}).open()
        begun = time.time() - 100
        # The clock of the second device is an hour ahead.
        ahead = event("opened", 2, "pump-2", begun + 3700)
        outlet.send([event("opened", 1, time=begun), ahead])
        found = {one["labels"]["device"]: one for one in manager.alerts()}
        assert set(found) == {"pump-1", "pump-2"}
        one = found["pump-1"]
        assert one["labels"] == {
            "alertname": "VedetteIncident",
            "device": "pump-1",
            "incident": event("opened", 1, time=begun).id,
            "site": "north",
        }
        assert one["annotations"]["summary"] == "pump-1: flow 63 %: 31.2 m³/h where 46.8 was expected"
        assert (one["status"]["state"], one["annotations"]["severity"]) == ("active", "medium")
        outlet.remind([event("updated", 1, time=begun, score=7.0), ahead])
        again = {one["labels"]["device"]: one for one in manager.alerts()}
        # The same alert, told again: it goes on longer, and knows the worse score.
        assert again["pump-1"]["fingerprint"] == one["fingerprint"]
        assert again["pump-1"]["annotations"]["severity"] == "high"
        assert again["pump-1"]["endsAt"] > one["endsAt"]
        outlet.send([event("closed", 1, time=begun)])
        until(lambda: [one["labels"]["device"] for one in manager.alerts()] == ["pump-2"])
        outlet.close()
    finally:
        manager.process.send_signal(signal.SIGTERM)
        manager.process.wait()


def test_mqtt_events_arrive_and_the_broker_keeps_the_state_of_devices(broker: Mosquitto) -> None:
    listener = Listener(broker.port)
    outlet = MqttEvents(port=broker.port, sentry="gate", home_assistant="homeassistant").open()
    outlet.send([event("opened", 1), event("opened", 2, "hall/1 +#"), event("closed", 1, updates=9)])
    until(lambda: len(listener.on("vedette/gate/events")) == 3)
    assert json.loads(listener.on("vedette/gate/events")[0]) == event("opened", 1).said()
    late = Listener(broker.port)
    until(lambda: len([1 for _, _, retained in late.heard if retained]) == 5)
    assert json.loads(late.on("vedette/gate/devices/pump-1")[0])["state"] == "OFF"
    assert json.loads(late.on("vedette/gate/devices/hall%2F1%20%2B%23")[0])["state"] == "ON"
    assert late.on("vedette/gate/status") == [b"online"]
    configs = {topic: json.loads(payload) for topic, payload, _ in late.heard if topic.startswith("homeassistant/")}
    assert len(configs) == 2
    for topic, config in configs.items():
        assert topic == f"homeassistant/binary_sensor/{config['unique_id']}/config"
        assert (config["device_class"], config["availability_topic"]) == ("problem", "vedette/gate/status")
        assert late.on(config["state_topic"])
    outlet.close()
    until(lambda: late.on("vedette/gate/status")[-1] == b"offline")
    late.close()
    listener.close()


def test_a_killed_process_leaves_its_last_will(broker: Mosquitto) -> None:
    listener = Listener(broker.port)
    code = (
        f"from vedette.edge.sinks.mqtt import MqttEvents; from told import event; import os, signal\n"
        f"MqttEvents(port={broker.port}, sentry='gate').open().send([event('opened')])\n"
        f"os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    until(lambda: listener.on("vedette/gate/status")[-1:] == [b"offline"])
    assert len(listener.on("vedette/gate/events")) == 1
    listener.close()


def test_a_broker_that_goes_and_comes_is_told_what_it_missed(broker: Mosquitto) -> None:
    outlet = MqttEvents(port=broker.port, sentry="gate", timeout=5).open()
    outlet.send([event("opened", 1)])
    broker.stop(kill=True)
    for _ in range(2):
        with pytest.raises(Unaccepted):
            outlet.send([event("opened", 2)])
    broker.start()
    listener = Listener(broker.port)
    outlet.send([event("opened", 2)])
    outlet.remind([event("opened", 1)])
    until(lambda: len(listener.heard) >= 4)
    # Once, though it was tried three times; and the state of the first, which the broker forgot.
    assert [json.loads(one)["id"] for one in listener.on("vedette/gate/events")] == [event("opened", 2).id]
    assert json.loads(listener.on("vedette/gate/devices/pump-1")[-1])["id"] == event("opened", 1).id
    outlet.close()
    listener.close()


def test_what_a_broker_does_not_let_us_publish_is_not_taken_for_told(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\ntopic write vedette/+/status\n")
    broker = Mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}")
    try:
        outlet = MqttEvents(port=broker.port, timeout=5).open()
        with pytest.raises(Unaccepted, match=r"(?i)not authorized"):
            outlet.send([event("opened")])
        outlet.close()
    finally:
        broker.stop()


# paho leaves a socket to the garbage collector where TLS fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_asks_for_a_password_and_shows_its_certificate(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    made = subprocess.run(["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "gate", "right"], capture_output=True)
    if made.returncode:
        pytest.skip("needs mosquitto_passwd")
    tls = (f"certfile {cert}", f"keyfile {key}", "allow_anonymous false", f"password_file {tmp_path / 'users'}")
    broker = Mosquitto(tmp_path, *tls)
    try:
        for word in ("right", "wrong"):
            (tmp_path / word).write_text(word)
            (tmp_path / word).chmod(0o600)
        common: dict[str, Any] = {"port": broker.port, "tls": True, "user": "gate", "timeout": 5}
        with pytest.raises(Unaccepted, match=r"(?i)certificate"):
            MqttEvents(**common, password_file=tmp_path / "right").open().send([event("opened")])
        outlet = MqttEvents(**common, ca=cert, password_file=tmp_path / "wrong").open()
        with pytest.raises(Unaccepted, match="refused"):
            outlet.send([event("opened")])
        outlet.close()
        outlet = MqttEvents(**common, ca=cert, password_file=tmp_path / "right").open()
        outlet.send([event("opened")])
        outlet.close()
        gc.collect()
    finally:
        broker.stop()
