"""Every registered re-balancing method: counts as asked, nothing made of the common class, the same seed the same rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from conftest import correlated, with_category
from vedette.data.rebalance import REBALANCERS, Balanced, KSmote, Rebalancer, Smote
from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.data.windows import Samples, Window
from vedette.detectors.mlp import Mlp
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import build, describe
from vedette.training.rows import TrainingRows

NAMES = sorted(REBALANCERS)
WORKING = [name for name in NAMES if name != "none"]
ROWS = np.random.default_rng(0).normal(size=(220, 3)).astype(np.float32)
LABELS = (np.arange(220) % 11 == 0).astype(np.int8)  # 20 of 220


def made(name: str, **settings: float) -> Rebalancer:
    return build(REBALANCERS, {"name": name, **settings}, "test")


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counted(balanced: Balanced, labels: np.ndarray = LABELS) -> list[int]:
    return np.bincount(np.concatenate([labels[balanced.keep], balanced.extra[:, -1].astype(int)]), minlength=2).tolist()


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 200), (0.5, 200), (0.2, 200)])
def test_the_rarer_class_has_the_ratio_asked_for(name: str, ratio: float, kept: int) -> None:
    normal, anomalous = counted(made(name, ratio=ratio).balanced(ROWS, LABELS, seeded()))
    assert anomalous == pytest.approx(ratio * normal, abs=1)
    if name == "under-sampling":
        assert anomalous == 20
    else:
        assert normal == kept


@pytest.mark.parametrize("name", WORKING)
def test_it_does_not_matter_which_class_is_rare(name: str) -> None:
    turned = (1 - LABELS).astype(np.int8)
    assert counted(made(name).balanced(ROWS, turned, seeded()), turned)[::-1] == counted(made(name).balanced(ROWS, LABELS, seeded()))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_balanced_stays_as_it_is(name: str) -> None:
    for labels, ratio in ((LABELS, 0.1), (np.arange(220) % 2, 1.0)):
        balanced = made(name, ratio=ratio).balanced(ROWS, labels, seeded())
        assert balanced.keep.tolist() == list(range(220))
        assert balanced.extra.shape == (0, 4)


@pytest.mark.parametrize("name", WORKING)
def test_draws_are_those_of_the_generator(name: str) -> None:
    one, two, other = (made(name).balanced(ROWS, LABELS, seeded(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_rows_is_said(name: str) -> None:
    with pytest.raises(DataUnusable, match="no anomalous training row"):
        made(name).balanced(ROWS, np.zeros(220), seeded())
    with pytest.raises(DataUnusable, match="no normal training row"):
        made(name).balanced(ROWS, np.ones(220), seeded())


def test_over_sampling_repeats_and_makes_nothing() -> None:
    balanced = made("over-sampling").balanced(ROWS, LABELS, seeded())
    assert not len(balanced.extra)
    assert set(range(220)) <= set(balanced.keep.tolist())
    assert np.bincount(balanced.keep)[LABELS == 0].max() == 1


def test_synthetic_points_lie_between_two_of_their_class() -> None:
    extra = made("smote", neighbours=3).balanced(ROWS, LABELS, seeded()).extra
    assert extra.dtype == np.float32
    assert (extra[:, -1] == 1).all()
    rare = ROWS[LABELS == 1].astype(np.float64)
    for point in extra[:40, :-1].astype(np.float64):
        detour = np.linalg.norm(point - rare[:, None], axis=2) + np.linalg.norm(point - rare[None], axis=2)
        straight = np.linalg.norm(rare[:, None] - rare[None], axis=2)
        np.fill_diagonal(detour, np.inf)
        assert (detour - straight).min() < 1e-4


@pytest.mark.parametrize("name", ["smote", "k-smote"])
def test_few_rows_of_a_class_are_enough(name: str) -> None:
    for few in (1, 2, 3):
        labels = np.zeros(220, dtype=np.int8)
        labels[:few] = 1
        normal, anomalous = counted(made(name).balanced(ROWS, labels, seeded()), labels)
        assert (normal, anomalous) == (220 - few, 220 - few)


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0}, {"ratio": 1.5}, {"name": "smote", "neighbours": 0}, {"name": "k-smote", "samples": 0}, {"name": "smot"}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((RecipeError, UnknownName)):
        build(REBALANCERS, {"name": "over-sampling", **wrong}, "test")


def test_settings_survive_json() -> None:
    for name in NAMES:
        assert build(REBALANCERS, json.loads(json.dumps(describe(REBALANCERS, made(name)))), "") == made(name)


def test_a_classifier_trains_on_balanced_rows() -> None:
    table = correlated(400, 4, seed=1, anomalies=0.05)
    detector = Mlp(rebalance=Smote(), epochs=3).fit(table)
    rows = TrainingRows(detector, table, detector.memory, rng=seeded())
    _, labels = rows.take(np.arange(len(rows)))
    assert np.bincount(labels.astype(int)).tolist() == [int((table.label == 0).sum())] * 2
    plain = Mlp(epochs=3).fit(table)
    anomalous = table.take(np.flatnonzero(table.label == 1))
    assert detector.decision_function(anomalous).mean() > plain.decision_function(anomalous).mean()


def drawn_from(point: np.ndarray, rows: np.ndarray, neighbours: int) -> dict[int, np.ndarray]:
    """The rows that eq. 3 can have made a point around, each with the delta_n that it takes; fewer neighbours than columns."""
    found = {}
    for base in range(len(rows)):
        apart = np.linalg.norm(rows - rows[base], axis=1)
        nearest = np.argsort(np.where(np.arange(len(rows)) == base, np.inf, apart))[: min(neighbours, len(rows) - 1)]
        offsets = (rows[nearest] - rows[base]) / len(nearest)
        deltas = np.linalg.lstsq(offsets.T, point - rows[base], rcond=None)[0]
        # The box that the offsets span around the base holds the point, and the point is their sum.
        low, high = np.minimum(offsets, 0).sum(axis=0), np.maximum(offsets, 0).sum(axis=0)
        boxed = ((point >= rows[base] + low - 1e-4) & (point <= rows[base] + high + 1e-4)).all()
        exact = np.abs(deltas @ offsets + rows[base] - point).max() < 1e-4 and deltas.min() > -1e-2 and deltas.max() < 1.01
        if boxed and exact:
            found[base] = deltas
    return found


class TestKSmote:
    @given(
        seed=st.integers(0, 2**20),
        few=st.integers(2, 12),
        samples=st.integers(1, 15),
        neighbours=st.integers(1, 6),
        each=st.integers(1, 5),
    )
    def test_points_lie_where_equation_3_can_put_them(self, seed: int, few: int, samples: int, neighbours: int, each: int) -> None:
        rows = seeded(seed).normal(size=(few, 16)).astype(np.float32)
        count = each * min(samples, few)
        points = KSmote(samples=samples, neighbours=neighbours).points(rows, count, seeded(seed + 1)).astype(np.float64)
        assert points.shape == (count, 16)
        # Now and then rows that are each other's neighbours could both have been a point's own; but one must have been that of them all.
        for around in points.reshape(-1, each, 16):
            assert set.intersection(*(set(drawn_from(point, rows.astype(np.float64), neighbours)) for point in around))

    def test_as_many_rows_as_asked_for_have_their_share_of_the_points(self) -> None:
        rows = seeded(1).normal(size=(12, 16)).astype(np.float32)
        points = KSmote(samples=7, neighbours=8).points(rows, 60, seeded(2)).astype(np.float64)
        origins = [drawn_from(point, rows.astype(np.float64), 8) for point in points]
        assert all(len(origin) == 1 for origin in origins)
        assert sorted(np.bincount([next(iter(origin)) for origin in origins], minlength=12)) == [0] * 5 + [8] * 3 + [9] * 4

    def test_each_neighbour_is_multiplied_by_a_uniform_number_of_its_own(self) -> None:
        rows = seeded(1).normal(size=(9, 16)).astype(np.float32)
        points = KSmote(samples=1, neighbours=3).points(rows, 4_000, seeded(2)).astype(np.float64)
        (base,) = drawn_from(points[0], rows.astype(np.float64), 3)
        deltas = np.stack([drawn_from(point, rows.astype(np.float64), 3)[base] for point in points[:500]])
        assert deltas.mean(axis=0) == pytest.approx([0.5] * 3, abs=0.05)
        assert deltas.var(axis=0) == pytest.approx([1 / 12] * 3, abs=0.015)
        assert np.abs(np.corrcoef(deltas.T) - np.eye(3)).max() < 0.15

    def test_by_hand(self) -> None:
        class Halves(np.random.Generator):
            def random(self, size: tuple[int, int], dtype: type) -> np.ndarray:  # type: ignore[override]
                return np.tile(np.array([0.5, 1.0], dtype=dtype), (size[0], 1))

        rows = np.array([[0, 0], [4, 0], [0, 8], [100, 100]], dtype=np.float32)
        points = KSmote(samples=4, neighbours=2).points(rows, 4, Halves(np.random.PCG64(0)))
        # Around (0, 0): half of (4, 0) and all of (0, 8), by two. Around (4, 0): its nearest are (0, 0), then (0, 8); and so on.
        wanted = [[1, 4], [4 - (0.5 * 4 + 4) / 2, 4], [0.5 * 0 / 2 + 4 / 2, 8 - (0.5 * 8 + 8) / 2]]
        assert {tuple(point) for point in wanted} <= {tuple(point) for point in points.tolist()}

    @given(ratio=st.floats(0.01, 1), rare=st.integers(1, 60), more=st.integers(0, 200), turned=st.booleans())
    def test_the_ratio_is_met_and_no_row_more(self, ratio: float, rare: int, more: int, turned: bool) -> None:
        labels = (np.arange(2 * rare + more) < rare).astype(np.int8)
        rows = seeded().normal(size=(len(labels), 2)).astype(np.float32)
        extra = KSmote(ratio=ratio).balanced(rows, 1 - labels if turned else labels, seeded()).extra
        common = rare + more
        assert (extra[:, -1] == (0 if turned else 1)).all()
        assert rare + len(extra) >= ratio * common - 1e-6
        assert not len(extra) or rare + len(extra) - 1 < ratio * common

    def test_a_product_that_is_rounded_up_asks_for_no_row_more(self) -> None:
        assert 0.07 * 100 > 7
        assert KSmote(ratio=0.07).lacking(5, 100) == 2

    def test_points_of_a_single_row_are_copies_of_it(self) -> None:
        row = np.array([[1.5, -2, 0.1]], dtype=np.float32)
        assert np.array_equal(KSmote().points(row, 7, seeded()), np.repeat(row, 7, axis=0))

    def test_equal_rows_do_not_count_as_a_row_itself(self) -> None:
        rows = np.array([[0, 0]] * 30 + [[1, 1]], dtype=np.float32)
        points = KSmote(samples=31, neighbours=3).points(rows, 310, seeded())
        # All neighbours of a repeated row are its likes; the lone one is drawn towards three of them.
        away = points[(points != 0).any(axis=1)]
        assert len(away) == 10
        assert np.array_equal(away[:, 0], away[:, 1])
        assert ((away > 0) & (away <= 1)).all()

    def test_choices_are_copied_whole_from_the_row_or_a_neighbour(self) -> None:
        rng = seeded(3)
        letters = rng.integers(0, 5, 40)
        rows = np.column_stack([rng.normal(size=(40, 3)), np.eye(5)[letters], np.arange(40) / 1000, np.arange(40) % 2]).astype(np.float32)
        choices = [slice(3, 8), slice(8, 9), slice(9, 10)]
        points = KSmote(samples=1, neighbours=6).points(rows, 600, rng, choices)
        for block in choices:
            known = {tuple(row) for row in rows[:, block].tolist()}
            assert {tuple(row) for row in points[:, block].tolist()} <= known
        # Each block is drawn for itself, from seven rows alike: the base and six others.
        assert len(np.unique(points[:, 8])) == 7
        assert len(np.unique(points[:, 3:], axis=0)) > 7
        assert len(np.unique(points[:, :3], axis=0)) == 600
        plain = KSmote(samples=1, neighbours=6).points(rows, 600, seeded(3))
        assert not set(np.unique(plain[:, 8])) <= set(np.unique(rows[:, 8]))

    def test_draws_do_not_depend_on_the_number_of_threads(self) -> None:
        # Rows of zeros and ones are often equally far from each other, and which of them count as nearest is anybody's choice.
        rows = seeded(1).integers(0, 2, (3_000, 40)).astype(np.float32)
        found = []
        for threads in (1, 2):
            with threadpool_limits(threads, user_api="openmp"):
                found.append(KSmote().points(rows, 60, seeded(2)))
        assert np.array_equal(*found)


def test_choices_of_samples_are_categories_and_missing_masks_of_each_row() -> None:
    rows = with_category(with_gaps(correlated(60, 3, seed=1)), 2)
    one_hot = Scaling(missing="mask")
    scaler = one_hot.fitted(one_hot.summary(rows))
    assert scaler.names == ["s0", "s1", "s2", "lamp=green", "lamp=red", "lamp=yellow", "lamp=?", "s0 missing", "s1 missing"]
    assert Samples(scaler, Window(), rows).choices == (slice(3, 7), slice(7, 8), slice(8, 9))
    both = (slice(3, 7), slice(7, 8), slice(8, 9), slice(12, 16), slice(16, 17), slice(17, 18))
    assert Samples(scaler, Window(size=2), rows).choices == both
    ordinal = Scaling(categories="ordinal")
    assert Samples(ordinal.fitted(ordinal.summary(rows)), Window(), rows).choices == (slice(3, 4),)
    numbers = Scaling()
    assert Samples(numbers.fitted(numbers.summary(correlated(60, 3, seed=1))), Window(size=4), rows).choices == ()


def with_gaps(table: Table) -> Table:
    """The same table, a value of the first two features missing here and there."""
    numbers = table.numbers.copy()
    numbers[::7, 0], numbers[::5, 1] = np.nan, np.nan
    return Table(table.features, numbers, label=table.label)


@pytest.mark.parametrize("window", [1, 3])
def test_categories_of_synthetic_training_rows_stay_valid(window: int) -> None:
    table = with_category(with_gaps(correlated(300, 4, seed=5, anomalies=0.1)), 3)
    detector = Mlp(rebalance=KSmote(), epochs=1, window=Window(size=window), scaling=Scaling(missing="mask")).fit(table)
    rows = TrainingRows(detector, table, detector.memory, rng=seeded())
    samples, labels = rows.take(np.arange(len(rows)))
    made = samples[len(rows.ends) :].reshape(-1, window, samples.shape[1] // window)
    assert labels.mean() == 0.5
    assert len(made) > 100
    lamps, masks = made[..., 4:8], made[..., 8:]
    assert set(np.unique(lamps)) == {0, 1}
    assert (lamps.sum(axis=2) == 1).all()
    assert set(np.unique(masks)) == {0, 1}
