"""Incidents: when they open and close, what is told of them, and that it does not matter how readings were cut into batches."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from vedette.edge.events import Event
from vedette.edge.incidents import Incidents, IncidentSettings, Record
from vedette.message import Array
from vedette.settings import validated


def told(incidents: Incidents, scores: list[float], begin: float = 0.0, device: int = 0, threshold: float = 1.0) -> tuple[list[Event], str]:
    """Take a device through readings one second apart; return the events, and which readings lay within an incident, as text."""
    x, times = np.array(scores, float), begin + np.arange(len(scores), dtype=float)
    inside = incidents.advance(device, f"pump-{device}", times, x, threshold, x > threshold, np.arange(len(x)))
    return incidents.drained(), "".join("-x"[int(one)] for one in inside)


def said(events: list[Event]) -> list[tuple[str, float]]:
    return [(event.kind, event.time) for event in events]


def test_an_incident_opens_at_two_alarms_among_three_and_closes_after_quiet_readings() -> None:
    incidents = Incidents(IncidentSettings(alarms=2, among=3, quiet=2, low=0.9))
    #                                  0  1    2    3    4     5    6    7
    events, inside = told(incidents, [0, 1.5, 0.5, 1.2, 0.95, 0.5, 0.5, 0.5])
    # Two alarms among readings 1 to 3; 0.95 is below the threshold, but not below 0.9 of it; 5 and 6 are quiet.
    assert inside == "---xxxx-"
    assert said(events) == [("alert", 1.0), ("opened", 3.0), ("closed", 6.0)]
    opened, closed = events[1:]
    assert (opened.began, opened.alerts, opened.readings, opened.score) == (1.0, 2, 2, 1.2)
    assert (closed.began, closed.alerts, closed.readings, closed.score, closed.threshold) == (1.0, 2, 2, 1.2, 1.0)
    assert {event.incident for event in events} == {opened.id}
    assert not incidents.open[0]
    assert not incidents.awake[0]
    assert incidents.current == []


def test_single_alarms_are_told_but_open_nothing() -> None:
    incidents = Incidents(IncidentSettings(alarms=2, among=3, repeat=0))
    events, inside = told(incidents, [2, 0, 0, 2, 0, 0, 2, 0, 0])
    assert said(events) == [("alert", 0.0), ("alert", 3.0), ("alert", 6.0)]
    assert inside == "-" * 9
    # The readings between them parted them: each is of an incident of its own, that never opened.
    assert len({event.incident for event in events}) == 3


def test_alerts_of_a_device_are_not_told_again_within_a_while() -> None:
    incidents = Incidents(IncidentSettings(repeat=4, alarms=1, among=1, quiet=3))
    events, _ = told(incidents, [2, 0, 2, 0, 2, 0, 2])
    assert [event.time for event in events if event.kind == "alert"] == [0.0, 4.0]
    # They count nevertheless.
    assert incidents._cases[0].alerts == 4


def test_it_is_told_again_when_the_worst_score_doubled_and_now_and_then() -> None:
    incidents = Incidents(IncidentSettings(alarms=1, among=1, every=4))
    events, _ = told(incidents, [2, 3, 4, 3, 3, 3, 3, 9, 3])
    # 4 is twice 2; four seconds later once more; 9 is more than twice 4.
    assert said(events)[1:] == [("opened", 0.0), ("updated", 2.0), ("updated", 6.0), ("updated", 7.0)]
    assert [event.score for event in events[1:]] == [2.0, 4.0, 4.0, 9.0]


def test_what_comes_again_while_it_is_quiet_belongs_to_it_and_quiet_is_not_told_of() -> None:
    """How long that is the calibration says, unless the settings do."""
    incidents = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, every=4), quiet=8)
    events, inside = told(incidents, [2, 0, 0, 0, 0, 0, 2, *[0.0] * 9, 0, 2])
    assert inside == "x" * 16 + "-x"
    # At 4 it has been quiet for a while; at 6 it is told again, for it was told of last at 0.
    assert said(events) == [("alert", 0.0), ("opened", 0.0), ("updated", 6.0), ("closed", 15.0), ("opened", 17.0)]
    closed = events[3]
    assert (closed.began, closed.last, closed.lasted, closed.alerts) == (0.0, 6.0, 6.0, 2)
    at_once = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, quiet_seconds=0), quiet=8)
    assert said(told(at_once, [2, 0])[0])[-1] == ("closed", 1.0)


def test_the_cause_is_that_of_the_reading_that_opened_it_or_made_it_worse() -> None:
    asked: list[tuple[int, int]] = []

    def record(device: int, row: int) -> Record:
        asked.append((device, row))
        return Record((f"row {row}",), "model", "calibration", f"input-{row}")

    incidents = Incidents(IncidentSettings(alarms=2, among=2, quiet=1, every=1), record)
    events, _ = told(incidents, [0, 2, 3, 1.5, 7, 0])
    causes = [(event.kind, event.cause, event.input) for event in events]
    assert causes == [
        ("alert", ("row 1",), "input-1"),
        ("opened", ("row 2",), "input-2"),
        ("updated", ("row 2",), "input-2"),
        ("updated", ("row 4",), "input-4"),
        ("closed", ("row 4",), "input-4"),
    ]
    assert asked == [(0, 1), (0, 2), (0, 4)]
    # A reading that is told of twice, as an alert and as what opens an incident, is asked for once.
    asked.clear()
    events, _ = told(Incidents(IncidentSettings(alarms=1, among=1), record), [0, 2])
    assert [event.cause for event in events] == [("row 1",), ("row 1",)]
    assert asked == [(0, 1)]
    assert {event.model for event in events} == {"model"}


def test_thresholds_below_zero_and_infinite_ones_are_no_trap() -> None:
    below = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, low=0.9))
    # 0.9 of the way down from -10 is -11: -10.5 is not yet quiet.
    _, inside = told(below, [-9, -10.5, -12, -12], threshold=-10.0)
    assert inside == "xxx-"
    unset = Incidents(IncidentSettings())
    assert told(unset, [5, 6, 7], threshold=np.inf) == ([], "---")


def test_scores_that_are_no_numbers_count_for_nothing() -> None:
    incidents = Incidents(IncidentSettings(alarms=2, among=2, quiet=2))
    events, inside = told(incidents, [2, np.nan, 2, np.nan, 0, np.nan, 0, 0])
    assert inside == "--xxxxx-"
    assert said(events) == [("alert", 0.0), ("opened", 2.0), ("closed", 6.0)]
    infinite, _ = told(incidents, [np.inf, np.inf], begin=100.0)
    for event in infinite:
        assert Event.model_validate_json(event.model_dump_json()) == event
        assert "Infinity" not in json.dumps(event.said())


def test_a_clock_that_is_set_back_makes_no_two_incidents_one() -> None:
    incidents = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, repeat=0))
    first, _ = told(incidents, [2, 0])
    again, _ = told(incidents, [2, 0])
    assert len({event.id for event in first + again}) == 6
    # It also ends where the clock jumps a year back within it.
    slow = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, quiet_seconds=10))
    told(slow, [2, 0], begin=4e7)
    events, _ = told(slow, [0], begin=0.0)
    assert said(events)[-1] == ("closed", 0.0)


def test_incidents_of_related_devices_that_begin_together_are_one_of_the_fleet() -> None:
    incidents = Incidents(IncidentSettings(alarms=1, among=1, quiet=1, together=10))
    first, _ = told(incidents, [2.0], begin=100.0, device=3)
    second, _ = told(incidents, [2.0], begin=104.0, device=1)
    assert said(second) == [("alert", 104.0), ("updated", 104.0), ("opened", 104.0)]
    known, opened = second[1:]
    assert (known.device, known.incident, known.origin) == ("pump-3", first[1].id, "pump-3")
    assert opened.fleet is not None
    assert (opened.device, opened.origin, opened.fleet) == ("pump-1", "pump-3", known.fleet)
    # What began eleven seconds after the first belongs to it no more, though only seven after the second.
    third, _ = told(incidents, [2.0], begin=111.0, device=2)
    assert third[1].fleet is None
    # One that began earlier, but was seen later, is where it began.
    closed, _ = told(incidents, [0.0], begin=112.0, device=1)
    assert (closed[-1].kind, closed[-1].fleet) == ("closed", opened.fleet)


def test_devices_are_related_by_name_or_not_at_all() -> None:
    by_hall = IncidentSettings(related=r"(hall-\d+)/")
    assert by_hall.group("hall-1/pump") == by_hall.group("hall-1/valve") == "hall-1"
    assert by_hall.group("yard") is None
    assert IncidentSettings().group("a") == IncidentSettings().group("b")
    assert IncidentSettings(related="none").group("a") is None
    with pytest.raises(Exception, match="no regular expression"):
        validated(IncidentSettings, {"related": "("}, "[incidents]")
    with pytest.raises(Exception, match="less than alarms"):
        validated(IncidentSettings, {"alarms": 3, "among": 2}, "[incidents]")


def stream(seed: int, devices: int = 12, rows: int = 3_000) -> tuple[Array, Array, Array]:
    """Readings of several devices, each with stretches above the threshold, some of them at once."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, devices, rows)
    times = np.arange(rows) + rng.normal(0, 2, rows)
    scores = np.abs(rng.normal(0, 0.35, rows))
    for begin in range(200, rows, 400):
        some = rng.choice(devices, rng.integers(1, 5), replace=False)
        within = np.isin(of, some) & (np.arange(rows) >= begin) & (np.arange(rows) < begin + 120)
        scores[within] *= rng.uniform(2, 12)
    scores[rng.random(rows) < 0.01] = np.nan
    return of, times, scores


def run(cuts: list[int], seed: int, interrupted: bool = False, skip_idle: bool = True) -> tuple[list[Event], Array]:
    """Take a stream through in batches; `interrupted`: each by a new object that is told what the one before it knew."""
    of, times, scores = stream(seed)
    incidents, events, inside = Incidents(IncidentSettings(every=60)), [], np.zeros(len(of), bool)
    for begin, end in zip([0, *cuts], [*cuts, len(of)], strict=True):
        for device in np.unique(of[begin:end]):
            rows = np.flatnonzero(of[begin:end] == device)
            x = scores[begin:end][rows]
            awake = device < len(incidents.awake) and incidents.awake[device]
            if (x > 1).any() or awake or not skip_idle:
                name = f"pump-{device}"
                inside[begin + rows] = incidents.advance(int(device), name, times[begin:end][rows], x, 1.0, x > 1, rows)
        events += incidents.drained()
        if interrupted:
            memory, incidents = incidents.memory(), Incidents(IncidentSettings(every=60))
            incidents.restore(memory)
    return events, inside


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_does_not_matter_how_readings_are_cut_into_batches(seed: int) -> None:
    whole, inside = run([], seed)
    kinds = [event.kind for event in whole]
    assert min(kinds.count(kind) for kind in ("alert", "opened", "updated", "closed")) >= 5
    assert any(event.fleet for event in whole)
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, 3_000), 200, replace=False).tolist())
    for other, within in (
        run(cuts, seed),
        run(list(range(1, 3_000)), seed),
        run(cuts, seed, interrupted=True),
        run(cuts, seed, skip_idle=False),
    ):
        assert other == whole
        assert np.array_equal(within, inside)
    assert len({event.id for event in whole}) == len(whole)
    assert all(re.fullmatch("[0-9a-f]{20}", event.id) for event in whole)
