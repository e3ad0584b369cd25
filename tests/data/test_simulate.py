"""Simulated pumps: the same rows whatever surrounds them, faults labelled where they act, physics of the expected sign."""

import numpy as np
import pytest

from vedette.data.simulate import FAULTS, FEATURES, Pump, Pumps, simulate_pump, stream_pump
from vedette.data.simulate.faults import schedule
from vedette.data.simulate.recording import scan
from vedette.data.table import concat
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import validated

NAMES = [feature.name for feature in FEATURES]
SMALL = Pumps(nodes=3, train_hours=10, test_hours=20, interval=120)


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
    chunks = list(stream_pump("pump-1", 5, 40, fault_share=0.2, size=size))
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
    train = Pumps().node_table("pump-4", "train", seed=1)
    assert not train.label.any()
    assert set(train.kind.texts()) == {"normal"}


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_comes_on_every_pump_in_the_share_asked_for(seed):
    fleet = Pumps()
    for node in fleet.node_names():
        table = fleet.node_table(node, "test", seed)
        assert set(table.kind.texts()) == {*FAULTS, "normal"}
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
    assert not away[: schedule("pump-1", seed, 2880, 60, 0.1)[0].start].any()


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
    for fault in schedule("pump-3", 1, len(table), 60, share):
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
        train, test = (Pumps(fault_share=0).node_table(node, part, 0).numbers[:, 0] for part in ("train", "test"))
        assert np.ptp(np.quantile(test, [0.02, 0.98])) > 1.1 * np.ptp(np.quantile(train, [0.02, 0.98]))


@pytest.mark.parametrize("seed", range(3))
def test_relations_between_sensors_tell_more_than_their_size(seed):
    tables = Pumps().load(None, seed).tables
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


# --- settings


def test_the_fleet_is_a_data_set():
    dataset = SMALL.load(None)
    assert dataset.name == "pumps"
    assert dataset.ordered
    assert set(dataset.tables) == {"train", "test"}
    assert dataset.tables["train"].features == FEATURES
    assert all(feature.unit for feature in FEATURES)
    assert [type(text) for text in (Pumps.title, Pumps.licence, Pumps.source, Pumps.how)] == [str] * 4


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
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RecipeError):
        validated(Pumps, wrong, "[data]")


def test_an_unknown_setting_is_named():
    with pytest.raises(UnknownName, match="nodes"):
        validated(Pumps, {"node": 3}, "[data]")


@pytest.mark.parametrize("node", ["pump-0", "pump-4", "pump-01", "pump-", "valve-1", "1"])
def test_a_pump_outside_the_fleet_is_refused(node):
    with pytest.raises(UnknownName, match="pump-3"):
        SMALL.node_table(node, "train", 0)


def test_what_cannot_be_held_or_made_is_refused():
    with pytest.raises(DataUnusable, match="rows"):
        Pumps(nodes=1_000_000).load(None)
    with pytest.raises(DataUnusable, match="0 rows"):
        simulate_pump("a", 0, hours=0.001)
    with pytest.raises(DataUnusable, match="share"):
        simulate_pump("a", 0, hours=1, fault_share=0.9)
