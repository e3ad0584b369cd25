"""Responses: what is done once, what is only said, and what is not done at all; with real programs, a real broker, a real web server."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening import Listening, until
from mosquitto import Listener, Mosquitto
from told import event

from vedette.edge.actions import Call, Publish, Run
from vedette.edge.couriers import Couriers
from vedette.edge.events import Event
from vedette.edge.responses import Responses
from vedette.edge.sinks.base import Unaccepted
from vedette.edge.store import Store
from vedette.edge.watch import Watch
from vedette.errors import RecipeError
from vedette.settings import validated

NOW = 0.0


@pytest.fixture(autouse=True)
def _now() -> None:
    """Events of a test have one time, and it is that of the test, not of when it was imported."""
    global NOW
    NOW = time.time()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that notes its arguments, its environment and what it reads."""
    path = tmp_path / "note"
    lines = (
        f"""printf '%s\\n' "$@" >> {tmp_path}/arguments; env >> {tmp_path}/environment; cat >> {tmp_path}/read; echo >> {tmp_path}/read"""
    )
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def responses(action: dict[str, Any], dry_run: bool = False, allow: tuple[Path, ...] = (), **rule: Any) -> Responses:
    said = {"rules": [{"name": "stop", "action": action, **rule}], "dry_run": dry_run, "allow": allow}
    return validated(Responses, said, "[responses]")


def respond(store: Store, found: Responses, *events: Event) -> list[tuple[str, str]]:
    """Respond to events; return what is stored of it."""
    (told,) = found.told(store.database).values()
    outlet = told.open()
    try:
        outlet.send(events)
    finally:
        outlet.close()
        with store.database.reading() as db:
            noted = db.execute("select state, about from responses order by place").fetchall()
    return noted


def now(kind: Any = "opened", number: int = 0, **more: Any) -> Event:
    return event(kind, number, time=NOW, **more)


def test_nothing_is_done_unless_it_is_allowed_to(store: Store, program: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    action = {"name": "run", "program": str(program), "arguments": ["{device}"]}
    assert Responses().dry_run is True
    assert respond(store, responses(action, dry_run=True, allow=(program,)), now()) == [("dry", "dry run: nothing is done")]
    assert not (program.parent / "arguments").exists()
    (record,) = caplog.records
    assert record.__dict__["action"] == f"run ['{program}', 'pump-1']"
    with pytest.raises(RecipeError, match="none of the programs that are allowed"):
        respond(store, responses(action), now(number=1))


def test_a_program_gets_fields_as_single_arguments_and_nothing_else(store: Store, program: Path) -> None:
    hostile = "a'; touch /tmp/x $(id) \"b"
    action = {"name": "run", "program": str(program), "arguments": ["--device={device}", "{severity}", "{kind} {nothing", "{cause}"]}
    found = responses(action, allow=(program,))
    assert respond(store, found, now(device=hostile)) == [("done", "status 0")]
    told = (program.parent / "arguments").read_text().splitlines()
    assert told == [f"--device={hostile}", "medium", "opened {nothing", now().cause[0]]
    environment = dict(line.split("=", 1) for line in (program.parent / "environment").read_text().splitlines())
    assert set(environment) <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    assert json.loads((program.parent / "read").read_text()) == now(device=hostile).said()


def test_a_device_cannot_call_itself_an_option(store: Store, program: Path) -> None:
    found = responses({"name": "run", "program": str(program), "arguments": ["{device}"]}, allow=(program,))
    ((state, about),) = respond(store, found, now(device="--force"))
    assert (state, "more than a value" in about) == ("failed", True)
    assert not (program.parent / "arguments").exists()


def test_each_event_is_responded_to_once_also_after_a_restart(store: Store, program: Path) -> None:
    found = responses({"name": "run", "program": str(program), "arguments": ["{id}"]}, allow=(program,))
    respond(store, found, now(number=1), now(number=2))
    store.close()
    again = Store(store.folder)
    respond(again, found, now(number=1), now(number=2), now(number=3))
    assert (program.parent / "arguments").read_text().split() == [now(number=number).id for number in (1, 2, 3)]
    # Killed between beginning and end, nobody knows whether it was done: it is not done again.
    with again.database.writing() as db:
        db.execute("update responses set state = 'begun' where event = ?", (now(number=2).id,))
    noted = respond(again, found, now(number=2))
    assert [state for state, _ in noted] == ["done", "interrupted", "done"]
    assert len((program.parent / "arguments").read_text().split()) == 3
    again.close()


def test_a_program_that_takes_too_long_is_killed_with_what_it_started(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text(f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/child; wait\n")
    program.chmod(0o755)
    found = responses({"name": "run", "program": str(program), "limit": 0.5}, allow=(program,))
    begin = time.monotonic()
    assert respond(store, found, now()) == [("failed", "killed after 0.5 s")]
    assert time.monotonic() - begin < 40, "the program of a minute was waited for"
    child = int((tmp_path / "child").read_text())

    def gone() -> bool:
        try:
            # Nobody may be there to bury it.
            return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    until(gone)


def test_what_a_program_says_of_its_failure_is_noted(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "failing"
    program.write_text("#!/bin/sh\necho no valve here >&2; exit 3\n")
    program.chmod(0o755)
    found = responses({"name": "run", "program": str(program)}, allow=(program,))
    assert respond(store, found, now()) == [("failed", "status 3: no valve here")]
    program.chmod(0o777)
    with pytest.raises(RecipeError, match="can be changed by others"):
        respond(store, found, now())


def test_rules_choose_by_kind_name_and_severity(store: Store, program: Path) -> None:
    action = {"name": "run", "program": str(program), "arguments": ["{device} {kind}"]}
    found = responses(action, allow=(program,), on=["closed"], devices="hall-1/*", severity="high")
    # Of these only the last but one is of the right kind, place and severity.
    of = [
        ("opened", "hall-1/a", 6.0),
        ("closed", "yard", 6.0),
        ("closed", "hall-1/a", 3.0),
        ("closed", "hall-1/b", 6.0),
        ("opened", "yard", 3.0),
    ]
    respond(store, found, *(now(kind, device=device, score=score) for kind, device, score in of))
    assert (program.parent / "arguments").read_text() == "hall-1/b closed\n"
    for wrong in ({"on": ["alert"]}, {"severity": "huge"}, {"action": {"name": "run", "program": "/bin/true", "arguments": ["{devcie}"]}}):
        with pytest.raises(RecipeError):
            responses(**{"action": action, **wrong})
    with pytest.raises(RecipeError, match="same name"):
        validated(Responses, {"rules": [{"name": "a", "action": action}] * 2}, "[responses]")


def test_no_rule_acts_too_often_or_too_late(store: Store, program: Path) -> None:
    found = responses({"name": "run", "program": str(program), "arguments": ["{incident}"]}, allow=(program,), most=2, within=300)
    noted = respond(store, found, *(now(number=number) for number in range(4)), event("opened", 9, time=NOW - 400))
    assert [state for state, _ in noted] == ["done", "done", "limited", "limited", "late"]
    assert len((program.parent / "arguments").read_text().split()) == 2
    # An hour later there is room again.
    with store.database.writing() as db:
        db.execute("update responses set time = time - 3601")
    assert respond(store, found, now(number=5))[-1] == ("done", "status 0")


def test_a_command_is_published_with_fields_that_cannot_be_more(store: Store, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    try:
        listener = Listener(broker.port)
        action = {
            "name": "publish",
            "port": broker.port,
            "topic": "plant/{device}/cmd",
            "payload": '{"stop": "{device}", "score": {score}}',
        }
        assert respond(store, responses(action), now(device='a/#"}')) == [("done", "taken by the broker")]
        until(lambda: len(listener.heard) == 1)
        topic, payload, _ = listener.heard[0]
        assert (topic, json.loads(payload)) == ("plant/a%2F%23%22%7D/cmd", {"stop": 'a/#"}', "score": 3.0})
        listener.close()
    finally:
        broker.stop()


def test_a_call_is_repeated_until_it_is_accepted(store: Store) -> None:
    web = Listening([(503, {}), (503, {})])
    found = responses({"name": "call", "url": f"http://127.0.0.1:{web.port}/"})
    with pytest.raises(Unaccepted, match="503"):
        respond(store, found, now())
    with pytest.raises(Unaccepted, match="503"):
        respond(store, found, now())
    assert respond(store, found, now()) == [("done", "accepted")]
    assert respond(store, found, now()) == [("done", "accepted")]
    web.close()
    # By its id whoever is called knows that it is the same.
    assert [one.headers["webhook-id"] for one in web.requests] == [now().id] * 3


def test_rules_are_told_by_couriers_of_their_own(tmp_path: Path, program: Path) -> None:
    rules = [
        {"name": "hangs", "action": {"name": "call", "url": "http://127.0.0.1:9/"}},
        {"name": "stop", "action": {"name": "run", "program": str(program), "arguments": ["{id}"]}},
    ]
    found = validated(Responses, {"rules": rules, "dry_run": False, "allow": [program]}, "[responses]")
    store = Store(tmp_path / "both", sinks={f"response {rule.name}": rule.on for rule in found.rules})
    couriers = Couriers(store, found.told(store.database))
    store.append(b"", "", [now(), now("closed")])
    until(lambda: store.outbox.counts() == {"response hangs": 1, "response stop": 0})
    couriers.close()
    assert (program.parent / "arguments").read_text().split() == [now().id]
    store.close()


def test_actions_are_settings() -> None:
    assert Run(program=Path("/bin/true")).model_dump()["limit"] == 10.0
    assert set(Call.model_fields) & {"kinds", "rate"} == set()
    assert Publish(topic="a").said(now()) == "publish to a"


def test_the_example_in_the_documentation_can_be_used() -> None:
    text = (Path(__file__).parents[2] / "docs/live-alerts.md").read_text()
    found = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    watch = validated(Watch, {"source": "host", **found}, "the example")
    assert [type(sink).__name__ for sink in watch.sinks] == ["Stdout", "EveLines", "MqttEvents", "Alertmanager", "Webhook"]
    assert [rule.name for rule in watch.responses.rules] == ["stop the pump", "isolate"]
