"""Windows: against a plain loop, and never across a border, a gap or what was taken out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaler, Scaling
from vedette.data.table import Coded, Feature, Table, concat
from vedette.data.windows import Samples, Window, segment_starts
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.classical import Pca
from vedette.errors import RecipeError
from vedette.evaluation.federation import federate
from vedette.settings import validated
from vedette.strategies.merge import Merge


def recording(rows: int, groups: list[int] | None = None, time: list[float] | None = None) -> Table:
    """Rows that tell their number: the first feature is it, the second its negative."""
    numbers = np.stack([np.arange(rows), -np.arange(rows)], axis=1).astype(np.float64)
    group = None if groups is None else Coded(np.array(groups, dtype=np.int32), tuple("abcdef"))
    return Table((Feature("n"), Feature("m")), numbers, group=group, time=None if time is None else np.array(time, dtype=float))


def unscaled(table: Table) -> Scaler:
    return Scaler(Scaling(), table.features, np.array([[0.0, 0.0], [1.0, 1.0]]), {})


def plain(table: Table, window: Window) -> list[list[int]]:
    """The rows of each row's window, by a loop over what may not lie between two of them."""
    found = []
    for end in range(len(table)):
        rows = [end]
        while len(rows) < window.size:
            at = rows[0]
            same = at > 0 and (table.group is None or table.group.codes[at] == table.group.codes[at - 1])
            next_to = at > 0 and (window.across or table.place is None or table.place[at] == table.place[at - 1] + 1)
            rows.insert(0, at - 1 if same and next_to else at)
            if rows[0] == rows[1]:
                rows = [at] * (window.size - len(rows) + 1) + rows[1:]
        found.append(rows[-window.size :])
    return found


@given(
    groups=st.lists(st.integers(0, 2), min_size=1, max_size=40).map(sorted),
    kept=st.lists(st.booleans(), min_size=40, max_size=40),
    size=st.integers(1, 7),
    stride=st.integers(1, 3),
    across=st.booleans(),
)
def test_samples_are_those_of_a_plain_loop(groups, kept, size, stride, across):
    whole = recording(len(groups), groups)
    table = whole.take(np.array(kept[: len(groups)]))
    window = Window(size=size, stride=stride, across=across)
    samples = Samples(unscaled(whole), window, table)
    wanted = plain(table, window)
    numbers = table.numbers[:, 0]
    first = samples.all()[:, ::2]
    assert np.array_equal(first, np.array([numbers[rows] for rows in wanted]).reshape(len(table), size))
    assert np.array_equal(samples.all()[:, 1::2], -first)
    streamed = list(Samples(unscaled(whole), window, table).chunks())
    assert np.array_equal(np.concatenate([samples.all()[:0], *streamed]), samples.all())
    full = [end for end, rows in enumerate(wanted) if len(set(rows)) == size]
    if size > 1 and full:
        assert set(samples.whole()) <= set(full)
        assert stride > 1 or list(samples.whole()) == full


def test_rows_scaled_block_by_block_are_the_same(monkeypatch):
    table = recording(900, [0] * 500 + [1] * 400)
    window = Window(size=5)
    kept = Samples(unscaled(table), window, table).all()
    monkeypatch.setattr("vedette.data.windows.CACHE_BYTES", 0)
    monkeypatch.setattr("vedette.data.windows.CHUNK_VALUES", 0)
    samples = Samples(unscaled(table), window, table)
    assert np.array_equal(samples.all(), kept)
    assert np.array_equal(np.concatenate(list(samples.chunks())), kept)
    shuffled = np.random.default_rng(0).permutation(900)[:50]
    assert np.array_equal(samples.take(shuffled), kept[shuffled])


def test_a_pause_and_a_clock_that_runs_backwards_begin_a_new_window():
    table = recording(8, time=[0, 60, 120, 180, 1000, 1060, 500, 560])
    assert segment_starts(table, pause=5).tolist() == [0, 0, 0, 0, 4, 4, 6, 6]
    assert segment_starts(table, pause=100).tolist() == [0, 0, 0, 0, 0, 0, 6, 6]


def test_across_nothing_but_another_group_begins_a_new_window():
    table = recording(8, [0] * 5 + [1] * 3, time=[0, 60, 120, 9000, 9060, 500, 400, 460]).take(np.array([0, 1, 3, 4, 5, 7]))
    assert segment_starts(table, pause=5).tolist() == [0, 0, 2, 2, 4, 5]
    assert Window(size=2, across=True).starts(table).tolist() == [0, 0, 0, 0, 4, 4]


def test_stacked_tables_stay_apart():
    table = concat([recording(3), recording(3).take(slice(1, 3)), recording(2).take(np.array([0]))])
    assert segment_starts(table, pause=5).tolist() == [0, 0, 0, 3, 3, 5]


def test_windows_do_not_span_rows_taken_out():
    table = recording(6)
    labelled = Table(table.features, table.numbers, label=np.array([0, 0, 1, 0, 0, 0], dtype=np.int8))
    assert segment_starts(labelled.normal(), pause=5).tolist() == [0, 0, 2, 2, 2]
    assert Samples(unscaled(table), Window(size=3), labelled.normal()).whole().tolist() == [4]
    assert Samples(unscaled(table), Window(size=2), labelled.normal()).whole().tolist() == [1, 3, 4]


def test_stride_counts_within_each_stretch():
    table = recording(12, [0] * 6 + [1] * 6)
    assert Samples(unscaled(table), Window(size=2, stride=2), table).whole().tolist() == [1, 3, 5, 7, 9, 11]
    assert len(Samples(unscaled(table), Window(size=2, stride=2), table).all()) == 12


def test_only_the_last_row_counts_unless_the_whole_window_shall():
    values = np.arange(12.0).reshape(2, 6)
    assert Window(size=3).counted(values).tolist() == [[4, 5], [10, 11]]
    assert Window(size=3, scored="whole").counted(values).shape == (2, 6)
    assert Window().counted(values).shape == (2, 6)


def test_a_number_stands_for_a_window():
    assert validated(Autoencoder, {"window": 30}, "detector").window == Window(size=30)
    with pytest.raises(RecipeError, match=r"window"):
        validated(Autoencoder, {"window": 0}, "detector")
    with pytest.raises(RecipeError):
        validated(Autoencoder, {"window": True}, "detector")


@given(
    groups=st.lists(st.integers(0, 2), min_size=1, max_size=40).map(sorted),
    size=st.integers(1, 4),
    average=st.integers(2, 6),
    settled=st.booleans(),
)
def test_averaged_scores_are_those_of_a_plain_loop(groups, size, average, settled):
    table = recording(len(groups), groups)
    scores = np.random.default_rng(len(groups)).gamma(2, size=len(groups))
    samples = Samples(unscaled(table), Window(size=size, average=average), table)
    found = samples.scores(lambda chunk: scores[chunk[:, -2].astype(int)], settled)
    wanted, whole = [], []
    for at in range(len(groups)):
        rows = [row for row in range(max(0, at - average + 1), at + 1) if groups[row] == groups[at]]
        wanted.append(np.mean(scores[rows]))
        whole.append(at - groups.index(groups[at]) >= size + average - 2)
    kept = np.array(whole) if settled and any(whole) else np.ones(len(groups), dtype=bool)
    np.testing.assert_allclose(found, np.array(wanted)[kept], rtol=1e-12)


def test_an_average_is_the_same_in_fit_and_in_a_federation():
    table = recording(400, [0] * 150 + [1] * 250)
    numbers = np.random.default_rng(0).normal(size=(400, 2))
    rows = Table(table.features, numbers, label=np.zeros(400, dtype=np.int8), group=table.group)
    settings = {"scaling": Scaling(numbers="standard"), "window": Window(size=2, average=9)}
    alone = Pca(**settings).fit(rows)
    together = federate(Fleet.of({"one": rows}), Pca(**settings), Merge()).detectors["one"]
    assert together.threshold_ == pytest.approx(alone.threshold_, rel=1e-9)
    np.testing.assert_allclose(together.decision_function(rows), alone.decision_function(rows), rtol=1e-9)
    steady, jumpy = alone.decision_function(rows), Pca(scaling=settings["scaling"], window=2).fit(rows).decision_function(rows)
    assert steady.std() < 0.6 * jumpy.std()
