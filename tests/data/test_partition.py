"""Partitions: every row at one node, by the seed and the training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shares import PARTS, SERVICES, TEST, TRAIN, counts, rows
from vedette.data.fleet import Fleet
from vedette.data.partition import PARTITIONS, Counts, Dirichlet, Iid, Natural, Quantity, Shards
from vedette.data.partition.levels import clusters_of
from vedette.data.table import Coded, Table, concat
from vedette.errors import DataUnusable, RecipeError, UnknownName
from vedette.settings import build


@pytest.mark.parametrize("table", [TRAIN, TEST], ids=["train", "test"])
def test_iid_shares_are_equal(table: Table) -> None:
    iid = Iid(nodes=7)
    assert iid.names(TRAIN) == [f"node-{i}" for i in range(1, 8)]
    for some in [slice(None)] if table is TEST else [TRAIN.label == 0, TRAIN.label == 1]:
        assert np.ptp(counts(iid, TRAIN, table, some)) <= 1
    assert Iid(nodes=10).names(TRAIN)[0] == "node-01"


def test_other_rows_of_a_level_follow_the_shares_of_its_training_rows() -> None:
    partition = Dirichlet(nodes=4, over="service", min_rows=20)
    for level in range(len(SERVICES)):
        normal = np.flatnonzero((TRAIN.column("service").codes == level) & (TRAIN.label == 0))
        attack = np.flatnonzero((TRAIN.column("service").codes == level) & (TRAIN.label == 1))
        test = np.flatnonzero(TEST.column("service").codes == level)
        share = counts(partition, TRAIN, TRAIN, normal) / len(normal)
        for table, some in ((TRAIN, attack), (TEST, test)):
            off = np.abs(counts(partition, TRAIN, table, some) / len(some) - share).max()
            assert off <= 1 / len(some) + 1 / len(normal)  # each share is kept to within one row


def test_quantities_follow_one_draw_for_all_rows() -> None:
    partition = Quantity(nodes=4, min_rows=20)
    train, test = counts(partition, TRAIN, TRAIN), counts(partition, TRAIN, TEST)
    assert np.abs(train / len(TRAIN) - test / len(TEST)).max() <= 2 / len(TRAIN) + 1 / len(TEST)


@pytest.mark.parametrize("name", ["quantity", "dirichlet"])
def test_small_alphas_share_unequally(name: str) -> None:
    def spread(alpha: float) -> float:
        partition = build(PARTITIONS, {"name": name, **PARTS[name], "min_rows": 1, "alpha": alpha}, "")
        return float(np.mean([np.ptp(counts(partition, TRAIN, TRAIN, seed=seed)) for seed in range(10)]))

    assert spread(1e6) < 0.05 * len(TRAIN)
    assert spread(0.2) > 0.3 * len(TRAIN)


@pytest.mark.parametrize("name", ["quantity", "dirichlet"])
def test_every_node_gets_its_fewest_normal_rows_or_none_does(name: str) -> None:
    train = rows(400, 3, [f"service-{i}" for i in range(40)])  # many small levels: what rounding takes adds up
    refused = 0
    for seed in range(30):
        partition = build(PARTITIONS, {"name": name, **PARTS[name], "alpha": 0.8, "min_rows": 45}, "")
        try:
            assert counts(partition, train, train, train.label == 0, seed).min() >= 45
        except DataUnusable:
            refused += 1
    assert refused < 30
    with pytest.raises(DataUnusable, match=rf"partition '{name}': 200 draws, none with 500 normal rows for each of 4 nodes"):
        partition.model_copy(update={"min_rows": 500}).places(train, train, "train", 0)


@pytest.mark.parametrize("name", ["iid", "quantity", "dirichlet"])
def test_no_node_stays_without_normal_training_rows(name: str) -> None:
    few = TRAIN.take(np.concatenate([np.flatnonzero(TRAIN.label == 0)[:5], np.flatnonzero(TRAIN.label == 1)]))
    settings = {"name": name, **PARTS[name]} | ({} if name == "iid" else {"min_rows": 1, "alpha": 50})
    assert counts(build(PARTITIONS, settings, ""), few, few, few.label == 0).min() >= 1
    with pytest.raises(DataUnusable, match="fewer nodes"):
        build(PARTITIONS, settings | {"nodes": 6}, "").places(few, few, "train", 0)
    with pytest.raises(DataUnusable, match="fewer nodes"):
        build(PARTITIONS, settings, "").places(few.take(few.label == 1), TEST, "test", 0)


def test_levels_never_seen_in_training_have_shares_of_their_own() -> None:
    partition = Dirichlet(nodes=4, over="service", alpha=1e6)
    strange = replace(TEST, categories=(Coded.of(["gopher"] * len(TEST)),))
    assert np.ptp(counts(partition, TRAIN, strange)) <= 0.02 * len(TEST)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(UnknownName, match="no category column 'servce'; did you mean 'service'"):
        Dirichlet(over="servce").places(TRAIN, TRAIN, "train", 0)


def test_natural_nodes_are_the_groups() -> None:
    natural = Natural()
    assert natural.names(TRAIN) == ["a", "b", "c"]
    places = natural.places(TRAIN, TEST, "test", 0)
    assert [natural.names(TRAIN)[place] for place in places] == TEST.column("group").texts()
    only = TRAIN.take(np.flatnonzero(np.array(TRAIN.column("group").texts()) != "b"))
    assert natural.names(only) == ["a", "c"]
    with pytest.raises(DataUnusable, match="node 'b' has test rows but no training rows"):
        natural.places(only, TEST, "test", 0)
    with pytest.raises(DataUnusable, match="such as 'iid'"):
        natural.names(replace(TRAIN, group=None))
    with pytest.raises(DataUnusable, match="the test rows know no devices"):
        natural.places(TRAIN, replace(TEST, group=None), "test", 0)


def test_the_first_parts_of_groups_names_may_make_the_nodes() -> None:
    names = ("valve1/0", "valve1/7", "other/2", "free")
    table = replace(TRAIN.take(slice(0, 4)), group=Coded(np.arange(4, dtype=np.int32), names))
    assert Natural(depth=1).names(table) == ["valve1", "other", "free"]
    assert Natural(depth=1).places(table, table, "test", 0).tolist() == [0, 0, 1, 2]
    assert Natural(depth=2).names(table) == list(names)


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"alpha": 0}, {"min_rows": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        build(PARTITIONS, {"name": "dirichlet", "over": "service", **wrong}, "")


def test_shards_give_each_node_few_levels_and_equal_amounts() -> None:
    partition = Shards(nodes=5, shards=1, over="service")
    held = counts(partition, TRAIN, TRAIN)
    assert held.sum() == len(TRAIN)
    assert held.max() - held.min() <= 2 * len(SERVICES)  # to within a row of each level and label
    places = partition.places(TRAIN, TRAIN, "train", 0)
    service = TRAIN.column("service").codes
    assert np.mean([len(np.unique(service[places == node])) for node in range(5)]) < 3
    many = Shards(nodes=5, shards=40, over="service").places(TRAIN, TRAIN, "train", 0)
    assert all(len(np.unique(service[many == node])) == len(SERVICES) for node in range(5))


def test_test_rows_follow_the_shards_of_their_level() -> None:
    partition = Shards(nodes=4, shards=2, over="service")
    for level in range(len(SERVICES)):
        rows, others = (np.flatnonzero(table.column("service").codes == level) for table in (TRAIN, TEST))
        train, test = counts(partition, TRAIN, TRAIN, rows) / len(rows), counts(partition, TRAIN, TEST, others) / len(others)
        np.testing.assert_allclose(train, test, atol=0.03)


def test_shards_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(DataUnusable, match="cannot be cut into 2000 shards"):
        Shards(nodes=1000, shards=2, over="service").places(TRAIN, TRAIN, "train", 0)
    only = TRAIN.take(np.flatnonzero(np.array(TRAIN.column("kind").texts()) == "attack")[:40])
    mixed = concat([only, TRAIN.normal().take(slice(0, 2))])
    with pytest.raises(DataUnusable, match="none with normal training rows for each of 3 nodes"):
        Shards(nodes=3, shards=1, over="kind").places(mixed, mixed, "train", 0)


def clustered(rows: int, seed: int) -> Table:
    """Normal rows in three heaps far apart, anomalies anywhere."""
    rng = np.random.default_rng(seed)
    heap = rng.integers(0, 3, rows)
    label = (rng.random(rows) < 0.1).astype(np.int8)
    x = np.array([[0, 0], [50, 0], [0, 50]])[heap] + rng.normal(size=(rows, 2))
    return replace(
        Table.from_array(np.where(label[:, None] == 1, rng.uniform(-10, 60, (rows, 2)), x), label), group=Coded.of("abc"[h] for h in heap)
    )


def test_clusters_are_found_without_labels_of_other_rows() -> None:
    train, test = clustered(600, 1), clustered(300, 2)
    found = clusters_of(train, test, 3, seed=0)
    for heap in range(3):
        rows = (test.column("group").codes == heap) & (test.label == 0)
        assert len(np.unique(found.codes[rows])) == 1
    flipped = replace(test, label=(1 - test.label).astype(np.int8))  # type: ignore[operator]
    assert np.array_equal(clusters_of(train, flipped, 3, seed=0).codes, found.codes)
    partition = Dirichlet(over="k-means", clusters=3, nodes=3, alpha=0.05, min_rows=1)
    places = partition.places(train, train, "train", 0)
    heaps = [np.bincount(train.column("group").codes[(places == node) & (train.label == 0)], minlength=3) for node in range(3)]
    assert np.mean([heap.max() / heap.sum() for heap in heaps]) > 0.8
    with pytest.raises(DataUnusable, match="too few for 1000 clusters"):
        clusters_of(train, test, 1000, 0)


def test_counts_are_as_asked() -> None:
    partition = Counts.model_validate(
        {
            "rows": {"a": {"normal": 100, "anomaly": 7}, "b": {"group": "c", "normal": 20, "kinds": {"attack": 5}}},
            "tests": {"a": {"normal": 30, "anomaly": 11}, "b": {"normal": 40}},
        }
    )
    fleet = Fleet.from_places(TRAIN, partition.places(TRAIN, TRAIN, "train", 0), partition.names(TRAIN))
    assert [(len(fleet[node].normal()), len(fleet[node])) for node in fleet] == [(100, 107), (20, 25)]
    assert set(fleet["b"].column("group").texts()) == {"c"}
    tests = Fleet.from_places(TEST, partition.places(TRAIN, TEST, "test", 0), partition.names(TRAIN))
    assert [(len(tests[node].normal()), len(tests[node])) for node in tests] == [(30, 41), (40, 40)]


def test_without_counts_of_their_own_other_rows_follow_the_amounts() -> None:
    partition = Counts.model_validate({"rows": {"a": {"normal": 300}, "b": {"normal": 100}, "c": {"group": "a", "normal": 40}}})
    held = counts(partition, TRAIN, TEST)
    assert held[:2].tolist() == [round(600 * 300 / 440), round(600 * 100 / 440)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": {"normal": 10_000}}, "node 'a' wants 10,000 normal train rows, but"),
        ({"a": {"normal": 1, "kinds": {"worm": 3}}}, "wants 3 'worm' train rows"),
        ({"a": {"normal": 1, "group": "d"}}, "no train rows are of 'd'; known: a, b, c"),
        ({"a": {"normal": 200}, "b": {"normal": 2, "group": "a", "anomaly": 900}}, "wants 900 anomalous train rows of 'a'"),
    ],
)
def test_counts_that_are_not_there_are_said(rows: dict[str, object], message: str) -> None:
    partition = Counts.model_validate({"rows": rows})
    with pytest.raises(DataUnusable, match=message):
        partition.places(TRAIN, TRAIN, "train", 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": {}},
        {"rows": {"a": {"anomaly": 3}}},
        {"rows": {"a": {"normal": 3}}, "tests": {"b": {"normal": 1}}},
        {"rows": {"a": {"normal": 3}}, "tests": {"*": {}}},
        {"rows": {"*": {"normal": 3}}},
    ],
)
def test_counts_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        build(PARTITIONS, {"name": "counts", **wrong}, "[partition]")


def heap(**rows: tuple[int, int]) -> Table:
    """So many normal and anomalous rows of each group, shuffled; the row's own number is its only feature."""
    group = [name for name, each in rows.items() for _ in range(sum(each))]
    label = np.concatenate([np.repeat([0, 1], each) for each in rows.values()])
    table = replace(Table.from_array(np.arange(len(group), dtype=float)[:, None], label), group=Coded.of(group))
    kind = Coded.of("?" if each == 0 else f"kind-{i % 2}" for i, each in enumerate(label))
    return replace(table, kind=kind).take(np.random.default_rng(3).permutation(len(group)))


def asked(rows: dict[str, object], tests: dict[str, object] | None = None, fit: bool = True) -> Counts:
    return Counts.model_validate({"rows": rows, "tests": tests or {}, "fit": fit})


def held(partition: Counts, train: Table, table: Table, part: str = "train") -> dict[str, tuple[int, int]]:
    fleet = Fleet.from_places(table, partition.places(train, table, part, 0), partition.names(train))
    return {node: (len(fleet[node].normal()), len(fleet[node]) - len(fleet[node].normal())) for node in fleet}


def test_nodes_of_one_group_share_the_normal_rows_that_are_here() -> None:
    train = heap(camera=(3000, 60), bell=(9000, 5))
    camera = {"group": "camera", "normal": 11_821, "anomaly": 23}
    partition = asked({"a": camera, "b": camera})
    assert partition.factor(train) == 3000 / 23_642
    assert held(partition, train, train) == {"a": (1500, 23), "b": (1500, 23)}
    # The tighter of two groups rules all: floor(7927 x 3000 / 11821) = 2011.
    partition = asked({"a": camera, "b": {"group": "bell", "normal": 7927}})
    assert held(partition, train, train) == {"a": (3000, 23), "b": (2011, 0)}
    enough = asked({"a": {"group": "camera", "normal": 3000}, "b": {"normal": 9000}})
    assert enough.factor(train) == 1
    assert held(enough, train, train) == {"a": (3000, 0), "b": (9000, 0)}


def test_those_bound_to_a_group_choose_before_those_that_take_any_row() -> None:
    train = heap(camera=(30, 0), bell=(70, 0))
    for seed in range(5):
        places = asked({"a": {"normal": 70}, "b": {"group": "camera", "normal": 30}}, fit=False).places(train, train, "train", seed)
        assert np.bincount(places).tolist() == [70, 30]
    # Together 200 of 100 rows: the group alone would allow 30 of 40.
    partition = asked({"a": {"normal": 160}, "b": {"group": "camera", "normal": 40}})
    assert partition.factor(train) == 0.5
    assert held(partition, train, train) == {"a": (80, 0), "b": (20, 0)}


def test_however_few_rows_there_are_each_node_gets_one() -> None:
    train = heap(camera=(100, 0))
    rows: dict[str, object] = {f"small-{i}": {"normal": 10} for i in range(10)} | {"large": {"normal": 1000}}
    # 100 / 1100 would leave each small one 10 / 11 of a row: they get one, the large one the other 90.
    partition = asked(rows)
    assert partition.factor(train) == 90 / 1000
    assert held(partition, train, train) == {f"small-{i}": (1, 0) for i in range(10)} | {"large": (90, 0)}
    few = heap(camera=(10, 0))
    assert partition.factor(few) == 0
    with pytest.raises(DataUnusable, match=r"wants 1 normal train rows, but 0 are left; ask for fewer$"):
        partition.places(few, few, "train", 0)


def test_anomalies_are_never_scaled() -> None:
    train = heap(camera=(50, 22))
    with pytest.raises(DataUnusable, match="node 'a' wants 23 anomalous train rows of 'camera', but 22 are left"):
        asked({"a": {"group": "camera", "normal": 100, "anomaly": 23}}).places(train, train, "train", 0)
    partition = asked({"a": {"group": "camera", "normal": 100, "kinds": {"kind-0": 11}, "anomaly": 11}})
    assert held(partition, train, train) == {"a": (50, 22)}
    with pytest.raises(DataUnusable, match="50 are left; ask for fewer, or set fit = true"):
        asked({"a": {"normal": 51}}, fit=False).places(train, train, "train", 0)


def test_test_rows_are_scaled_by_themselves_and_others_follow_what_nodes_have() -> None:
    train, test = heap(camera=(100, 10), bell=(100, 10)), heap(camera=(30, 10), bell=(60, 10))
    rows: dict[str, object] = {"a": {"group": "camera", "normal": 400, "anomaly": 5}, "b": {"group": "bell", "normal": 80}}
    partition = asked(rows, {"a": {"group": "camera", "normal": 60, "anomaly": 7}, "b": {"group": "bell", "normal": 9}})
    assert (partition.factor(train), partition.factor(test, "test")) == (0.25, 0.5)
    assert held(partition, train, test, "test") == {"a": (30, 7), "b": (4, 0)}
    # 105 and 20 training rows: of 110 others 92.4 and 17.6, of which the camera has but 40.
    assert {node: sum(rows) for node, rows in held(asked(rows), train, test, "test").items()} == {"a": 40, "b": 18}


def test_rows_for_all_nodes_are_drawn_evenly_from_the_groups_that_nodes_have() -> None:
    test = heap(camera=(100, 30), bell=(20, 4), fridge=(500, 500), plug=(100, 30))
    rows: dict[str, object] = {name: {"group": name, "normal": 1} for name in ("camera", "bell", "plug")}
    partition = asked(rows, {"*": {"normal": 91, "anomaly": 24, "kinds": {"kind-1": 6}}}, fit=False)
    chosen = partition.shared_tests(test, 0)
    assert chosen is not None
    assert chosen.dtype == np.int64
    assert (np.diff(chosen) > 0).all()
    table = test.take(chosen)
    found = {name: np.flatnonzero(np.array(table.column("group").texts()) == name) for name in test.column("group").levels}
    normal = {name: int((table.label[at] == 0).sum()) for name, at in found.items()}  # type: ignore[index]
    # The bell has 20; 71 are left for two. Of 24 + 6 anomalies it has 4: two of kind-1 (6 / 3), then 2 more; the others 11 each.
    assert (normal["bell"], sorted([normal["camera"], normal["plug"]]), normal["fridge"]) == (20, [35, 36], 0)
    assert {name: len(at) - normal[name] for name, at in found.items()} == {"bell": 4, "camera": 13, "plug": 13, "fridge": 0}
    assert table.column("kind").texts().count("kind-1") >= 6
    assert np.array_equal(chosen, partition.shared_tests(test, 0))
    assert not np.array_equal(chosen, partition.shared_tests(test, 1))
    # Test rows of nodes stay what they are: in proportion, because only "*" is said.
    assert np.array_equal(
        partition.places(test, test.take(slice(None)), "test", 0), asked(rows).places(test, test.take(slice(None)), "test", 0)
    )


def test_rows_for_all_nodes_that_are_too_few_are_said_or_scaled() -> None:
    test = heap(camera=(100, 3), bell=(20, 4))
    rows: dict[str, object] = {"a": {"group": "camera", "normal": 1}, "b": {"group": "bell", "normal": 1}}
    with pytest.raises(DataUnusable, match=r"'tests' under '\*' wants 240 normal test rows of 'bell', 'camera', but 120 are left"):
        asked(rows, {"*": {"normal": 240}}, fit=False).shared_tests(test, 0)
    fitted = asked(rows, {"*": {"normal": 240, "anomaly": 7}})
    assert fitted.factor(test, "shared") == 0.5
    assert np.array_equal(fitted.shared_tests(test, 0), np.arange(127))
    one = asked(rows, {"*": {"group": "bell", "normal": 40}}).shared_tests(test, 0)
    assert test.take(one).column("group").texts() == ["bell"] * 20  # type: ignore[arg-type]
    anywhere = asked({"a": {"normal": 1}}, {"*": {"normal": 120}}, fit=False)
    assert np.array_equal(anywhere.shared_tests(replace(test, group=None), 0), np.flatnonzero(test.label == 0))
    assert asked(rows).shared_tests(test, 0) is None
    assert Iid(nodes=2).shared_tests(test, 0) is None
