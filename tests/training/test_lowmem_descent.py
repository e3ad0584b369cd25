"""Descent: networks side by side, the adaptive penalty, order and scaling of rows, 16 bits, and memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import steps
from steps import SHAPES, of_widths, task
from vedette.data.scaling import LIMIT, Scaling
from vedette.data.table import Table
from vedette.message import Array
from vedette.training.dense import Dense, parameters
from vedette.training.lowmem.descent import PLAIN, Descended, Schedule, descend
from vedette.training.lowmem.network import DenseNetwork
from vedette.training.lowmem.order import Scattered
from vedette.training.lowmem.planner import step_bytes
from vedette.training.lowmem.rows import Affine, HeldRows, ScaledRows
from vedette.training.lowmem.update import Rule, Updater

ADAM = Rule("adam")


def first(dense: Sequence[Dense], seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-1, 1, layer.parameters) / math.sqrt(layer.inputs) for layer in dense]).astype(np.float32)


def held(x: Array, y: Array) -> HeldRows:
    return HeldRows(len(x), lambda at: (x[at], y[at]))


def run(
    dense: Sequence[Dense],
    sets: Sequence[tuple[Array, Array]],
    seeds: Sequence[int],
    batch: int,
    micro: int,
    steps: int,
    precision: Any = "float32",
    rule: Rule = ADAM,
    schedule: Schedule = PLAIN,
    loss: Any = "cross-entropy",
) -> tuple[Array, Descended, Updater]:
    nodes = (len(sets),) if len(sets) > 1 else ()
    network = DenseNetwork(dense, micro, precision, 16, nodes=nodes)
    updater = Updater(network, rule, np.random.default_rng(5), schedule.pruned > 0)
    network.weights.reshape(len(sets), -1)[:] = [first(dense, seed) for seed in seeds]
    rngs = [np.random.default_rng(seed) for seed in seeds]
    found = descend(
        network,
        updater,
        [held(*each) for each in sets],
        lambda _: [Scattered(len(x), rng) for (x, _), rng in zip(sets, rngs, strict=True)],
        loss,
        batch,
        steps,
        lambda _: 0.003,
        schedule,
    )
    return network.weights.astype(np.float32).reshape(len(sets), -1), found, updater


@pytest.mark.parametrize("micro", [3, 8, 32])
@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "mae"])
def test_networks_side_by_side_are_each_alone(micro: int, loss: str) -> None:
    # Two batches a pass each, the last of 30, 1 and 17 rows.
    sets = [task(rows, 6, seed) for seed, rows in enumerate((62, 33, 49))]
    dense = of_widths(6, 9, 5, 1 if loss == "cross-entropy" else 6)
    together, found, _ = run(dense, sets, range(3), 32, micro, 11, loss=loss)
    for place, each in enumerate(sets):
        alone, one, _ = run(dense, [each], [place], 32, micro, 11, loss=loss)
        np.testing.assert_allclose(together[place], alone[0], atol=1e-6)
        assert found.fit[place] == pytest.approx(float(one.fit), rel=1e-5)


def test_fit_is_the_mean_loss_over_the_rows_of_the_last_pass() -> None:
    dense, (x, y) = of_widths(6, 9, 1), task(50, 6, 0)
    network = DenseNetwork(dense, 7)
    updater = Updater(network, Rule("sgd"), np.random.default_rng(0))
    network.weights[:] = first(dense)
    found = descend(
        network, updater, [held(x, y)], lambda _: [Scattered(50, np.random.default_rng(0))], "cross-entropy", 16, 8, lambda _: 0
    )
    hidden = np.maximum(x @ network.weights[:54].reshape(9, 6).T + network.weights[54:63], 0)
    logits = (hidden @ network.weights[63:72] + network.weights[72]).astype(np.float64)
    assert float(found.fit) == pytest.approx(np.mean(np.logaddexp(0, logits) - y * logits), rel=1e-5)


class Told(Updater):
    """Knows what the complexity is."""

    def complexity(self, scale: float) -> Array:
        return np.asarray(10.0)


def weights_after(fits: Sequence[float], schedule: Schedule) -> list[float]:
    """Return lambda after each pass, if the fits of the passes are these."""
    from vedette.training.lowmem import descent

    updater = Told(DenseNetwork(of_widths(2, 1), 1), Rule("sgd"), np.random.default_rng(0))
    weight, before, found = schedule.weight, math.inf, []
    for number, fit in enumerate(fits):
        weight, before = descent._adapted(updater, schedule, weight, before, number, fit)
        found.append(round(weight, 6))
    return found


def test_lambda_grows_where_line_9_says() -> None:
    # Whole losses: 0.5 + 0.01 · 10 = 0.6 <= 0.6: grows; 0.5 + 0.02 · 10 = 0.7 > 0.6: stays; 0.3 + 0.02 · 10 = 0.5 <= 0.6: grows, and so on.
    paper = Schedule(0.01, 0.01, baseline=(0.6, 0.6, 0.6, 0.4))
    assert weights_after([0.5, 0.5, 0.3, 0.1, 0.101], paper) == [0.02, 0.02, 0.03, 0.04, 0.04]
    # Without a baseline it is compared with the own fit before; nothing came before the first.
    assert weights_after([0.9, 0.5, 0.4, 0.1], Schedule(0.01, 0.01)) == [0.02, 0.03, 0.03, 0.04]
    assert weights_after([0.9, 0.5], Schedule(0.01)) == [0.01, 0.01]


def test_lambda_falls_again_where_the_fit_got_worse() -> None:
    rule = Schedule(0.01, 0.01, compared="fit")
    assert weights_after([0.9, 0.8, 0.85, 0.85, 0.9, 0.95, 0.96, 0.97], rule) == [0.02, 0.03, 0.02, 0.03, 0.02, 0.01, 0.0, 0.0]
    assert weights_after([0.5, 0.3], rule._replace(baseline=(0.4,))) == [0.0, 0.01]


@pytest.mark.parametrize("precision", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_the_penalty_thins_out_what_is_learned(precision: str) -> None:
    data, dense = task(400, 8, 0), of_widths(8, 24, 1)
    plain, fit, _ = run(dense, [data], [0], 32, 16, 600, precision)
    thin, fit_thin, _ = run(dense, [data], [0], 32, 16, 600, precision, schedule=Schedule(1e-4, 1e-4, 0.05, 0.02))
    assert (plain == 0).sum() <= 3
    assert (thin == 0).sum() > 40
    assert fit_thin.weight > 1e-4
    assert float(fit_thin.fit) < float(fit.fit) + 0.1


def accuracy(dense: Sequence[Dense], vector: Array, x: Array, y: Array) -> float:
    network = DenseNetwork(dense, len(x), training=False)
    network.weights[:] = vector
    network.inputs[:] = x
    return float(((network.forward(len(x))[:, 0] > 0) == y).mean())


@pytest.mark.slow
def test_16_bits_learn_as_well() -> None:
    data, test, dense = task(1500, 6, 0), task(1500, 6, 1), of_widths(6, 24, 12, 1)
    found = {}
    for precision in ("float32", "float16"):
        (vector,), _, updater = run(dense, [data], [0], 64, 16, 700, precision)
        found[precision] = accuracy(dense, vector, *test)
        assert updater.overflows <= 3
    assert found["float32"] > 0.93
    assert abs(found["float32"] - found["float16"]) < 0.015


def test_one_huge_row_is_survived_in_16_bits() -> None:
    x, y = task(256, 6, 0)
    x[7] = 1e6
    (vector,), _, updater = run(of_widths(6, 24, 1), [(x, y)], [0], 32, 16, 300, "float16")
    assert updater.overflows > 0
    assert updater.steps + updater.overflows == 300
    assert np.isfinite(vector).all()
    assert accuracy(of_widths(6, 24, 1), vector, *task(500, 6, 1)) > 0.75


@given(st.integers(1, 1000), st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_every_row_is_visited_once(rows: int, seed: int, chunk: int) -> None:
    order = Scattered(rows, np.random.default_rng(seed))
    assert len(order) == rows
    whole = order.take(0, rows)
    assert np.array_equal(np.sort(whole), np.arange(rows))
    parts = [order.take(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_order_looks_shuffled() -> None:
    rows = 10_000
    orders = [Scattered(rows, np.random.default_rng(seed)).take(0, rows) for seed in range(8)]
    for order in orders:
        # Of a random order these are 0, give or take 1 / sqrt(10,000).
        for far in (1, 2, 128):
            assert abs(np.corrcoef(order[:-far], order[far:])[0, 1]) < 0.05
        assert abs(np.corrcoef(order, np.arange(rows))[0, 1]) < 0.05
    apart = [np.mean(one == other) for one in orders for other in orders if one is not other]
    assert max(apart) < 0.01


def test_places_of_a_million_rows_are_evenly_spread() -> None:
    order = Scattered(10**6, np.random.default_rng(3))
    found = np.histogram(order.take(500_000, 520_000), bins=20, range=(0, 10**6))[0]
    assert found.min() > 800
    assert found.max() < 1200


def scalings() -> list[Scaling]:
    return [Scaling(numbers=name, log=log) for name in ("min-max", "standard", "none") for log in (False, True)]


@pytest.mark.parametrize("scaling", scalings(), ids=lambda each: f"{each.numbers}-{each.log}")
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("chosen", [None, [3, 0, 4]])
def test_rows_are_scaled_as_by_the_scaler(scaling: Scaling, kind: type[Any], chosen: list[int] | None) -> None:
    rng = np.random.default_rng(0)
    numbers = (rng.normal(size=(40, 5)) * [1, 1000, 10, 300, 7]).astype(kind)
    numbers[:, 4] = 3  # constant
    train = numbers.copy()
    if kind is not np.int16:
        train[3, 0] = np.nan
        numbers[[1, 5, 6], [0, 3, 4]] = np.nan
        numbers[[2, 8, 9, 10], [0, 3, 4, 0]] = [np.inf, -np.inf, 1e30, -0.0]
    names = [f"x{place}" for place in range(5)]
    scaling = scaling.model_copy(update={"features": tuple(names[place] for place in chosen or range(5))})
    scaler = scaling.fitted(scaling.summary(Table.from_array(train)))
    wanted = scaler.transform(Table.from_array(numbers))
    assert scaler.line is not None

    def read(at: Array, into: Array) -> None:
        into[:] = numbers[at]

    label = rng.integers(0, 2, 40).astype(np.int8)
    rows = ScaledRows(read, kind, 5, None if chosen is None else np.array(chosen), Affine(*scaler.line, LIMIT, scaling.log), label)
    at, inputs, labels = rng.permutation(40)[:21], np.empty((21, wanted.shape[1]), np.float32), np.empty(21, np.float32)
    rows.fill(at, inputs, labels)
    np.testing.assert_array_equal(inputs, wanted[at])
    np.testing.assert_array_equal(labels, label[at])
    assert len(rows) == 40


def test_held_rows_are_asked_for_a_few_at_a_time() -> None:
    x, y = task(30, 4, 0)
    asked = []

    def take(at: Array) -> tuple[Array, Array]:
        asked.append(len(at))
        return x[at], y[at]

    inputs, labels, at = np.empty((20, 4), np.float32), np.empty(20, np.float32), np.arange(20)[::-1]
    HeldRows(30, take, 8).fill(at, inputs, labels)
    np.testing.assert_array_equal(inputs, x[at])
    np.testing.assert_array_equal(labels, y[at])
    assert asked == [8, 8, 4]


CACHED = 1_000
"""Bytes of small blocks that NumPy keeps for the next time: by what a process did before they count as allocated or not."""


@pytest.fixture(scope="module")
def measured() -> Iterator[Callable[..., dict[str, int]]]:
    """What steps take, in a process that does nothing else."""
    with subprocess.Popen([sys.executable, steps.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def ask(*what: Any) -> dict[str, int]:
            asked.write(json.dumps(what) + "\n")
            asked.flush()
            found: dict[str, int] = json.loads(told.readline())
            return found

        yield ask
        asked.close()


@pytest.mark.parametrize("place", range(len(SHAPES)), ids=lambda place: f"{SHAPES[place][0][0].inputs}-{SHAPES[place][2]}")
@pytest.mark.parametrize("rule", [*(pytest.param(rule, marks=pytest.mark.slow) for rule in ("sgd", "momentum")), "adam"])
@pytest.mark.parametrize(
    ("precision", "lanes"),
    [("float32", 64), ("float16", 16), *(pytest.param(*more, marks=pytest.mark.slow) for more in (("float32", 16), ("float16", 8)))],
)
def test_a_step_takes_no_more_than_the_planner_says(
    place: int, rule: Any, precision: Any, lanes: int, measured: Callable[..., dict[str, int]]
) -> None:
    dense, _, micro = SHAPES[place]
    promised = step_bytes(dense, micro, precision, lanes, rule)
    found = measured(place, rule, precision, lanes)
    assert found
    assert max(found.values()) <= promised + CACHED


def test_vectors_of_other_nodes_are_never_read() -> None:
    # A node without rows left in a batch adds nothing, whatever its block still holds.
    dense, sets = of_widths(6, 9, 1), [task(40, 6, 0), task(33, 6, 1)]
    together, _, _ = run(dense, sets, range(2), 32, 4, 6, rule=Rule("sgd"))
    alone, _, _ = run(dense, [sets[1]], [1], 32, 4, 6, rule=Rule("sgd"))
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)
    assert together.shape == (2, parameters(dense))
