"""Payloads as readings: layouts, times, and what is counted."""

from __future__ import annotations

import json
import logging
import math
from unittest.mock import Mock

import numpy as np
import pytest

from vedette.data.table import Feature
from vedette.edge.counting import Counts
from vedette.edge.decoding import Decoder
from vedette.edge.fields import seconds
from vedette.edge.format import Format
from vedette.edge.ordering import Order
from vedette.edge.readings import Devices, Readings
from vedette.errors import RecipeError

FEATURES = (Feature("flow", unit="m³/h"), Feature("valve", "category"), Feature("pressure"))
NOW = 1_750_000_000.0


def decoder(features: tuple[Feature, ...] = FEATURES, most: int = 100, **format: object) -> Decoder:
    return Decoder(features, Devices(most=most), Format.model_validate(format))


def read(made: Decoder, *payloads: object, device: str = "pump", at: float = NOW) -> Readings:
    for payload in payloads:
        made.payload(payload if isinstance(payload, bytes) else json.dumps(payload).encode(), device, at)
    readings = made.drained()
    assert readings is not None
    return readings


@pytest.mark.parametrize(
    "payload",
    [
        {"flow": 1.5, "valve": "open", "pressure": 3, "other": [1]},
        [1.5, "open", 3],
        [{"flow": 1.5, "valve": "open", "pressure": 3}],
        [[1.5, "open", 3]],
    ],
)
def test_objects_lists_and_lists_of_these_are_readings(payload: object) -> None:
    made = decoder()
    readings = read(made, payload)
    assert readings.numbers.tolist() == [[1.5, 3.0]]
    assert readings.categories[0].texts() == ["open"]
    assert made.devices.names == ["pump"]
    assert not made.counts


def test_fields_are_found_by_paths_and_what_stands_beside_a_list_holds_for_all_of_it() -> None:
    payload = {
        "meta": {"id": "p7"},
        "rows": [{"at": 10_000, "in": {"flow": 1}, "valve": True, "pressure": 2}, {"at": 20_000, "in.flow": 5, "valve": 7, "pressure": 6}],
    }
    made = decoder(device="meta.id", time="at", unit="ms", readings="rows", fields={"flow": "in.flow"})
    readings = read(made, payload)
    assert made.devices.names == ["p7"]
    assert readings.times.tolist() == [10.0, 20.0]
    assert readings.numbers.tolist() == [[1, 2], [5, 6]]
    assert readings.categories[0].texts() == ["true", "7"]


def test_lists_follow_the_order_that_was_declared() -> None:
    made = decoder(order=("spare", "pressure", "valve", "flow"))
    assert read(made, [9, 2, "open", 1]).numbers.tolist() == [[1, 2]]
    assert read(made, [9, 2, "shut", 1, 5], [9, 4, "shut", 3]).numbers.tolist() == [[3, 4]]
    assert made.counts == {"wrong-length": 1}


def test_categories_alone_and_odd_names_are_read_too() -> None:
    made = decoder((Feature('the "mode"', "category"),))
    readings = read(made, {'the "mode"': "on"}, [["off"], ["on"]])
    assert readings.numbers.shape == (3, 0)
    assert readings.categories[0].texts() == ["on", "off", "on"]


def test_formats_that_fit_no_feature_are_refused() -> None:
    with pytest.raises(RecipeError, match="lacks the feature 'flow'"):
        decoder(order=("pressure", "valve"))
    with pytest.raises(RecipeError, match="no feature 'flwo'"):
        decoder(fields={"flwo": "x"})


@pytest.mark.parametrize(
    ("value", "held", "counted"),
    [
        (b"2", 2.0, {}),
        (b"true", 1.0, {}),
        (b"null", math.nan, {"missing-field": 1}),
        (b'"2"', math.nan, {"wrong-type": 1}),
        (b"[2]", math.nan, {"wrong-type": 1}),
        (b"NaN", math.nan, {"not-finite": 1}),
        (b"-Infinity", math.nan, {"not-finite": 1}),
        (b"1e999", math.nan, {"not-finite": 1}),
        (b"1" + 400 * b"0", math.nan, {"not-finite": 1}),
    ],
)
def test_values_that_are_no_numbers_are_missing_and_counted(value: bytes, held: float, counted: dict[str, int]) -> None:
    made = decoder()
    readings = read(made, b'{"flow": %s, "valve": "open", "pressure": 3}' % value)
    np.testing.assert_equal(readings.numbers, [[held, 3.0]])
    assert made.counts == counted


def test_payloads_of_numbers_alone_are_read_together_as_one_by_one() -> None:
    features = (Feature("flow"), Feature("pressure"))
    odd = [{"flow": None, "pressure": 2}, {"flow": 1e400, "pressure": 3}, {"pressure": 4}, {"flow": "5", "pressure": 5}]
    payloads = [{"flow": 1, "pressure": 2}, [{"flow": i, "pressure": -i} for i in range(3)], [odd[0], {"flow": 7, "pressure": 8}], *odd]
    together, single = decoder(features), decoder(features)
    single._plain = False
    one, other = (read(made, *payloads, payloads[1], b"[]") for made in (together, single))
    for column, wanted in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(column, wanted)
    assert together.counts == single.counts
    assert len(one) == 13


def test_a_field_that_is_missing_is_missing_and_counted_each_time() -> None:
    made = decoder()
    readings = read(made, {"flow": 1}, {"valve": "x", "pressure": 2})
    np.testing.assert_equal(readings.numbers, [[1, math.nan], [math.nan, 2]])
    assert readings.categories[0].texts() == ["", "x"]
    assert made.counts == {"missing-field": 3}


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe\x00", b"5", b'"x"', b"null", b"[]", b"[1,{}]", 5000 * b"[", b'{"flow":' * 5000])
def test_garbage_is_counted_and_no_reading(payload: bytes) -> None:
    made = decoder()
    made.payload(payload, "pump", NOW)
    assert made.drained() is None
    assert made.counts == {"wrong-length": 1} if payload == b"[1,{}]" else {"garbage": 1}


def test_payloads_beyond_the_bound_are_refused_unread() -> None:
    made = decoder()
    made.payload(b'{"flow": ' + 10 * 2**20 * b"1" + b"}", "pump", NOW)
    assert made.drained() is None
    assert made.counts == {"too-large": 1}


def test_a_reading_without_any_value_is_none() -> None:
    made = decoder()
    held = {"flow": 1, "pressure": 2, "valve": "open"}
    readings = read(made, {"battery": 3.1}, held, {"flow": None, "pressure": math.nan}, {"valve": "shut"}, {})
    np.testing.assert_equal(readings.numbers, [[1, 2], [math.nan, math.nan]])
    assert readings.categories[0].texts() == ["open", "shut"]
    assert made.counts["empty"] == 3
    made.payload(b'{"battery": 3.1}', "pump", NOW)
    assert made.drained() is None
    assert made.counts["empty"] == 4


def test_numbers_alone_without_any_value_are_no_reading() -> None:
    made = Decoder([Feature("flow"), Feature("pressure")], Devices())
    for payload in (b'{"flow": 1}', b'[{"battery": 3}, {"pressure": 2}, {"battery": 4}]'):
        made.payload(payload, "pump", NOW)
    readings = made.drained()
    assert readings is not None
    np.testing.assert_equal(readings.numbers, [[1, math.nan], [math.nan, 2]])
    assert made.counts == {"missing-field": 6, "empty": 2}


def test_devices_have_bounds_in_number_and_name() -> None:
    made = decoder(most=2, device="id")
    names = ["a", 7, "c", "", 300 * "x", "a\nb", None, 1.5, True, ["a"]]
    readings = read(made, *({"id": name, "flow": 1, "valve": "", "pressure": 1} for name in names))
    assert made.devices.names == ["a", "7"]
    assert len(readings) == 2
    assert made.counts == {"too-many-devices": 1, "bad-device": 6, "no-device": 1}


def test_each_kind_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    made = decoder()
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            made.payload(b"{", "pump", NOW)
            made.payload(b"[1]", "pump", NOW)
    assert sorted(record.__dict__["kind"] for record in caplog.records) == ["garbage", "wrong-length"]
    assert made.counts == {"garbage": 50, "wrong-length": 50}


# Times.


@pytest.mark.parametrize(
    ("value", "unit", "found"),
    [
        (10, 1.0, 10.0),
        (10_000, 1e-3, 10.0),
        ("10.5", 1.0, 10.5),
        ("1970-01-01T00:01:00Z", 1.0, 60.0),
        ("1970-01-01T01:01:00+0100", 1.0, 60.0),
        ("1970-01-01 00:01:00", 1.0, 60.0),
        ("soon", 1.0, None),
        (True, 1.0, None),
        (math.nan, 1.0, None),
        (10**400, 1.0, None),
        ("nan", 1.0, None),
        ([1], 1.0, None),
    ],
)
def test_times_are_numbers_or_iso_text(value: object, unit: float, found: float | None) -> None:
    assert seconds(value, unit) == found


def timed(
    *times: object, at: float = NOW, again: bool = False, made: Decoder | None = None, **format: object
) -> tuple[Decoder, list[float]]:
    made = made if made is not None else decoder((Feature("flow"),), time="t", **format)
    for time in times:
        made.payload(json.dumps({"t": time, "flow": 1}).encode(), "pump", at, again)
    readings = made.drained()
    return made, [] if readings is None else readings.times.tolist()


def test_duplicates_and_disorder_are_dropped() -> None:
    made, times = timed(1, 2, 2, 1, 3)
    assert times == [1, 2, 3]
    assert timed(3, 2, 4, made=made)[1] == [4]  # also across batches
    assert made.counts == {"duplicate": 2, "disorder": 2}


def test_disorder_within_the_tolerance_is_taken_but_not_twice() -> None:
    made, times = timed(10, 8, 12, 11, 8, 5, tolerance=4.0)
    assert times == [10, 8, 12, 11]
    assert made.counts == {"duplicate": 1, "disorder": 1}


def test_a_clock_far_ahead_does_not_count() -> None:
    made, times = timed(NOW + 299, made=None)
    assert times == [NOW + 299]
    made, times = timed(NOW + 301, 1e300, NOW + 2)
    assert times == pytest.approx([NOW, NOW, NOW + 2])
    assert np.all(np.diff(times) > 0)
    assert made.counts == {"clock-ahead": 1, "bad-time": 1}


def test_a_clock_that_was_set_back_is_believed_to_be_after_a_while() -> None:
    made, _ = timed(NOW)
    assert timed(NOW - 3600, made=made)[1] == []
    assert timed(NOW - 3541, at=NOW + 59, made=made)[1] == []
    assert timed(NOW - 3530, NOW - 3530, at=NOW + 70, made=made)[1] == pytest.approx([NOW + 70, NOW + 70])
    assert made.counts == {"disorder": 2, "clock-back": 2}
    assert timed(NOW + 80, at=NOW + 80, made=made)[1] == [NOW + 80]  # it was set right
    assert timed(NOW - 3500, at=NOW + 90, made=made)[1] == []


def test_readings_without_a_time_of_their_own_stand_behind_each_other() -> None:
    made = decoder((Feature("flow"),))
    times = read(made, [{"flow": 1}, {"flow": 2}, {"flow": 3}], at=NOW).times
    assert times[0] == NOW
    assert np.all(np.diff(times) > 0)
    assert times[2] - NOW < 1e-3
    assert read(made, {"flow": 1}, at=NOW - 3600).times[0] > times[2]
    assert made.counts == {"clock-back": 1}


@pytest.mark.parametrize("slips", [0.0, 0.4, 3.0])
def test_readings_that_arrive_together_stand_behind_each_other_as_single_ones_do(slips: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, wherever batches end; however far the clock has fallen back since."""
    at, rng = np.array([NOW, NOW, NOW - slips, NOW + 1e-6, NOW + 9.0]), np.random.default_rng(0)
    whole, single = Order(Counts()), Order(Counts())
    for several in (at[:1], at[1:3], at[3:]):
        devices = rng.integers(0, 3, 400 * len(several)).astype(np.int32)
        times, none = several.repeat(400), np.zeros(400 * len(several), dtype=bool)
        found, keep = whole.settled(devices, times, none, times)
        assert keep is None
        assert found.tolist() == [single.one(*row, False, row[1]) for row in zip(devices.tolist(), times.tolist(), strict=True)]
    assert whole.last(3).tolist() == single.last(3).tolist()
    assert whole._counts == single._counts
    # And not one by one.
    monkeypatch.setattr(whole, "one", Mock(side_effect=whole.one))
    later = np.full(400, NOW + 20.0)
    whole.settled(np.zeros(400, dtype=np.int32), later, np.zeros(400, dtype=bool), later)
    assert whole.one.call_count == 1


def test_many_devices_at_once_are_judged_each_by_its_own_times() -> None:
    rng = np.random.default_rng(3)
    made = decoder((Feature("flow"),), time="t", device="d")
    alone: dict[str, list[float]] = {}
    sent = [(f"d{rng.integers(5)}", float(time)) for time in rng.integers(0, 60, 400)]
    for name, time in sent:
        if time > alone.setdefault(name, [-1.0])[-1]:
            alone[name].append(time)
    found: dict[str, list[float]] = {}
    for start in range(0, 400, 37):
        readings = read(made, *({"t": time, "d": name, "flow": 1} for name, time in [("x", float(start)), *sent[start : start + 37]]))
        for place, time in zip(readings.devices.tolist(), readings.times.tolist(), strict=True):
            found.setdefault(made.devices.names[place], []).append(time)
    found.pop("x")
    assert found == {name: times[1:] for name, times in alone.items()}


def test_sequence_numbers_tell_gaps_repetitions_and_restarts() -> None:
    made = decoder((Feature("flow"),), sequence="n")

    def send(number: object, again: bool = False) -> bool:
        made.payload(json.dumps({"n": number, "flow": 1}).encode(), "pump", NOW, again)
        return made.drained() is not None

    assert [send(number) for number in (5, 6, 6, 9)] == [True, True, False, True]
    assert not send(6, again=True)
    assert send(0)  # not a repeated delivery: the device began anew
    assert send("x")
    assert made.counts == {"duplicate": 2, "gap": 2, "restarted": 1, "no-sequence": 1}


def test_what_an_earlier_process_stored_is_known_again() -> None:
    made, _ = timed(1, 2, 3)
    later = Decoder(made.features, Devices(made.devices.names), made.format)
    later.restore(made.memory())
    assert timed(3, 4, made=later)[1] == [4]
    other = Decoder(made.features, Devices(made.devices.names), made.format)
    other.recall(Readings(np.zeros(1, dtype=np.int32), np.array([7.0]), np.zeros((1, 1))))
    assert timed(7, 8, made=other)[1] == [8]


# One value a payload.


def test_single_values_are_held_until_all_are_renewed_or_one_repeats() -> None:
    made = decoder(time="t")
    for sensor, data in [("flow", b"1"), ("valve", b"open"), ("pressure", b'{"value": 2, "t": 50}')]:
        made.value(data, "pump", sensor, NOW)
    readings = made.drained()
    assert readings is not None
    assert (readings.numbers.tolist(), readings.times.tolist(), readings.categories[0].texts()) == ([[1, 2]], [50], ["open"])
    made.value(b"3", "pump", "flow", NOW)
    made = restored(made)
    assert made.drained() is None
    made.value(b"4", "pump", "flow", NOW + 1)
    readings = made.drained()
    assert readings is not None
    assert readings.numbers.tolist() == [[3, 2]]
    for sensor, data in [
        ("flow", b"nothing"),
        ("pressure", b'"4"'),
        ("pressure", b"NaN"),
        ("colour", b"1"),
        ("valve", b'{"value": []}'),
        ("flow", b""),
    ]:
        made.value(data, "pump", sensor, NOW)
    assert made.counts == {"garbage": 2, "wrong-type": 2, "not-finite": 1, "unknown-sensor": 1, "no-time": 1}


def test_what_has_never_come_is_missing() -> None:
    made = decoder()
    for data in (b"1", b"2"):
        made.value(data, "pump", "flow", NOW)
    readings = made.drained()
    assert readings is not None
    np.testing.assert_equal(readings.numbers, [[1, math.nan]])
    assert readings.categories[0].texts() == [""]
    assert made.counts == {"missing-field": 1}


def restored(made: Decoder) -> Decoder:
    later = Decoder(made.features, made.devices, made.format)
    later.restore(made.memory())
    return later
