"""Simulated fleets: the same rows whatever surrounds them, faults labelled where they act, physics of the expected sign."""

import numpy as np
import pytest

from vedette.data.simulate import DEVICES, EVENTS, FAULTS, FEATURES, Nuisances, Plan, Pump, Simulated, simulate_device, stream_device
from vedette.data.simulate.faults import EVERYWHERE, parts_of, schedule
from vedette.data.simulate.recording import scan
from vedette.data.table import concat
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import validated

NAMES = [feature.name for feature in FEATURES]
SMALL = Simulated(nodes=3, train_hours=10, test_hours=20, interval=120)


def simulate_pump(node, seed, hours, **plan):
    return simulate_device("pump", node, seed, Plan(hours, **plan))


def same(one, other):
    for column in ("numbers", "label", "time"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column), strict=True)
    assert one.features == other.features
    assert one.kind.texts() == other.kind.texts()
    assert one.group.texts() == other.group.texts()


def departure(node, seed, hours=48.0, share=0.1):
    """A pump with faults, and its readings less those of its twin without, in deviations of the noise."""
    table = simulate_pump(node, seed, hours, fault_share=share)
    twin = simulate_pump(node, seed, hours)
    return table, (table.numbers - twin.numbers.astype(np.float64)) / Pump.of(node, seed).noise


def rows_of(table, kind):
    return np.array(table.kind.texts()) == kind


# --- the same rows


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    same(simulate_pump("a", 3, 30, fault_share=0.1), simulate_pump("a", 3, 30, fault_share=0.1))
    assert not np.array_equal(simulate_pump("a", 3, 30).numbers, simulate_pump("a", 4, 30).numbers)
    assert not np.array_equal(simulate_pump("a", 3, 30).numbers, simulate_pump("b", 3, 30).numbers)


@pytest.mark.parametrize("size", [1, 7, 1000, 1024, 1025, 2399, 2400, 2401, 65_536])
def test_rows_do_not_depend_on_the_chunk_size(size):
    whole = simulate_pump("pump-1", 5, 40, fault_share=0.2)
    chunks = list(stream_device("pump", "pump-1", 5, Plan(40, fault_share=0.2), size=size))
    assert [len(chunk) for chunk in chunks] == [size] * (2400 // size) + ([2400 % size] if 2400 % size else [])
    same(concat(chunks), whole)


def test_a_longer_recording_begins_like_a_shorter_one():
    np.testing.assert_array_equal(simulate_pump("a", 0, 50).numbers[:600], simulate_pump("a", 0, 10).numbers)


def test_a_node_does_not_depend_on_the_fleet():
    tables = SMALL.load(None, seed=9).tables
    larger = SMALL.model_copy(update={"nodes": 1000})
    for part, rows in (("train", 300), ("test", 600)):
        assert tables[part].group.texts() == [f"pump-{n}" for n in (1, 2, 3) for _ in range(rows)]
        for at, node in enumerate(SMALL.node_names()):
            same(larger.node_table(node, part, seed=9), tables[part].take(slice(at * rows, (at + 1) * rows)))


def test_time_counts_seconds_from_zero():
    table = SMALL.node_table("pump-2", "test", 0)
    np.testing.assert_array_equal(table.time, 120.0 * np.arange(600))
    assert table.time.dtype == np.float64
    assert table.numbers.dtype == np.float32


def test_a_sweeping_scan_is_the_recursion_row_by_row():
    x, decay, before = np.random.default_rng(0).standard_normal((37, 2)), np.array([0.9, 1e-5]), np.array([3.0, -2.0])
    last, expected = before, []
    for row in x:
        last = decay * last + row
        expected.append(last)
    np.testing.assert_allclose(scan(x, decay, before), expected, rtol=1e-12)


# --- faults and labels


def test_training_rows_are_free_of_faults():
    train = Simulated().node_table("pump-4", "train", seed=1)
    assert not train.label.any()
    assert set(train.kind.texts()) == {"normal"}


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_comes_on_every_pump_in_the_share_asked_for(seed):
    fleet = Simulated()
    for node in fleet.node_names():
        table = fleet.node_table(node, "test", seed)
        assert set(table.kind.texts()) == {*Pump.kinds, "normal"}
        assert 0.06 < table.label.mean() < 0.14
        np.testing.assert_array_equal(table.label == 1, ~rows_of(table, "normal"))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_long_recordings_keep_the_share(share):
    assert simulate_pump("a", 2, 24 * 30, fault_share=share).label.mean() == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_labelled_where_they_are_away_from_the_twin(seed):
    table, away = departure("pump-1", seed)
    # A frozen reading does not share its noise with the twin's; everywhere else the noise cancels and the rule shows bare.
    frozen = np.diff(table.numbers, axis=0, prepend=np.nan) == 0
    assert np.abs(np.where(frozen, 0, away))[rows_of(table, "normal")].max() < 4.01
    for kind in ("cavitation", "drift", "leak", "spike"):
        assert np.abs(away[rows_of(table, kind)]).max(axis=1).min() > 3.99
    assert (np.abs(away[rows_of(table, "stuck")]).max(axis=1) > 2).mean() > 0.95
    assert not away[: schedule(Pump, "pump-1", seed, 2880, 60, 0.1)[0].start].any()


@pytest.mark.parametrize("seed", range(5))
def test_sensor_faults_touch_one_sensor_and_physical_faults_several(seed):
    table, away = departure("pump-2", seed)
    touched = np.abs(away) > 1
    assert (touched[rows_of(table, "spike")].sum(axis=1) == 1).all()
    assert (touched[rows_of(table, "leak")].sum(axis=1) >= 3).mean() > 0.9
    assert (touched[rows_of(table, "cavitation")].sum(axis=1) >= 3).mean() > 0.9
    for kind in ("drift", "stuck"):
        assert touched[rows_of(table, kind)].any(axis=0).sum() == 1


def test_a_stuck_sensor_repeats_its_last_value_and_a_drift_grows_in_a_line_across_blocks():
    hours, share = 24 * 20, 0.4
    table, away = departure("pump-3", 1, hours, share)
    pump, crossed = Pump.of("pump-3", 1), set()
    for fault in schedule(Pump, "pump-3", 1, len(table), 60, share):
        rows = slice(fault.start, fault.stop)
        if fault.kind == "stuck":
            assert len(np.unique(table.numbers[fault.start - 1 : fault.stop, fault.sensor])) == 1
        elif fault.kind == "drift" and NAMES[fault.sensor] != "temperature":  # which may still recover from a leak
            line = np.arange(1, fault.stop - fault.start + 1) / (fault.stop - fault.start)
            expected = fault.sign * (1 + 1.5 * fault.strength) * line * pump.swing[fault.sensor] / pump.noise[fault.sensor]
            np.testing.assert_allclose(away[rows, fault.sensor], expected, atol=0.01)
        if fault.start // 1024 != (fault.stop - 1) // 1024:
            crossed.add(fault.kind)
    assert {"stuck", "drift"} <= crossed


def test_blocks_join_without_a_jump():
    for node in ("a", "b", "c"):
        x = simulate_pump(node, 0, 24 * 20).numbers
        steps = np.abs(np.diff(x, axis=0)) / x.std(axis=0)
        borders = np.arange(1023, len(steps), 1024)
        assert (steps[borders].max(axis=0) <= np.delete(steps, borders, axis=0).max(axis=0)).all()
        assert steps[borders, 2].mean() < 2 * steps[:, 2].mean()


def test_a_leak_takes_flow_and_pressure_and_costs_current():
    for seed in range(5):
        table, away = departure("pump-1", seed)
        mean = dict(zip(NAMES, away[rows_of(table, "leak")].mean(axis=0), strict=True))
        assert mean["flow"] < -4
        assert mean["outlet_pressure"] < -2
        assert mean["current"] > 0.5
        assert mean["load"] == 0


def test_cavitation_starves_the_inlet_shakes_the_pump_and_takes_flow():
    for seed in range(5):
        table, away = departure("pump-1", seed)
        rows = away[rows_of(table, "cavitation")]
        mean, spread = (dict(zip(NAMES, values, strict=True)) for values in (rows.mean(axis=0), rows.std(axis=0)))
        assert mean["inlet_pressure"] < -2
        assert mean["vibration"] > 5
        assert mean["flow"] < -2
        assert min(spread["vibration"], spread["flow"]) > 0.5
        assert mean["load"] == 0


# --- physics


@pytest.mark.parametrize("leak", [0.0, 0.1, 0.25])
def test_flow_and_head_lie_on_both_curves(leak):
    pump, load = Pump.of("a", 0), np.linspace(0.15, 1.05, 50)
    outside = np.stack([np.full(50, 20.0), np.zeros(50), np.ones(50)], axis=1)
    *_, inlet, outlet, flow = pump.work(load, outside, np.full(50, leak), np.zeros(50)).T
    metered, head = flow / pump.flow, (outlet - inlet) / (0.0981 * pump.head)
    np.testing.assert_allclose(head, pump.static + (1 - pump.static) * metered**2)
    pumped = metered + leak * np.sqrt(head)
    np.testing.assert_allclose(head, 1.25 * (0.6 + 0.4 * load) ** 2 - 0.25 * pumped**2, rtol=1e-9)
    assert (np.diff(metered) > 0).all()


def test_a_pump_at_its_best_point_shows_its_rated_values():
    pump, one = Pump.of("a", 0), np.ones(1)
    shown = dict(zip(NAMES, pump.work(one, np.array([[20.0, 0.0, 1.0]]), 0 * one, 0 * one)[0], strict=True))
    watts = 1000 * 9.81 * pump.flow / 3600 * pump.head / pump.efficiency
    assert shown["flow"] == pytest.approx(pump.flow)
    assert shown["current"] == pytest.approx(np.hypot(1, pump.idle) * watts / (np.sqrt(3) * 400 * 0.85 * 0.9))
    assert shown["temperature"] == pytest.approx(20 + pump.heating)
    assert shown["vibration"] == pytest.approx(pump.shake)
    assert shown["outlet_pressure"] - shown["inlet_pressure"] == pytest.approx(0.0981 * pump.head)


def test_the_flow_through_a_valve_balances_its_pressures():
    valve, load, none = DEVICES["valve"].of("a", 0), np.linspace(0.15, 1.05, 50), np.zeros(50)
    demand, position, _, inlet, outlet, flow, _ = valve.show(load, 20 + none, np.zeros((50, 2)), {"leak": none, "wear": none}).T
    opening = valve.rangeability ** (position / 100 - 1)
    np.testing.assert_allclose(flow, valve.capacity * opening * np.sqrt(inlet - outlet), rtol=1e-9)
    np.testing.assert_allclose(demand, position)
    assert (np.diff(flow) >= 0).all()
    assert (np.diff(inlet) <= 0).all()


def test_normal_signals_are_plausible_and_move_together():
    x = np.concatenate([simulate_pump(f"p{i}", 0, 48).numbers for i in range(4)])
    columns = dict(zip(NAMES, x.T, strict=True))
    bounds = {"load": (0, 115), "current": (3, 20), "temperature": (5, 80), "vibration": (0.5, 4)}
    bounds |= {"inlet_pressure": (0.8, 2), "outlet_pressure": (2, 7), "flow": (15, 65)}
    for name, (low, high) in bounds.items():
        assert low < columns[name].min() < columns[name].max() < high
    with_load = dict(zip(NAMES, np.corrcoef(x.T)[0], strict=True))
    assert min(with_load[name] for name in ("current", "flow", "outlet_pressure")) > 0.95
    assert min(with_load[name] for name in ("temperature", "vibration")) > 0.7
    assert with_load["inlet_pressure"] < -0.7


def test_the_temperature_lags_behind_the_load():
    x = simulate_pump("a", 1, 24 * 20).numbers
    load, warmth = (x[:, i] - x[:, i].mean() for i in (0, 2))
    by_lag = [np.mean(load[: len(load) - lag] * warmth[lag:]) for lag in range(0, 121, 10)]
    assert by_lag[0] < max(by_lag)


def test_readings_never_fall_below_zero_even_when_faulty():
    table = simulate_pump("a", 6, 24 * 30, fault_share=0.5)
    assert (np.delete(table.numbers, 2, axis=1) >= 0).all()
    assert np.isfinite(table.numbers).all()


def test_a_pump_alone_has_seen_less_than_it_meets():
    for node in ("pump-1", "pump-2", "pump-3"):
        train, test = (Simulated(fault_share=0).node_table(node, part, 0).numbers[:, 0] for part in ("train", "test"))
        assert np.ptp(np.quantile(test, [0.02, 0.98])) > 1.1 * np.ptp(np.quantile(train, [0.02, 0.98]))


@pytest.mark.parametrize("seed", range(3))
def test_relations_between_sensors_tell_more_than_their_size(seed):
    tables = Simulated().load(None, seed).tables
    mean, deviation = tables["train"].numbers.mean(axis=0), tables["train"].numbers.std(axis=0)
    train, test = ((tables[part].numbers - mean) / deviation for part in ("train", "test"))
    axes = np.linalg.svd(train, full_matrices=False)[2][:3]
    label = tables["test"].label

    def auc(score):
        rank = np.argsort(np.argsort(score))
        positive, negative = label.sum(), (1 - label).sum()
        return (rank[label == 1].sum() - positive * (positive - 1) / 2) / (positive * negative)

    size, relation = auc((test**2).sum(axis=1)), auc(((test - test @ axes.T @ axes) ** 2).sum(axis=1))
    assert size < 0.8
    assert size + 0.15 < relation < 0.99


# --- every type of device


def twins(device, seed=0, hours=24 * 20, share=0.1, **plan):
    """A device with faults, and its readings less those of its twin without, in deviations of the noise."""
    table = simulate_device(device, f"{device}-1", seed, Plan(hours, fault_share=share, **plan))
    twin = simulate_device(device, f"{device}-1", seed, Plan(hours))
    away = (table.numbers - twin.numbers.astype(np.float64)) / DEVICES[device].of(f"{device}-1", seed).noise
    return table, twin, away


def shown(device, table, away, kind):
    names = [feature.name for feature in DEVICES[device].features]
    return dict(zip(names, away[rows_of(table, kind)].mean(axis=0), strict=True))


@pytest.mark.parametrize("device", list(DEVICES))
@pytest.mark.parametrize("seed", range(3))
def test_every_type_has_every_kind_of_its_faults_in_the_share_asked_for(device, seed):
    table, twin, away = twins(device, seed)
    assert set(table.kind.texts()) == {*DEVICES[device].kinds, "normal"}
    assert 0.07 < table.label.mean() < 0.13
    assert not twin.label.any()
    assert np.isfinite(table.numbers).all()
    assert (twin.numbers.std(axis=0) > 0).all()
    assert all(feature.name for feature in table.features)
    # Clear of the noise wherever it is labelled, but for frozen readings, which do not share their noise with the twin's.
    frozen = np.diff(table.numbers, axis=0, prepend=np.nan) == 0
    assert np.abs(np.where(frozen, 0, away))[rows_of(table, "normal")].max() < 4.1


@pytest.mark.parametrize("device", list(DEVICES))
def test_devices_of_a_type_differ_and_obey_one_physics(device):
    kind = DEVICES[device]
    normal = [simulate_device(device, f"{device}-{n}", 0, Plan(72)).numbers for n in (1, 2, 3)]
    means = np.array([(x.mean(axis=0) - normal[0].mean(axis=0)) / x.std(axis=0) for x in normal[1:]])
    assert (np.abs(means) > 0.1).mean() > 0.5
    pooled = np.corrcoef(np.concatenate([x - x.mean(axis=0) for x in normal]).T)
    assert (np.abs(pooled - np.eye(len(kind.features))).max(axis=0) > 0.5).all()  # every sensor moves with another


@pytest.mark.parametrize(
    ("device", "kind", "up", "down"),
    [
        ("valve", "leak", ["flow", "outlet_pressure"], ["inlet_pressure"]),
        ("valve", "wear", ["actuator_current"], ["position", "flow"]),
        ("motor", "overload", ["current", "power", "winding_temperature"], ["speed"]),
        ("motor", "wear", ["bearing_temperature", "vibration"], []),
        ("thermostat", "leak", ["heating"], ["room_temperature", "co2"]),
        ("thermostat", "wear", ["heating"], ["room_temperature"]),
        ("gateway", "leak", ["bytes_out", "packet_size"], []),
        ("gateway", "overload", ["connections", "packets", "refused"], ["packet_size"]),
        ("gateway", "scan", ["connections", "peers", "refused"], []),
    ],
)
def test_damage_shows_where_physics_puts_it(device, kind, up, down):
    table, _, away = twins(device)
    mean = shown(device, table, away, kind)
    assert all(mean[name] > 1.5 for name in up)
    assert all(mean[name] < -1 for name in down)
    sensors = set(EVERYWHERE) & set(DEVICES[device].kinds)
    assert kind not in sensors
    touched = np.abs(away) > 1
    assert all((touched[rows_of(table, spiky)].sum(axis=1) >= 1).all() for spiky in sensors - {"stuck", "drift", "noise"})


def test_severity_sets_how_far_faults_go():
    mild, harsh = (twins("valve", faults=("bias", "leak"), severity=(level, level)) for level in (0.05, 0.95))
    for kind in ("bias", "leak"):
        far = [np.abs(away[rows_of(table, kind)]).max(axis=1).mean() for table, _, away in (mild, harsh)]
        assert far[1] > 1.5 * far[0]


@pytest.mark.parametrize("device", list(DEVICES))
def test_any_device_can_have_any_fault_of_a_sensor(device):
    table, _, away = twins(device, faults=EVERYWHERE)
    assert set(table.kind.texts()) == {*EVERYWHERE, "normal"}
    trembling = away[rows_of(table, "noise")]
    one = np.abs(trembling).mean(axis=0).argmax()
    assert trembling[:, one].std() > 3
    with pytest.raises(DataUnusable, match="spike"):
        parts_of(DEVICES[device], ["flood"])


def test_what_faults_are_is_said():
    assert {kind for device in DEVICES for kind in DEVICES[device].kinds} == set(FAULTS)
    assert len(FAULTS) >= 9
    assert all(FAULTS.values())
    assert all(EVENTS.values())


def test_a_mixed_fleet_takes_all_types_in_turn():
    fleet = Simulated(device="mixed", nodes=7, train_hours=2, test_hours=2)
    assert fleet.node_names() == ["pump-1", "valve-2", "motor-3", "thermostat-4", "gateway-5", "pump-6", "valve-7"]
    assert [len(fleet.node_table(node, "test", 0).features) for node in fleet.node_names()] == [7, 7, 7, 6, 8, 7, 7]
    with pytest.raises(UnknownName, match="pump-2"):
        fleet.node_table("pump-2", "test", 0)
    with pytest.raises(DataUnusable, match="different features"):
        fleet.load(None)
    same(
        fleet.node_table("valve-2", "test", 0),
        Simulated(device="valve", nodes=2, train_hours=2, test_hours=2).node_table("valve-2", "test", 0),
    )


def test_a_fleet_of_any_size_is_made_node_by_node():
    fleet = Simulated(nodes=1_000_000, train_hours=1, test_hours=1).fleet("train", seed=3)
    assert len(fleet) == 1_000_000
    assert len(fleet["pump-987654"]) == 60


# --- nuisances


def surrounded(seed=0, hours=24 * 14, node="pump-1", share=0.0, device="pump", **nuisances):
    return simulate_device(device, node, seed, Plan(hours, fault_share=share, nuisances=Nuisances(**nuisances)))


def test_readings_go_missing_and_nothing_else_changes():
    whole, gappy = surrounded(share=0.1), surrounded(share=0.1, missing=0.05)
    gone = np.isnan(gappy.numbers)
    assert gone.mean() == pytest.approx(0.05, rel=0.1)
    np.testing.assert_array_equal(gappy.numbers[~gone], whole.numbers[~gone])
    np.testing.assert_array_equal(gappy.label, whole.label)


@pytest.mark.parametrize("size", [100, 1024, 65_536])
def test_rows_are_lost_about_ten_at_a_time_and_the_rest_knows_its_place(size):
    whole = surrounded(share=0.1)
    plan = Plan(24 * 14, fault_share=0.1, nuisances=Nuisances(lost=0.2))
    left = concat(list(stream_device("pump", "pump-1", 0, plan, size=size)))
    assert len(left) == pytest.approx(0.8 * len(whole), rel=0.05)
    places = np.round(left.time / 60).astype(int)
    np.testing.assert_array_equal(left.numbers, whole.numbers[places])
    np.testing.assert_array_equal(left.label, whole.label[places])
    assert 8 < len(whole) * 0.2 / (np.diff(places) > 1).sum() < 16
    one = simulate_device("pump", "pump-1", 0, plan)
    np.testing.assert_array_equal(np.diff(one.place) > 1, np.diff(places) > 1)


def test_clocks_run_fast_or_slow_and_are_set():
    straight, drifting, jumping = surrounded(), surrounded(clock_drift=60.0), surrounded(clock_jumps=2.0)
    np.testing.assert_array_equal(drifting.numbers, straight.numbers)
    off = drifting.time - straight.time
    assert 1 < np.abs(off[-1]) <= 14 * 60
    np.testing.assert_allclose(off, off[-1] * straight.time / straight.time[-1], atol=1e-6)
    steps = np.diff(jumping.time - straight.time)
    assert 10 < (np.abs(steps) > 1e-6).sum() < 60
    assert np.abs(steps).max() <= 600 * 3  # more than one may fall on a row
    assert (steps < 0).any()
    assert (steps > 0).any()


def test_events_come_to_all_devices_at_the_same_time_and_are_normal():
    away = []
    for node in ("pump-1", "pump-2"):
        met, spared = (surrounded(node=node, events=weekly) for weekly in (6.0, 0.0))
        assert not met.label.any()
        away.append(np.abs(met.numbers - spared.numbers) > 0)
    load = [each[:, 0] for each in away]
    assert 0.005 < load[0].mean() < 0.5
    assert (load[0] == load[1]).mean() > 0.98  # at the end of its range a load cannot rise with the others
    motor = surrounded(node="motor-1", device="motor", events=6.0).numbers != surrounded(node="motor-1", device="motor").numbers
    assert (motor[:, 0] == load[0]).mean() > 0.98


def test_weekends_and_seasons():
    plain, weekly = surrounded(), surrounded(weekend=0.4)
    rest = plain.time % 604_800 >= 5 * 86_400
    np.testing.assert_array_equal(weekly.numbers[~rest][: 5 * 1440], plain.numbers[~rest][: 5 * 1440])
    assert weekly.numbers[rest, 0].mean() < 0.75 * plain.numbers[rest, 0].mean()
    year = simulate_device("pump", "pump-1", 0, Plan(8766, 3600.0, nuisances=Nuisances(season=10.0))).numbers[:, 2]
    flat = simulate_device("pump", "pump-1", 0, Plan(8766, 3600.0)).numbers[:, 2]
    quarters = np.array([part.mean() for part in np.array_split(year - flat, 4)])
    np.testing.assert_allclose(quarters, 10 * 2 / np.pi * np.array([1, 1, -1, -1]), atol=0.2)


def test_surroundings_do_not_depend_on_the_chunk_size():
    plan = Plan(40, fault_share=0.2, nuisances=Nuisances(missing=0.1, clock_drift=5, clock_jumps=3, events=20, weekend=0.2, season=5))
    whole = simulate_device("gateway", "gateway-1", 0, plan)
    same(concat(list(stream_device("gateway", "gateway-1", 0, plan, size=701))), whole)


# --- settings


def test_the_fleet_is_a_data_set():
    dataset = SMALL.load(None)
    assert dataset.name == "simulated"
    assert dataset.ordered
    assert set(dataset.tables) == {"train", "test"}
    assert dataset.tables["train"].features == FEATURES
    assert all(feature.unit for feature in FEATURES)
    assert [type(text) for text in (Simulated.title, Simulated.licence, Simulated.source, Simulated.how)] == [str] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": 0},
        {"nodes": 2.5},
        {"train_hours": 0},
        {"test_hours": float("inf")},
        {"interval": 0},
        {"interval": float("nan")},
        {"interval": 3600, "test_hours": 0.5},
        {"fault_share": 0.6},
        {"fault_share": -0.1},
        {"severity": [0.6, 0.3]},
        {"severity": [0.0, 1.5]},
        {"nuisances": {"missing": 2}},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RecipeError):
        validated(Simulated, wrong, "[data]")


def test_an_unknown_device_or_fault_is_named():
    with pytest.raises(UnknownName, match="thermostat"):
        validated(Simulated, {"device": "termostat"}, "[data]")
    with pytest.raises(DataUnusable, match="cavitation"):
        validated(Simulated, {"faults": ["scan"]}, "[data]")
    validated(Simulated, {"device": "mixed", "faults": ["drift"]}, "[data]")


def test_an_unknown_setting_is_named():
    with pytest.raises(UnknownName, match="nodes"):
        validated(Simulated, {"node": 3}, "[data]")


@pytest.mark.parametrize("node", ["pump-0", "pump-4", "pump-01", "pump-", "valve-1", "1"])
def test_a_pump_outside_the_fleet_is_refused(node):
    with pytest.raises(UnknownName, match="pump-3"):
        SMALL.node_table(node, "train", 0)


def test_what_cannot_be_held_or_made_is_refused():
    with pytest.raises(DataUnusable, match="rows"):
        Simulated(nodes=1_000_000).load(None)
    with pytest.raises(DataUnusable, match="0 rows"):
        simulate_pump("a", 0, hours=0.001)
    with pytest.raises(DataUnusable, match="share"):
        simulate_pump("a", 0, hours=1, fault_share=0.9)
