"""Couriers: what is stored is told in order and at least once, through outages, refusals and restarts; none holds up another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from listening import until
from told import event

from vedette.edge import couriers as module
from vedette.edge.couriers import Couriers
from vedette.edge.events import Event, EventKind
from vedette.edge.sinks.base import Outlet, Unaccepted
from vedette.edge.store import Store
from vedette.errors import RecipeError

ALL: tuple[EventKind, ...] = ("alert", "opened", "updated", "closed")


class Ear(Outlet):
    """A sink that hears what it is told, unless it will not."""

    kinds = ALL

    def __init__(self, rate: float = 1000.0, answer: Callable[[Event], None] = lambda event: None) -> None:
        self.rate, self.answer = rate, answer
        self.heard: list[Event] = []
        self.times: list[float] = []
        self.reminded: list[list[Event]] = []
        self.closed = False

    def open(self) -> Outlet:
        return self

    def send(self, events: Sequence[Event]) -> None:
        for one in events:
            self.answer(one)
            self.heard.append(one)
            self.times.append(time.monotonic())

    def remind(self, current: Sequence[Event]) -> None:
        self.reminded.append(list(current))

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, sinks={"ear": ALL, "other": ALL})
    yield store
    store.close()


def test_events_are_told_in_order_to_each_sink(store: Store) -> None:
    ear, other = Ear(), Ear()
    couriers = Couriers(store, {"ear": ear, "other": other})
    events = [event(kind, number) for number in range(150) for kind in ("opened", "closed")]
    for begin in range(0, 300, 7):
        store.append(b"", "", events[begin : begin + 7])
    assert couriers.drained(20)
    couriers.close()
    assert ear.heard == other.heard == events
    assert {name: one.sent for name, one in couriers.deliveries.items()} == {"ear": 300, "other": 300}
    assert ear.closed and other.closed  # noqa: PT018


def test_an_outage_loses_nothing_holds_up_nobody_and_ends_in_no_flood(store: Store) -> None:
    there = threading.Event()

    def answer(one: Event) -> None:
        if not there.is_set():
            raise Unaccepted("nobody there")

    deaf, other = Ear(rate=100.0, answer=answer), Ear()
    couriers = Couriers(store, {"ear": deaf, "other": other})
    for number in range(20):
        store.append(b"", "", [event("opened", number), *(event("updated", number, updates=k) for k in range(1, 30))])
    until(lambda: other.heard[-1:] == [event("updated", 19, updates=29)])
    until(lambda: couriers.deliveries["ear"].failures >= 2)
    assert couriers.deliveries["ear"].failing == "nobody there"
    there.set()
    assert couriers.drained(20)
    until(lambda: couriers.deliveries["ear"].failing == "")
    couriers.close()
    # Of 29 updates of each incident only the newest was told; and it took the time that it should.
    assert sorted((one.incident, one.kind, one.time) for one in deaf.heard) == sorted(
        (one.incident, one.kind, one.time)
        for number in range(20)
        for one in (event("opened", number), event("updated", number, updates=29))
    )
    assert deaf.times[-1] - deaf.times[0] > 0.7 * (len(deaf.heard) - 10) / 100


def test_an_event_that_is_refused_for_good_does_not_stop_those_behind_it(store: Store) -> None:
    def answer(one: Event) -> None:
        if one.incident == event("opened", 3).incident:
            raise Unaccepted("never this one", lasting=True)

    ear = Ear(answer=answer)
    store.append(b"", "", [event("opened", number) for number in range(6)])
    couriers = Couriers(store, {"ear": ear, "other": Ear()})
    assert couriers.drained(20)
    couriers.close()
    assert {one.id for one in ear.heard} == {event("opened", number).id for number in (0, 1, 2, 4, 5)}
    assert (couriers.deliveries["ear"].refused, couriers.deliveries["ear"].failures) == (1, 0)


def test_an_outlet_that_breaks_is_tried_again(store: Store) -> None:
    left = [1, 1]

    def answer(one: Event) -> None:
        if left:
            left.pop()
            raise ZeroDivisionError("a fault of ours")

    ear = Ear(answer=answer)
    couriers = Couriers(store, {"ear": ear, "other": Ear()})
    store.append(b"", "", [event("opened")])
    assert couriers.drained(20)
    couriers.close()
    assert ear.heard == [event("opened")]


def test_who_asks_for_time_is_given_it(store: Store) -> None:
    asked: list[float] = []

    def answer(one: Event) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Unaccepted("later", after=0.4)

    couriers = Couriers(store, {"ear": Ear(answer=answer), "other": Ear()})
    store.append(b"", "", [event("opened")])
    assert couriers.drained(20)
    couriers.close()
    assert asked[1] - asked[0] >= 0.4


def test_what_was_not_told_is_told_after_a_restart(store: Store) -> None:
    def deaf(one: Event) -> None:
        raise Unaccepted("no")

    couriers = Couriers(store, {"ear": Ear(answer=deaf), "other": Ear()})
    store.append(b"", "", [event("opened"), event("closed")])
    until(lambda: couriers.deliveries["ear"].failures > 0)
    couriers.close()
    store.close()
    again = Store(store.folder, sinks={"ear": ALL})
    ear = Ear()
    couriers = Couriers(again, {"ear": ear})
    assert couriers.drained(20)
    couriers.close()
    assert ear.heard == [event("opened"), event("closed")]
    again.close()


def test_open_incidents_are_told_again_to_who_wants_it(store: Store) -> None:
    ear = Ear()
    ear.every = 0.05
    couriers = Couriers(store, {"ear": ear, "other": Ear()})
    store.append(b"", "", [event("opened", 1), event("opened", 2), event("closed", 2)])
    until(lambda: len(ear.reminded) >= 3 and ear.reminded[-1] == [event("opened", 1)])
    couriers.close()


def test_a_sink_that_cannot_work_is_said_at_once_and_the_others_are_closed(store: Store) -> None:
    class Broken(Ear):
        def open(self) -> Outlet:
            raise RecipeError("cannot work")

    ear = Ear()
    with pytest.raises(RecipeError, match="cannot work"):
        Couriers(store, {"ear": ear, "other": Broken()})
    assert ear.closed
